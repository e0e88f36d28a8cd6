//! What an answer is compared with: text, bytes in hexadecimal, or a regular expression; one, or several at once. Does not talk to
//! anybody.

use std::borrow::Cow;
use std::fmt::{self, Display};

use regex_lite::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config::Match;
use crate::template::Captures;

/// What one answer must contain; at least one.
#[derive(Clone)]
pub(crate) struct Expectations(Vec<Expect>);

/// What an answer must contain.
#[derive(Clone)]
pub(crate) enum Expect {
    /// Anything at all.
    Anything,
    /// These characters.
    Text(String),
    /// Something that matches; bytes that are not UTF-8 are replaced before.
    Regex {
        /// As it was written.
        written: String,
        /// With `^` and `$` at the ends of lines.
        regex: Regex,
    },
    /// These bytes.
    Bytes(Vec<u8>),
}

/// Where an answer meets what was expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Met {
    /// How many bytes of the answer belong to what was expected: up to the end of the last line, or of the bytes.
    pub(crate) end: usize,
    /// Whether the last line is there to its end.
    pub(crate) ends_line: bool,
    /// Groups of the first regex that matched, if there was one.
    pub(crate) captures: Option<Captures>,
}

impl Expectations {
    /// What a check without `expect` waits for.
    pub(crate) fn any_reply() -> Self {
        Self(vec![Expect::Anything])
    }

    pub(crate) fn is_any_reply(&self) -> bool {
        matches!(self.0[..], [Expect::Anything])
    }

    /// Whether they are met by what came so far.
    pub(crate) fn met(&self, heard: &[u8], matching: Match) -> Option<Met> {
        let mut found = self.0.iter().map(|expect| expect.met(heard));
        match matching {
            Match::Any => found.flatten().next(),
            Match::All => found.try_fold(Met { ends_line: true, ..Met::default() }, |all, one| {
                let one = one?;
                let last_ends = if one.end >= all.end { one.ends_line } else { all.ends_line };
                Some(Met {
                    end: all.end.max(one.end),
                    ends_line: last_ends,
                    captures: all.captures.or(one.captures),
                })
            }),
        }
    }

    /// How many groups the regexes have; the most, where there are several. None without a regex.
    pub(crate) fn groups(&self) -> Option<usize> {
        self.regexes().map(|regex| regex.captures_len() - 1).max()
    }

    /// The names of groups.
    pub(crate) fn names(&self) -> Vec<String> {
        self.regexes().flat_map(|regex| regex.capture_names().flatten().map(str::to_owned)).collect()
    }

    fn regexes(&self) -> impl Iterator<Item = &Regex> {
        self.0.iter().filter_map(|expect| match expect {
            Expect::Regex { regex, .. } => Some(regex),
            _ => None,
        })
    }

    /// In words; `matching` says how several belong together.
    pub(crate) fn words(&self, matching: Match) -> String {
        let joined: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        joined.join(if matching == Match::All { " and " } else { " or " })
    }
}

impl Expect {
    fn met(&self, heard: &[u8]) -> Option<Met> {
        match self {
            Self::Anything => {
                (!heard.is_empty()).then_some(Met { end: heard.len(), ends_line: true, captures: None })
            }
            Self::Text(text) => find(heard, text.as_bytes()).map(|end| to_line_end(heard, end)),
            Self::Bytes(bytes) => find(heard, bytes).map(|end| Met { end, ends_line: true, captures: None }),
            Self::Regex { regex, .. } => {
                let text = String::from_utf8_lossy(heard);
                let found = regex.captures(&text)?;
                let end = found.get(0).map_or(0, |whole| whole.end());
                // Where bytes were replaced, the text is longer than they are.
                let end = match &text {
                    Cow::Borrowed(_) => end,
                    Cow::Owned(_) => heard.len(),
                };
                Some(Met { captures: Some(captured(regex, &found)), ..to_line_end(heard, end) })
            }
        }
    }
}

fn captured(regex: &Regex, found: &regex_lite::Captures<'_>) -> Captures {
    let text = |group: Option<regex_lite::Match<'_>>| {
        group.map_or_else(String::new, |group| group.as_str().to_owned())
    };
    let named = regex.capture_names().flatten().map(|name| (name.to_owned(), text(found.name(name))));
    Captures { numbered: found.iter().map(text).collect(), named: named.collect() }
}

/// Protocols of text answer in lines: what follows on the same one belongs to the answer.
fn to_line_end(heard: &[u8], end: usize) -> Met {
    if end > 0 && heard[end - 1] == b'\n' {
        return Met { end, ends_line: true, captures: None };
    }
    match heard[end..].iter().position(|byte| *byte == b'\n') {
        Some(more) => Met { end: end + more + 1, ends_line: true, captures: None },
        None => Met { end: heard.len(), ends_line: false, captures: None },
    }
}

/// The end of the first place where it stands.
fn find(heard: &[u8], wanted: &[u8]) -> Option<usize> {
    match wanted.is_empty() {
        true => Some(0),
        false => heard.windows(wanted.len()).position(|part| part == wanted).map(|at| at + wanted.len()),
    }
}

impl Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => f.write_str("any reply"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Regex { written, .. } => write!(f, "/{written}/"),
            Self::Bytes(bytes) => {
                f.write_str("hex")?;
                bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
        }
    }
}

