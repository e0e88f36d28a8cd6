//! A plugin's configuration schema (JSON Schema 2020-12): the single source for validation, defaults, secrets and the grant. Owns
//! the schema's own rules and the walk along a configuration; wording lies in `mistake`, defaults in `complete`, targets in `grant`.

mod branches;
mod complete;
mod dsn;
mod grant;
mod mistake;
mod size;
mod walk;

use std::collections::BTreeSet;

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value, json};

use self::branches::Branches;
pub use self::mistake::AROUND;
pub(crate) use self::mistake::nearest;
use self::walk::Place;

/// Marks a value that may be `{"$secret": name}`.
const SECRET_MARK: &str = "x-picket-secret";
/// Marks a string that names a target; its value is one of [`TARGETS`].
const TARGET_MARK: &str = "x-picket-target";
/// Marks a target that is reached besides what is checked.
const BESIDE_MARK: &str = "x-picket-beside";
/// The kinds of targets that the contract knows.
const TARGETS: [&str; 6] = ["url", "host-port", "host", "dsn", "dns-name", "resolver"];
/// The key of a reference to a secret.
const SECRET_KEY: &str = "$secret";
/// A schema is text that a plugin hands over; real ones are far below.
const MAX_BYTES: usize = 256 << 10;

/// A pattern is compiled, and a few characters of it can become megabytes.
const PATTERN_BYTES: usize = 256 << 10;
const MOST_PATTERNS: usize = 64;

/// A plugin's configuration schema, ready to validate.
pub struct Schema {
    /// As the plugin gave it.
    root: Value,
    /// With references to secrets allowed where they are marked.
    lenient: Value,
    validator: Validator,
    branches: Branches,
}

/// Why a schema cannot be used. The plugin's author reads this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(pub(crate) String);

impl Schema {
    /// Checks a schema and makes it ready.
    ///
    /// # Errors
    /// When it is no JSON Schema 2020-12, not an object that refuses unknown keys, larger than 256 KiB, refers to something
    /// outside itself, has more than 64 patterns or one that needs more than 256 KiB, or carries a mark that the contract does
    /// not know.
    pub fn parse(schema: &Value) -> Result<Schema, SchemaError> {
        let refuse = |message: String| Err(SchemaError(message));
        let size = schema.to_string().len();
        if size > MAX_BYTES {
            return refuse(format!("the schema has {size} bytes, at most {MAX_BYTES} are allowed"));
        }
        let Some(root) = schema.as_object() else {
            return refuse("the schema is not a JSON object".to_owned());
        };
        if root.get("type") != Some(&json!("object")) {
            return refuse("the schema does not say \"type\": \"object\" at its top".to_owned());
        }
        let closed = ["additionalProperties", "unevaluatedProperties"];
        if !closed.iter().any(|key| root.get(*key) == Some(&Value::Bool(false))) {
            return refuse(
                "the schema accepts unknown keys: add \"additionalProperties\": false (in Rust #[serde(deny_unknown_fields)])"
                    .to_owned(),
            );
        }
        if let Err(error) = jsonschema::draft202012::meta::validate(schema) {
            return refuse(format!("at {}: {error}", error.instance_path()));
        }
        let patterns = patterns(schema);
        if patterns > MOST_PATTERNS {
            return refuse(format!(
                "the schema has {patterns} patterns, at most {MOST_PATTERNS} are allowed"
            ));
        }
        size::check(schema)?;
        check_marks(schema, "")?;
        let lenient = with_secrets(schema);
        let validator = compile(&lenient)?;
        Ok(Schema { root: schema.clone(), lenient, validator, branches: Branches::of(schema) })
    }

    /// The schema as the plugin gave it.
    pub fn value(&self) -> &Value {
        &self.root
    }

    /// Why one of its subschemas does not accept a value; none when it does.
    pub fn refuses(&self, subschema: &Value, value: &Value) -> Option<String> {
        match self.compile_part(subschema) {
            Ok(validator) => validator.iter_errors(value).next().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// A validator of a subschema. It costs far more than to ask it: whoever asks often keeps it.
    fn compile_part(&self, subschema: &Value) -> Result<Validator, SchemaError> {
        let definitions = self.lenient.get("$defs").cloned().unwrap_or_else(|| json!({}));
        compile(&json!({ "$defs": definitions, "allOf": [with_secrets(subschema)] }))
    }

    /// The names of all secrets that a completed configuration refers to.
    pub fn secret_names(&self, completed: &Value) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.walk(completed, &mut |place: Place<'_>| {
            if place.schema.get(SECRET_MARK) == Some(&Value::Bool(true))
                && let Some(name) = secret_name(place.value)
            {
                names.insert(name.to_owned());
            }
        });
        names
    }
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Schema").field(&self.root).finish()
    }
}

/// The name in `{"$secret": name}`.
fn secret_name(value: &Value) -> Option<&str> {
    value.as_object().filter(|map| map.len() == 1)?.get(SECRET_KEY)?.as_str()
}

/// Makes a validator. Patterns run in linear time and in little memory: they come from the plugin.
fn compile(schema: &Value) -> Result<Validator, SchemaError> {
    jsonschema::draft202012::options()
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES))
        .build(schema)
        .map_err(|error| SchemaError(error.to_string()))
}

