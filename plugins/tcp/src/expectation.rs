//! What an answer must contain, as it is written: text, bytes in hexadecimal, or a regular expression; one, or several at once. Whether
//! an answer does is found out in `met`.

use std::borrow::Cow;
use std::fmt::{self, Display};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config::Match;
use crate::hex::{decode, hex_schema, not_hex};

/// What one answer must contain; at least one.
#[derive(Clone)]
pub(crate) struct Expectations {
    pub(crate) each: Vec<Expect>,
    is_list: bool,
}

/// What an answer must contain.
#[derive(Clone)]
pub(crate) enum Expect {
    /// Anything at all.
    Anything,
    /// These characters.
    Text(String),
    /// Something that matches, with `^` and `$` at the ends of lines; bytes that are not UTF-8 are replaced before.
    Regex(String),
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Expectations {
    fn one(expect: Expect) -> Self {
        Self { each: vec![expect], is_list: false }
    }

    /// What a check without `expect` waits for.
    pub(crate) fn any_reply() -> Self {
        Self::one(Expect::Anything)
    }

    pub(crate) fn is_any_reply(&self) -> bool {
        matches!(self.each[..], [Expect::Anything])
    }

    /// The regular expressions, each with the place that `met` asks for it by and a JSON pointer from here.
    pub(crate) fn regexes(&self) -> impl Iterator<Item = (usize, String, &str)> {
        self.each.iter().enumerate().filter_map(|(place, expect)| match expect {
            Expect::Regex(text) if self.is_list => Some((place, format!("/{place}/regex"), text.as_str())),
            Expect::Regex(text) => Some((place, "/regex".to_owned(), text.as_str())),
            _ => None,
        })
    }

    /// In words; `matching` says how several belong together.
    pub(crate) fn words(&self, matching: Match) -> String {
        let joined: Vec<String> = self.each.iter().map(ToString::to_string).collect();
        joined.join(if matching == Match::All { " and " } else { " or " })
    }
}

impl Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => f.write_str("any reply"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Regex(written) => write!(f, "/{written}/"),
            Self::Bytes(bytes) => {
                f.write_str("hex")?;
                bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields, expecting = "a text, {hex: \"0d 0a\"} or {regex: \"^220 \"}")]
enum Written {
    Text(String),
    Hex { hex: String },
    Regex { regex: String },
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => Ok(Self::Text(text)),
            Written::Hex { hex } => {
                decode(&hex).map(Self::Bytes).ok_or_else(|| D::Error::custom(not_hex(&hex)))
            }
            Written::Regex { regex } => Ok(Self::Regex(regex)),
        }
    }
}

/// Visits what stands there instead of trying one shape after the other, so that a mistake in a list names its place.
impl<'de> Deserialize<'de> for Expectations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Expectations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, {hex: \"0d 0a\"}, {regex: \"^220 \"} or a list of these")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Expectations, E> {
                Ok(Expectations::one(Expect::Text(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Expectations, A::Error> {
                Expect::deserialize(MapAccessDeserializer::new(map)).map(Expectations::one)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Expectations, A::Error> {
                let mut all = Vec::new();
                while let Some(next) = items.next_element()? {
                    all.push(next);
                }
                match all.is_empty() {
                    true => Err(A::Error::custom("an empty list expects nothing: leave it out")),
                    false => Ok(Expectations { each: all, is_list: true }),
                }
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

impl JsonSchema for Expectations {
    fn schema_name() -> Cow<'static, str> {
        "Expectations".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = || {
            [
                json_schema!({ "type": "string" }),
                hex_schema(),
                json_schema!({
                    "type": "object",
                    "properties": { "regex": { "type": "string", "description": "Matches somewhere in the answer." } },
                    "required": ["regex"],
                    "additionalProperties": false,
                }),
            ]
        };
        let [text, hex, regex] = one();
        json_schema!({ "anyOf": [text, hex, regex, {
            "type": "array",
            "items": { "anyOf": one() },
            "minItems": 1,
            "maxItems": 16,
        }] })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(written: Value) -> Result<Expectations, String> {
        serde_json::from_value(written).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_read_says_what_to_write() {
        for (written, message) in [
            (json!({"hex": "0"}), "`0` is not hexadecimal: write pairs of digits as in \"0d 0a\""),
            (json!([{"hex": "zz"}]), "`zz` is not hexadecimal: write pairs of digits as in \"0d 0a\""),
            (json!({"regexp": "x"}), "a text, {hex: \"0d 0a\"} or {regex: \"^220 \"}"),
            (json!([]), "an empty list expects nothing: leave it out"),
        ] {
            assert_eq!(read(written).err().unwrap(), message);
        }
    }

    #[test]
    fn a_regex_knows_where_it_stands() {
        let places = |written| {
            let read = read(written).unwrap();
            read.regexes().map(|(place, at, text)| format!("{place} {at} {text}")).collect::<Vec<_>>()
        };
        assert_eq!(places(json!({"regex": "a"})), ["0 /regex a"]);
        assert_eq!(places(json!(["x", {"regex": "a"}])), ["1 /1/regex a"]);
        assert_eq!(places(json!("x")), Vec::<String>::new());
    }
}
