//! The branches of a schema: subschemas that apply only where they accept a value. Each has a validator that is made when it is first
//! asked for and kept, because every configuration of the plugin asks again, and to make one costs a hundred times as much as to ask it.

use std::collections::HashMap;
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::Value;

use super::{SchemaError, walk};

/// By the text of the branch, so that what is written twice has one validator.
pub(super) struct Branches(HashMap<Value, OnceLock<Result<Validator, SchemaError>>>);

impl Branches {
    /// All branches of `anyOf`, `oneOf` and `if`, none of them compiled.
    pub(super) fn of(schema: &Value) -> Self {
        let mut branches = HashMap::new();
        collect(schema, &mut branches);
        Self(branches)
    }

    /// The validator of a branch, which `compile` makes the first time.
    pub(super) fn validator(
        &self,
        branch: &Value,
        compile: impl FnOnce() -> Result<Validator, SchemaError>,
    ) -> Result<&Validator, &SchemaError> {
        let kept = self.0.get(branch).expect("a walk sees no branch that the schema does not have");
        kept.get_or_init(compile).as_ref()
    }
}

fn collect(schema: &Value, branches: &mut HashMap<Value, OnceLock<Result<Validator, SchemaError>>>) {
    match schema {
        Value::Object(map) => {
            let own = walk::branches(map).chain(map.get("if"));
            branches.extend(own.map(|branch| (branch.clone(), OnceLock::new())));
            map.values().for_each(|value| collect(value, branches));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, branches)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde_json::json;

    use super::*;
    use crate::schema::{Schema, compile};

    #[test]
    fn a_branch_is_compiled_once_and_only_when_it_is_asked_for() {
        let (text, number) = (json!({"type": "string"}), json!({"type": "integer"}));
        let condition = json!({"const": 7});
        let branches =
            Branches::of(&json!({"$defs": {"a": {"items": {"anyOf": [text, number]}}}, "if": condition}));
        let compiled = Cell::new(0);
        for branch in [&text, &condition, &text] {
            let made = branches.validator(branch, || {
                compiled.set(compiled.get() + 1);
                compile(branch)
            });
            assert!(!made.unwrap().is_valid(&json!(true)));
        }
        assert_eq!(compiled.get(), 2);
    }

    #[test]
    fn configurations_after_the_first_compile_nothing() {
        let schema = Schema::parse(&json!({"type": "object", "additionalProperties": false, "properties": {
            "at": {"oneOf": [{"type": "integer"}, {"type": "string", "pattern": "^[a-z]+$"}]}}}))
        .unwrap();
        let compiled =
            |schema: &Schema| schema.branches.0.values().filter(|kept| kept.get().is_some()).count();
        assert_eq!(compiled(&schema), 0);
        for at in [json!("abc"), json!(7), json!("def")] {
            assert!(schema.complete(&json!({"at": at})).is_ok());
        }
        assert_eq!(compiled(&schema), 2);
        assert!(schema.complete(&json!({"at": "A"})).is_err());
    }
}
