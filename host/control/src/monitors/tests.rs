use serde_json::json;
use uuid::Uuid;

use super::*;

/// Knows "http", which needs `url` and has `method` GET.
pub(crate) struct Http;

impl Checks for Http {
    fn complete(&self, check: &str, config: &Value, allow: &[String]) -> Result<Value, Refused> {
        if check != "http" {
            return Err(Refused::Unknown(format!("unknown check {check:?}: did you mean http?")));
        }
        if config["url"].is_null() {
            let message = "missing key \"url\"".to_owned();
            return Err(Refused::Config(vec![Mistake { at: "/url".into(), message }]));
        }
        if let Some(index) = allow.iter().position(|a| a.contains(' ')) {
            let message = "not a target".to_owned();
            return Err(Refused::Allow(vec![Mistake { at: format!("/{index}"), message }]));
        }
        let mut config = config.clone();
        config.as_object_mut().unwrap().entry("method").or_insert("GET".into());
        Ok(config)
    }
}

/// Interval 60 s, timeout 10 s.
pub(crate) fn monitor(n: u128, name: &str, locations: &[&str]) -> Monitor {
    let raw = json!({"name": name, "check": "http", "locations": locations, "config": {"url": "http://a/"}});
    let Parsed { spec, interval_ms, timeout_ms } = parse("", &raw, &Http).unwrap();
    let id = MonitorId(Uuid::from_u128(n));
    Monitor { id, spec, interval_ms, timeout_ms, created_at: Timestamp::default(), paces: vec![] }
}

fn shop(change: Value) -> Value {
    let mut raw =
        json!({"name": "shop", "check": "http", "locations": ["dc1"], "config": {"url": "http://a/"}});
    let fields = raw.as_object_mut().unwrap();
    for (key, value) in change.as_object().unwrap() {
        match value {
            Value::Null => drop(fields.remove(key)),
            _ => drop(fields.insert(key.clone(), value.clone())),
        }
    }
    raw
}

