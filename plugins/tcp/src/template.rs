//! What is sent: text, bytes in hexadecimal, or a secret; and the places in a text that earlier answers fill. Does not send.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use sdk::Secret;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::hex::{decode, hex_schema, not_hex};

/// What to send.
#[derive(Clone)]
pub(crate) enum Payload {
    /// A text with references to captures.
    Text(String),
    /// These bytes, or a text as it stands.
    Bytes(Vec<u8>),
    /// The secret's bytes, which only the host sees.
    Secret(Secret),
}

/// What regexes have matched so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Captures {
    /// Groups of the last regex, the whole match first; one that took no part is empty.
    pub(crate) numbered: Vec<String>,
    /// Groups of all regexes, a later one in place of an earlier.
    pub(crate) named: BTreeMap<String, String>,
}

/// A piece of a text.
#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    /// As it stands.
    Literal(String),
    /// `${1}`.
    Number(usize),
    /// `${name}`.
    Name(String),
}

impl Payload {
    /// The same where nothing was captured: a text as it stands.
    pub(crate) fn literally(&self) -> Payload {
        match self {
            Payload::Text(text) => Payload::Bytes(text.clone().into_bytes()),
            other => other.clone(),
        }
    }

    /// The pieces of a text; an error in words where it cannot be cut.
    pub(crate) fn parts(&self) -> Result<Vec<Part>, String> {
        match self {
            Payload::Text(text) => parts(text),
            Payload::Bytes(_) | Payload::Secret(_) => Ok(Vec::new()),
        }
    }
}

impl Captures {
    /// The text with its references filled.
    pub(crate) fn fill(&self, text: &str) -> String {
        let filled = parts(text).unwrap_or_default().into_iter().map(|part| match part {
            Part::Literal(text) => text,
            Part::Number(number) => self.numbered.get(number).cloned().unwrap_or_default(),
            Part::Name(name) => self.named.get(&name).cloned().unwrap_or_default(),
        });
        filled.collect()
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            literal.push_str(&rest[..at - 1]);
            literal.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        literal.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = inner
            .find('}')
            .ok_or_else(|| format!("`{}` does not end: write ${{1}}, ${{name}} or $${{", &rest[at..]))?;
        let name = &inner[..end];
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(match name.parse() {
            Ok(number) => Part::Number(number),
            Err(_) if is_name(name) => Part::Name(name.to_owned()),
            Err(_) => return Err(format!("`${{{name}}}` is no group: write ${{1}}, ${{name}} or $${{")),
        });
        rest = &inner[end + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// As the regex crate names groups.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || "_.[]".contains(c))
}

#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a text, {hex: \"0d 0a\"} or {$secret: name}; a regex cannot be sent"
)]
enum Written {
    Text(String),
    Hex { hex: String },
    Secret(Secret),
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => Ok(Self::Text(text)),
            Written::Hex { hex } => {
                decode(&hex).map(Self::Bytes).ok_or_else(|| D::Error::custom(not_hex(&hex)))
            }
            Written::Secret(secret) => Ok(Self::Secret(secret)),
        }
    }
}

impl JsonSchema for Payload {
    fn schema_name() -> Cow<'static, str> {
        "Payload".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string", "x-picket-secret": true }, hex_schema()] })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn captures() -> Captures {
        Captures {
            numbered: vec!["220 a.test 17".into(), "a.test".into(), String::new()],
            named: BTreeMap::from([("host".into(), "a.test".into())]),
        }
    }

    #[test]
    fn captures_fill_their_places() {
        for (text, filled) in [
            ("EHLO ${host}\r\n", "EHLO a.test\r\n"),
            ("${1}-${2}-${0}", "a.test--220 a.test 17"),
            ("$${host} costs $5, $$ and {x}", "${host} costs $5, $$ and {x}"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(captures().fill(text), filled);
        }
    }

    #[test]
    fn a_reference_that_cannot_be_read_says_what_to_write() {
        assert_eq!(parts("a ${b").unwrap_err(), "`${b` does not end: write ${1}, ${name} or $${");
        assert_eq!(parts("${a b}").unwrap_err(), "`${a b}` is no group: write ${1}, ${name} or $${");
    }

    #[test]
    fn payloads_are_text_bytes_or_a_secret() {
        let read = |written| serde_json::from_value::<Payload>(written);
        assert!(matches!(read(json!({"hex": "0d 0A"})), Ok(Payload::Bytes(bytes)) if bytes == b"\r\n"));
        assert!(matches!(read(json!("x")), Ok(Payload::Text(text)) if text == "x"));
        assert!(matches!(read(json!({"$secret": "pw"})), Ok(Payload::Secret(secret)) if secret.name == "pw"));
        assert!(read(json!({"regex": "x"})).err().unwrap().to_string().contains("a regex cannot be sent"));
        assert!(read(json!({"hex": "0"})).is_err());
    }
}
