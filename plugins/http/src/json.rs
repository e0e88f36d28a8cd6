//! Assertions on a body that is JSON: JSONPath (RFC 9535) to the values, an operator to judge them. The library evaluates paths; its
//! `match` and `search` are given the host's regular expressions.

use std::cell::RefCell;
use std::cmp::Ordering;

use schemars::JsonSchema;
use sdk::http::Response;
use sdk::regex::{self, Pattern};
use sdk::{Failure, Finding, Mistake, Outcome, Stop, pattern};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json_path::JsonPath;
use serde_json_path::functions::{LogicalType, ValueType};

/// An assertion on the body as JSON.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Where to look: JSONPath (RFC 9535), "$.queue.length" or "$.nodes[?@.role == 'primary'].state". Where it leads to several
    /// values, one that holds is enough; for `ne` all must.
    #[schemars(length(min = 1))]
    path: String,
    /// How a value there is judged by `value`: `eq`, `ne`, `lt`, `le`, `gt`, `ge` compare numbers, and texts by their code points;
    /// `contains` finds a text in a text, an item in an array, a key in an object; `matches` takes a regular expression; `exists`
    /// asks whether there is a value. `eq` unless set.
    #[serde(default)]
    op: Op,
    /// What a value there is compared with: any JSON. For `exists` whether it must exist, true when unset.
    #[serde(default, deserialize_with = "given")]
    value: Option<Value>,
}

/// How a value is judged.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Op {
    #[default]
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Contains,
    Matches,
    Exists,
}

/// A null that is written is a value.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The rules, read.
pub(crate) struct Rules<'a>(Vec<Read<'a>>);

struct Read<'a> {
    rule: &'a Rule,
    path: JsonPath,
    pattern: Option<Pattern>,
}

/// What the body said to one rule.
#[derive(Clone)]
pub(crate) struct Said {
    pub(crate) passed: bool,
    /// "$.queue.length lt 5"
    pub(crate) expected: String,
    pub(crate) actual: String,
}

impl<'a> Rules<'a> {
    /// A mistake names the rule.
    pub(crate) fn read(rules: &'a [Rule]) -> Result<Self, Stop> {
        let (mut read, mut mistakes) = (Vec::new(), Vec::new());
        for (index, rule) in rules.iter().enumerate() {
            match rule.read(regex::compile) {
                Ok((path, pattern)) => read.push(Read { rule, path, pattern }),
                Err((key, message)) => mistakes.push(Mistake { at: format!("/json/{index}/{key}"), message }),
            }
        }
        match mistakes.is_empty() {
            true => Ok(Self(read)),
            false => Err(Failure::InvalidConfig(mistakes).into()),
        }
    }

    /// Reads the body once for all of them. The error inside says why it is no JSON.
    pub(crate) fn ask(&self, response: &Response) -> Result<Result<Vec<Said>, String>, Stop> {
        if self.0.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let (body, more) = response.body();
        if more {
            return Ok(Err(format!("it was cut off after {} bytes", body.len())));
        }
        fits(&body)?;
        let document: Value = match serde_json::from_slice(&body) {
            Ok(document) => document,
            Err(error) => return Ok(Err(error.to_string())),
        };
        drop(body);
        let mut said = Vec::new();
        for read in &self.0 {
            let nodes = read.path.query(&document).all();
            let matches = |text: &str| match &read.pattern {
                Some(pattern) => pattern.matches(text.as_bytes()),
                None => Ok(false),
            };
            said.push(read.rule.judge(&nodes, matches).map_err(Failure::Unsupported)?);
        }
        Ok(Ok(said))
    }
}

