//! Channels: where events go, as people write them beside the monitors, and what an apply changes of them. Owns names, addresses and
//! the reference to the secret; sending is `delivery`'s.

use std::collections::BTreeMap;

use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::Mistake;
use wire::admin::Change;
use wire::alert::{ChannelApplied, ChannelKind};

use crate::agents::name_mistake;
use crate::monitors::{found, nearest};

/// A channel without mistakes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Channel {
    /// Unique among the channels.
    pub name: String,
    /// What it is.
    pub kind: ChannelKind,
    /// Where to.
    pub url: String,
    /// Name of the secret; the secret itself is looked up at each delivery and kept nowhere.
    pub secret: String,
}

/// What an apply changes of the channels.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// For whoever asked: in the order of the request, deleted ones last.
    pub changes: Vec<ChannelApplied>,
    /// New and different channels.
    pub put: Vec<Channel>,
    /// Names of channels that are no more.
    pub gone: Vec<String>,
}

/// Reads every channel of an apply; all mistakes of all channels, or all channels.
pub(crate) fn parse_all(raw: &[Value]) -> Result<Vec<Channel>, Vec<Mistake>> {
    let (mut channels, mut mistakes) = (Vec::<Channel>::new(), Vec::new());
    for (index, raw) in raw.iter().enumerate() {
        let at = format!("/channels/{index}");
        match parse(raw) {
            Ok(channel) if channels.iter().any(|c| c.name == channel.name) => {
                let message = format!(
                    "channel {:?} stands in the list twice: give each a name of its own",
                    channel.name
                );
                mistakes.push(Mistake { at: format!("{at}/name"), message });
            }
            Ok(channel) => channels.push(channel),
            Err(found) => {
                mistakes.extend(found.into_iter().map(|m| Mistake { at: format!("{at}{}", m.at), ..m }));
            }
        }
    }
    if mistakes.is_empty() { Ok(channels) } else { Err(mistakes) }
}

/// The channels that monitors name and that are not among `known`, as mistakes at their places in the request.
pub(crate) fn unknown(monitors: &[Value], known: &[&str]) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (index, monitor) in monitors.iter().enumerate() {
        let named = monitor["channels"].as_array().map_or(&[][..], Vec::as_slice);
        for (place, name) in named.iter().enumerate().filter_map(|(n, v)| Some((n, v.as_str()?))) {
            if known.contains(&name) {
                continue;
            }
            let hint = match (nearest(name, known), known) {
                (Some(near), _) => format!("did you mean {near:?}?"),
                (None, []) => "name it below the key \"channels\" of the file".to_owned(),
                (None, _) => format!("known are {}", known.join(", ")),
            };
            let monitor = monitor["name"].as_str().map_or(String::new(), |m| format!("monitor {m:?}: "));
            let message = format!("{monitor}there is no channel {name:?}: {hint}");
            mistakes.push(Mistake { at: format!("/monitors/{index}/channels/{place}"), message });
        }
    }
    mistakes
}

/// Compares what was asked for with what there is.
pub(crate) fn plan(current: &BTreeMap<String, Channel>, wanted: Vec<Channel>, prune: bool) -> Plan {
    let gone = current.keys().filter(|name| prune && !wanted.iter().any(|w| w.name == **name));
    let mut plan = Plan { gone: gone.cloned().collect(), ..Plan::default() };
    for channel in wanted {
        let change = match current.get(&channel.name) {
            None => Change::Created,
            Some(old) if *old == channel => Change::Unchanged,
            Some(_) => Change::Updated,
        };
        plan.changes.push(ChannelApplied { channel: channel.name.clone(), change });
        if change != Change::Unchanged {
            plan.put.push(channel);
        }
    }
    let deleted = plan.gone.iter().map(|c| ChannelApplied { channel: c.clone(), change: Change::Deleted });
    plan.changes.extend(deleted.collect::<Vec<_>>());
    plan
}

