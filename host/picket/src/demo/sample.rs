//! The sample monitors: `examples/monitors.yaml` with the ports and the authority of the targets that run here.

use std::collections::BTreeMap;

use serde_json::Value;
use wire::results::State;

use super::targets::Targets;
use crate::failure::{Failure, exit};
use crate::yaml::Document;

const FILE: &str = include_str!("../../../../examples/monitors.yaml");

/// Stands in the file where a target's certificate authority belongs.
const AUTHORITY: &str = "/etc/ssl/company-ca.pem";

/// The monitors whose targets run.
pub(super) struct Sample {
    /// For the control plane.
    pub(super) monitors: Vec<Value>,
    /// A sentence for each that is left out.
    pub(super) left_out: Vec<String>,
}

/// What one monitor should show at one location.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) monitor: String,
    pub(super) check: String,
    pub(super) location: String,
    pub(super) state: State,
}

impl Sample {
    /// The monitors of the file for these targets.
    pub(super) fn fitted(targets: &Targets) -> Result<Self, Failure> {
        let file =
            Document::parse("examples/monitors.yaml", FILE).map_err(|e| Failure::text(exit::DATA, e))?;
        Ok(Self::of(&file.to_json(), &targets.ports, &targets.authority))
    }

    fn of(file: &Value, ports: &BTreeMap<u16, Option<u16>>, authority: &str) -> Self {
        let mut sample = Self { monitors: Vec::new(), left_out: Vec::new() };
        for monitor in file["monitors"].as_array().into_iter().flatten() {
            let mut fitted = monitor.clone();
            if fit(&mut fitted, ports, authority) {
                sample.monitors.push(fitted);
            } else {
                sample
                    .left_out
                    .push(format!("without the monitor {}: its target is not there", monitor["name"]));
            }
        }
        sample
    }

    /// As a file.
    pub(super) fn yaml(&self) -> String {
        let file = serde_json::json!({ "monitors": self.monitors });
        serde_saphyr::to_string(&file).unwrap_or_else(|_| file.to_string())
    }

    /// What each monitor should show at each of its locations: up, unless its label says otherwise.
    pub(super) fn expected(&self) -> Vec<Expected> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let each = |monitor: &Value| {
            let state = serde_json::from_value(monitor["labels"]["expected"].clone()).unwrap_or(State::Up);
            let locations = monitor["locations"].as_array().cloned().unwrap_or_default();
            let (name, check) = (text(&monitor["name"]), text(&monitor["check"]));
            locations.into_iter().map(move |location| Expected {
                monitor: name.clone(),
                check: check.clone(),
                location: location.as_str().unwrap_or_default().to_owned(),
                state,
            })
        };
        self.monitors.iter().flat_map(each).collect()
    }
}

/// Puts the real ports and the authority into a monitor; false when one of its ports has no target.
fn fit(value: &mut Value, ports: &BTreeMap<u16, Option<u16>>, authority: &str) -> bool {
    match value {
        Value::Object(members) => members.iter_mut().all(|(key, value)| {
            let port = value.as_u64().filter(|_| key == "port").and_then(|port| u16::try_from(port).ok());
            match port.and_then(|port| ports.get(&port)) {
                Some(Some(real)) => {
                    *value = (*real).into();
                    true
                }
                Some(None) => false,
                None => fit(value, ports, authority),
            }
        }),
        Value::Array(entries) => entries.iter_mut().all(|entry| fit(entry, ports, authority)),
        Value::String(text) if text == AUTHORITY => {
            authority.clone_into(text);
            true
        }
        Value::String(text) => {
            let Some((port, real)) =
                ports.iter().find(|(port, _)| text.contains(&format!("127.0.0.1:{port}")))
            else {
                return true;
            };
            let Some(real) = real else { return false };
            *text = text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{real}"));
            true
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::json;
    use wire::results::State;

    use super::{FILE, Sample};
    use crate::yaml::Document;

    fn sample(ports: &[(u16, Option<u16>)]) -> Sample {
        let file = Document::parse("examples/monitors.yaml", FILE).unwrap().to_json();
        Sample::of(&file, &ports.iter().copied().collect::<BTreeMap<_, _>>(), "PEM")
    }

    #[test]
    fn the_example_has_every_check_and_one_monitor_that_fails_on_purpose() {
        let expected = sample(&[]).expected();
        let checks: BTreeSet<&str> = expected.iter().map(|e| e.check.as_str()).collect();
        assert_eq!(checks, BTreeSet::from(["dns", "http", "postgres", "tcp", "tls"]));
        let down: Vec<&str> =
            expected.iter().filter(|e| e.state == State::Down).map(|e| e.monitor.as_str()).collect();
        assert_eq!(down, ["shop-checkout"]);
    }

    #[test]
    fn ports_and_authority_become_those_of_the_targets() {
        let sample = sample(&[(8080, Some(1)), (8443, Some(2)), (2525, Some(3)), (5353, Some(4))]);
        let monitor = |name: &str| sample.monitors.iter().find(|m| m["name"] == name).unwrap();
        let config = |name: &str| &monitor(name)["config"];
        assert_eq!(config("shop")["url"], "http://127.0.0.1:1/");
        assert_eq!(monitor("shop-tls")["tls"], json!({"ca": "PEM"}));
        assert_eq!(config("mail-relay")["port"], 3);
        assert_eq!(config("internal-dns")["server"], "127.0.0.1:4");
    }

    #[test]
    fn a_monitor_without_its_target_is_left_out_and_named() {
        let sample = sample(&[(5432, None), (5433, None)]);
        assert_eq!(sample.left_out.len(), 2);
        assert!(sample.left_out[0].contains("orders-replica"), "{:?}", sample.left_out);
    }
}
