//! Which agent runs which monitor: one of each location, by rendezvous hashing, so that a lost agent moves its own monitors only.
//! Pure; who is present comes in.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use wire::config::{Assignment, Configuration};
use wire::{AgentId, MonitorId};

use crate::common::{self, Common};
use crate::monitors::Monitor;

/// An enrolled agent that may be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Who.
    pub id: AgentId,
    /// Where.
    pub location: String,
    /// Whether it was heard from within three heartbeats.
    pub present: bool,
}

/// Which agents may be chosen at each location: those that are present, or all when none is.
pub(crate) type Choice = BTreeMap<String, Vec<AgentId>>;

/// Who runs what.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    /// Among whom it was chosen: the same choice of the same monitors is the same placement.
    pub among: Choice,
    runs: BTreeMap<AgentId, Vec<MonitorId>>,
    /// What those that run have in common.
    pub common: Common,
    /// The ETag of what each of those that run is told, as far as it was made. A change of any monitor is another placement.
    tags: BTreeMap<AgentId, OnceLock<String>>,
}

impl Placement {
    /// The monitors of an agent, in the order of the monitors.
    pub(crate) fn of(&self, agent: AgentId) -> &[MonitorId] {
        self.runs.get(&agent).map_or(&[], Vec::as_slice)
    }

    /// The ETag of what an agent is told, if it was told since the last change.
    pub(crate) fn tag(&self, agent: AgentId) -> Option<&str> {
        self.tags.get(&agent)?.get().map(String::as_str)
    }

    /// Remembers it. An agent that runs nothing is told so little that it is made again.
    pub(crate) fn remember(&self, agent: AgentId, tag: &str) {
        if let Some(known) = self.tags.get(&agent) {
            known.get_or_init(|| tag.to_owned());
        }
    }

    /// Whether everybody runs the same.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        self.runs == other.runs
    }
}

/// Who may be chosen where.
pub(crate) fn choice(agents: impl IntoIterator<Item = Candidate>) -> Choice {
    let mut here = BTreeMap::<String, Vec<(AgentId, bool)>>::new();
    for Candidate { id, location, present } in agents {
        here.entry(location).or_default().push((id, present));
    }
    let chosen = |agents: Vec<(AgentId, bool)>| {
        let any_present = agents.iter().any(|(_, present)| *present);
        agents.into_iter().filter(|(_, present)| *present || !any_present).map(|(id, _)| id).collect()
    };
    here.into_iter().map(|(location, agents)| (location, chosen(agents))).collect()
}

/// Places every monitor: at each location on one of those who may be chosen there.
pub(crate) fn place<'a>(monitors: impl IntoIterator<Item = &'a Monitor>, among: Choice) -> Placement {
    let monitors: Vec<_> = monitors.into_iter().filter(|m| m.spec.enabled).collect();
    let common = common::of(monitors.iter().copied());
    let mut runs = BTreeMap::<AgentId, Vec<MonitorId>>::new();
    for monitor in monitors {
        for location in &monitor.spec.locations {
            let agents = among.get(location).into_iter().flatten();
            if let Some(agent) = agents.max_by_key(|id| (weight(monitor.id, **id), **id)) {
                runs.entry(*agent).or_default().push(monitor.id);
            }
        }
    }
    let tags = runs.keys().map(|agent| (*agent, OnceLock::new())).collect();
    Placement { among, runs, common, tags }
}

fn weight(monitor: MonitorId, agent: AgentId) -> [u8; 8] {
    let digest = Sha256::new().chain_update(monitor.0).chain_update(agent.0).finalize();
    *digest.first_chunk().expect("SHA-256 gives 32 bytes")
}

/// What an agent is told, and the ETag of it: the same monitors have the same tag, whatever the version.
pub(crate) fn configuration<'a>(
    version: u64,
    monitors: impl IntoIterator<Item = &'a Monitor>,
    common: &Common,
) -> (Configuration, String) {
    let monitors: Vec<_> = monitors.into_iter().collect();
    let common = common::usable(common, &monitors);
    let monitors: Vec<_> = monitors.into_iter().map(|monitor| assignment(monitor, &common)).collect();
    let bytes = serde_json::to_vec(&(&common, &monitors)).expect("maps of an assignment have text keys");
    let etag = format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..16]));
    (Configuration { version, common, monitors }, etag)
}

