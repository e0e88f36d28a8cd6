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
    let Parsed { spec, interval_ms, timeout_ms, manner } = parse("", &raw, &Http).unwrap();
    let id = MonitorId(Uuid::from_u128(n));
    Monitor { id, spec, interval_ms, timeout_ms, manner, created_at: Timestamp::default(), paces: vec![] }
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
            "/monitors/0/colour: monitor \"shop\": unknown key \"colour\": known are name, check, interval, timeout, locations, enabled, labels, config, allow, retries, retry_interval, degraded_after, ip_family, address_mode, resolver, proxy, tls, invert, maintenance, severity, runbook_url, confirm, failure_threshold, success_threshold, alert_degraded, channels",
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
            "/monitors/0: found the number 3, write a monitor: an object with name, check, interval, timeout, locations, enabled, labels, config, allow, retries, retry_interval, degraded_after, ip_family, address_mode, resolver, proxy, tls, invert, maintenance, severity, runbook_url, confirm, failure_threshold, success_threshold, alert_degraded, channels",
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
    let Parsed { spec, interval_ms, timeout_ms, manner } = parsed(json!({}));
    assert_eq!((manner.retries, manner.retry_interval_ms), (1, 5_000));
    assert_eq!((spec.retries, spec.retry_interval.as_deref()), (Some(1), Some("5s")));
    assert_eq!((interval_ms, timeout_ms, spec.enabled), (60_000, 10_000, true));
    assert_eq!((spec.interval.as_deref(), spec.timeout.as_deref()), (Some("1m"), Some("10s")));
    assert_eq!(spec.config, json!({"url": "http://a/", "method": "GET"}));
    let short = parsed(json!({"interval": "5s"}));
    assert_eq!((short.interval_ms, short.timeout_ms, short.manner.retries), (5_000, 4_500, 0));
    assert_eq!(parsed(json!({"interval": "1m30s"})).interval_ms, 90_000);
    assert_eq!((spec.failure_threshold, spec.success_threshold), (Some(1), Some(1)));
    let unconfirmed = parsed(json!({"confirm": "none", "success_threshold": 5})).spec;
    assert_eq!((unconfirmed.failure_threshold, unconfirmed.success_threshold), (Some(3), Some(5)));
}

#[test]
fn what_a_configuration_is_told_to_be_the_monitors_is_read_here() {
    for field in sandbox::AROUND {
        let said = match field.split_once('.') {
            Some((outer, inner)) => json!({outer: {inner: []}}),
            None => json!({field: []}),
        };
        let found = parse_all(&[shop(said)], &Http).err().unwrap_or_default();
        assert!(!found.iter().any(|m| m.to_string().contains("unknown key")), "{field}: {found:#?}");
    }
}

