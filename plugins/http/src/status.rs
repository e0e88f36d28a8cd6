//! Status codes as an owner of a monitor writes them: a code, a range, lists of both.

use std::borrow::Cow;
use std::fmt::{self, Display};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Ranges of status codes, both ends included.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StatusRanges(Vec<(u16, u16)>);

impl StatusRanges {
    /// 200 to 299.
    pub(crate) fn success() -> Self {
        Self(vec![(200, 299)])
    }

    pub(crate) fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }

    /// "200-299, 301".
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(|part| range(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.trim().parse().ok().filter(|code| (100..=599).contains(code));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(format!(
            "`{text}` is not a status code or a range of them: write 200 or 200-299, from 100 to 599"
        )),
    }
}

impl Display for StatusRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a status code, a text such as \"200-299, 301\", or a list of them")]
enum Written {
    Code(u16),
    Text(String),
    List(Vec<Item>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a status code or a text such as \"200-299\"")]
enum Item {
    Code(u16),
    Text(String),
}

impl<'de> Deserialize<'de> for StatusRanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Written::deserialize(deserializer)? {
            Written::Code(code) => code.to_string(),
            Written::Text(text) => text,
            Written::List(items) => {
                let texts: Vec<String> = items
                    .into_iter()
                    .map(|item| match item {
                        Item::Code(code) => code.to_string(),
                        Item::Text(text) => text,
                    })
                    .collect();
                texts.join(",")
            }
        };
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl Serialize for StatusRanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for StatusRanges {
    fn schema_name() -> Cow<'static, str> {
        "StatusRanges".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = r"^ *[1-5][0-9]{2}( *- *[1-5][0-9]{2})?( *, *[1-5][0-9]{2}( *- *[1-5][0-9]{2})?)* *$";
        let one = [
            json_schema!({ "type": "integer", "minimum": 100, "maximum": 599 }),
            json_schema!({ "type": "string", "pattern": text }),
        ];
        json_schema!({ "anyOf": [one[0], one[1], { "type": "array", "minItems": 1, "items": { "anyOf": one } }] })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(written: Value, printed: &str) {
        let ranges: StatusRanges = serde_json::from_value(written).unwrap();
        assert_eq!(ranges.to_string(), printed);
    }

    #[test]
    fn codes_ranges_and_lists_are_read() {
        check(json!(200), "200");
        check(json!("200-299"), "200-299");
        check(json!("200-299, 301 ,404"), "200-299, 301, 404");
        check(json!([200, "301-308"]), "200, 301-308");
    }

    #[test]
    fn both_ends_of_a_range_belong_to_it() {
        let ranges = StatusRanges::success();
        for (status, inside) in [(199, false), (200, true), (299, true), (300, false)] {
            assert_eq!(ranges.contains(status), inside, "{status}");
        }
    }

    #[test]
    fn what_is_no_status_says_what_to_write() {
        for written in [json!("2xx"), json!("299-200"), json!("99"), json!("600"), json!("")] {
            let error = serde_json::from_value::<StatusRanges>(written).unwrap_err().to_string();
            assert!(error.contains("write 200 or 200-299"), "{error}");
        }
    }
}
