//! What many monitors have in common, kept once. With thousands of them this is what decides how much memory an agent needs: most are run
//! the same way and leave most options of their check as they are.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Map, Value};
use wire::manner::Manner;

use crate::monitors::Monitors;

/// Finds what is kept already.
#[derive(Default)]
pub(crate) struct Shared {
    manners: HashSet<Arc<Manner>>,
    texts: HashSet<Arc<str>>,
}

/// A completed configuration in two parts: the members that are this monitor's own, and those that it shares. Each is JSON without the
/// braces around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    own: Box<str>,
    shared: Arc<str>,
}

impl Shared {
    /// What these monitors keep.
    pub(crate) fn of(monitors: &Monitors) -> Self {
        let manners = monitors.values().map(|monitor| monitor.manner.clone()).collect();
        let works = monitors.values().filter_map(|monitor| monitor.work.as_ref().ok());
        Self { manners, texts: works.map(|work| work.config.shared.clone()).collect() }
    }

    /// How a monitor is run.
    pub(crate) fn manner(&mut self, manner: &Manner) -> Arc<Manner> {
        if let Some(known) = self.manners.get(manner) {
            return known.clone();
        }
        let new = Arc::new(manner.clone());
        self.manners.insert(new.clone());
        new
    }

    /// A completed configuration. `common` is what the control plane says of the monitors of its check.
    pub(crate) fn config(
        &mut self,
        completed: &Map<String, Value>,
        common: Option<&Map<String, Value>>,
    ) -> Config {
        let (mut own, mut shared) = (String::new(), String::new());
        for (key, value) in completed {
            let is_common = common.is_some_and(|common| common.get(key) == Some(value));
            let part = if is_common { &mut shared } else { &mut own };
            let comma = if part.is_empty() { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(part, "{comma}{}:{value}", Value::from(key.as_str()));
        }
        Config { own: own.into(), shared: self.text(shared) }
    }

    fn text(&mut self, text: String) -> Arc<str> {
        if let Some(known) = self.texts.get(text.as_str()) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.texts.insert(new.clone());
        new
    }
}

impl Config {
    /// The whole of it, as a plugin reads it.
    pub(crate) fn text(&self) -> String {
        let comma = if self.own.is_empty() || self.shared.is_empty() { "" } else { "," };
        ["{", &self.own, comma, &self.shared, "}"].concat()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_configuration_comes_back_whole_whatever_is_shared_of_it() {
        let mut shared = Shared::default();
        let common = object(json!({"method": "GET", "quo\"ted": [1, {"a": null}], "port": 80}));
        for completed in [
            json!({}),
            json!({"url": "http://a/"}),
            json!({"method": "GET"}),
            json!({"method": "GET", "quo\"ted": [1, {"a": null}], "port": 80}),
            json!({"url": "é\n", "method": "PUT", "quo\"ted": [1], "port": 80.5}),
        ] {
            for common in [None, Some(&common)] {
                let config = shared.config(&object(completed.clone()), common);
                assert_eq!(serde_json::from_str::<Value>(&config.text()).unwrap(), completed);
            }
        }
    }

    #[test]
    fn what_is_alike_is_kept_once() {
        let mut shared = Shared::default();
        let common = object(json!({"method": "GET", "port": 80}));
        let mut config = |url: &str| {
            shared.config(&object(json!({"url": url, "method": "GET", "port": 80})), Some(&common))
        };
        let (one, other) = (config("http://a/"), config("http://b/"));
        assert!(Arc::ptr_eq(&one.shared, &other.shared));
        assert_eq!(&*one.own, r#""url":"http://a/""#);
        let (one, other) = (Manner { retries: 1, ..Manner::default() }, Manner::default());
        assert!(Arc::ptr_eq(&shared.manner(&one), &shared.manner(&one.clone())));
        assert!(!Arc::ptr_eq(&shared.manner(&one), &shared.manner(&other)));
    }
}
