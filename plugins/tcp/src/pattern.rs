//! What to send and what to expect: text, bytes in hexadecimal, or a regular expression. Does not talk to anybody.

use std::borrow::Cow;
use std::fmt::{self, Display};

use regex_lite::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Bytes to send.
pub(crate) struct Payload(Vec<u8>);

/// What an answer must contain.
pub(crate) enum Expect {
    /// These characters.
    Text(String),
    /// Something that matches; bytes that are not UTF-8 are replaced before.
    Regex(Regex),
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Payload {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Expect {
    /// Whether it is met by what came so far.
    pub(crate) fn matches(&self, heard: &[u8]) -> bool {
        match self {
            Self::Text(text) => contains(heard, text.as_bytes()),
            Self::Bytes(bytes) => contains(heard, bytes),
            Self::Regex(regex) => regex.is_match(&String::from_utf8_lossy(heard)),
        }
    }
}

impl Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Regex(regex) => write!(f, "/{regex}/"),
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

fn contains(heard: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || heard.windows(wanted.len()).any(|part| part == wanted)
}

/// Pairs of hexadecimal digits, spaces between them ignored.
fn decode(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        hex.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair.get(1)?).ok()).collect()
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields, expecting = "a text, {hex: \"0d 0a\"} or {regex: \"^220 \"}")]
enum Written {
    Text(String),
    Hex { hex: String },
    Regex { regex: String },
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => Ok(Self(text.into_bytes())),
            Written::Hex { hex } => decode(&hex).map(Self).ok_or_else(|| D::Error::custom(not_hex(&hex))),
            Written::Regex { .. } => {
                Err(D::Error::custom("a regex cannot be sent: write a text or {hex: \"0d 0a\"}"))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => Ok(Self::Text(text)),
            Written::Hex { hex } => {
                decode(&hex).map(Self::Bytes).ok_or_else(|| D::Error::custom(not_hex(&hex)))
            }
            Written::Regex { regex } => Regex::new(&regex)
                .map(Self::Regex)
                .map_err(|error| D::Error::custom(format!("`{regex}` is not a regex: {error}"))),
        }
    }
}

fn not_hex(found: &str) -> String {
    format!("`{found}` is not hexadecimal: write pairs of digits as in \"0d 0a\"")
}

impl JsonSchema for Payload {
    fn schema_name() -> Cow<'static, str> {
        "Payload".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, hex_schema()] })
    }
}

impl JsonSchema for Expect {
    fn schema_name() -> Cow<'static, str> {
        "Expect".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, hex_schema(), {
            "type": "object",
            "properties": { "regex": { "type": "string", "description": "Matches somewhere in the answer." } },
            "required": ["regex"],
            "additionalProperties": false,
        }] })
    }
}

fn hex_schema() -> Schema {
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

    fn check(written: Value, heard: &[u8], met: bool) {
        let expect: Expect = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(expect.matches(heard), met, "{written}");
    }

    #[test]
    fn an_answer_is_compared_as_text_as_bytes_and_by_regex() {
        check(json!("220"), b"x 220 y", true);
        check(json!("220"), b"22", false);
        check(json!({"hex": "00 ff0d"}), b"a\x00\xff\x0d", true);
        check(json!({"hex": "00ff"}), b"\x00\xfe", false);
        check(json!({"regex": "^220[ -].*ESMTP"}), b"220 mail ESMTP\xff", true);
        check(json!({"regex": "^220"}), b" 220", false);
    }

    #[test]
    fn what_cannot_be_read_says_what_to_write() {
        for (written, message) in [
            (json!({"hex": "0"}), "`0` is not hexadecimal: write pairs of digits as in \"0d 0a\""),
            (json!({"hex": "zz"}), "`zz` is not hexadecimal: write pairs of digits as in \"0d 0a\""),
            (json!({"regexp": "x"}), "a text, {hex: \"0d 0a\"} or {regex: \"^220 \"}"),
        ] {
            let error = serde_json::from_value::<Expect>(written).err().unwrap().to_string();
            assert_eq!(error, message);
        }
        assert!(serde_json::from_value::<Expect>(json!({"regex": "("})).is_err());
        assert!(serde_json::from_value::<Payload>(json!({"regex": "x"})).is_err());
    }

    #[test]
    fn payloads_are_bytes() {
        let payload: Payload = serde_json::from_value(json!({"hex": "0d 0A"})).unwrap();
        assert_eq!(payload.bytes(), b"\r\n");
    }
}