#[test]
fn every_mistake_in_the_common_fields_is_told_the_same_way() {
    let window = |window: Value| json!({"maintenance": [window]});
    for (change, expected) in [
        (
            json!({"retries": 11}),
            "/retries: monitor \"shop\": found the number 11, write a whole number from 0 to 10",
        ),
        (
            json!({"retries": 4}),
            "/retries: monitor \"shop\": 5 attempts of 10s with pauses of 5s take 1m 10s, which is not below the interval 1m: write at most 3 retries",
        ),
        (
            json!({"interval": "5s", "retry_interval": "1s"}),
            "/retry_interval: monitor \"shop\": 2 attempts of 4s 500ms",
        ),
        (
            json!({"degraded_after": "10s"}),
            "/degraded_after: monitor \"shop\": what takes longer than the timeout 10s is down",
        ),
        (
            json!({"ip_family": "ipv6"}),
            "/ip_family: monitor \"shop\": found \"ipv6\", write \"any\", \"v4\" or \"v6\"",
        ),
        (
            json!({"address_mode": "each"}),
            "/address_mode: monitor \"shop\": found \"each\", write \"any\", \"first\" or \"all\"",
        ),
        (
            json!({"resolver": ["10.0.0.53", "dns"]}),
            "/resolver/1: monitor \"shop\": found \"dns\", write an address like",
        ),
        (json!({"resolver": []}), "/resolver: monitor \"shop\": found 0, write 1 to 8 addresses"),
        (
            json!({"resolver": 53}),
            "/resolver: monitor \"shop\": found the number 53, write a list of addresses",
        ),
        (
            json!({"proxy": "proxy:3128"}),
            "/proxy: monitor \"shop\": found the scheme \"proxy\", write \"http://host:port\"",
        ),
        (
            json!({"proxy": {"url": "https://proxy"}}),
            "/proxy/url: monitor \"shop\": found the scheme \"https\"",
        ),
        (json!({"proxy": {"user": "a"}}), "/proxy: monitor \"shop\": missing key \"url\""),
        (
            json!({"proxy": {"url": "http://proxy:1", "pasword": 1}}),
            "/proxy/pasword: monitor \"shop\": unknown key \"pasword\": did you mean \"password\"?",
        ),
        (
            json!({"proxy": {"url": "http://proxy:1", "password": {"$secret": "p"}}}),
            "/proxy/password: monitor \"shop\": it belongs to a user",
        ),
        (json!({"tls": {"cert": "/cert.pem"}}), "/tls: monitor \"shop\": cert is of no use without key"),
        (
            json!({"tls": {"min_version": 1.2}}),
            "/tls/min_version: monitor \"shop\": found the number 1.2, write the text \"1.2\" or \"1.3\"",
        ),
        (
            json!({"tls": {"min_version": "1.3", "max_version": "1.2"}}),
            "/tls/min_version: monitor \"shop\": 1.3 is above max_version 1.2",
        ),
        (
            json!({"tls": {"verify": "no"}}),
            "/tls/verify: monitor \"shop\": found \"no\", write true or false",
        ),
        (json!({"invert": 1}), "/invert: monitor \"shop\": found the number 1, write true or false"),
        (
            json!({"severity": "high"}),
            "/severity: monitor \"shop\": found \"high\", write \"critical\", \"error\", \"warning\" or \"info\"",
        ),
        (
            json!({"runbook_url": "javascript:alert(1)"}),
            "/runbook_url: monitor \"shop\": found \"javascript:alert(1)\", write an address",
        ),
        (
            json!({"maintenance": "daily"}),
            "/maintenance: monitor \"shop\": found \"daily\", write a list of windows",
        ),
        (
            window(json!({"duration": "2h"})),
            "/maintenance/0: monitor \"shop\": found the object {\"duration\":\"2h\"}, write a window",
        ),
        (
            window(json!({"at": "22:00"})),
            "/maintenance/0: monitor \"shop\": missing key \"duration\": a text like \"2h\", at most 7 days",
        ),
        (
            window(json!({"at": "22:00", "duration": "2h", "days": ["saturday"]})),
            "/maintenance/0/days: monitor \"shop\": found the list",
        ),
        (
            window(json!({"at": "22:00", "duration": "2h", "until": 1})),
            "/maintenance/0/until: monitor \"shop\": unknown key \"until\"",
        ),
        (
            window(json!({"at": "22:00", "duration": "2h", "time_zone": "CEST"})),
            "/maintenance/0/time_zone: monitor \"shop\": found \"CEST\", write IANA's name of a time zone",
        ),
    ] {
        let found = parse_all(&[shop(change)], &Http).unwrap_err();
        let expected = format!("/monitors/0{expected}");
        assert!(found.iter().any(|m| m.to_string().starts_with(&expected)), "{expected}\nnot in {found:#?}");
    }
}

#[test]
fn a_mistake_never_repeats_what_may_be_a_secret() {
    let secret = "-----BEGIN PRIVATE KEY-----\nhunter22";
    for change in [
        json!({"proxy": "http://guard:hunter22@proxy:3128"}),
        json!({"proxy": {"url": "http://proxy:3128", "user": "guard", "password": "hunter22"}}),
        json!({"proxy": {"url": "http://guard:hunter22@proxy:3128"}}),
        json!({"tls": {"cert": "/cert.pem", "key": secret}}),
        json!({"tls": {"cert": "/cert.pem", "key": {"secret": "hunter22"}}}),
        json!({"tls": {"cert": "/cert.pem", "key": "hunter22"}}),
        json!({"tls": {"cert": "/cert.pem", "key": "MC4CAQAwBQYDK2VwBCIEIhunter22/abc=="}}),
        json!({"tls": {"cert": "/cert.pem", "key": "hunter22\n.pem"}}),
        json!({"tls": {"cert": "/cert.pem", "key": format!("hunter22{}.pem", "a".repeat(255))}}),
    ] {
        let found = parse_all(&[shop(change.clone())], &Http).unwrap_err();
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(!found[0].to_string().contains("hunter22"), "{change}: {}", found[0]);
    }
}