fn parse(raw: &Value) -> Result<Channel, Vec<Mistake>> {
    let Value::Object(fields) = raw else {
        let message = format!("found {}, write a channel: an object with {}", found(raw), KEYS.join(", "));
        return Err(vec![Mistake { at: String::new(), message }]);
    };
    let mut mistakes = Vec::new();
    let mut mistake = |at: &str, message: String| mistakes.push(Mistake { at: at.to_owned(), message });
    for key in fields.keys().filter(|k| !KEYS.contains(&k.as_str())) {
        let hint = nearest(key, KEYS).map_or_else(
            || format!("known are {}", KEYS.join(", ")),
            |near| format!("did you mean {near:?}?"),
        );
        mistake(
            &format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            format!("unknown key {key:?}: {hint}"),
        );
    }
    let mut text = |key: &str, explained: &str| match fields.get(key) {
        None => {
            mistake("", format!("missing key {key:?}: {explained}"));
            None
        }
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => {
            mistake(&format!("/{key}"), format!("found {}, write {explained}", found(other)));
            None
        }
    };
    let name = text("name", "a name like \"ops\", unique among the channels");
    let kind = text("kind", "\"webhook\"");
    let url = text("url", "an address like \"https://hooks.example.com/picket\"");
    if let Some(message) = name.as_deref().and_then(name_mistake) {
        mistake("/name", message);
    }
    if let Some(kind) = kind.filter(|kind| kind != "webhook") {
        mistake("/kind", format!("found {kind:?}, write \"webhook\""));
    }
    if let Some(message) = url.as_deref().and_then(|url| url_mistake(url).err()) {
        mistake("/url", message);
    }
    let secret = match fields.get("secret") {
        None => {
            mistake("", format!("missing key \"secret\": {SECRET}"));
            None
        }
        Some(raw) => match reference(raw) {
            Ok(secret) => Some(secret),
            Err(message) => {
                mistake("/secret", message);
                None
            }
        },
    };
    match (name, url, secret) {
        (Some(name), Some(url), Some(secret)) if mistakes.is_empty() => {
            Ok(Channel { name, kind: ChannelKind::Webhook, url, secret })
        }
        _ => Err(mistakes),
    }
}

/// The name in a reference to a secret. The text of a secret itself is refused and not repeated.
fn reference(raw: &Value) -> Result<String, String> {
    let plain = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    match raw {
        Value::Object(object) if object.len() == 1 && object.contains_key("$secret") => {
            match object["$secret"].as_str() {
                Some(name) if plain(name) && !name.starts_with('.') => Ok(name.to_owned()),
                _ => Err(format!("the name of a secret is letters, digits, hyphens and dots: {SECRET}")),
            }
        }
        Value::String(_) => {
            Err(format!("found the text of a secret, which would be stored in clear: {SECRET}"))
        }
        other => Err(format!("found {}: {SECRET}", found(other))),
    }
}

/// Events name monitors and their troubles: they go unprotected to this machine and to private addresses only.
fn url_mistake(text: &str) -> Result<(), String> {
    let example = "write an address like \"https://hooks.example.com/picket\"";
    let url =
        Url::parse(text).map_err(|e| format!("found {text:?}, which is no address ({e}): {example}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the address holds a user or a password, which would be stored in clear: leave them out, \
                    the signature says who sends"
                .to_owned(),
        );
    }
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_near(&url) => Ok(()),
        "http" => Err(format!(
            "found {text:?}: plain http:// is for loopback and private addresses (10.0.0.0/8, 172.16.0.0/12, \
             192.168.0.0/16, fc00::/7) only: write https://"
        )),
        other => Err(format!("found the scheme {other:?}: {example}")),
    }
}

