//! How large a schema is with every reference written out. A schema comes from a plugin, and a few lines of references that fork
//! or refer to themselves would keep a validator busy for ever.

use std::collections::HashMap;

use serde_json::Value;

use super::SchemaError;

/// Subschemas with every reference written out; real schemas have some hundreds.
const MOST: u64 = 20_000;

/// Refuses a schema that is too large or refers to itself.
pub(super) fn check(root: &Value) -> Result<(), SchemaError> {
    let mut size = Size { root, open: Vec::new(), known: HashMap::new() };
    match size.of(root)? {
        found if found > MOST => Err(SchemaError(format!(
            "with every reference written out the schema has {found} parts, at most {MOST} are allowed"
        ))),
        _ => Ok(()),
    }
}

struct Size<'a> {
    root: &'a Value,
    /// References on the way to here.
    open: Vec<&'a str>,
    known: HashMap<&'a str, u64>,
}

impl<'a> Size<'a> {
    fn of(&mut self, schema: &'a Value) -> Result<u64, SchemaError> {
        match schema {
            Value::Object(map) => {
                let mut size: u64 = 1;
                for (key, value) in map {
                    let part = match (key.as_str(), value) {
                        // Data, not schemas; and definitions count where they are used.
                        ("default" | "const" | "enum" | "examples" | "$defs", _) => 0,
                        ("$dynamicRef" | "$recursiveRef" | "$id", _) => {
                            return Err(SchemaError(format!(
                                "the schema uses {key}: only \"$ref\": \"#/$defs/NAME\" is allowed"
                            )));
                        }
                        ("$ref", Value::String(reference)) => self.behind(reference)?,
                        ("properties" | "patternProperties" | "dependentSchemas", Value::Object(named)) => {
                            self.sum(named.values())?
                        }
                        (_, value) => self.of(value)?,
                    };
                    size = size.saturating_add(part);
                }
                Ok(size)
            }
            Value::Array(list) => self.sum(list.iter()),
            _ => Ok(0),
        }
    }

    fn sum(&mut self, schemas: impl Iterator<Item = &'a Value>) -> Result<u64, SchemaError> {
        let mut sum: u64 = 0;
        for schema in schemas {
            sum = sum.saturating_add(self.of(schema)?);
        }
        Ok(sum)
    }

    fn behind(&mut self, reference: &'a str) -> Result<u64, SchemaError> {
        if let Some(size) = self.known.get(reference) {
            return Ok(*size);
        }
        if self.open.contains(&reference) {
            return Err(SchemaError(format!(
                "the schema refers to itself at {reference}: write it out as deep as it is needed"
            )));
        }
        let target = reference.strip_prefix('#').filter(|pointer| pointer.starts_with('/'));
        let Some(target) = target.and_then(|pointer| self.root.pointer(pointer)) else {
            return Err(SchemaError(format!(
                "found \"$ref\": \"{reference}\", expected \"#/$defs/NAME\" with a name that is there"
            )));
        };
        self.open.push(reference);
        let size = self.of(target)?;
        self.open.pop();
        self.known.insert(reference, size);
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refuse(schema: Value, expected: &str) {
        let error = check(&schema).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn references_that_fork_are_too_large() {
        let mut definitions = serde_json::Map::new();
        for index in 0..40 {
            let next = json!({"$ref": format!("#/$defs/d{}", index + 1)});
            definitions.insert(format!("d{index}"), json!({"allOf": [next, next]}));
        }
        definitions.insert("d40".into(), json!({}));
        refuse(json!({"$defs": definitions, "properties": {"a": {"$ref": "#/$defs/d0"}}}), "at most 20000");
    }

    #[test]
    fn a_reference_leads_to_another_place_in_the_schema() {
        refuse(
            json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}]}),
            "refers to itself",
        );
        refuse(json!({"properties": {"a": {"$ref": "#/$defs/b"}}}), "a name that is there");
        refuse(json!({"properties": {"a": {"$ref": "https://example.com/a"}}}), "example.com");
        refuse(json!({"properties": {"a": {"$dynamicRef": "#a"}}}), "$dynamicRef");
    }

    #[test]
    fn a_property_may_bear_the_name_of_a_keyword() {
        let named = json!({"properties": {"$ref": {"type": "string"}, "default": {"type": "string"}}});
        assert_eq!(check(&named), Ok(()));
    }
}