#[test]
fn files_are_named_by_their_path_or_by_their_name_where_the_operator_opened_them() {
    for (cert, key) in [
        ("/etc/picket/tls/client.pem", "/etc/picket/tls/client-key"),
        ("ours.pem", "ours-key.pem"),
        ("shop/ours", "shop/../tls.key"),
    ] {
        let said = json!({"tls": {"ca": "authority", "cert": cert, "key": key}});
        let tls = parse("", &shop(said), &Http).unwrap().manner.tls;
        let plain = |text: &str| Some(wire::manner::Text::Plain(text.to_owned()));
        assert_eq!((tls.ca, tls.cert, tls.key), (plain("authority"), plain(cert), plain(key)));
    }
    let said = shop(json!({"tls": {"cert": "ours.pem", "key": "ours"}}));
    check(
        &[said],
        &[
            "/monitors/0/tls/key: monitor \"shop\": found something else than a secret by name, write {\"$secret\": NAME}, or a \
           file on the agent: its path, or its name beneath --allow-files, like \"ours-key.pem\"",
        ],
    );
}

#[test]
fn the_common_fields_come_to_a_manner_and_are_kept_as_they_mean() {
    let said = json!({
        "retries": 2, "retry_interval": "500ms", "timeout": "2s", "degraded_after": "1s", "ip_family": "v4", "address_mode": "all",
        "resolver": "10.0.0.53", "proxy": "http://proxy:3128/", "tls": {"key": {"$secret": "k"}, "cert": "/c.pem", "verify": false},
        "invert": true, "maintenance": [{"cron": "0 22 * * 6", "duration": "2h"}], "severity": "critical",
    });
    let Parsed { spec, manner, .. } = parse("", &shop(said), &Http).unwrap();
    assert_eq!((manner.retries, manner.retry_interval_ms, manner.degraded_after_ms), (2, 500, Some(1_000)));
    assert_eq!(manner.resolver, ["10.0.0.53:53".parse().unwrap()]);
    assert_eq!(manner.proxy.as_ref().map(|p| &p.url[..]), Some("http://proxy:3128"));
    assert!(manner.invert && !manner.tls.verify);
    let kept = serde_json::to_value(&spec).unwrap();
    assert_eq!(kept["maintenance"], json!([{"cron": "0 22 * * 6", "duration": "2h", "time_zone": "UTC"}]));
    assert_eq!((&kept["resolver"], &kept["severity"]), (&json!(["10.0.0.53:53"]), &json!("critical")));
    // What is shown can be applied again, and changes nothing.
    let again = parse("", &kept, &Http).unwrap();
    assert_eq!((again.spec, again.manner), (spec, manner));
}

#[test]
fn the_digest_covers_how_a_monitor_is_run() {
    let shop = monitor(1, "shop", &["dc1"]);
    let mut other = shop.clone();
    other.manner.invert = true;
    assert_ne!(shop.digest(), other.digest());
    other.manner = shop.manner.clone();
    assert_eq!(shop.digest(), other.digest());
}

fn planned(current: &[Monitor], wanted: &[Value], prune: bool) -> Plan {
    let current = current.iter().map(|m| (m.spec.name.clone(), m.clone().into())).collect();
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
    assert_eq!(updated.changes[0].changed, ["/interval", "/timeout", "/config/url", "/retries"]);
}

#[test]
fn a_prune_deletes_what_is_not_listed_and_says_so_last() {
    let current = [monitor(2, "other", &["dc1"])];
    let kept = planned(&current, &[shop(json!({}))], false);
    assert!(kept.gone.is_empty());
    let pruned = planned(&current, &[shop(json!({}))], true);
    assert_eq!(pruned.gone, current.map(Arc::new));
    let changes: Vec<_> = pruned.changes.iter().map(|c| (c.monitor.as_str(), c.change)).collect();
    assert_eq!(changes, [("shop", Change::Created), ("other", Change::Deleted)]);
    assert_eq!(pruned.put[0].id, MonitorId(Uuid::from_u128(99)));
}