/// The mistakes, as `pointer: message` each.
fn check(monitors: &[Value], expected: &[&str]) {
    let mistakes = parse_all(monitors, &Http).err().unwrap_or_default();
    let found: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_mistake_names_the_monitor_the_key_what_was_found_and_what_to_write() {
    let table = [
        (
            json!({"name": null}),
            "/monitors/0: missing key \"name\": a name like \"shop\", unique among the monitors",
        ),
        (
            json!({"name": 5}),
            "/monitors/0/name: found the number 5, write a name like \"shop\", unique among the monitors",
        ),
        (
            json!({"name": "My Shop"}),
            "/monitors/0/name: \"My Shop\" is not a name: write 1 to 63 lower-case letters, digits, hyphens and dots, a letter or digit first",
        ),
        (
            json!({"check": null}),
            "/monitors/0: monitor \"shop\": missing key \"check\": the name of a check, like \"http\"",
        ),
        (
            json!({"check": "htp"}),
            "/monitors/0/check: monitor \"shop\": unknown check \"htp\": did you mean http?",
        ),
        (
            json!({"intervall": "5s"}),
            "/monitors/0/intervall: monitor \"shop\": unknown key \"intervall\": did you mean \"interval\"?",
        ),
        (
            json!({"colour": "red"}),
            "/monitors/0/colour: monitor \"shop\": unknown key \"colour\": known are name, check, interval, timeout, locations, enabled, labels, config, allow, confirm, failure_threshold, success_threshold, alert_degraded, channels",
        ),
        (
            json!({"interval": 5}),
            "/monitors/0/interval: monitor \"shop\": found the number 5, write a text like \"60s\" or \"1m30s\", at least \"1s\"",
        ),
        (
            json!({"interval": "soon"}),
            "/monitors/0/interval: monitor \"shop\": found \"soon\", write a text like \"60s\" or \"1m30s\", at least \"1s\"",
        ),
        (
            json!({"interval": "500ms"}),
            "/monitors/0/interval: monitor \"shop\": found 500ms, write at least 1s",
        ),
        (
            json!({"interval": "0s"}),
            "/monitors/0/interval: monitor \"shop\": found \"0s\", write whole milliseconds, above 0 and at most 7 days",
        ),
        (
            json!({"interval": "5s", "timeout": "10s"}),
            "/monitors/0/timeout: monitor \"shop\": timeout 10s is not below the interval 5s: write a shorter timeout or a longer interval",
        ),
        (
            json!({"locations": null}),
            "/monitors/0: monitor \"shop\": missing key \"locations\": a list of the locations where it runs, like [\"dc1\"]",
        ),
        (
            json!({"locations": []}),
            "/monitors/0/locations: monitor \"shop\": found none, write a list of the locations where it runs, like [\"dc1\"]",
        ),
        (
            json!({"locations": "dc1"}),
            "/monitors/0/locations: monitor \"shop\": found \"dc1\", write a list of the locations where it runs, like [\"dc1\"]",
        ),
        (
            json!({"locations": ["dc1", "dc1"]}),
            "/monitors/0/locations/1: monitor \"shop\": location \"dc1\" stands in the list twice: remove one",
        ),
        (
            json!({"locations": [7]}),
            "/monitors/0/locations/0: monitor \"shop\": found the number 7, write a text",
        ),
        (
            json!({"enabled": "yes"}),
            "/monitors/0/enabled: monitor \"shop\": found \"yes\", write true or false",
        ),
        (
            json!({"labels": {"a/b": 1}}),
            "/monitors/0/labels/a~1b: monitor \"shop\": found the number 1, write a text",
        ),
        (
            json!({"config": []}),
            "/monitors/0/config: monitor \"shop\": found the list [], write an object with the check's options",
        ),
        (
            json!({"confirm": "maybe"}),
            "/monitors/0/confirm: monitor \"shop\": found \"maybe\", write \"other-agent\", \"same-agent\" or \"none\"",
        ),
        (
            json!({"failure_threshold": 0}),
            "/monitors/0/failure_threshold: monitor \"shop\": found the number 0, write a whole number from 1 to 100",
        ),
        (
            json!({"channels": "ops"}),
            "/monitors/0/channels: monitor \"shop\": found \"ops\", write a list of channels, like [\"ops\"]",
        ),
        (json!({"config": {}}), "/monitors/0/config/url: monitor \"shop\": missing key \"url\""),
        (json!({"allow": ["a", "b c"]}), "/monitors/0/allow/1: monitor \"shop\": not a target"),
    ];
    for (change, expected) in table {
        let found = parse_all(&[shop(change)], &Http).unwrap_err();
        assert!(found.iter().any(|m| m.to_string() == expected), "{expected}\nnot in {found:#?}");
    }
}

#[test]
fn all_mistakes_of_all_monitors_are_found_at_once() {
    check(
        &[json!(3), shop(json!({})), shop(json!({"check": "x", "interval": "1ms"}))],
        &[
            "/monitors/0: found the number 3, write a monitor: an object with name, check, interval, timeout, locations, enabled, labels, config, allow, confirm, failure_threshold, success_threshold, alert_degraded, channels",
            "/monitors/2/name: monitor \"shop\" stands at /monitors/1 already: give each a name of its own",
            "/monitors/2/interval: monitor \"shop\": found 1ms, write at least 1s",
            "/monitors/2/check: monitor \"shop\": unknown check \"x\": did you mean http?",
        ],
    );
    check(&[shop(json!({}))], &[]);
}

#[test]
fn defaults_are_filled_in() {
    let parsed = |change| parse("", &shop(change), &Http).unwrap();
    let Parsed { spec, interval_ms, timeout_ms } = parsed(json!({}));
    assert_eq!((interval_ms, timeout_ms, spec.enabled), (60_000, 10_000, true));
    assert_eq!((spec.interval.as_deref(), spec.timeout.as_deref()), (Some("1m"), Some("10s")));
    assert_eq!(spec.config, json!({"url": "http://a/", "method": "GET"}));
    let short = parsed(json!({"interval": "5s"}));
    assert_eq!((short.interval_ms, short.timeout_ms), (5_000, 4_500));
    assert_eq!(parsed(json!({"interval": "1m30s"})).interval_ms, 90_000);
    assert_eq!((spec.failure_threshold, spec.success_threshold), (Some(1), Some(1)));
    let unconfirmed = parsed(json!({"confirm": "none", "success_threshold": 5})).spec;
    assert_eq!((unconfirmed.failure_threshold, unconfirmed.success_threshold), (Some(3), Some(5)));
}

fn planned(current: &[Monitor], wanted: &[Value], prune: bool) -> Plan {
    let current = current.iter().map(|m| (m.spec.name.clone(), m.clone())).collect();
    let wanted = parse_all(wanted, &Http).unwrap();
    plan(&current, wanted, prune, Timestamp::from_millis(9), || MonitorId(Uuid::from_u128(99)))
}

#[test]
fn an_unchanged_name_keeps_its_id_and_an_unchanged_monitor_changes_nothing() {
    let current = [monitor(1, "shop", &["dc1"]), monitor(2, "other", &["dc1"])];
    let same = planned(&current, &[shop(json!({}))], false);
    assert!(same.put.is_empty() && same.gone.is_empty());
    assert_eq!(same.changes[0].change, Change::Unchanged);

    let changed = json!({"interval": "5s", "config": {"url": "http://b/"}});
    let updated = planned(&current, &[shop(changed)], false);
    assert_eq!(updated.put[0].id, current[0].id);
    assert_eq!(updated.put[0].created_at, current[0].created_at);
    assert_eq!(updated.changes[0].changed, ["/interval", "/timeout", "/config/url"]);
}

#[test]
fn a_prune_deletes_what_is_not_listed_and_says_so_last() {
    let current = [monitor(2, "other", &["dc1"])];
    let kept = planned(&current, &[shop(json!({}))], false);
    assert!(kept.gone.is_empty());
    let pruned = planned(&current, &[shop(json!({}))], true);
    assert_eq!(pruned.gone, current);
    let changes: Vec<_> = pruned.changes.iter().map(|c| (c.monitor.as_str(), c.change)).collect();
    assert_eq!(changes, [("shop", Change::Created), ("other", Change::Deleted)]);
    assert_eq!(pruned.put[0].id, MonitorId(Uuid::from_u128(99)));
}
