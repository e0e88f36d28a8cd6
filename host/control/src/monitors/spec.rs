//! One monitor as people write it, read so that every mistake in it is found at once. Each message names the monitor, the key, what
//! was found and what to write instead.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use wire::Mistake;
use wire::admin::MonitorSpec;
use wire::alert::Confirm;
use wire::manner::Manner;

use crate::agents::name_mistake;
pub use common::manner;

/// What is known about the checks that there are.
pub(crate) trait Checks: Send + Sync {
    /// The configuration with its defaults filled in.
    fn complete(&self, check: &str, config: &Value, allow: &[String]) -> Result<Value, Refused>;
}

/// Why a check cannot be made from this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no such check; a sentence.
    Unknown(String),
    /// Mistakes in the configuration, as pointers into it.
    Config(Vec<Mistake>),
    /// Mistakes in the additional targets, as pointers into the list.
    Allow(Vec<Mistake>),
}

/// A monitor without mistakes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parsed {
    /// Defaults filled in.
    pub spec: MonitorSpec,
    /// The same as its text.
    pub interval_ms: u64,
    /// The same as its text.
    pub timeout_ms: u64,
    /// The same as its fields.
    pub manner: Manner,
}

/// Reads the monitor that stands at this pointer.
pub(crate) fn parse(at: &str, raw: &Value, checks: &dyn Checks) -> Result<Parsed, Vec<Mistake>> {
    let Value::Object(fields) = raw else {
        let message = format!("found {}, write a monitor: an object with {}", found(raw), KEYS.join(", "));
        return Err(vec![Mistake { at: at.to_owned(), message }]);
    };
    let name = fields.get("name").and_then(Value::as_str);
    let mut read = Reader { at, name, fields, mistakes: Vec::new() };
    read.refuse_unknown_keys(KEYS);
    let name = read.required("name", Reader::text).unwrap_or_default();
    let check = read.required("check", Reader::text).unwrap_or_default();
    let locations = read.required("locations", Reader::texts).unwrap_or_default();
    let interval = read.optional("interval", Reader::duration).unwrap_or(INTERVAL);
    let default_timeout = if interval > TIMEOUT { TIMEOUT } else { interval * 9 / 10 };
    let timeout = read.optional("timeout", Reader::duration).unwrap_or(default_timeout);
    let enabled = read.optional("enabled", Reader::flag).unwrap_or(true);
    let labels = read.optional("labels", Reader::labels).unwrap_or_default();
    let allow = read.optional("allow", Reader::texts).unwrap_or_default();
    let config = read.optional("config", Reader::object).unwrap_or_default();
    let manner = read.manner(interval, timeout);
    let maintenance = read.optional("maintenance", Reader::windows).unwrap_or_default();
    let severity = read.optional("severity", Reader::severity);
    let runbook_url = read.optional("runbook_url", Reader::address);
    let confirm = read.optional("confirm", Reader::word::<Confirm>).unwrap_or_default();
    let (failures, successes) = thresholds(confirm);
    let failures = read.optional("failure_threshold", Reader::count).unwrap_or(failures);
    let successes = read.optional("success_threshold", Reader::count).unwrap_or(successes);
    let alert_degraded = read.optional("alert_degraded", Reader::flag).unwrap_or(false);
    let channels = read.optional("channels", Reader::texts).unwrap_or_default();

    read.judge_names(&name, &locations);
    read.judge_durations(interval, timeout);
    let config = read.complete(checks, &check, Value::Object(config), &allow);
    if !read.mistakes.is_empty() {
        return Err(read.mistakes);
    }
    let text = |d: Duration| Some(humantime::format_duration(d).to_string().replace(' ', ""));
    let (interval_ms, timeout_ms) = (millis(interval), millis(timeout));
    let (interval, timeout) = (text(interval), text(timeout));
    let spec = MonitorSpec {
        name,
        check,
        interval,
        timeout,
        locations,
        enabled,
        labels,
        config,
        allow,
        retries: Some(manner.retries),
        retry_interval: text(Duration::from_millis(manner.retry_interval_ms)),
        degraded_after: manner.degraded_after_ms.map(Duration::from_millis).and_then(text),
        ip_family: manner.ip_family,
        address_mode: manner.address_mode,
        resolver: manner.resolver.iter().map(ToString::to_string).collect(),
        proxy: manner.proxy.clone(),
        tls: manner.tls.clone(),
        invert: manner.invert,
        maintenance,
        severity,
        runbook_url,
        confirm: Some(confirm),
        failure_threshold: Some(failures),
        success_threshold: Some(successes),
        alert_degraded,
        channels,
    };
    Ok(Parsed { spec, interval_ms, timeout_ms, manner })
}

/// How many failures and how many successes in a row it takes, where nothing is said: a confirmation stands for the second and third.
pub(crate) fn thresholds(confirm: Confirm) -> (u32, u32) {
    match confirm {
        Confirm::OtherAgent | Confirm::SameAgent => (1, 1),
        Confirm::None => (3, 2),
    }
}

