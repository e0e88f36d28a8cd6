//! From what somebody wrote to what a check gets: defaults filled in, everything validated, all mistakes at once.

use serde_json::{Map, Value};

use super::Schema;
use super::walk::{self, MAX_DEPTH};
use crate::verdict::Mistake;

impl Schema {
    /// The configuration with all defaults filled in, valid.
    ///
    /// # Errors
    /// Every mistake: where it is, what was found, what was expected; for an unknown key the nearest known one.
    pub fn complete(&self, config: &Value) -> Result<Value, Vec<Mistake>> {
        let mut completed = config.clone();
        self.fill(&self.root, &mut completed, MAX_DEPTH);
        let mistakes = self.mistakes(&completed);
        if mistakes.is_empty() { Ok(completed) } else { Err(mistakes) }
    }

    fn fill(&self, schema: &Value, value: &mut Value, depth: usize) {
        let (Some(map), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else { return };
        if let Some(target) = self.resolve(map) {
            self.fill(target, value, depth);
        }
        for part in walk::list(map, "allOf") {
            self.fill(part, value, depth);
        }
        for branch in walk::branches(map) {
            let mut candidate = value.clone();
            self.fill(branch, &mut candidate, depth);
            if self.accepts(branch, &candidate) {
                *value = candidate;
                break;
            }
        }
        match value {
            Value::Object(object) => self.fill_object(map, object, depth),
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    if let Some(sub) = walk::element(map, index) {
                        self.fill(sub, item, depth);
                    }
                }
            }
            _ => {}
        }
    }

    fn fill_object(&self, map: &Map<String, Value>, object: &mut Map<String, Value>, depth: usize) {
        for (key, sub) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
            // A default of null says "absent", and absent it is.
            if let Some(default) = self.default(sub).filter(|default| !default.is_null())
                && !object.contains_key(key)
            {
                object.insert(key.clone(), default.clone());
            }
        }
        for (key, member) in object.iter_mut() {
            if let Some(sub) = walk::property(map, key) {
                self.fill(sub, member, depth);
            }
        }
    }

    /// A subschema's default; one beside a reference counts before the one behind it.
    fn default<'a>(&'a self, schema: &'a Value) -> Option<&'a Value> {
        let map = schema.as_object()?;
        map.get("default").or_else(|| self.resolve(map)?.get("default"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::parse(&json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["url"],
            "properties": {
                "url": {"type": "string", "x-picket-target": "url", "maxLength": 40},
                "method": {"type": "string", "enum": ["GET", "HEAD"], "default": "GET"},
                "max_redirects": {"type": "integer", "minimum": 0, "maximum": 10, "default": 5},
                "note": {"type": ["string", "null"], "default": null},
                "tls": {"$ref": "#/$defs/tls", "default": {}},
                "auth": {"anyOf": [{"$ref": "#/$defs/basic"}, {"type": "null"}]},
                "expect": {"type": "array", "items": {"type": "object", "properties": {
                    "code": {"type": "integer", "default": 200}}, "additionalProperties": false}}
            },
            "$defs": {
                "tls": {"type": "object", "additionalProperties": false, "properties": {
                    "trust": {"type": "string", "default": "required"}}},
                "basic": {"type": "object", "additionalProperties": false, "required": ["user", "password"], "properties": {
                    "user": {"type": "string"},
                    "realm": {"type": "string", "default": "all"},
                    "password": {"type": "string", "x-picket-secret": true, "minLength": 8},
                    "token": {"type": "object", "x-picket-secret": true}}}
            }
        }))
        .unwrap()
    }

    fn check(config: Value, expected: &[&str]) {
        let mistakes = schema().complete(&config).unwrap_err();
        let found: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn defaults_are_filled_in_at_every_depth() {
        let config = json!({"url": "http://a/", "auth": {"user": "u", "password": {"$secret": "p"}}, "expect": [{}, {"code": 3}]});
        assert_eq!(
            schema().complete(&config).unwrap(),
            json!({"url": "http://a/", "auth": {"user": "u", "password": {"$secret": "p"}, "realm": "all"},
                "expect": [{"code": 200}, {"code": 3}], "method": "GET", "max_redirects": 5, "tls": {"trust": "required"}})
        );
    }

    #[test]
    fn a_target_with_a_login_in_it_is_not_repeated() {
        let path = "x".repeat(40);
        check(
            json!({"url": format!("https://bob:hunter22@a/{path}")}),
            &["/url: found a text, expected at most 40 characters"],
        );
        let shown = format!("\"https://a/{path}\"");
        check(
            json!({"url": format!("https://a/{path}")}),
            &[&format!("/url: found {shown}, expected at most 40 characters")],
        );
    }

    #[test]
    fn completing_twice_changes_nothing() {
        let once = schema().complete(&json!({"url": "http://a/"})).unwrap();
        assert_eq!(schema().complete(&once).unwrap(), once);
    }

    #[test]
    fn an_unknown_key_suggests_the_nearest() {
        check(
            json!({"url": "http://a/", "metod": "GET"}),
            &[
                "/metod: unknown key \"metod\"; did you mean \"method\"? known are auth, expect, max_redirects, method, note, tls, url",
            ],
        );
        check(
            json!({"url": "http://a/", "zzzzzz": 1, "tls": {"trst": "x"}}),
            &[
                "/tls/trst: unknown key \"trst\"; did you mean \"trust\"? known are trust",
                "/zzzzzz: unknown key \"zzzzzz\"; known are auth, expect, max_redirects, method, note, tls, url",
            ],
        );
    }

    #[test]
    fn what_every_monitor_has_is_told_its_place() {
        check(
            json!({"url": "http://a/", "degraded_after": "1s", "tls": {"ca": "/ca.pem"}}),
            &[
                "/degraded_after: unknown key \"degraded_after\": degraded_after is a field of every monitor, write it beside config (picket check: --monitor degraded_after=…); known are auth, expect, max_redirects, method, note, tls, url",
                "/tls/ca: unknown key \"ca\": tls.ca is a field of every monitor, write it beside config (picket check: --monitor tls.ca=…); known are trust",
            ],
        );
        check(
            json!({"url": "http://a/", "timeout": "5s", "retries": 2}),
            &[
                "/retries: unknown key \"retries\": retries is a field of every monitor, write it beside config; known are auth, expect, max_redirects, method, note, tls, url",
                "/timeout: unknown key \"timeout\": timeout is a field of every monitor, write it beside config (picket check: --timeout …); known are auth, expect, max_redirects, method, note, tls, url",
            ],
        );
        let schema = Schema::parse(&json!({
            "type": "object", "additionalProperties": false, "properties": {"tls": {"type": "boolean"}}
        }));
        let mistakes = schema.unwrap().complete(&json!({"tls": {"ca": "/ca.pem"}})).unwrap_err();
        assert_eq!(
            mistakes[0].to_string(),
            "/tls: found an object, expected true or false; the monitor's own field tls stands beside config (picket check: --monitor tls.…)"
        );
    }

    #[test]
    fn every_mistake_names_what_was_found_and_expected() {
        check(
            json!({"method": "gte", "max_redirects": 11, "expect": [{"code": "ok"}]}),
            &[
                "/expect/0/code: found \"ok\", expected an integer",
                "/max_redirects: found 11, expected at most 10",
                "/method: found \"gte\", expected one of \"GET\", \"HEAD\"; did you mean \"GET\"?",
                "/url: is missing, expected a string",
            ],
        );
        check(json!([]), &["found a list, expected an object"]);
        check(json!({"url": null}), &["/url: found null, expected a string"]);
    }

    #[test]
    fn of_alternatives_the_one_that_was_meant_is_explained() {
        check(
            json!({"url": "http://a/", "auth": {"user": "u"}}),
            &["/auth/password: is missing, expected a string or {\"$secret\": \"NAME\"}"],
        );
        check(
            json!({"url": "http://a/", "auth": 7}),
            &["/auth: found 7, expected {\"user\": …, \"password\": …} or null"],
        );
    }

    #[test]
    fn of_alternative_objects_the_one_with_these_keys_is_explained() {
        let one = |key: &str, inner: Value| json!({"type": "object", "required": [key], "additionalProperties": false, "properties": {key: inner}});
        let login = json!({"type": "object", "required": ["user"], "additionalProperties": false,
            "properties": {"user": {"type": "string"}, "password": {"type": "object", "x-picket-secret": true}}});
        let auth = json!({"oneOf": [{"$ref": "#/$defs/basic"}, one("bearer", json!({"type": "string"})), {"type": "string"}]});
        let schema = Schema::parse(&json!({
            "type": "object", "additionalProperties": false, "properties": {"auth": auth}, "$defs": {"basic": one("basic", login)}
        }))
        .unwrap();
        let all = "/auth: found an object, expected {\"basic\": …} or {\"bearer\": …} or a string";
        for (auth, expected) in [
            (json!({"basic": {}}), "/auth/basic/user: is missing, expected a string"),
            (json!({"bearer": 7}), "/auth/bearer: found 7, expected a string"),
            (
                json!({"basic": {"user": "u", "password": "hunter22"}}),
                "/auth/basic/password: found a text, expected {\"$secret\": \"NAME\"}",
            ),
            (json!({}), all),
            (json!({"basik": {"user": "u"}}), all),
            (json!({"basic": {"user": "u"}, "bearer": "b"}), all),
        ] {
            let mistakes = schema.complete(&json!({"auth": auth})).unwrap_err();
            let found: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            assert_eq!(found, [expected]);
        }
    }

    #[test]
    fn a_secret_is_refused_where_none_is_marked_and_never_printed() {
        check(
            json!({"url": {"$secret": "u"}}),
            &["/url: found a reference to a secret, expected a string; secrets are not accepted here"],
        );
        check(
            json!({"url": "http://a/", "auth": {"user": "u", "password": "short"}}),
            &["/auth/password: found a text, expected at least 8 characters"],
        );
        check(
            json!({"url": "http://a/", "auth": {"user": "u", "password": {"$secret": 7}}}),
            &["/auth/password/$secret: found a number, expected a string"],
        );
    }

    #[test]
    fn a_secret_that_is_written_out_is_told_how_to_name_one_and_never_printed() {
        for token in [json!("hunter22"), json!(22), json!(["hunter22"]), json!(null)] {
            let auth = json!({"user": "u", "password": {"$secret": "p"}, "token": token});
            let mistakes = schema().complete(&json!({"url": "http://a/", "auth": auth})).unwrap_err();
            let [mistake] = &mistakes[..] else { panic!("{mistakes:?}") };
            let said = mistake.to_string();
            assert!(said.starts_with("/auth/token: found "), "{said}");
            assert!(said.ends_with(", expected {\"$secret\": \"NAME\"}"), "{said}");
            assert!(!said.contains("22"), "{said}");
        }
        check(
            json!({"url": "http://a/", "auth": {"user": "u", "password": 22}}),
            &["/auth/password: found a number, expected a string or {\"$secret\": \"NAME\"}"],
        );
        let long = "hunter22".repeat(20);
        check(
            json!({"url": "http://a/", "auth": {"user": "u", "password": {"$secret": long}}}),
            &["/auth/password/$secret: found a text, expected at most 128 characters"],
        );
    }
}