/// How many bytes an agent is told that has to run everything at a location.
pub(crate) fn sizes<'a>(monitors: impl IntoIterator<Item = &'a Monitor>) -> BTreeMap<&'a str, usize> {
    let monitors: Vec<_> = monitors.into_iter().filter(|m| m.spec.enabled).collect();
    let common = common::of(monitors.iter().copied());
    let mut here = BTreeMap::<_, Vec<_>>::new();
    for monitor in monitors {
        for location in &monitor.spec.locations {
            here.entry(location.as_str()).or_default().push(monitor);
        }
    }
    let size = |monitors| {
        let (configuration, _) = configuration(u64::MAX, monitors, &common);
        serde_json::to_vec(&configuration).expect("maps of an assignment have text keys").len()
    };
    here.into_iter().map(|(location, monitors)| (location, size(monitors))).collect()
}

fn assignment(monitor: &Monitor, common: &Common) -> Assignment {
    let spec = &monitor.spec;
    Assignment {
        id: monitor.id,
        name: spec.name.clone(),
        check: spec.check.clone(),
        interval_ms: monitor.interval_ms,
        timeout_ms: monitor.timeout_ms,
        config: common::without(&spec.config, common.get(&spec.check)),
        allow: spec.allow.clone(),
        manner: monitor.manner.clone(),
        labels: spec.labels.clone(),
        digest: monitor.digest(),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::monitors::tests::monitor;

    fn agent(n: u128, location: &str, present: bool) -> Candidate {
        Candidate { id: AgentId(Uuid::from_u128(n)), location: location.into(), present }
    }

    fn runs(placement: &Placement, agent: u128) -> usize {
        placement.of(AgentId(Uuid::from_u128(agent))).len()
    }

    #[test]
    fn a_monitor_runs_on_one_present_agent_of_each_of_its_locations() {
        let monitors: Vec<_> = (0..100).map(|n| monitor(n, "m", &["dc1", "dc2"])).collect();
        let agents =
            [agent(1, "dc1", true), agent(2, "dc1", true), agent(3, "dc1", false), agent(4, "dc2", false)];
        let placement = place(&monitors, choice(agents));
        assert_eq!(runs(&placement, 1) + runs(&placement, 2), 100);
        assert!(runs(&placement, 1) > 25 && runs(&placement, 2) > 25, "spread over both");
        assert_eq!(runs(&placement, 3), 0, "away");
        assert_eq!(runs(&placement, 4), 100, "away, but nobody else is there");
    }

    #[test]
    fn a_lost_agent_moves_its_own_monitors_only() {
        let monitors: Vec<_> = (0..100).map(|n| monitor(n, "m", &["dc1"])).collect();
        let mut agents = [agent(1, "dc1", true), agent(2, "dc1", true), agent(3, "dc1", true)];
        let before = place(&monitors, choice(agents.clone()));
        agents[2].present = false;
        let after = place(&monitors, choice(agents));
        for n in [1, 2] {
            let id = AgentId(Uuid::from_u128(n));
            assert!(before.of(id).iter().all(|m| after.of(id).contains(m)));
        }
        assert_eq!(runs(&after, 1) + runs(&after, 2), 100);
    }

    #[test]
    fn a_disabled_monitor_runs_nowhere() {
        let mut disabled = monitor(1, "m", &["dc1"]);
        disabled.spec.enabled = false;
        assert_eq!(runs(&place([&disabled], choice([agent(1, "dc1", true)])), 1), 0);
    }

    #[test]
    fn the_tag_changes_with_the_monitors_and_not_with_the_version() {
        let mut m = monitor(1, "m", &["dc1"]);
        let (_, tag) = configuration(1, [&m], &Common::new());
        assert_eq!(configuration(2, [&m], &Common::new()).1, tag);
        m.interval_ms += 1;
        assert_ne!(configuration(1, [&m], &Common::new()).1, tag);
    }

    #[test]
    fn what_monitors_share_is_told_once_and_an_agent_is_told_as_much_as_its_location_counts() {
        let mut monitors: Vec<_> = (0..100).map(|n| monitor(n, "m", &["dc1"])).collect();
        for (n, monitor) in monitors.iter_mut().enumerate() {
            monitor.spec.config =
                serde_json::json!({"url": format!("http://{n}/"), "body": "x".repeat(10_000)});
        }
        let (told, _) = configuration(u64::MAX, &monitors, &common::of(&monitors));
        assert_eq!(told.common["http"]["body"].as_str().map(str::len), Some(10_000));
        assert_eq!(told.monitors[7].config, serde_json::json!({"url": "http://7/"}));
        let bytes = serde_json::to_vec(&told).unwrap().len();
        assert_eq!(sizes(&monitors), BTreeMap::from([("dc1", bytes)]));
        assert!(bytes < 100_000, "{bytes}");
    }
}
