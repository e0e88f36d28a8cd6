//! Reading a configuration, and the types that many configurations share.

use std::borrow::Cow;
use std::fmt::{self, Display};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Failure, Mistake, secrets};

/// Reads the configuration of a run. A mistake says where it is; the host has validated the schema before, so this is what a
/// host that did not would see.
pub fn read<C: DeserializeOwned>(json: &str) -> Result<C, Failure> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let config = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| mistake(pointer(error.path()), &error.into_inner()))?;
    deserializer.end().map_err(|error| mistake(String::new(), &error))?;
    Ok(config)
}

fn mistake(at: String, error: &serde_json::Error) -> Failure {
    let message = error.to_string();
    // serde_json's position points into text that nobody wrote.
    let message = message.split(" at line ").next().unwrap_or_default().to_owned();
    Failure::InvalidConfig(vec![Mistake { at, message }])
}

/// RFC 6901.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut at = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => at.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                at.push('/');
                at.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    at
}

/// A secret by name: `{"$secret": name}`. The bytes never enter the sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline, extend("x-picket-secret" = true))]
pub struct Secret {
    /// The secret's name on the agent.
    #[serde(rename = "$secret")]
    pub name: String,
}

impl Secret {
    /// The handle with which the host uses it. Only the host decides whether it may be used; a refusal is a failure of the
    /// run.
    pub fn open(&self) -> Result<secrets::Secret, Failure> {
        secrets::get(&self.name).map_err(Failure::Denied)
    }
}

/// A text, or a secret in its place. In the schema it is a string; the mark says that a secret may stand there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a string or {\"$secret\": name}")]
pub enum TextOrSecret {
    /// As it stands.
    Text(String),
    /// By name.
    Secret(Secret),
}

impl JsonSchema for TextOrSecret {
    fn schema_name() -> Cow<'static, str> {
        "TextOrSecret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-picket-secret": true, "description": "A text, or {\"$secret\": name}." })
    }
}

/// A length of time as text: "10s", "500ms", "1h30m". Units: ms, s, m, h, d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    /// None when the text is not a length of time.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut millis: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, after) = rest.split_at(digits);
            let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
            let (unit, after) = after.split_at(letters);
            let factor = UNITS.iter().find(|(name, _)| *name == unit)?.1;
            millis = number.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(millis)?;
            rest = after;
        }
        (!text.is_empty()).then_some(Self(std::time::Duration::from_millis(millis)))
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in UNITS {
            if millis >= factor {
                write!(f, "{}{unit}", millis / factor)?;
                millis %= factor;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is not a length of time: write 500ms, 10s or 1h30m"))
        })
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$", "examples": ["500ms", "10s"] })
    }
}

/// Longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Config {
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        #[serde(rename = "a/b")]
        wait: Duration,
    }

    #[test]
    fn a_mistake_says_where_it_is_and_what_to_write() {
        let failure = read::<Config>(r#"{"inner": [{"a/b": "1s"}, {"a/b": "soon"}]}"#).unwrap_err();
        let Failure::InvalidConfig(mistakes) = failure else { panic!("{failure:?}") };
        assert_eq!(mistakes[0].at, "/inner/1/a~1b");
        assert_eq!(mistakes[0].message, "`soon` is not a length of time: write 500ms, 10s or 1h30m");
    }

    #[test]
    fn nothing_stands_behind_a_configuration() {
        let failure = read::<Config>(r#"{"inner": []} x"#).unwrap_err();
        let Failure::InvalidConfig(mistakes) = failure else { panic!("{failure:?}") };
        assert_eq!((mistakes[0].at.as_str(), mistakes[0].message.as_str()), ("", "trailing characters"));
    }

    #[test]
    fn a_length_of_time_is_read_and_printed() {
        for (text, millis) in
            [("500ms", 500), ("10s", 10_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("0s", 0)]
        {
            let duration = Duration::parse(text).unwrap();
            assert_eq!(duration.0.as_millis(), millis);
            assert_eq!(duration.to_string(), text);
        }
        for text in ["", "10", "s", "1.5s", "-1s", "1w", "99999999999999999999s"] {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_secret_is_a_name_and_never_its_bytes() {
        let value: TextOrSecret = serde_json::from_str(r#"{"$secret": "token"}"#).unwrap();
        assert_eq!(value, TextOrSecret::Secret(Secret { name: "token".into() }));
        assert!(serde_json::from_str::<Secret>(r#""hunter2""#).is_err());
    }
}
