//! The wording of mistakes: where, what was found, what was expected, and what was probably meant.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::{Map, Value};

use super::walk::{self, Place, escape};
use super::{SECRET_KEY, SECRET_MARK, Schema, TARGET_MARK, secret_name};
use crate::verdict::Mistake;

/// Found values are shown up to so many characters.
const SHOWN: usize = 60;

/// Fields that every monitor may have (`docs/monitors.md`), as far as somebody looks for them in the configuration of a check. A test
/// of the control plane holds them against those that it reads.
pub const AROUND: [&str; 16] = [
    "interval",
    "timeout",
    "retries",
    "retry_interval",
    "degraded_after",
    "ip_family",
    "address_mode",
    "resolver",
    "proxy",
    "tls",
    "tls.ca",
    "tls.cert",
    "tls.server_name",
    "tls.min_version",
    "tls.max_version",
    "invert",
];

impl Schema {
    /// Every mistake in a configuration, sorted by place.
    pub(super) fn mistakes(&self, config: &Value) -> Vec<Mistake> {
        if self.validator.is_valid(config) {
            return Vec::new();
        }
        let mut hidden = Hidden::default();
        self.walk_every_branch(config, &mut |place: Place<'_>| {
            // A target may have been written with a user's name and password in it.
            let login = place.schema.contains_key(TARGET_MARK)
                && place
                    .value
                    .as_str()
                    .is_some_and(|target| target.contains('@') || target.contains("password"));
            if login {
                hidden.at.insert(place.at.to_owned());
            }
            if place.schema.get(SECRET_MARK) == Some(&Value::Bool(true)) {
                // Whoever puts the secret itself where its name belongs.
                hidden.at.insert(format!("{}/{SECRET_KEY}", place.at));
                if secret_name(place.value).is_none() {
                    let marked = Value::Object(place.schema.clone());
                    hidden.at.insert(place.at.to_owned());
                    hidden.secrets.insert(place.at.to_owned(), self.describe(&marked, 8));
                }
            }
        });
        let mut found = Vec::new();
        for error in self.validator.iter_errors(config) {
            self.explain(&error, &hidden, &mut found);
        }
        found.sort_by(|a, b| (&a.at, &a.message).cmp(&(&b.at, &b.message)));
        found.dedup();
        found
    }

    fn explain(&self, error: &ValidationError<'_>, hidden: &Hidden, found: &mut Vec<Mistake>) {
        let at = error.instance_path().as_str().to_owned();
        let mut add = |at: String, message: String| found.push(Mistake { at, message });
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                let known = self.known(error.schema_path().as_str());
                for key in unexpected {
                    add(format!("{at}/{}", escape(key)), unknown_key(key, &known));
                }
            }
            Kind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                let schema = parent(error.schema_path().as_str())
                    .and_then(|pointer| self.lenient.pointer(pointer)?.get("properties")?.get(key));
                let expected = schema.map_or_else(|| "a value".to_owned(), |schema| self.describe(schema, 8));
                add(format!("{at}/{}", escape(key)), format!("is missing, expected {expected}"));
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                // A branch that wants another type was not meant, nor one that wants other keys; if one is left, its mistakes are
                // the mistakes.
                let wants = |errors: &[ValidationError<'_>], other: fn(&Kind) -> bool| {
                    errors.iter().any(|e| other(e.kind()) && e.instance_path().as_str() == at)
                };
                let of_type: Vec<_> = context.iter().filter(|errors| !wants(errors, is_type)).collect();
                let of_keys: Vec<_> =
                    of_type.iter().copied().filter(|errors| !wants(errors, is_keys)).collect();
                if let ([errors], _) | (_, [errors]) = (&of_type[..], &of_keys[..]) {
                    for error in errors.iter() {
                        self.explain(error, hidden, found);
                    }
                    return;
                }
                let schema =
                    parent(error.schema_path().as_str()).and_then(|pointer| self.lenient.pointer(pointer));
                let expected =
                    schema.map_or_else(|| "another value".to_owned(), |schema| self.describe(schema, 8));
                let value = error.instance();
                let what = if hidden.at.contains(&at) { kind_of(value).to_owned() } else { show(value) };
                add(at, format!("found {what}, expected {expected}"));
            }
            kind => {
                let value = error.instance();
                let unsaid = hidden.at.contains(&at);
                let what = if unsaid { kind_of(value).to_owned() } else { show(value) };
                let reference = hidden.secrets.get(&at).filter(|_| matches!(kind, Kind::Type { .. }));
                let mut message = match reference.cloned().or_else(|| expected(kind, value)) {
                    Some(expected) => format!("found {what}, expected {expected}"),
                    None if unsaid => format!("found {what}, which the schema does not accept"),
                    None => error.to_string(),
                };
                if secret_name(value).is_some() {
                    message.push_str("; secrets are not accepted here");
                }
                if let Some(field) =
                    at.strip_prefix('/').and_then(of_the_monitor).filter(|_| value.is_object())
                {
                    message.push_str(&format!(
                        "; the monitor's own field {field} stands beside config (picket check: --monitor {field}.…)"
                    ));
                }
                add(at, message);
            }
        }
    }

    /// The property names that the object schema around a keyword knows.
    fn known(&self, keyword: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        if let Some(schema) = parent(keyword).and_then(|pointer| self.lenient.pointer(pointer)) {
            self.names(schema, 8, &mut names);
        }
        names
    }

    fn names(&self, schema: &Value, depth: usize, names: &mut BTreeSet<String>) {
        let (Some(map), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else { return };
        names.extend(
            map.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned(),
        );
        for part in walk::list(map, "allOf").iter().chain(walk::branches(map)).chain(self.resolve(map)) {
            self.names(part, depth, names);
        }
    }

    /// The same of one of several: objects are told apart by the keys that they must have.
    fn describe_branch(&self, branch: &Value, depth: usize) -> String {
        let map = branch.as_object().and_then(|map| self.resolve(map).unwrap_or(branch).as_object());
        let keys = map.filter(|map| map.get("type").is_some_and(|name| name == "object"));
        let keys = keys.map(|map| walk::list(map, "required")).unwrap_or_default();
        match keys.is_empty() {
            true => self.describe(branch, depth),
            false => format!("{{{}}}", join(keys.iter().map(|key| format!("{key}: …")), ", ")),
        }
    }

    /// What a schema expects, in words.
    fn describe(&self, schema: &Value, depth: usize) -> String {
        let (Some(map), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else {
            return "a value".to_owned();
        };
        if let Some(target) = self.resolve(map) {
            return self.describe(target, depth);
        }
        if let (Some(_), Some(other)) = (map.get("then"), map.get("else")) {
            return self.describe(other, depth);
        }
        if map.get(SECRET_MARK) == Some(&Value::Bool(true)) {
            let reference = format!("{{\"{SECRET_KEY}\": \"NAME\"}}");
            return match map.get("type").and_then(Value::as_str) {
                None | Some("object") => reference,
                Some(name) => format!("{} or {reference}", article(name)),
            };
        }
        if let Some(options) = map.get("enum").and_then(Value::as_array) {
            return format!("one of {}", join(options.iter().map(Value::to_string), ", "));
        }
        if let Some(value) = map.get("const") {
            return value.to_string();
        }
        if walk::branches(map).next().is_some() {
            return join(walk::branches(map).map(|branch| self.describe_branch(branch, depth)), " or ");
        }
        match map.get("type") {
            Some(Value::String(name)) => article(name).to_owned(),
            Some(Value::Array(names)) => {
                join(names.iter().filter_map(Value::as_str).map(|name| article(name).to_owned()), " or ")
            }
            _ => "a value".to_owned(),
        }
    }
}

/// Whether a branch wants another type.
fn is_type(kind: &Kind) -> bool {
    matches!(kind, Kind::Type { .. })
}

/// Whether a branch wants other keys.
fn is_keys(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Required { .. } | Kind::AdditionalProperties { .. } | Kind::UnevaluatedProperties { .. }
    )
}