/// How many patterns are written anywhere in a schema.
fn patterns(schema: &Value) -> usize {
    match schema {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let own = match (key.as_str(), value) {
                    ("pattern", Value::String(_)) => 1,
                    ("patternProperties", Value::Object(named)) => named.len(),
                    _ => 0,
                };
                own + patterns(value)
            })
            .sum(),
        Value::Array(items) => items.iter().map(patterns).sum(),
        _ => 0,
    }
}

/// Every mark must be one that the contract knows: an unknown one would silently grant nothing.
fn check_marks(schema: &Value, at: &str) -> Result<(), SchemaError> {
    match schema {
        Value::Object(map) => {
            if let Some(mark) = map.get(TARGET_MARK)
                && !mark.as_str().is_some_and(|mark| TARGETS.contains(&mark))
            {
                let known = TARGETS.join("\", \"");
                return Err(SchemaError(format!(
                    "at {at}/{TARGET_MARK}: found {mark}, expected one of \"{known}\""
                )));
            }
            if let Some(mark) = map.get(BESIDE_MARK)
                && !(mark.is_boolean() && map.contains_key(TARGET_MARK))
            {
                return Err(SchemaError(format!(
                    "at {at}/{BESIDE_MARK}: found {mark}, expected true or false beside {TARGET_MARK}"
                )));
            }
            map.iter().try_for_each(|(key, value)| check_marks(value, &format!("{at}/{key}")))
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| check_marks(value, &format!("{at}/{index}"))),
        _ => Ok(()),
    }
}

/// The same schema that accepts `{"$secret": name}` wherever it is marked. A choice by `if` keeps the mistakes of the other
/// branch precise, which `anyOf` would not.
fn with_secrets(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let marked = map.get(SECRET_MARK) == Some(&Value::Bool(true));
            let inner: Map<String, Value> =
                map.iter().map(|(key, value)| (key.clone(), with_secrets(value))).collect();
            if !marked {
                return Value::Object(inner);
            }
            json!({
                "if": { "type": "object", "required": [SECRET_KEY] },
                "then": {
                    "type": "object",
                    "properties": { SECRET_KEY: { "type": "string", "minLength": 1, "maxLength": 128 } },
                    "additionalProperties": false
                },
                "else": inner
            })
        }
        Value::Array(items) => Value::Array(items.iter().map(with_secrets).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn check(schema: Value, expected: &str) {
        let error = Schema::parse(&schema).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_schema_must_be_a_closed_object() {
        check(json!([]), "not a JSON object");
        check(json!({"type": "string"}), "\"type\": \"object\"");
        check(json!({"type": "object"}), "accepts unknown keys");
        check(
            json!({"type": "object", "additionalProperties": false, "properties": {"a": {"type": "text"}}}),
            "/properties/a/type",
        );
    }

    #[test]
    fn an_unknown_mark_is_named() {
        let schema = json!({"type": "object", "additionalProperties": false,
            "properties": {"a": {"type": "string", "x-picket-target": "uri"}}});
        check(
            schema,
            "at /properties/a/x-picket-target: found \"uri\", expected one of \"url\", \"host-port\"",
        );
    }

    #[test]
    fn a_mark_that_says_nothing_is_named() {
        let with = |property: Value| json!({"type": "object", "additionalProperties": false, "properties": {"a": property}});
        for property in [
            json!({"type": "string", "x-picket-target": "url", "x-picket-beside": "yes"}),
            json!({"type": "string", "x-picket-beside": true}),
        ] {
            check(with(property), "at /properties/a/x-picket-beside: found ");
        }
        Schema::parse(&with(json!({"type": "string", "x-picket-target": "url", "x-picket-beside": true})))
            .unwrap();
    }

    #[test]
    fn patterns_are_few_and_small() {
        let with = |pattern: &str, count: usize| {
            let properties: Map<String, Value> = (0..count)
                .map(|n| (format!("p{n}"), json!({"type": "string", "pattern": pattern})))
                .collect();
            json!({"type": "object", "additionalProperties": false, "properties": properties})
        };
        Schema::parse(&with("^[a-z][a-z0-9-]{0,62}$", 64)).unwrap();
        check(with("^a$", 65), "65 patterns, at most 64");
        check(with("(([a-z]{100}){100}){100}", 1), "(([a-z]{100}){100}){100}");
    }

    #[test]
    fn a_schema_may_not_refer_to_elsewhere() {
        check(
            json!({"type": "object", "additionalProperties": false, "properties": {"a": {"$ref": "https://example.com/a"}}}),
            "example.com",
        );
    }

    #[test]
    fn secrets_are_found_where_they_are_marked() {
        let schema = Schema::parse(&json!({"type": "object", "additionalProperties": false, "properties": {
            "password": {"type": "string", "x-picket-secret": true},
            "headers": {"type": "object", "additionalProperties": {"$ref": "#/$defs/value"}},
            "note": {"type": "object"},
        }, "$defs": {"value": {"type": "string", "x-picket-secret": true}}}))
        .unwrap();
        let config = json!({"password": {"$secret": "pg"}, "headers": {"x": {"$secret": "key"}, "y": "plain"},
            "note": {"$secret": "ignored"}});
        let names: Vec<_> = schema.secret_names(&schema.complete(&config).unwrap()).into_iter().collect();
        assert_eq!(names, ["key", "pg"]);
    }
}
