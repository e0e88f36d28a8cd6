//! What a check is: its description, with the schema of its configuration made from the configuration's own type.

use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use crate::bindings::exports::picket::check::checker::Description;

/// What [`crate::check!`] knows about a check beside its configuration.
pub struct About {
    /// Lower case, digits, hyphens.
    pub name: &'static str,
    /// Semantic version of the check.
    pub version: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// What it may emit: name, UCUM unit, description.
    pub metrics: &'static [(&'static str, &'static str, &'static str)],
    /// Configurations that make sense, as JSON.
    pub examples: &'static [&'static str],
}

/// The description of a check whose configuration is `C`.
pub fn describe<C: JsonSchema>(about: &About) -> Description {
    let metrics: Vec<Value> = about
        .metrics
        .iter()
        .map(|(name, unit, description)| json!({ "name": name, "unit": unit, "description": description }))
        .collect();
    Description {
        name: about.name.into(),
        version: about.version.into(),
        summary: about.summary.into(),
        config_schema: with_examples(schema::<C>(), about.examples).to_string(),
        metrics: Value::from(metrics).to_string(),
    }
}

/// The schema with the examples at its top, where JSON Schema has them.
fn with_examples(mut schema: Schema, examples: &[&str]) -> Value {
    let examples: Vec<Value> = examples.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    if !examples.is_empty() {
        schema.insert("examples".into(), examples.into());
    }
    schema.into()
}

/// The examples that are no configuration of `C`, each with the reason.
pub fn misread<C: serde::de::DeserializeOwned>(examples: &[&str]) -> Vec<String> {
    let refused =
        |text: &&str| crate::config::read::<C>(text).err().map(|failure| format!("{text}: {failure:?}"));
    examples.iter().filter_map(refused).collect()
}

/// What is missing in the texts of the options of `C`, by JSON pointer: options that say nothing about themselves, and those that
/// do not say their default or say another one.
pub fn omissions<C: JsonSchema>() -> Vec<String> {
    let mut found = Vec::new();
    undocumented(schema::<C>().as_value(), "", &mut found);
    found
}

/// JSON Schema 2020-12 without references: an option that is not set is absent, never null.
fn schema<C: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(absent_is_not_null)
        .with_transform(plain_text)
        .into_generator()
        .into_root_schema_for::<C>()
}

/// Descriptions without the line ends of the source, and no names of types: they mean nothing outside of it.
fn plain_text(schema: &mut Schema) {
    transform_subschemas(&mut plain_text, schema);
    schema.remove("title");
    let joined = match schema.get("description") {
        Some(Value::String(text)) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        _ => return,
    };
    schema.insert("description".into(), joined.into());
}

fn absent_is_not_null(schema: &mut Schema) {
    transform_subschemas(&mut absent_is_not_null, schema);
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("default") == Some(&Value::Null) {
        object.shift_remove("default");
    }
    // What one width of integer or another is called tells an author of a configuration nothing; its bounds do.
    object.shift_remove("format");
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(options)) = object.get_mut("anyOf") {
        options.retain(|option| option.get("type") != Some(&Value::from("null")));
        if options.len() == 1 {
            object.shift_remove("anyOf").into_iter().flat_map(alternatives).for_each(|(key, value)| {
                object.entry(key).or_insert(value);
            });
        }
    }
}

/// The members of the only schema of an `anyOf`.
fn alternatives(any_of: Value) -> serde_json::Map<String, Value> {
    match any_of {
        Value::Array(mut options) => match options.pop() {
            Some(Value::Object(object)) => object,
            _ => serde_json::Map::new(),
        },
        _ => serde_json::Map::new(),
    }
}

fn undocumented(schema: &Value, at: &str, found: &mut Vec<String>) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                if key == "properties"
                    && let Value::Object(properties) = value
                {
                    for (name, property) in properties {
                        let text = property.get("description").and_then(Value::as_str).unwrap_or_default();
                        if text.is_empty() {
                            found.push(format!("{at}/properties/{name}"));
                        } else if let Some(default) = unsaid(property, text) {
                            found.push(format!("{at}/properties/{name}: its default is {default}"));
                        }
                    }
                }
                undocumented(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                undocumented(item, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// The default of a property, if it is one word and its description lacks it.
fn unsaid(property: &Value, description: &str) -> Option<String> {
    let default = match property.get("default")? {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        Value::Bool(value) => value.to_string(),
        _ => return None,
    };
    let mut words = description.split(|c: char| !c.is_alphanumeric() && !"-_.".contains(c));
    let said = words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(&default));
    (!said).then_some(default)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::{Duration, config::TextOrSecret};

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Config {
        /// Where.
        #[schemars(extend("x-picket-target" = "host"))]
        host: String,
        /// How long; 5s unless set.
        #[serde(default = "wait")]
        wait: Duration,
        /// How long; forever unless set.
        #[serde(default = "wait")]
        patience: Duration,
        /// How.
        inner: Option<Inner>,
        token: Option<TextOrSecret>,
        silent: bool,
        /// Which.
        #[schemars(range(min = 1))]
        port: Option<u16>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        /// Who.
        name: Option<String>,
    }

    fn wait() -> Duration {
        Duration(std::time::Duration::from_secs(5))
    }

    #[test]
    fn the_schema_is_made_from_the_type() {
        let schema = schema::<Config>().to_value();
        let properties = &schema["properties"];
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["required"], json!(["host", "silent"]));
        assert_eq!(properties["host"]["x-picket-target"], "host");
        assert_eq!(properties["wait"]["default"], "5s");
        assert_eq!(properties["wait"]["description"], "How long; 5s unless set.");
        assert_eq!(properties["inner"]["type"], "object");
        assert_eq!(properties["inner"]["description"], "How.");
        assert_eq!(properties["inner"]["properties"]["name"]["type"], "string");
        assert_eq!(properties["token"]["x-picket-secret"], true);
        assert_eq!(properties["token"]["type"], "string");
        assert_eq!(
            properties["port"],
            json!({"description": "Which.", "type": "integer", "minimum": 1, "maximum": 65535})
        );
        assert!(!schema.to_string().contains("null"), "{schema:#}");
    }

    #[test]
    fn examples_stand_at_the_top_of_the_schema() {
        let schema = with_examples(schema::<Config>(), &[r#"{"host": "a", "silent": true}"#]);
        assert_eq!(schema["examples"], json!([{"host": "a", "silent": true}]));
        assert_eq!(misread::<Config>(&[r#"{"host": "a", "silent": true}"#]), Vec::<String>::new());
        assert!(misread::<Config>(&[r#"{"host": "a"}"#])[0].contains("missing field `silent`"));
    }

    #[test]
    fn an_option_without_a_word_about_itself_or_its_default_is_found() {
        assert_eq!(omissions::<Config>(), ["/properties/patience: its default is 5s", "/properties/silent"]);
    }
}
