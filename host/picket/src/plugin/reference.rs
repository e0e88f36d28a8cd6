//! The reference of a check as Markdown, made of the texts in its schema: `docs/checks` is this and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sandbox::Plugin;
use serde_json::Value;

/// One option, at any depth.
pub(super) struct Described {
    /// "tls.ca", "headers.*", "expect[].code".
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) default: String,
    pub(super) text: String,
}

/// An option that makes the grant.
pub(super) struct Marked {
    /// As in [`Described::name`].
    pub(super) at: String,
    /// "host", "url" and the other kinds of targets, or "secret".
    pub(super) kind: String,
}

/// The whole page.
pub(super) fn page(plugin: &Plugin) -> String {
    let description = &plugin.description;
    let mut text = format!(
        "<!-- Made by `picket plugin inspect {name} --reference` from the texts in the check's schema. -->\n\n# {name}\n\n{}\n\n\
         ## Options\n\n| option | type | default | what it does |\n|---|---|---|---|\n",
        description.summary,
        name = description.name,
    );
    for option in options(&description.config_schema) {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            option.name,
            cell(&option.kind),
            cell(&option.default),
            cell(&option.text)
        );
    }
    let marked = marked(&description.config_schema);
    let targets = marked.iter().filter(|one| one.kind != "secret");
    let _ = writeln!(text, "\n## What it may reach\n\nWhat these options name, and nothing else:\n");
    for one in targets {
        let _ = writeln!(text, "- `{}` ({})", one.at, one.kind);
    }
    let secrets: Vec<_> = marked.iter().filter(|one| one.kind == "secret").collect();
    if !secrets.is_empty() {
        let _ = writeln!(text, "\nA secret, written as `{{$secret: name}}`, may stand in:\n");
        for one in secrets {
            let _ = writeln!(text, "- `{}`", one.at);
        }
    }
    if !description.metrics.is_empty() {
        let _ = writeln!(text, "\n## Metrics\n\n| name | unit | meaning |\n|---|---|---|");
        for metric in &description.metrics {
            let _ =
                writeln!(text, "| `{}` | `{}` | {} |", metric.name, metric.unit, cell(&metric.description));
        }
    }
    let examples = description.config_schema.get("examples").and_then(Value::as_array);
    if let Some(examples) = examples.filter(|examples| !examples.is_empty()) {
        let _ = writeln!(text, "\n## Examples\n\n```json");
        for example in examples {
            let _ = writeln!(text, "{example}");
        }
        text.push_str("```\n");
    }
    text
}

/// Every option, those of an object behind it.
pub(super) fn options(schema: &Value) -> Vec<Described> {
    let mut found = Vec::new();
    object(schema, schema, "", &mut found, DEPTH);
    found
}

/// Every option that makes the grant, in the order of the table.
pub(super) fn marked(schema: &Value) -> Vec<Marked> {
    let mut found: Vec<Marked> = Vec::new();
    marks(schema, schema, "", &mut found, DEPTH);
    let mut seen = BTreeSet::new();
    found.retain(|one| seen.insert((one.at.clone(), one.kind.clone())));
    found
}

/// Objects in objects; a schema that refers to itself ends here.
const DEPTH: usize = 6;

fn object(root: &Value, schema: &Value, prefix: &str, found: &mut Vec<Described>, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let schema = resolved(root, schema);
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, option) in schema["properties"].as_object().into_iter().flatten() {
        let own = resolved(root, option);
        let default = match option.get("default").or_else(|| own.get("default")) {
            Some(default) => default.to_string(),
            None if required.contains(&name.as_str()) => "required".to_owned(),
            None => "-".to_owned(),
        };
        let text = option.get("description").or_else(|| own.get("description"));
        let full = format!("{prefix}{name}");
        if name != SECRET_KEY && !found.iter().any(|known| known.name == full) {
            found.push(Described {
                name: full.clone(),
                kind: kind(root, option),
                default,
                text: text.and_then(Value::as_str).unwrap_or_default().replace('\n', " "),
            });
        }
        // A reference to a secret is a value, however it is written.
        if own.get("x-picket-secret") != Some(&Value::Bool(true)) {
            inner(root, own, &full, found, depth);
        }
    }
    for branch in branches(schema) {
        object(root, branch, prefix, found, depth);
    }
}

/// What lies in an option: an object's own, those of a list's items.
fn inner(root: &Value, option: &Value, name: &str, found: &mut Vec<Described>, depth: usize) {
    object(root, option, &format!("{name}."), found, depth);
    if let Some(items) = option.get("items") {
        object(root, items, &format!("{name}[]."), found, depth);
    }
    for branch in branches(option) {
        if let Some(items) = resolved(root, branch).get("items") {
            object(root, items, &format!("{name}[]."), found, depth);
        }
    }
}

