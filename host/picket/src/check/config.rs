//! A configuration from `--set` and `--config`: dotted keys, JSON or text.

use serde_json::{Map, Value};

/// One `--set KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    keys: Vec<String>,
    text: String,
}

impl Setting {
    /// Whether it wrote the key at a JSON pointer.
    pub(crate) fn wrote(&self, pointer: &str) -> bool {
        let own: String =
            self.keys.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect();
        own == pointer
    }
}

/// Reads "headers.Accept=text/html".
pub(crate) fn setting(text: &str) -> Result<Setting, String> {
    let expected = "expected KEY=VALUE, such as url=https://example.com/ or headers.Accept=text/html";
    let (key, value) = text.split_once('=').ok_or(expected)?;
    let keys: Vec<String> = key.split('.').map(str::to_owned).collect();
    if keys.iter().any(String::is_empty) {
        return Err(expected.to_owned());
    }
    Ok(Setting { keys, text: value.to_owned() })
}

/// The configuration with the settings on top. `schema` decides between a number and a text that looks like one.
pub(crate) fn with_settings(written: Value, settings: &[Setting], schema: &Value) -> Result<Value, String> {
    let Value::Object(mut root) = written else {
        return Err(format!("the configuration is {}, expected keys and values", kind(&written)));
    };
    for setting in settings {
        let (last, path) = setting.keys.split_last().expect("a setting has a key");
        let mut object = &mut root;
        for (depth, key) in path.iter().enumerate() {
            let inner = object.entry(key).or_insert_with(|| Value::Object(Map::new()));
            let found = kind(inner);
            object = inner.as_object_mut().ok_or_else(|| {
                format!(
                    "--set {}: {} is {found}, not an object",
                    setting.keys.join("."),
                    setting.keys[..=depth].join(".")
                )
            })?;
        }
        object.insert(last.clone(), value(&setting.text, wants_text(schema, schema, &setting.keys)));
    }
    Ok(Value::Object(root))
}

/// Where the fields of every monitor want a text that looks like a number.
pub(crate) fn of_monitors() -> Value {
    let text = serde_json::json!({ "type": "string" });
    serde_json::json!({ "properties": {
        "proxy": { "properties": { "user": text } },
        "tls": { "properties": { "server_name": text, "min_version": text, "max_version": text } },
    } })
}

fn value(text: &str, wants_text: bool) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Number(_) | Value::Bool(_) | Value::Null) if wants_text => text.into(),
        Ok(value) => value,
        Err(_) => text.into(),
    }
}

/// Whether the schema has a text, and nothing that looks like a number or a word of JSON, at the key.
fn wants_text(root: &Value, schema: &Value, keys: &[String]) -> bool {
    let mut types = Vec::new();
    add_types(root, schema, keys, &mut types);
    let other = |name: &&str| ["integer", "number", "boolean"].contains(name);
    types.contains(&"string") && !types.iter().any(other)
}

/// The types that a schema and its branches name at the key.
fn add_types<'a>(root: &'a Value, schema: &'a Value, keys: &[String], types: &mut Vec<&'a str>) {
    let schema = resolved(root, schema);
    let branches =
        ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|name| schema.get(name)?.as_array()).flatten();
    for branch in branches {
        add_types(root, branch, keys, types);
    }
    let Some((key, inner)) = keys.split_first() else {
        match schema.get("type") {
            Some(Value::Array(names)) => types.extend(names.iter().filter_map(Value::as_str)),
            name => types.extend(name.and_then(Value::as_str)),
        }
        return;
    };
    let direct =
        schema.get("properties").and_then(|p| p.get(key)).or_else(|| schema.get("additionalProperties"));
    if let Some(direct) = direct {
        add_types(root, direct, inner, types);
    }
}

fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| root.pointer(reference.strip_prefix('#')?))
        .unwrap_or(schema)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{setting, with_settings};

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "url": { "type": "string" },
                "keyword": { "type": ["string", "null"] },
                "port": { "type": "integer" },
                "expect": { "type": "string" },
                "send": { "anyOf": [{ "$ref": "#/$defs/Said" }, { "type": "null" }] },
                "version": { "anyOf": [{ "enum": ["1.2", 1.2] }, { "type": "null" }] },
                "status": { "anyOf": [{ "type": "string" }, { "type": "integer" }] },
                "headers": { "type": "object", "additionalProperties": { "type": "string" } },
                "auth": { "$ref": "#/$defs/Auth" },
            },
            "$defs": { "Said": { "anyOf": [{ "type": "string" }, { "type": "object" }] }, "Auth": { "oneOf": [{ "type": "object", "properties": { "user": { "type": "string" } } }] } },
        })
    }

    fn check(sets: &[&str], expected: Value) {
        let settings: Vec<_> = sets.iter().map(|s| setting(s).unwrap()).collect();
        assert_eq!(with_settings(json!({}), &settings, &schema()).unwrap(), expected);
    }

    #[test]
    fn a_value_is_json_or_text() {
        check(&["keyword=Welcome", "port=5432"], json!({"keyword": "Welcome", "port": 5432}));
        check(&["x=true", "y=[1, 2]", "z={\"a\": null}"], json!({"x": true, "y": [1, 2], "z": {"a": null}}));
        check(&["url=http://127.0.0.1:8080/?a=b"], json!({"url": "http://127.0.0.1:8080/?a=b"}));
        check(&["x="], json!({"x": ""}));
    }

    #[test]
    fn a_number_is_text_where_the_check_wants_text() {
        check(&["keyword=200", "expect=true"], json!({"keyword": "200", "expect": "true"}));
        check(&["headers.X-Id=7", "auth.user=7"], json!({"headers": {"X-Id": "7"}, "auth": {"user": "7"}}));
        check(
            &["send=220", "status=200", "version=1.2"],
            json!({"send": "220", "status": 200, "version": 1.2}),
        );
        check(&["keyword=\"quoted\"", "keyword={\"$secret\": \"k\"}"], json!({"keyword": {"$secret": "k"}}));
    }

    #[test]
    fn dots_lead_inwards() {
        check(
            &["headers.Accept=text/html", "headers.X=1"],
            json!({"headers": {"Accept": "text/html", "X": "1"}}),
        );
        let settings = [setting("port.x=1").unwrap()];
        let mistake = with_settings(json!({"port": 7}), &settings, &schema()).unwrap_err();
        assert_eq!(mistake, "--set port.x: port is a number, not an object");
    }

    #[test]
    fn a_setting_without_key_or_value_is_refused() {
        for wrong in ["keyword", "=x", "a..b=1", ".a=1"] {
            assert!(setting(wrong).unwrap_err().starts_with("expected KEY=VALUE"), "{wrong}");
        }
        assert!(setting("a.b=1").unwrap().wrote("/a/b"));
    }
}
