//! What the configurations of many monitors have in common, so that an agent is told it once: with all defaults filled in they are alike
//! for the most part. It is found among all monitors and the same for every agent, so that a part of them never takes more room than all.
//! Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::monitors::Monitor;

/// By check, members of configurations.
pub(crate) type Common = BTreeMap<String, Map<String, Value>>;

/// By check, the members that every monitor of it has, with the value that more than half of them have.
pub(crate) fn of<'a>(monitors: impl IntoIterator<Item = &'a Monitor>) -> Common {
    let mut by_check = BTreeMap::<&str, Vec<&Map<String, Value>>>::new();
    for Monitor { spec, .. } in monitors {
        by_check.entry(&spec.check).or_default().extend(spec.config.as_object());
    }
    let found = by_check.into_iter().map(|(check, configs)| (check.to_owned(), among(&configs)));
    found.filter(|(_, members)| !members.is_empty()).collect()
}

/// As much of it as these monitors can be told with: a member that one of them lacks could not be taken from it.
pub(crate) fn usable(common: &Common, monitors: &[&Monitor]) -> Common {
    let mut usable = Common::new();
    for Monitor { spec, .. } in monitors {
        let Some(members) = common.get(&spec.check) else { continue };
        let usable = usable.entry(spec.check.clone()).or_insert_with(|| members.clone());
        usable.retain(|key, _| spec.config.get(key).is_some());
    }
    usable
}

/// The members of a configuration that are its own.
pub(crate) fn without(config: &Value, common: Option<&Map<String, Value>>) -> Value {
    let (Some(members), Some(common)) = (config.as_object(), common) else { return config.clone() };
    let own = members.iter().filter(|(key, value)| common.get(*key) != Some(value));
    own.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn among(configs: &[&Map<String, Value>]) -> Map<String, Value> {
    // Of one monitor alone everything would be common.
    let [first, _, ..] = configs else { return Map::new() };
    let shared = |key: &String| {
        let values: Option<Vec<&Value>> = configs.iter().map(|config| config.get(key)).collect();
        Some((key.clone(), most(&values?)?.clone()))
    };
    first.keys().filter_map(shared).collect()
}

/// The value of more than half, by Boyer and Moore's vote.
fn most<'a>(values: &[&'a Value]) -> Option<&'a Value> {
    let (mut candidate, mut votes) = (*values.first()?, 0_usize);
    for value in values {
        if *value == candidate {
            votes += 1;
        } else if votes == 0 {
            (candidate, votes) = (value, 1);
        } else {
            votes -= 1;
        }
    }
    let all = values.iter().filter(|value| **value == candidate).count();
    (2 * all > values.len()).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::monitors::tests::monitor;

    fn with(n: u128, config: Value) -> Monitor {
        let mut monitor = monitor(n, "m", &["dc1"]);
        monitor.spec.config = config;
        monitor
    }

    #[test]
    fn what_more_than_half_say_is_common_and_the_rest_is_everybodys_own() {
        let monitors = [
            with(1, json!({"url": "a", "method": "GET", "port": 80, "body": "x"})),
            with(2, json!({"url": "b", "method": "PUT", "port": 81, "body": "x"})),
            with(3, json!({"url": "c", "method": "GET", "port": 80})),
            with(4, json!({"url": "d", "method": "GET", "port": 81})),
        ];
        let common = of(&monitors);
        assert_eq!(json!(common), json!({"http": {"method": "GET"}}));
        for monitor in &monitors {
            let own = without(&monitor.spec.config, common.get("http"));
            let mut whole = common["http"].clone();
            whole.extend(own.as_object().unwrap().clone());
            assert_eq!(Value::from(whole), monitor.spec.config);
        }
        assert_eq!(without(&monitors[1].spec.config, common.get("http")), monitors[1].spec.config);
        let newer = with(5, json!({"url": "e"}));
        assert_eq!(json!(usable(&common, &[&monitors[0]])), json!({"http": {"method": "GET"}}));
        assert_eq!(json!(usable(&common, &[&monitors[0], &newer])), json!({"http": {}}));
        assert_eq!(usable(&common, &[]), Common::new());
    }

    #[test]
    fn one_alone_has_nothing_in_common() {
        assert_eq!(of(&[with(1, json!({"method": "GET"}))]), Common::new());
        assert_eq!(of(&[with(1, json!({"a": 1})), with(2, json!({"a": 2}))]), Common::new());
    }
}