impl Rule {
    /// The path and the pattern; or the key of the mistake and what to write.
    fn read<P>(
        &self,
        compile: impl Fn(&str) -> Result<P, String>,
    ) -> Result<(JsonPath, Option<P>), (&'static str, String)> {
        let path = JsonPath::parse(&self.path).map_err(|error| {
            let (at, reason) = (error.position() + 1, error.message());
            ("path", format!("`{}` is not JSONPath (RFC 9535), at character {at}: {reason}", self.path))
        })?;
        let wrong = |what: &str| Err(("value", format!("`{}` needs {what}", self.op.name())));
        match (self.op, &self.value) {
            (Op::Matches, Some(Value::String(text))) => match compile(text) {
                Ok(pattern) => Ok((path, Some(pattern))),
                Err(reason) => Err(("value", pattern::mistake(text, &reason))),
            },
            (Op::Matches, _) => wrong("a regular expression as a text"),
            (Op::Lt | Op::Le | Op::Gt | Op::Ge, Some(Value::Number(_) | Value::String(_))) => {
                Ok((path, None))
            }
            (Op::Lt | Op::Le | Op::Gt | Op::Ge, _) => wrong("a number or a text"),
            (Op::Exists, None | Some(Value::Bool(_))) => Ok((path, None)),
            (Op::Exists, _) => wrong("true or false, or nothing"),
            (_, None) => wrong("a value"),
            (_, Some(_)) => Ok((path, None)),
        }
    }

    /// The error is that of the search for a pattern.
    fn judge(
        &self,
        nodes: &[&Value],
        matches: impl Fn(&str) -> Result<bool, String>,
    ) -> Result<Said, String> {
        let wanted = self.value.as_ref().unwrap_or(&Value::Null);
        let ordered = |node: &Value, fits: fn(Ordering) -> bool| order(node, wanted).is_some_and(fits);
        let mut passed = false;
        match self.op {
            Op::Exists => passed = nodes.is_empty() != (*wanted != Value::Bool(false)),
            Op::Ne => passed = !nodes.is_empty() && nodes.iter().all(|node| !same(node, wanted)),
            Op::Eq => passed = nodes.iter().any(|node| same(node, wanted)),
            Op::Lt => passed = nodes.iter().any(|node| ordered(node, Ordering::is_lt)),
            Op::Le => passed = nodes.iter().any(|node| ordered(node, Ordering::is_le)),
            Op::Gt => passed = nodes.iter().any(|node| ordered(node, Ordering::is_gt)),
            Op::Ge => passed = nodes.iter().any(|node| ordered(node, Ordering::is_ge)),
            Op::Contains => passed = nodes.iter().any(|node| contains(node, wanted)),
            Op::Matches => {
                for node in nodes {
                    passed = passed
                        || match node {
                            Value::String(text) => matches(text)?,
                            Value::Number(_) | Value::Bool(_) => matches(&node.to_string())?,
                            _ => false,
                        };
                }
            }
        }
        Ok(Said { passed, expected: self.to_string(), actual: shown(nodes) })
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.path, self.op.name())?;
        match &self.value {
            Some(value) => write!(f, " {value}"),
            None => Ok(()),
        }
    }
}

impl Op {
    fn name(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::Gt => "gt",
            Self::Ge => "ge",
            Self::Contains => "contains",
            Self::Matches => "matches",
            Self::Exists => "exists",
        }
    }
}

/// The findings, one of each rule.
pub(crate) fn judge(said: &Result<Vec<Said>, String>, mut outcome: Outcome) -> Outcome {
    let said = match said {
        Ok(said) => said,
        Err(reason) => {
            let finding = Finding::new("json", false, "JSON", reason.clone());
            return outcome.must(finding, "http.json", || format!("the body is not JSON: {reason}"));
        }
    };
    for (index, said) in said.iter().enumerate() {
        let finding =
            Finding::new(&format!("json/{index}"), said.passed, said.expected.clone(), said.actual.clone());
        outcome = outcome.must(finding, "http.json", || {
            format!("the body has {}, expected {}", said.actual, said.expected)
        });
    }
    outcome
}

/// Numbers are the same by value: 1, 1.0 and 1e0; inside arrays and objects too.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => order(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// Two numbers or two texts; whole numbers exactly, however large.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    let whole = |value: &Value| value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(_), Value::Number(_)) => match (whole(a), whole(b)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        _ => None,
    }
}

