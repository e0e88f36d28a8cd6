//! From a completed configuration to what its run may reach: the values that the schema marks as targets, and what the monitor
//! allows besides. Owns no decision: `net` judges every address at dial time.

use net::{Grant, NameRule, Rule};
use serde_json::{Map, Value};

use super::walk::Place;
use super::{BESIDE_MARK, Schema, TARGET_MARK, dsn, secret_name};
use crate::verdict::Mistake;

/// Where DNS is spoken: plain (RFC 1035, section 4.2), over TLS (RFC 7858) and over HTTPS (RFC 8484).
const DNS_PORTS: [u16; 3] = [53, 853, 443];

impl Schema {
    /// What a monitor with this completed configuration may reach, and what it allows besides in `allow`.
    ///
    /// A URL on the standard port of http or https grants both of them on its host: redirects from one to the other are what
    /// most sites do.
    ///
    /// # Errors
    /// Every marked value and every allowed rule that names no target.
    pub fn grant(&self, completed: &Value, allow: &[String]) -> Result<Grant, Vec<Mistake>> {
        let mut grant = Grant::default();
        // A grant of its own, since what is checked may be named there too.
        let mut beside = Grant::default();
        let mut mistakes = Vec::new();
        self.walk(completed, &mut |place: Place<'_>| {
            let Some(mark) = place.schema.get(TARGET_MARK).and_then(Value::as_str) else { return };
            let into = if place.schema.get(BESIDE_MARK) == Some(&Value::Bool(true)) {
                &mut beside
            } else {
                &mut grant
            };
            if let Err(message) = add(into, mark, place.value, place.parent) {
                mistakes.push(Mistake { at: place.at.to_owned(), message });
            }
        });
        for (index, text) in allow.iter().enumerate() {
            match text.parse() {
                Ok(rule) => push(&mut beside.targets, rule),
                Err(error) => {
                    mistakes.push(Mistake { at: format!("/allow/{index}"), message: chain(&error) });
                }
            }
        }
        mistakes.dedup();
        for rule in beside.targets {
            if !grant.targets.contains(&rule) {
                grant.beside.push(rule.clone());
                grant.targets.push(rule);
            }
        }
        beside.names.into_iter().for_each(|name| push(&mut grant.names, name));
        beside.resolvers.into_iter().for_each(|rule| push(&mut grant.resolvers, rule));
        if mistakes.is_empty() { Ok(grant) } else { Err(mistakes) }
    }
}

fn add(
    grant: &mut Grant,
    mark: &str,
    value: &Value,
    parent: Option<&Map<String, Value>>,
) -> Result<(), String> {
    let text = match value {
        Value::String(text) => text,
        Value::Array(items) => return items.iter().try_for_each(|item| add(grant, mark, item, parent)),
        Value::Null => return Ok(()),
        value if secret_name(value).is_some() => {
            return Err("a target cannot be a secret: write it out, so that it can be granted".to_owned());
        }
        _ => return Ok(()),
    };
    let sibling = parent.and_then(|parent| parent.get("port")).and_then(Value::as_u64);
    let sibling = sibling.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    match mark {
        "url" => {
            for rule in url(text)? {
                push(&mut grant.targets, rule);
            }
        }
        "host-port" => {
            let rule: Rule = text.parse().map_err(|error| chain(&error))?;
            exact(&rule, text)?;
            if rule.port().is_none() {
                return Err(format!("found \"{text}\", expected host and port, for example \"{text}:443\""));
            }
            push(&mut grant.targets, rule);
        }
        "host" => {
            let port =
                sibling.ok_or_else(|| format!("found \"{text}\" without a port beside it: add \"port\""))?;
            push(&mut grant.targets, Rule::target(text, port).map_err(|error| chain(&error))?);
        }
        "dsn" => {
            let (host, port) = dsn::target(text)?;
            let port = port.or(sibling).ok_or("names no port, and there is none beside it: add \"port\"")?;
            push(&mut grant.targets, Rule::target(&host, port).map_err(|error| chain(&error))?);
        }
        "dns-name" => {
            let rule: NameRule = text.parse().map_err(|error| chain(&error))?;
            if matches!(rule, NameRule::Below(_)) {
                return Err(format!("found \"{text}\", expected one name without a star"));
            }
            push(&mut grant.names, rule);
        }
        "resolver" => {
            let named: Rule = text.parse().map_err(|error| chain(&error))?;
            exact(&named, text)?;
            match (named.port(), sibling) {
                (Some(_), _) => push(&mut grant.resolvers, named),
                (None, Some(port)) => push(&mut grant.resolvers, with_port(&named, port)),
                (None, None) => {
                    DNS_PORTS.iter().for_each(|port| push(&mut grant.resolvers, with_port(&named, *port)));
                }
            }
        }
        // `Schema::parse` knows every mark.
        _ => {}
    }
    Ok(())
}