fn is_near(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match host.parse() {
        Ok(std::net::IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private(),
        Ok(std::net::IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        Err(_) => host == "localhost",
    }
}

const KEYS: &[&str] = &["name", "kind", "url", "secret"];

const SECRET: &str = "write a reference like {\"$secret\": \"ops-webhook\"}, and give the control plane \
                      PICKET_SECRET_OPS_WEBHOOK or /run/secrets/ops-webhook";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ops(change: &Value) -> Value {
        let mut raw = json!({"name": "ops", "kind": "webhook", "url": "https://hooks.example.com/p", "secret": {"$secret": "ops"}});
        for (key, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(raw.as_object_mut().unwrap().remove(key)),
                _ => raw[key] = value.clone(),
            }
        }
        raw
    }

    #[test]
    fn every_mistake_names_the_key_what_was_found_and_what_to_write() {
        let table = [
            (json!({"name": null}), "/channels/0: missing key \"name\": a name like \"ops\""),
            (json!({"name": "My Ops"}), "/channels/0/name: \"My Ops\" is not a name: write 1 to 63"),
            (json!({"kind": "slack"}), "/channels/0/kind: found \"slack\", write \"webhook\""),
            (json!({"urll": "x"}), "/channels/0/urll: unknown key \"urll\": did you mean \"url\"?"),
            (json!({"url": 7}), "/channels/0/url: found the number 7, write an address like"),
            (json!({"url": "hooks"}), "/channels/0/url: found \"hooks\", which is no address"),
            (
                json!({"url": "http://hooks.example.com"}),
                "/channels/0/url: found \"http://hooks.example.com\": plain",
            ),
            (json!({"url": "http://8.8.8.8/"}), "/channels/0/url: found \"http://8.8.8.8/\": plain http://"),
            (json!({"url": "ftp://a/"}), "/channels/0/url: found the scheme \"ftp\""),
            (json!({"url": "https://u:p@a/"}), "/channels/0/url: the address holds a user or a password"),
            (json!({"secret": null}), "/channels/0: missing key \"secret\": write a reference like"),
            (
                json!({"secret": "hunter2"}),
                "/channels/0/secret: found the text of a secret, which would be stored",
            ),
            (json!({"secret": {"$secret": "a/b"}}), "/channels/0/secret: the name of a secret is letters"),
            (json!({"secret": {"secret": "a"}}), "/channels/0/secret: found the object"),
        ];
        for (change, expected) in table {
            let mistakes = parse_all(&[ops(&change)]).unwrap_err();
            let found: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            assert!(found.iter().any(|m| m.starts_with(expected)), "{expected}\nnot in {found:#?}");
            assert!(!found.iter().any(|m| m.contains("hunter2")), "{found:#?}");
        }
        let twice = parse_all(&[ops(&json!({})), ops(&json!({}))]).unwrap_err();
        assert_eq!(twice[0].at, "/channels/1/name");
    }

    #[test]
    fn plain_http_is_for_loopback_and_private_addresses() {
        for url in [
            "http://127.0.0.1:9/x",
            "http://localhost/",
            "http://10.1.2.3/",
            "http://[fd00::1]/",
            "http://[::1]/",
        ] {
            parse_all(&[ops(&json!({"url": url}))]).unwrap();
        }
    }

    #[test]
    fn a_monitor_that_names_an_unknown_channel_is_told_the_nearest() {
        let monitors = [json!({"name": "shop", "channels": ["ops", "opps"]}), json!({"name": "other"})];
        let found: Vec<_> = unknown(&monitors, &["ops"]).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["/monitors/0/channels/1: monitor \"shop\": there is no channel \"opps\": did you mean \"ops\"?"]
        );
    }

    #[test]
    fn a_plan_tells_what_is_new_different_and_gone() {
        let channel = |name: &str, url: &str| Channel {
            name: name.into(),
            kind: ChannelKind::Webhook,
            url: url.into(),
            secret: "s".into(),
        };
        let current = [channel("a", "1"), channel("b", "1"), channel("c", "1")];
        let current: BTreeMap<_, _> = current.into_iter().map(|c| (c.name.clone(), c)).collect();
        let wanted = vec![channel("a", "1"), channel("b", "2"), channel("d", "1")];
        let told = |prune| {
            let plan = plan(&current, wanted.clone(), prune);
            let changes = plan.changes.iter().map(|c| (c.channel.clone(), c.change)).collect::<Vec<_>>();
            (changes, plan.put.len(), plan.gone)
        };
        let kept = [("a", Change::Unchanged), ("b", Change::Updated), ("d", Change::Created)]
            .map(|(n, c)| (n.to_owned(), c));
        assert_eq!(told(false), (kept.to_vec(), 2, vec![]));
        let pruned = [&kept[..], &[("c".to_owned(), Change::Deleted)]].concat();
        assert_eq!(told(true), (pruned, 2, vec!["c".to_owned()]));
    }
}
