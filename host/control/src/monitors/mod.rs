//! Monitors: what is kept of each, and what an apply changes. Pure; `spec` reads what people wrote.

mod spec;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wire::admin::{Applied, Change, MonitorSpec};
use wire::manner::Manner;
use wire::{Mistake, MonitorId, Timestamp};

use crate::maintenance;

pub use spec::manner;
pub(crate) use spec::{Checks, Parsed, Refused, found, nearest, parse, thresholds};

/// A monitor, checked and completed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Monitor {
    /// Another one for a monitor that was deleted and made again under the same name.
    pub id: MonitorId,
    /// As people wrote it, defaults filled in.
    pub spec: MonitorSpec,
    /// From start to start.
    pub interval_ms: u64,
    /// From resolve to verdict.
    pub timeout_ms: u64,
    /// How it is run, whatever its check. As if nobody had said anything in what older versions kept.
    #[serde(default)]
    pub manner: Manner,
    /// When it was first applied.
    pub created_at: Timestamp,
    /// How it ran since when, oldest first: what a result of last week says depends on the interval of last week. None in what
    /// older versions kept: then it always ran as it does now.
    #[serde(default)]
    pub paces: Vec<Pace>,
}

/// How a monitor ran from some time on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pace {
    /// From when on.
    pub since: Timestamp,
    /// From start to start.
    pub interval_ms: u64,
    /// From resolve to verdict.
    pub timeout_ms: u64,
    /// Where; nowhere while it was not enabled.
    pub locations: Vec<String>,
}

impl Monitor {
    /// How it runs now, as if it did so since then.
    pub(crate) fn pace(&self, since: Timestamp) -> Pace {
        let locations = if self.spec.enabled { self.spec.locations.clone() } else { vec![] };
        Pace { since, interval_ms: self.interval_ms, timeout_ms: self.timeout_ms, locations }
    }

    /// Goes on with the paces of the monitor that it replaces.
    fn succeeds(&mut self, old: Option<&Self>, now: Timestamp) {
        self.paces = match old {
            None => vec![],
            Some(old) if old.paces.is_empty() => vec![old.pace(old.created_at)],
            Some(old) => old.paces.clone(),
        };
        let pace = self.pace(now);
        if self.paces.last().is_none_or(|last| Pace { since: now, ..last.clone() } != pace) {
            self.paces.push(pace);
        }
        let too_many = self.paces.len().saturating_sub(PACES);
        self.paces.drain(..too_many);
    }

    /// SHA-256 over check, configuration, allow and manner, lower-case hexadecimal. A manner that says nothing is left out, as older
    /// versions did.
    pub(crate) fn digest(&self) -> String {
        let MonitorSpec { check, config, allow, .. } = &self.spec;
        let whole = match self.manner.is_plain() {
            true => serde_json::json!([check, config, allow]),
            false => serde_json::json!([check, config, allow, self.manner]),
        };
        hex::encode(Sha256::digest(whole.to_string()))
    }

    /// Whether nobody is alerted about it at that time.
    pub(crate) fn is_maintained(&self, at: Timestamp) -> bool {
        maintenance::holds(&self.spec.maintenance, at)
    }
}

/// What an apply comes to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// For whoever asked: in the order of the request, deleted ones last.
    pub changes: Vec<Applied>,
    /// New and different monitors.
    pub put: Vec<Arc<Monitor>>,
    /// Monitors that are no more.
    pub gone: Vec<Arc<Monitor>>,
}

/// Reads every monitor of an apply; all mistakes of all monitors, or all monitors.
pub(crate) fn parse_all(raw: &[Value], checks: &dyn Checks) -> Result<Vec<Parsed>, Vec<Mistake>> {
    let (mut monitors, mut mistakes) = (Vec::new(), Vec::new());
    let mut names = BTreeMap::<String, usize>::new();
    for (index, raw) in raw.iter().enumerate() {
        if let Some(name) = raw["name"].as_str()
            && let Some(first) = names.insert(name.to_owned(), index)
        {
            let message =
                format!("monitor {name:?} stands at /monitors/{first} already: give each a name of its own");
            mistakes.push(Mistake { at: format!("/monitors/{index}/name"), message });
        }
        match parse(&format!("/monitors/{index}"), raw, checks) {
            Ok(parsed) => monitors.push(parsed),
            Err(found) => mistakes.extend(found),
        }
    }
    if mistakes.is_empty() { Ok(monitors) } else { Err(mistakes) }
}

/// Compares what was asked for with what there is. An unchanged name keeps its id.
pub(crate) fn plan(
    current: &BTreeMap<String, Arc<Monitor>>,
    wanted: Vec<Parsed>,
    prune: bool,
    now: Timestamp,
    new_id: impl Fn() -> MonitorId,
) -> Plan {
    let mut plan = Plan::default();
    if prune {
        let listed: HashSet<_> = wanted.iter().map(|w| &w.spec.name).collect();
        plan.gone = current.values().filter(|m| !listed.contains(&m.spec.name)).cloned().collect();
    }
    for Parsed { spec, interval_ms, timeout_ms, manner } in wanted {
        let monitor = spec.name.clone();
        let old = current.get(&monitor);
        let (id, created_at) = old.map_or_else(|| (new_id(), now), |m| (m.id, m.created_at));
        let mut new = Monitor { id, spec, interval_ms, timeout_ms, manner, created_at, paces: vec![] };
        new.succeeds(old.map(Arc::as_ref), now);
        let (change, changed) = match old {
            None => (Change::Created, vec![]),
            Some(old) if old.spec == new.spec => (Change::Unchanged, vec![]),
            Some(old) => (Change::Updated, differences(old, &new)),
        };
        if change != Change::Unchanged {
            plan.put.push(new.into());
        }
        plan.changes.push(Applied { monitor, change, changed });
    }
    plan.changes.extend(plan.gone.iter().map(|m| Applied {
        monitor: m.spec.name.clone(),
        change: Change::Deleted,
        changed: vec![],
    }));
    plan
}

fn differences(old: &Monitor, new: &Monitor) -> Vec<String> {
    let value = |m: &Monitor| serde_json::to_value(&m.spec).expect("maps of a spec have text keys");
    let mut found = Vec::new();
    compare("", &value(old), &value(new), &mut found);
    found
}

fn compare(at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let added = new.keys().filter(|k| !old.contains_key(*k));
            for key in old.keys().chain(added) {
                let null = &Value::Null;
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                compare(&at, old.get(key).unwrap_or(null), new.get(key).unwrap_or(null), found);
            }
        }
        _ if old == new => {}
        _ => found.push(at.to_owned()),
    }
}

/// Paces that are kept: enough for three changes a day over the longest window of uptime.
const PACES: usize = 100;

#[cfg(test)]
pub(crate) mod tests;
