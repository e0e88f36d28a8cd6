//! Walks a configuration beside its schema, so that marks and defaults are found where they apply: through references,
//! alternatives, nested objects and arrays.

use serde_json::{Map, Value};

use super::Schema;

/// References and alternatives may nest this deep without the configuration nesting with them.
pub(super) const MAX_DEPTH: usize = 64;

/// One value of a configuration with one subschema that applies to it.
pub(super) struct Place<'a> {
    /// A JSON pointer into the configuration.
    pub(super) at: &'a str,
    pub(super) schema: &'a Map<String, Value>,
    pub(super) value: &'a Value,
    /// The object that the value is a property of.
    pub(super) parent: Option<&'a Map<String, Value>>,
}

impl Schema {
    /// Visits every pair of a value and a subschema that applies to it.
    pub(super) fn walk(&self, value: &Value, visit: &mut dyn FnMut(Place<'_>)) {
        let mut walk = Walk { schema: self, every: false, visit };
        walk.step(&self.root, value, "", None, MAX_DEPTH);
    }

    /// The same, and also those that might have been meant: branches that do not accept the value.
    pub(super) fn walk_every_branch(&self, value: &Value, visit: &mut dyn FnMut(Place<'_>)) {
        let mut walk = Walk { schema: self, every: true, visit };
        walk.step(&self.root, value, "", None, MAX_DEPTH);
    }

    /// What `$ref` points to; only places inside the schema.
    pub(super) fn resolve<'a>(&'a self, map: &Map<String, Value>) -> Option<&'a Value> {
        let reference = map.get("$ref")?.as_str()?;
        self.root.pointer(reference.strip_prefix('#')?)
    }

    /// Whether one of its branches accepts a value.
    pub(super) fn accepts(&self, branch: &Value, value: &Value) -> bool {
        self.branches
            .validator(branch, || self.compile_part(branch))
            .is_ok_and(|branch| branch.is_valid(value))
    }
}

struct Walk<'a> {
    schema: &'a Schema,
    every: bool,
    visit: &'a mut dyn FnMut(Place<'_>),
}

impl<'a> Walk<'a> {
    fn step(
        &mut self,
        schema: &Value,
        value: &Value,
        at: &str,
        parent: Option<&Map<String, Value>>,
        depth: usize,
    ) {
        let (Some(map), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else { return };
        (self.visit)(Place { at, schema: map, value, parent });
        for same in self.alternatives(map, value) {
            self.step(same, value, at, parent, depth);
        }
        match value {
            Value::Object(object) => {
                for (key, member) in object {
                    if let Some(sub) = property(map, key) {
                        self.step(sub, member, &format!("{at}/{}", escape(key)), Some(object), depth);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(sub) = element(map, index) {
                        self.step(sub, item, &format!("{at}/{index}"), None, depth);
                    }
                }
            }
            _ => {}
        }
    }

    /// The subschemas that apply to the same value: the referenced one, all of `allOf`, and those branches that accept it.
    fn alternatives<'m>(&self, map: &'m Map<String, Value>, value: &Value) -> Vec<&'m Value>
    where
        'a: 'm,
    {
        let schema = self.schema;
        let mut found: Vec<&Value> = schema.resolve(map).into_iter().collect();
        found.extend(list(map, "allOf"));
        found.extend(branches(map).filter(|branch| self.every || schema.accepts(branch, value)));
        if let Some(condition) = map.get("if") {
            let accepted = schema.accepts(condition, value);
            found.extend(map.get("then").filter(|_| self.every || accepted));
            found.extend(map.get("else").filter(|_| self.every || !accepted));
        }
        found
    }
}

/// The subschema of a property.
pub(super) fn property<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let named = map.get("properties").and_then(|properties| properties.get(key));
    named.or_else(|| map.get("additionalProperties"))
}

/// The subschema of an array's element.
pub(super) fn element(map: &Map<String, Value>, index: usize) -> Option<&Value> {
    let prefixed = map.get("prefixItems").and_then(|items| items.get(index));
    prefixed.or_else(|| map.get("items"))
}

/// The branches of `anyOf` and `oneOf`.
pub(super) fn branches(map: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    list(map, "anyOf").iter().chain(list(map, "oneOf"))
}

/// The members of a keyword that holds a list of schemas.
pub(super) fn list<'a>(map: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    map.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A key as a step of a JSON pointer (RFC 6901, section 3).
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