/// At most 64 bytes of an answer, quoted.
pub(crate) fn printable(bytes: &[u8]) -> String {
    match bytes.len() {
        0 => "nothing".into(),
        1..=64 => format!("{:?}", String::from_utf8_lossy(bytes)),
        _ => format!("{:?}…", String::from_utf8_lossy(&bytes[..64])),
    }
}

/// Pairs of hexadecimal digits, spaces between them ignored.
pub(crate) fn decode(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        hex.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair.get(1)?).ok()).collect()
}

pub(crate) fn not_hex(found: &str) -> String {
    format!("`{found}` is not hexadecimal: write pairs of digits as in \"0d 0a\"")
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
            Written::Regex { regex: written } => match Regex::new(&format!("(?mR){written}")) {
                Ok(regex) => Ok(Self::Regex { written, regex }),
                Err(error) => Err(D::Error::custom(format!("`{written}` is not a regex: {error}"))),
            },
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
                Ok(Expectations(vec![Expect::Text(text.to_owned())]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Expectations, A::Error> {
                Expect::deserialize(MapAccessDeserializer::new(map)).map(|one| Expectations(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Expectations, A::Error> {
                let mut all = Vec::new();
                while let Some(next) = items.next_element()? {
                    all.push(next);
                }
                match all.is_empty() {
                    true => Err(A::Error::custom("an empty list expects nothing: leave it out")),
                    false => Ok(Expectations(all)),
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

pub(crate) fn hex_schema() -> Schema {
    json_schema!({
        "type": "object",
        "properties": { "hex": {
            "type": "string",
            "pattern": "^ *([0-9a-fA-F] *[0-9a-fA-F] *)*$",
            "description": "Bytes as pairs of hexadecimal digits; spaces are ignored.",
        } },
        "required": ["hex"],
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn met(written: Value, matching: Match, heard: &[u8]) -> Option<Met> {
        serde_json::from_value::<Expectations>(written).unwrap().met(heard, matching)
    }

    fn check(written: Value, heard: &[u8], is_met: bool) {
        assert_eq!(met(written.clone(), Match::All, heard).is_some(), is_met, "{written}");
    }

    #[test]
    fn an_answer_is_compared_as_text_as_bytes_and_by_regex() {
        check(json!("220"), b"x 220 y", true);
        check(json!("220"), b"22", false);
        check(json!({"hex": "00 ff0d"}), b"a\x00\xff\x0d", true);
        check(json!({"hex": "00ff"}), b"\x00\xfe", false);
        check(json!({"regex": "^220[ -].*ESMTP"}), b"220 mail ESMTP\xff", true);
        check(json!({"regex": "^220"}), b" 220", false);
        check(json!({"regex": "^250 OK$"}), b"250-a\r\n250 OK\r\n", true);
    }

    #[test]
    fn of_several_all_or_any_must_be_there() {
        let both = json!(["SMTP", {"regex": "^220"}]);
        for (heard, all, any) in [
            (&b"220 SMTP"[..], true, true),
            (b"220 x", false, true),
            (b"x SMTP", false, true),
            (b"x", false, false),
        ] {
            assert_eq!(met(both.clone(), Match::All, heard).is_some(), all);
            assert_eq!(met(both.clone(), Match::Any, heard).is_some(), any);
        }
    }

    #[test]
    fn an_answer_reaches_to_the_end_of_its_line_and_no_further() {
        let end = |written, heard| met(written, Match::All, heard).map(|met| (met.end, met.ends_line));
        assert_eq!(end(json!("220"), b"220 hi\r\n250 x"), Some((8, true)));
        assert_eq!(end(json!("220"), b"220 h"), Some((5, false)));
        assert_eq!(end(json!({"regex": "^220.*\r\n"}), b"220 hi\r\n250 x"), Some((8, true)));
        assert_eq!(end(json!({"hex": "01 02"}), b"\x01\x02\x0a\x03"), Some((2, true)));
        assert_eq!(end(json!(["220", "250"]), b"220 hi\r\n250 x"), Some((13, false)));
        assert_eq!(end(json!({"regex": "é"}), "\u{fffd}é\n.".as_bytes()), Some((6, true)));
        assert_eq!(end(json!({"regex": "b"}), b"\xffb\n."), Some((4, false)));
    }

    #[test]
    fn groups_are_captured_by_number_and_by_name() {
        let expect = json!(["x", {"regex": r"^(?P<code>\d+) (a)?(?P<rest>.*)$"}]);
        let captures = met(expect, Match::All, b"220 bc x\r\n").unwrap().captures.unwrap();
        assert_eq!(captures.numbered, ["220 bc x", "220", "", "bc x"]);
        assert_eq!((captures.named["code"].as_str(), captures.named["rest"].as_str()), ("220", "bc x"));
    }

    #[test]
    fn what_cannot_be_read_says_what_to_write() {
        for (written, message) in [
            (json!({"hex": "0"}), "`0` is not hexadecimal: write pairs of digits as in \"0d 0a\""),
            (json!([{"hex": "zz"}]), "`zz` is not hexadecimal: write pairs of digits as in \"0d 0a\""),
            (json!({"regexp": "x"}), "a text, {hex: \"0d 0a\"} or {regex: \"^220 \"}"),
            (json!([]), "an empty list expects nothing: leave it out"),
        ] {
            let error = serde_json::from_value::<Expectations>(written).err().unwrap().to_string();
            assert_eq!(error, message);
        }
        assert!(serde_json::from_value::<Expectations>(json!({"regex": "("})).is_err());
    }
}