struct Reader<'a> {
    at: &'a str,
    /// The monitor's, for messages.
    name: Option<&'a str>,
    fields: &'a Map<String, Value>,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    /// Adds a mistake at a pointer within the monitor. The message begins with the monitor's name where it has one.
    fn mistake(&mut self, within: &str, message: impl std::fmt::Display) {
        let message = match self.name {
            Some(name) if within != "/name" => format!("monitor {name:?}: {message}"),
            _ => message.to_string(),
        };
        self.mistakes.push(Mistake { at: format!("{}{within}", self.at), message });
    }

    fn refuse_unknown_keys(&mut self, known: &[&str]) {
        let unknown: Vec<_> = self.fields.keys().filter(|k| !known.contains(&k.as_str())).collect();
        for key in unknown {
            let hint = nearest(key, known).map_or_else(
                || format!("known are {}", known.join(", ")),
                |near| format!("did you mean {near:?}?"),
            );
            let within = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
            self.mistake(&within, format!("unknown key {key:?}: {hint}"));
        }
    }

    fn required<T>(&mut self, key: &str, read: impl Fn(&mut Self, &str, &Value) -> Option<T>) -> Option<T> {
        if !self.fields.contains_key(key) {
            self.mistake("", format!("missing key {key:?}: {}", explained(key)));
        }
        self.optional(key, read)
    }

    fn optional<T>(&mut self, key: &str, read: impl Fn(&mut Self, &str, &Value) -> Option<T>) -> Option<T> {
        let value = self.fields.get(key)?;
        let outcome = read(self, &format!("/{key}"), value);
        if outcome.is_none() && !self.mistakes.iter().any(|m| m.at.starts_with(&format!("{}/{key}", self.at)))
        {
            self.mistake(&format!("/{key}"), format!("found {}, write {}", found(value), explained(key)));
        }
        outcome
    }

    fn text(&mut self, _: &str, value: &Value) -> Option<String> {
        value.as_str().map(str::to_owned)
    }

    fn flag(&mut self, _: &str, value: &Value) -> Option<bool> {
        value.as_bool()
    }

    fn count(&mut self, _: &str, value: &Value) -> Option<u32> {
        u32::try_from(value.as_u64()?).ok().filter(|n| (1..=100).contains(n))
    }

    fn object(&mut self, _: &str, value: &Value) -> Option<Map<String, Value>> {
        value.as_object().cloned()
    }

    fn texts(&mut self, within: &str, value: &Value) -> Option<Vec<String>> {
        let mut texts = Vec::new();
        for (index, item) in value.as_array()?.iter().enumerate() {
            match item.as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => {
                    self.mistake(
                        &format!("{within}/{index}"),
                        format!("found {}, write a text", found(item)),
                    );
                }
            }
        }
        Some(texts)
    }

    fn labels(&mut self, within: &str, value: &Value) -> Option<BTreeMap<String, String>> {
        let mut labels = BTreeMap::new();
        for (key, item) in value.as_object()? {
            match item.as_str() {
                Some(text) => drop(labels.insert(key.clone(), text.to_owned())),
                None => self.mistake(
                    &format!("{within}/{}", key.replace('~', "~0").replace('/', "~1")),
                    format!("found {}, write a text", found(item)),
                ),
            }
        }
        Some(labels)
    }

    fn duration(&mut self, within: &str, value: &Value) -> Option<Duration> {
        let duration = humantime::parse_duration(value.as_str()?).ok()?;
        if duration.subsec_nanos() % 1_000_000 != 0 || duration.is_zero() || duration > LONGEST {
            let message =
                format!("found {}, write whole milliseconds, above 0 and at most 7 days", found(value));
            self.mistake(within, message);
            return None;
        }
        Some(duration)
    }

    fn judge_names(&mut self, name: &str, locations: &[String]) {
        if self.fields.get("name").is_some_and(Value::is_string)
            && let Some(message) = name_mistake(name)
        {
            self.mistake("/name", message);
        }
        if self.fields.get("locations").is_some_and(Value::is_array) && locations.is_empty() {
            self.mistake("/locations", format!("found none, write {}", explained("locations")));
        }
        for (index, location) in locations.iter().enumerate() {
            let within = format!("/locations/{index}");
            if let Some(message) = name_mistake(location) {
                self.mistake(&within, message);
            } else if locations[..index].contains(location) {
                self.mistake(&within, format!("location {location:?} stands in the list twice: remove one"));
            }
        }
    }

    fn judge_durations(&mut self, interval: Duration, timeout: Duration) {
        if interval < SHORTEST {
            let text = humantime::format_duration(interval);
            self.mistake("/interval", format!("found {text}, write at least 1s"));
        } else if timeout >= interval {
            let (timeout, interval) =
                (humantime::format_duration(timeout), humantime::format_duration(interval));
            let within = if self.fields.contains_key("timeout") { "/timeout" } else { "/interval" };
            self.mistake(within, format!("timeout {timeout} is not below the interval {interval}: write a shorter timeout or a longer interval"));
        }
    }

    fn complete(&mut self, checks: &dyn Checks, check: &str, config: Value, allow: &[String]) -> Value {
        if !self.fields.get("check").is_some_and(Value::is_string) {
            return config;
        }
        let (within, mistakes) = match checks.complete(check, &config, allow) {
            Ok(completed) => return completed,
            Err(Refused::Unknown(message)) => ("/check", vec![Mistake { at: String::new(), message }]),
            Err(Refused::Config(mistakes)) => ("/config", mistakes),
            Err(Refused::Allow(mistakes)) => ("/allow", mistakes),
        };
        for Mistake { at, message } in mistakes {
            self.mistake(&format!("{within}{at}"), message);
        }
        config
    }
}

