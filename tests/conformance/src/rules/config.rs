//! Configurations that are wrong, handed to the check as they are: a host that did not look at the schema first. Each must come
//! back as `invalid-config` with the place in it, and none may break the check.

use sandbox::{Failure, Verdict};
use serde_json::{Value, json};

use super::{Found, NO_EXAMPLE, Unfit};
use crate::subject::{Subject, told};

/// A key that no check has.
const UNKNOWN: &str = "picket_unknown_key";
/// Bytes of a text that is much too long, and that a check can still quote three times within what a call may hand over.
const HUGE: usize = 256 << 10;
/// Lists in lists: what recursion does not survive.
const DEEP: usize = 100_000;

pub(super) async fn empty(subject: &Subject) -> Found {
    let required = subject.schema().get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    if required.is_empty() {
        return Err(Unfit("the check needs no option"));
    }
    let places: Vec<String> =
        required.iter().filter_map(Value::as_str).map(|name| format!("/{name}")).collect();
    let named = |at: &str| at.is_empty() || places.iter().any(|place| place == at);
    Ok(refusal(subject, "{}", "an empty configuration", &format!("\"\" or {}", places.join(", ")), named)
        .await)
}

pub(super) async fn wrong_type(subject: &Subject) -> Found {
    let example = example(subject)?;
    let mut found = Vec::new();
    let properties = subject.schema().get("properties").and_then(Value::as_object);
    for name in properties.into_iter().flatten().map(|(name, _)| name) {
        let place = format!("/{name}");
        let below = format!("/{name}/");
        let inside = |at: &str| at == place || at.starts_with(&below);
        for wrong in [json!({"picket": []}), json!([[]]), json!(true), json!("\u{1}"), json!(-1.5)] {
            let mut config = example.clone();
            config[name.as_str()] = wrong.clone();
            // Only where the schema says so too is it wrong.
            let refused = subject.plugin.schema.complete(&config);
            if refused.is_ok() {
                continue;
            }
            let what = format!("{wrong} at {place}");
            found.extend(refusal(subject, &config.to_string(), &what, &place, inside).await);
            break;
        }
    }
    Ok(found)
}

pub(super) async fn unknown_key(subject: &Subject) -> Found {
    let mut config = example(subject)?;
    config[UNKNOWN] = 1.into();
    let place = format!("/{UNKNOWN}");
    let named = |at: &str| at.is_empty() || at == place;
    Ok(refusal(subject, &config.to_string(), "an unknown key", &place, named).await)
}

pub(super) async fn huge(subject: &Subject) -> Found {
    let example = example(subject)?;
    let mut found = Vec::new();
    let mut long = example.clone();
    long[UNKNOWN] = "a".repeat(HUGE).into();
    let anywhere = |_: &str| true;
    found.extend(refusal(subject, &long.to_string(), "a text of 256 KiB", "some place", anywhere).await);
    let text = example.to_string();
    let deep = format!("{}{}{}", "[".repeat(DEEP), "]".repeat(DEEP), "}");
    let deep = format!("{},\"{UNKNOWN}\":{deep}", &text[..text.len() - 1]);
    found.extend(refusal(subject, &deep, "100,000 lists in lists", "some place", anywhere).await);
    // The same in an option that the check has: it may take it, but not break of it.
    let texts = example.as_object().into_iter().flatten().filter(|(_, value)| value.is_string());
    for name in texts.map(|(name, _)| name) {
        let mut config = example.clone();
        config[name.as_str()] = "a".repeat(HUGE).into();
        let verdict = subject.run_text(&config.to_string()).await;
        if matches!(verdict, Verdict::Fault(_)) {
            found.push(format!("a text of 256 KiB at /{name} broke it: {}", told(&verdict)));
        }
    }
    Ok(found)
}

pub(super) async fn encoding(subject: &Subject) -> Found {
    let example = example(subject)?.to_string();
    let half = &example[..example.len() / 2];
    let texts = [
        ("nothing", String::new()),
        ("a blank", " ".to_owned()),
        ("half of a configuration", half.to_owned()),
        ("a list", "[]".to_owned()),
        ("null", "null".to_owned()),
        ("a text", "\"text\"".to_owned()),
        ("a byte order mark in front", format!("\u{feff}{example}")),
        ("something behind it", format!("{example} x")),
        ("half of a surrogate pair", format!("{},\"\\ud800\":1}}", &example[..example.len() - 1])),
        ("a zero", "\u{0}".to_owned()),
        ("no JSON", "url: http://a.example/".to_owned()),
    ];
    let mut found = Vec::new();
    for (what, text) in texts {
        found.extend(refusal(subject, &text, what, "some place", |_| true).await);
    }
    Ok(found)
}

fn example(subject: &Subject) -> Result<Value, super::Unfit> {
    subject.good_examples().into_iter().next().ok_or(NO_EXAMPLE)
}

/// Nothing when the check refuses the text as a configuration and names the place.
async fn refusal(
    subject: &Subject,
    text: &str,
    what: &str,
    place: &str,
    named: impl Fn(&str) -> bool,
) -> Vec<String> {
    let verdict = subject.run_text(text).await;
    match &verdict {
        Verdict::Failure(Failure::InvalidConfig(mistakes)) => {
            if mistakes.iter().any(|mistake| named(&mistake.at)) {
                return Vec::new();
            }
            let at: Vec<_> = mistakes.iter().map(|mistake| format!("{:?}", mistake.at)).collect();
            vec![format!("{what}: the mistake should be at {place}, is at {}", at.join(", "))]
        }
        other => vec![format!("{what}: expected invalid-config, came out {}", told(other))],
    }
}