/// What is not repeated.
#[derive(Default)]
struct Hidden {
    /// Pointers to what may hold a secret.
    at: BTreeSet<String>,
    /// Those where a secret belongs and none is named: what to write there.
    secrets: BTreeMap<String, String>,
}

/// What the keyword that failed expects; none where the validator's own words are the best.
fn expected(kind: &Kind, value: &Value) -> Option<String> {
    let characters = |limit: &u64| plural(*limit, "character");
    Some(match kind {
        Kind::Type { kind: TypeKind::Single(name) } => article(name.as_str()).to_owned(),
        Kind::Type { kind: TypeKind::Multiple(names) } => {
            join(names.iter().map(|name| article(name.as_str()).to_owned()), " or ")
        }
        Kind::Enum { options } => {
            let options = options.as_array().map_or(&[][..], Vec::as_slice);
            let texts = options.iter().filter_map(Value::as_str);
            let meant = value.as_str().and_then(|found| nearest(found, texts));
            let list = join(options.iter().map(Value::to_string), ", ");
            match meant {
                Some(meant) => format!("one of {list}; did you mean \"{meant}\"?"),
                None => format!("one of {list}"),
            }
        }
        Kind::Constant { expected_value } => expected_value.to_string(),
        Kind::Minimum { limit } => format!("at least {limit}"),
        Kind::Maximum { limit } => format!("at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("less than {limit}"),
        Kind::MinLength { limit } => format!("at least {}", characters(limit)),
        Kind::MaxLength { limit } => format!("at most {}", characters(limit)),
        Kind::MinItems { limit } => format!("at least {}", plural(*limit, "element")),
        Kind::MaxItems { limit } => format!("at most {}", plural(*limit, "element")),
        Kind::MinProperties { limit } => format!("at least {}", plural(*limit, "key")),
        Kind::MaxProperties { limit } => format!("at most {}", plural(*limit, "key")),
        Kind::MultipleOf { multiple_of } => format!("a multiple of {multiple_of}"),
        Kind::UniqueItems => "no element twice".to_owned(),
        Kind::Pattern { pattern } => format!("a text that matches {pattern}"),
        Kind::Format { format } => format!("a text in the format \"{format}\""),
        Kind::OneOfMultipleValid { .. } => "only one of the alternatives".to_owned(),
        _ => return None,
    })
}

fn unknown_key(key: &str, known: &BTreeSet<String>) -> String {
    let mut message = format!("unknown key \"{key}\"");
    if let Some(field) = of_the_monitor(key) {
        message.push_str(&format!(": {field} is a field of every monitor, write it beside config"));
        match field {
            // One run has no plan, and is one attempt.
            "interval" | "retries" | "retry_interval" => {}
            "timeout" => message.push_str(" (picket check: --timeout …)"),
            field => message.push_str(&format!(" (picket check: --monitor {field}=…)")),
        }
    }
    let meant = nearest(key, known.iter().map(String::as_str));
    match (meant, known.is_empty()) {
        (Some(meant), _) => message.push_str(&format!("; did you mean \"{meant}\"? known are ")),
        (None, false) => message.push_str("; known are "),
        (None, true) => message.push_str("; none is known here"),
    }
    message + &join(known.iter().cloned(), ", ")
}

/// What stands around a configuration and not in it, whatever the check.
fn of_the_monitor(key: &str) -> Option<&'static str> {
    AROUND.iter().find(|field| field.rsplit('.').next() == Some(key)).copied()
}

/// The name that was probably meant, if one is near.
pub(crate) fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    known
        .map(|name| (strsim::damerau_levenshtein(&found, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// A found value, short.
fn show(value: &Value) -> String {
    match value {
        _ if secret_name(value).is_some() => "a reference to a secret".to_owned(),
        Value::Object(_) | Value::Array(_) => kind_of(value).to_owned(),
        value => {
            let text = value.to_string();
            match text.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn article(name: &str) -> &'static str {
    match name {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "an object",
        "null" => "null",
        _ => "a value",
    }
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn join(parts: impl Iterator<Item = String>, between: &str) -> String {
    parts.collect::<Vec<_>>().join(between)
}

/// The pointer without its last step.
fn parent(pointer: &str) -> Option<&str> {
    pointer.rfind('/').map(|end| &pointer[..end])
}