fn contains(node: &Value, wanted: &Value) -> bool {
    match (node, wanted) {
        (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
        (Value::Array(items), wanted) => items.iter().any(|item| same(item, wanted)),
        (Value::Object(members), Value::String(key)) => members.contains_key(key),
        _ => false,
    }
}

/// The first values in one line of bounded length.
fn shown(nodes: &[&Value]) -> String {
    let mut text = match nodes {
        [] => return "nothing there".to_owned(),
        [one] => one.to_string(),
        several => several.iter().take(4).map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    if text.len() > SHOWN || nodes.len() > 4 {
        text.truncate(text.floor_char_boundary(SHOWN));
        text.push('…');
    }
    text
}

/// Each value takes some fifty bytes of the sandbox's memory beside its text, and one comma or bracket of the body; each array or
/// object within another takes some of its stack. What does not fit is said before it is tried, because the host would call it a
/// crash. What stands in texts is counted too: it errs to the safe side.
fn fits(body: &[u8]) -> Result<(), Failure> {
    let (mut values, mut depth, mut deepest) = (0_usize, 0_usize, 0_usize);
    for byte in body {
        match byte {
            b'[' | b'{' => {
                values += 1;
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
    }
    let refused =
        |what: String| Err(Failure::Unsupported(format!("the body cannot be read as JSON here: {what}")));
    if values > MOST_VALUES {
        return refused(format!("it holds about {values} values, at most {MOST_VALUES} fit"));
    }
    if deepest > MOST_DEPTH {
        return refused(format!("its values lie deeper than {MOST_DEPTH} in each other"));
    }
    Ok(())
}

const SHOWN: usize = 200;
const MOST_VALUES: usize = 250_000;
const MOST_DEPTH: usize = 64;

thread_local! {
    /// The last pattern of a path's `match` or `search`: a filter asks with the same one for every item.
    static LAST: RefCell<Option<(String, Pattern)>> = const { RefCell::new(None) };
}

/// RFC 9535, section 2.4.6: the whole text.
#[serde_json_path::function(name = "match")]
fn whole(text: ValueType<'_>, pattern: ValueType<'_>) -> LogicalType {
    searched(&text, &pattern, |pattern| format!("^(?:{pattern})$"))
}

/// RFC 9535, section 2.4.7: any part of it.
#[serde_json_path::function(name = "search")]
fn part(text: ValueType<'_>, pattern: ValueType<'_>) -> LogicalType {
    searched(&text, &pattern, str::to_owned)
}

/// What is no text matches nothing, and neither does what is no pattern, as the RFC says.
fn searched(text: &ValueType<'_>, pattern: &ValueType<'_>, whole: impl Fn(&str) -> String) -> LogicalType {
    let (Some(Value::String(text)), Some(Value::String(pattern))) = (text.as_value(), pattern.as_value())
    else {
        return LogicalType::False;
    };
    let wanted = whole(pattern);
    let found = LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|(known, _)| *known != wanted) {
            *last = regex::compile(&wanted).ok().map(|pattern| (wanted.clone(), pattern));
        }
        last.as_ref().is_some_and(|(_, pattern)| pattern.matches(text.as_bytes()).unwrap_or(false))
    });
    found.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(path: &str, op: &str, value: &Value) -> Rule {
        let mut rule = json!({"path": path, "op": op});
        if *value != json!("unset") {
            rule["value"] = value.clone();
        }
        serde_json::from_value(rule).unwrap()
    }

    fn check(path: &str, op: &str, value: Value, passed: bool) {
        let document = json!({
            "status": "ok", "length": 3, "ratio": 0.5, "large": 18_446_744_073_709_551_615_u64, "none": null,
            "tags": ["a", "b", 1.0], "nodes": [{"name": "n1", "up": true}, {"name": "n2", "up": false}],
        });
        let rule = rule(path, op, &value);
        let (path, _) = rule.read(|_| Ok(())).unwrap();
        // Stands in for the host's engine.
        let matches = |text: &str| Ok(value.as_str().is_some_and(|part| text.contains(part)));
        let said = rule.judge(&path.query(&document).all(), matches).unwrap();
        assert_eq!(said.passed, passed, "{rule}: {}", said.actual);
    }

    #[test]
    fn each_operator_holds_and_fails() {
        for (path, op, value, passed) in [
            ("$.status", "eq", json!("ok"), true),
            ("$.status", "eq", json!("OK"), false),
            ("$.length", "eq", json!(3.0), true),
            ("$.none", "eq", json!(null), true),
            ("$.gone", "eq", json!(null), false),
            ("$.tags", "eq", json!(["a", "b", 1]), true),
            ("$.nodes[0]", "eq", json!({"up": true, "name": "n1"}), true),
            ("$.status", "ne", json!("down"), true),
            ("$.status", "ne", json!("ok"), false),
            ("$.gone", "ne", json!("ok"), false),
            ("$.nodes[*].up", "ne", json!(false), false),
            ("$.length", "lt", json!(4), true),
            ("$.length", "lt", json!(3), false),
            ("$.length", "le", json!(3), true),
            ("$.length", "gt", json!(2.5), true),
            ("$.length", "ge", json!(4), false),
            ("$.large", "gt", json!(18_446_744_073_709_551_614_u64), true),
            ("$.ratio", "ge", json!(0.5), true),
            ("$.status", "gt", json!("oj"), true),
            ("$.status", "gt", json!(1), false),
            ("$.status", "contains", json!("k"), true),
            ("$.tags", "contains", json!(1), true),
            ("$.tags", "contains", json!("c"), false),
            ("$.nodes[0]", "contains", json!("up"), true),
            ("$.length", "contains", json!("3"), false),
            ("$.status", "matches", json!("o"), true),
            ("$.length", "matches", json!("3"), true),
            ("$.nodes", "matches", json!("n1"), false),
            ("$.none", "exists", json!("unset"), true),
            ("$.gone", "exists", json!("unset"), false),
            ("$.gone", "exists", json!(false), true),
            ("$.status", "exists", json!(false), false),
            ("$.nodes[?@.up == true].name", "eq", json!("n1"), true),
            ("$..name", "eq", json!("n2"), true),
            ("$.nodes[?length(@.name) == 2]", "exists", json!(true), true),
        ] {
            check(path, op, value, passed);
        }
    }

    #[test]
    fn a_rule_that_cannot_be_kept_says_what_it_needs() {
        for (path, op, value, key, expected) in [
            ("queue", "eq", json!(1), "path", "is not JSONPath (RFC 9535), at character 1"),
            ("$.a[", "eq", json!(1), "path", "is not JSONPath"),
            ("$[?unknown(@)]", "eq", json!(1), "path", "is not JSONPath"),
            ("$.a", "eq", json!("unset"), "value", "`eq` needs a value"),
            ("$.a", "lt", json!([]), "value", "`lt` needs a number or a text"),
            ("$.a", "matches", json!(1), "value", "`matches` needs a regular expression as a text"),
            (
                "$.a",
                "matches",
                json!("("),
                "value",
                "not a regular expression of Rust's regex crate: unclosed",
            ),
            ("$.a", "exists", json!("yes"), "value", "`exists` needs true or false, or nothing"),
        ] {
            let found = rule(path, op, &value).read(|_| Err::<(), _>("unclosed".to_owned()));
            let (found, message) = found.map(drop).unwrap_err();
            assert_eq!(found, key, "{message}");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn what_is_shown_is_short() {
        let long = json!("x".repeat(500));
        assert_eq!(shown(&[&long]).chars().count(), SHOWN + 1);
        let one = json!(1);
        assert_eq!(shown(&[&one; 5]), "1, 1, 1, 1…");
        assert_eq!(shown(&[]), "nothing there");
    }

    #[test]
    fn a_body_with_more_values_than_fit_is_refused() {
        fits(b"[1,2,3]").unwrap();
        fits(&b",".repeat(MOST_VALUES + 1)).unwrap_err();
        fits(&b"{}".repeat(1000)).unwrap();
        fits(&b"[".repeat(MOST_DEPTH)).unwrap();
        fits(&b"[".repeat(MOST_DEPTH + 1)).unwrap_err();
    }
}