/// What a URL may lead to.
fn url(text: &str) -> Result<Vec<Rule>, String> {
    let rule = Rule::url(text).map_err(|error| chain(&error))?;
    let other =
        match (text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref(), rule.port()) {
            (Some("http"), Some(80)) => 443,
            (Some("https"), Some(443)) => 80,
            _ => return Ok(vec![rule]),
        };
    let twin = with_port(&rule, other);
    Ok(vec![rule, twin])
}

fn with_port(rule: &Rule, port: u16) -> Rule {
    let mut rule = rule.clone();
    match &mut rule {
        Rule::Name { port: old, .. } | Rule::Below { port: old, .. } | Rule::Range { port: old, .. } => {
            *old = Some(port);
        }
    }
    rule
}

/// A configuration names one target; patterns and ranges are for `allow`.
fn exact(rule: &Rule, text: &str) -> Result<(), String> {
    let one = match rule {
        Rule::Name { .. } => true,
        Rule::Below { .. } => false,
        Rule::Range { .. } => !text.contains('/'),
    };
    if one { Ok(()) } else { Err(format!("found \"{text}\", expected one host")) }
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

fn chain(error: &net::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::parse(&json!({
            "type": "object", "additionalProperties": false,
            "properties": {
                "url": {"type": "string", "x-picket-target": "url"},
                "address": {"type": "string", "x-picket-target": "host-port"},
                "server": {"type": "object", "additionalProperties": false, "properties": {
                    "host": {"type": "string", "x-picket-target": "host"},
                    "port": {"type": "integer", "default": 5432}}},
                "standby": {"type": "object", "additionalProperties": false, "properties": {
                    "dsn": {"type": "string", "x-picket-target": "dsn"},
                    "port": {"type": "integer", "default": 5432}}},
                "token": {"type": "string", "x-picket-target": "url", "x-picket-beside": true},
                "names": {"type": "array", "items": {"type": "string", "x-picket-target": "dns-name"}},
                "resolver": {"anyOf": [{"type": "string", "x-picket-target": "resolver"}, {"type": "null"}]},
                "target": {"oneOf": [
                    {"type": "object", "required": ["kind", "at"], "additionalProperties": false, "properties": {
                        "kind": {"const": "web"}, "at": {"type": "string", "x-picket-target": "url"}}},
                    {"type": "object", "required": ["kind", "at"], "additionalProperties": false, "properties": {
                        "kind": {"const": "raw"}, "at": {"type": "string", "x-picket-target": "host-port"}}}]}
            }
        }))
        .unwrap()
    }

    fn check(config: Value, allow: &[&str], targets: &[&str], names: &[&str], resolvers: &[&str]) {
        let schema = schema();
        let allow: Vec<_> = allow.iter().map(ToString::to_string).collect();
        let grant = schema.grant(&schema.complete(&config).unwrap(), &allow).unwrap();
        let print = |rules: &[Rule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(print(&grant.targets), targets);
        assert_eq!(grant.names.iter().map(ToString::to_string).collect::<Vec<_>>(), names);
        assert_eq!(print(&grant.resolvers), resolvers);
    }

    fn refuse(config: Value, allow: &[&str], expected: &str) {
        let schema = schema();
        let allow: Vec<_> = allow.iter().map(ToString::to_string).collect();
        let mistakes = schema.grant(&schema.complete(&config).unwrap(), &allow).unwrap_err();
        assert!(mistakes[0].to_string().contains(expected), "{mistakes:?}");
    }

    #[test]
    fn what_is_reached_beside_the_target_is_known() {
        let schema = schema();
        let beside = |config: Value, allow: &[&str]| {
            let allow: Vec<_> = allow.iter().map(ToString::to_string).collect();
            let grant = schema.grant(&schema.complete(&config).unwrap(), &allow).unwrap();
            grant.beside.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let config =
            |token: &str| json!({"token": format!("https://{token}:8443/t"), "url": "https://a.test:8443/"});
        assert_eq!(beside(config("id.test"), &["10.0.0.0/8"]), ["id.test:8443", "10.0.0.0/8"]);
        assert_eq!(beside(config("A.test"), &["a.test:8443"]), [""; 0]);
    }

    #[test]
    fn a_url_grants_its_host_and_port() {
        check(json!({"url": "http://127.0.0.1:8080/x"}), &[], &["127.0.0.1:8080"], &[], &[]);
        check(json!({"url": "https://Example.com/"}), &[], &["example.com:443", "example.com:80"], &[], &[]);
        check(json!({"url": "http://[::1]/"}), &[], &["[::1]:80", "[::1]:443"], &[], &[]);
    }

    #[test]
    fn a_connection_string_names_its_port_or_takes_the_one_beside_it() {
        let dsn = |text: &str| json!({"server": {"host": "a"}, "standby": {"dsn": text}});
        check(dsn("postgres://p@b:5433/x"), &[], &["a:5432", "b:5433"], &[], &[]);
        check(dsn("host=b user=p"), &[], &["a:5432", "b:5432"], &[], &[]);
        refuse(dsn("postgres://p:hunter2@b/x"), &[], "/standby/dsn: holds a password; take it out");
        refuse(dsn("host=b/24"), &[], "/standby/dsn");
    }

    #[test]
    fn a_host_takes_the_port_beside_it() {
        check(json!({"server": {"host": "db.example"}}), &[], &["db.example:5432"], &[], &[]);
        check(json!({"server": {"host": "::1", "port": 5433}}), &[], &["[::1]:5433"], &[], &[]);
    }

    #[test]
    fn names_and_resolvers_have_lists_of_their_own() {
        let config = json!({"names": ["example.com", "example.org."], "resolver": "192.0.2.1"});
        let resolvers = ["192.0.2.1:53", "192.0.2.1:853", "192.0.2.1:443"];
        check(config, &[], &[], &["example.com", "example.org"], &resolvers);
        check(json!({"resolver": "ns.example:5353"}), &[], &[], &[], &["ns.example:5353"]);
    }

    #[test]
    fn only_the_alternative_that_applies_grants() {
        check(json!({"target": {"kind": "raw", "at": "a.example:25"}}), &[], &["a.example:25"], &[], &[]);
        check(
            json!({"target": {"kind": "web", "at": "http://b.example:81/"}}),
            &[],
            &["b.example:81"],
            &[],
            &[],
        );
    }

    #[test]
    fn a_monitor_may_allow_more() {
        check(
            json!({"address": "a.example:25"}),
            &["10.0.0.0/8:5432", "*.example.com"],
            &["a.example:25", "10.0.0.0/8:5432", "*.example.com"],
            &[],
            &[],
        );
    }

    #[test]
    fn what_names_no_target_is_a_mistake() {
        refuse(json!({"address": "a.example"}), &[], "/address: found \"a.example\", expected host and port");
        refuse(json!({"address": "10.0.0.0/8:25"}), &[], "expected one host");
        refuse(json!({"url": "not a url"}), &[], "/url");
        refuse(json!({}), &["a b"], "/allow/0");
    }
}