fn marks(root: &Value, schema: &Value, at: &str, found: &mut Vec<Marked>, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let schema = resolved(root, schema);
    if let Some(kind) = schema.get("x-picket-target").and_then(Value::as_str) {
        found.push(Marked { at: at.to_owned(), kind: kind.to_owned() });
    }
    if schema.get("x-picket-secret") == Some(&Value::Bool(true)) {
        found.push(Marked { at: at.to_owned(), kind: "secret".to_owned() });
        return;
    }
    let dotted = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    for (name, option) in schema["properties"].as_object().into_iter().flatten() {
        marks(root, option, &dotted(name), found, depth);
    }
    if let Some(more) = schema.get("additionalProperties").filter(|more| more.is_object()) {
        marks(root, more, &dotted("*"), found, depth);
    }
    if let Some(items) = schema.get("items") {
        marks(root, items, &format!("{at}[]"), found, depth);
    }
    for branch in branches(schema) {
        marks(root, branch, at, found, depth);
    }
}

fn branches(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|name| schema.get(name)?.as_array()).flatten()
}

/// What a reference points to.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| root.pointer(reference.strip_prefix('#')?))
        .unwrap_or(schema)
}

/// "string", "integer or object": what may stand there; the values where there are few.
pub(super) fn kind(root: &Value, option: &Value) -> String {
    let option = resolved(root, option);
    if option.get("x-picket-secret") == Some(&Value::Bool(true))
        && option.get("type") != Some(&"string".into())
    {
        return "secret".to_owned();
    }
    let values = values(option);
    if (1..=FEW).contains(&values.len()) {
        return values.join(" or ");
    }
    let mut kinds = BTreeSet::new();
    match option.get("type") {
        Some(Value::String(kind)) => {
            kinds.insert(kind.clone());
        }
        Some(Value::Array(several)) => {
            kinds.extend(several.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        _ => kinds.extend(branches(option).map(|branch| kind(root, branch))),
    }
    kinds.remove("null");
    match kinds.is_empty() {
        true => "any".to_owned(),
        false => kinds.into_iter().collect::<Vec<_>>().join(" or "),
    }
}

/// The values of an option that takes nothing else.
fn values(option: &Value) -> Vec<String> {
    if let Some(listed) = option.get("enum").and_then(Value::as_array) {
        return listed.iter().map(Value::to_string).collect();
    }
    let branches: Vec<&Value> = branches(option).collect();
    let constant = |branch: &&Value| branch.get("const").map(Value::to_string);
    branches.iter().map(constant).collect::<Option<_>>().unwrap_or_default()
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// So many values are told in place of their type.
const FEW: usize = 6;
/// The key of a reference to a secret.
const SECRET_KEY: &str = "$secret";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "required": ["host"], "properties": {
            "host": {"type": "string", "description": "Where.", "x-picket-target": "host"},
            "headers": {"type": "object", "description": "What.",
                "additionalProperties": {"type": "string", "x-picket-secret": true}},
            "tls": {"$ref": "#/$defs/tls", "description": "How."},
            "expect": {"type": ["array", "null"], "description": "a | b", "items": {"type": "object",
                "properties": {"code": {"type": "integer", "default": 200, "description": "Which."}}}},
            "auth": {"description": "Who.", "oneOf": [
                {"type": "object", "properties": {"token": {"type": "object", "x-picket-secret": true,
                    "description": "The token.", "properties": {"$secret": {"type": "string"}}}}}]},
        }, "$defs": {"tls": {"type": "object", "properties": {"ca": {"type": "string", "description": "Whose."}}}}})
    }

    #[test]
    fn every_option_has_a_line_with_those_within_it_behind() {
        let lines: Vec<_> = options(&schema())
            .into_iter()
            .map(|o| format!("{} | {} | {} | {}", o.name, o.kind, o.default, o.text))
            .collect();
        assert_eq!(
            lines,
            [
                "host | string | required | Where.",
                "headers | object | - | What.",
                "tls | object | - | How.",
                "tls.ca | string | - | Whose.",
                "expect | array | - | a | b",
                "expect[].code | integer | 200 | Which.",
                "auth | object | - | Who.",
                "auth.token | secret | - | The token.",
            ]
        );
    }

    #[test]
    fn what_makes_the_grant_is_found_at_every_depth() {
        let marked: Vec<_> =
            marked(&schema()).into_iter().map(|one| format!("{} {}", one.at, one.kind)).collect();
        assert_eq!(marked, ["host host", "headers.* secret", "auth.token secret"]);
    }

    #[test]
    fn few_values_stand_in_place_of_their_type() {
        let told = |option: Value| kind(&json!({}), &option);
        assert_eq!(told(json!({"type": "string", "enum": ["any", "all"]})), r#""any" or "all""#);
        assert_eq!(told(json!({"oneOf": [{"const": "smtp"}, {"const": "imap"}]})), r#""smtp" or "imap""#);
        assert_eq!(told(json!({"oneOf": [{"type": "boolean"}, {"type": "integer"}]})), "boolean or integer");
        assert_eq!(told(json!({"type": "string", "enum": ["a", "b", "c", "d", "e", "f", "g"]})), "string");
    }

    #[test]
    fn a_bar_does_not_end_a_cell() {
        assert_eq!(cell("a | b\nc"), "a \\| b c");
    }
}