/// What was found, for a message; long values are cut.
pub(crate) fn found(value: &Value) -> String {
    let text = value.to_string();
    let cut: String = text.chars().take(60).collect();
    let cut = if cut.len() < text.len() { format!("{cut}…") } else { cut };
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(_) | Value::String(_) => cut,
        Value::Number(_) => format!("the number {cut}"),
        Value::Array(_) => format!("the list {cut}"),
        Value::Object(_) => format!("the object {cut}"),
    }
}

/// The one of `known` that was probably meant.
pub(crate) fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(text, k), *k)).min()?;
    (near.0 <= 2.max(near.1.len() / 3)).then_some(near.1)
}

fn explained(key: &str) -> &'static str {
    EXPLAINED.iter().find(|(k, _)| *k == key).map_or("", |(_, text)| text)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const KEYS: &[&str] = &[
    "name",
    "check",
    "interval",
    "timeout",
    "locations",
    "enabled",
    "labels",
    "config",
    "allow",
    "retries",
    "retry_interval",
    "degraded_after",
    "ip_family",
    "address_mode",
    "resolver",
    "proxy",
    "tls",
    "invert",
    "maintenance",
    "severity",
    "runbook_url",
    "confirm",
    "failure_threshold",
    "success_threshold",
    "alert_degraded",
    "channels",
];

const EXPLAINED: &[(&str, &str)] = &[
    ("name", "a name like \"shop\", unique among the monitors"),
    ("check", "the name of a check, like \"http\""),
    ("interval", "a text like \"60s\" or \"1m30s\", at least \"1s\""),
    ("timeout", "a text like \"10s\", below the interval"),
    ("locations", "a list of the locations where it runs, like [\"dc1\"]"),
    ("enabled", "true or false"),
    ("labels", "an object of texts, like {\"team\": \"web\"}"),
    ("config", "an object with the check's options"),
    ("allow", "a list of targets, like [\"db.internal:5432\"]"),
    ("retries", "a whole number from 0 to 10"),
    ("retry_interval", "a text like \"5s\""),
    ("degraded_after", "a text like \"500ms\", below the timeout"),
    ("ip_family", "\"any\", \"v4\" or \"v6\""),
    ("address_mode", "\"any\", \"first\" or \"all\""),
    ("resolver", "a list of addresses, like [\"10.0.0.53\", \"[fd00::53]:5353\"]"),
    ("proxy", "\"http://host:port\", or an object with url, user and password"),
    ("url", "\"http://host:port\""),
    ("user", "a text, or {\"$secret\": NAME}"),
    ("password", "{\"$secret\": NAME}"),
    ("tls", "an object with ca, cert, key, server_name, verify, min_version and max_version"),
    (
        "ca",
        "PEM text, {\"$secret\": NAME}, or a file on the agent: its path, or its name beneath --allow-files, like \"ours.pem\"",
    ),
    (
        "cert",
        "PEM text, {\"$secret\": NAME}, or a file on the agent: its path, or its name beneath --allow-files, like \"ours.pem\"",
    ),
    (
        "key",
        "{\"$secret\": NAME}, or a file on the agent: its path, or its name beneath --allow-files, like \"ours-key.pem\"",
    ),
    ("server_name", "a host's name, like \"db.internal\""),
    ("verify", "true or false"),
    ("min_version", "the text \"1.2\" or \"1.3\""),
    ("max_version", "the text \"1.2\" or \"1.3\""),
    ("invert", "true or false"),
    (
        "maintenance",
        "a list of windows, like [{\"days\": [\"sat\"], \"at\": \"22:00\", \"duration\": \"2h\"}]",
    ),
    ("from", "a time like \"2026-12-01 22:00\""),
    ("to", "a time like \"2026-12-02 02:00\""),
    ("days", "a list of days, like [\"sat\", \"sun\"]"),
    ("at", "a time of day like \"22:00\""),
    ("cron", "a text like \"0 22 * * 6\""),
    ("duration", "a text like \"2h\", at most 7 days"),
    ("time_zone", "IANA's name of a time zone, like \"Europe/Berlin\""),
    ("severity", "\"critical\", \"error\", \"warning\" or \"info\""),
    ("runbook_url", "an address that begins with https:// or http://"),
    ("confirm", "\"other-agent\", \"same-agent\" or \"none\""),
    ("failure_threshold", "a whole number from 1 to 100"),
    ("success_threshold", "a whole number from 1 to 100"),
    ("alert_degraded", "true or false"),
    ("channels", "a list of channels, like [\"ops\"]"),
];

const INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
