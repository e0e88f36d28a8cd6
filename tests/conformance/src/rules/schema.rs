//! The schema and the examples in it, as the check gave them. That it is a schema at all was found out when it was loaded.

use serde_json::Value;

use super::{Found, NO_EXAMPLE, Unfit};
use crate::judge::short;
use crate::subject::Subject;

/// Interfaces that reach something.
const REACHING: [&str; 3] = ["picket:net/tcp", "picket:net/http", "picket:net/dns"];

/// Calls `each` with every schema of a property and the pointer to it, at every depth.
fn properties(schema: &Value, at: &str, each: &mut impl FnMut(&str, &Value)) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                // What stands there is data, however much it looks like a schema.
                if ["default", "examples", "const", "enum"].contains(&key.as_str()) {
                    continue;
                }
                if let ("properties", Some(named)) = (key.as_str(), value.as_object()) {
                    for (name, property) in named {
                        let inner = format!("{at}/properties/{name}");
                        each(&inner, property);
                        properties(property, &inner, each);
                    }
                } else {
                    properties(value, &format!("{at}/{key}"), each);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                properties(item, &format!("{at}/{index}"), each);
            }
        }
        _ => {}
    }
}

pub(super) fn documented(subject: &Subject) -> Found {
    let mut found = Vec::new();
    properties(subject.schema(), "", &mut |at, property| {
        let own = property.get("description").and_then(Value::as_str).unwrap_or_default();
        let behind = property.get("$ref").and_then(Value::as_str).and_then(|reference| {
            subject.schema().pointer(reference.strip_prefix('#')?)?.get("description")?.as_str()
        });
        // The reference to a secret documents itself.
        if own.trim().is_empty() && behind.unwrap_or_default().trim().is_empty() && !at.ends_with("/$secret")
        {
            found.push(format!("{at} has no description"));
        }
    });
    for metric in &subject.plugin.description.metrics {
        if metric.description.trim().is_empty() {
            found.push(format!("the metric {} has no description", metric.name));
        }
    }
    Ok(found)
}

pub(super) fn defaults(subject: &Subject) -> Found {
    let mut found = Vec::new();
    properties(subject.schema(), "", &mut |at, property| {
        let Some(default) = property.get("default").filter(|default| !default.is_null()) else { return };
        if let Some(reason) = subject.plugin.schema.refuses(property, default) {
            found.push(format!("{at} has the default {default}, which its own schema refuses: {reason}"));
        }
    });
    Ok(found)
}

pub(super) fn targets(subject: &Subject) -> Found {
    let asks = subject.plugin.imports.iter().any(|import| {
        let name = import.split('@').next().unwrap_or_default();
        REACHING.contains(&name)
    });
    if !asks {
        return Err(Unfit("the check asks for no way to reach anything"));
    }
    let mut marked = false;
    properties(subject.schema(), "", &mut |_, property| {
        marked |= property.to_string().contains("\"x-picket-target\"");
    });
    Ok(match marked {
        true => Vec::new(),
        false => vec![
            "no property is marked with x-picket-target, so nothing will ever be granted: mark what is dialled"
                .to_owned(),
        ],
    })
}

pub(super) fn examples_documented(subject: &Subject) -> Found {
    Ok(match subject.examples().is_empty() {
        true => vec![
            "the schema has no \"examples\" at its top: a list of configurations that make sense".to_owned(),
        ],
        false => Vec::new(),
    })
}

pub(super) async fn examples_valid(subject: &Subject) -> Found {
    if subject.examples().is_empty() {
        return Err(NO_EXAMPLE);
    }
    let mut found = Vec::new();
    for example in subject.examples() {
        let completed = match subject.plugin.schema.complete(&example) {
            Ok(completed) => completed,
            Err(mistakes) => {
                found.extend(mistakes.iter().map(|mistake| format!("{}: {mistake}", short(&example))));
                continue;
            }
        };
        let mistakes = match subject.plugin.schema.grant(&completed, &[]) {
            Ok(_) => subject.plugin.validate(&completed).await.unwrap_or_default(),
            Err(mistakes) => mistakes,
        };
        found.extend(mistakes.iter().map(|mistake| format!("{}: {mistake}", short(&example))));
    }
    Ok(found)
}
