//! Which agent runs which monitor: one of each location, by rendezvous hashing, so that a lost agent moves its own monitors only.
//! Pure; who is present comes in.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use wire::config::{Assignment, Configuration};
use wire::{AgentId, MonitorId};

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

/// Which monitors each agent runs, in the order of the monitors.
pub(crate) type Placement = BTreeMap<AgentId, Vec<MonitorId>>;

/// Places every monitor: at each location on one of the agents that are present, or on one of all when none is.
pub(crate) fn place<'a>(monitors: impl IntoIterator<Item = &'a Monitor>, agents: &[Candidate]) -> Placement {
    let mut placement = Placement::new();
    for monitor in monitors.into_iter().filter(|m| m.spec.enabled) {
        for location in &monitor.spec.locations {
            if let Some(agent) = chosen(monitor.id, location, agents) {
                placement.entry(agent).or_default().push(monitor.id);
            }
        }
    }
    placement
}

fn chosen(monitor: MonitorId, location: &str, agents: &[Candidate]) -> Option<AgentId> {
    let here = || agents.iter().filter(|a| a.location == location);
    let any_present = here().any(|a| a.present);
    here().filter(|a| a.present || !any_present).map(|a| a.id).max_by_key(|id| (weight(monitor, *id), *id))
}

fn weight(monitor: MonitorId, agent: AgentId) -> [u8; 8] {
    let digest = Sha256::new().chain_update(monitor.0).chain_update(agent.0).finalize();
    *digest.first_chunk().expect("SHA-256 gives 32 bytes")
}

/// What an agent is told, and the ETag of it: the same monitors have the same tag, whatever the version.
pub(crate) fn configuration<'a>(
    version: u64,
    monitors: impl IntoIterator<Item = &'a Monitor>,
) -> (Configuration, String) {
    let monitors: Vec<_> = monitors.into_iter().map(assignment).collect();
    let bytes = serde_json::to_vec(&monitors).expect("maps of an assignment have text keys");
    (Configuration { version, monitors }, format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..16])))
}

fn assignment(monitor: &Monitor) -> Assignment {
    let spec = &monitor.spec;
    Assignment {
        id: monitor.id,
        name: spec.name.clone(),
        check: spec.check.clone(),
        interval_ms: monitor.interval_ms,
        timeout_ms: monitor.timeout_ms,
        config: spec.config.clone(),
        allow: spec.allow.clone(),
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
        placement.get(&AgentId(Uuid::from_u128(agent))).map_or(0, Vec::len)
    }

    #[test]
    fn a_monitor_runs_on_one_present_agent_of_each_of_its_locations() {
        let monitors: Vec<_> = (0..100).map(|n| monitor(n, "m", &["dc1", "dc2"])).collect();
        let agents =
            [agent(1, "dc1", true), agent(2, "dc1", true), agent(3, "dc1", false), agent(4, "dc2", false)];
        let placement = place(&monitors, &agents);
        assert_eq!(runs(&placement, 1) + runs(&placement, 2), 100);
        assert!(runs(&placement, 1) > 25 && runs(&placement, 2) > 25, "spread over both");
        assert_eq!(runs(&placement, 3), 0, "away");
        assert_eq!(runs(&placement, 4), 100, "away, but nobody else is there");
    }

    #[test]
    fn a_lost_agent_moves_its_own_monitors_only() {
        let monitors: Vec<_> = (0..100).map(|n| monitor(n, "m", &["dc1"])).collect();
        let mut agents = [agent(1, "dc1", true), agent(2, "dc1", true), agent(3, "dc1", true)];
        let before = place(&monitors, &agents);
        agents[2].present = false;
        let after = place(&monitors, &agents);
        for n in [1, 2] {
            let id = AgentId(Uuid::from_u128(n));
            assert!(before[&id].iter().all(|m| after[&id].contains(m)));
        }
        assert_eq!(runs(&after, 1) + runs(&after, 2), 100);
    }

    #[test]
    fn a_disabled_monitor_runs_nowhere() {
        let mut disabled = monitor(1, "m", &["dc1"]);
        disabled.spec.enabled = false;
        assert!(place([&disabled], &[agent(1, "dc1", true)]).is_empty());
    }

    #[test]
    fn the_tag_changes_with_the_monitors_and_not_with_the_version() {
        let mut m = monitor(1, "m", &["dc1"]);
        let (_, tag) = configuration(1, [&m]);
        assert_eq!(configuration(2, [&m]).1, tag);
        m.interval_ms += 1;
        assert_ne!(configuration(1, [&m]).1, tag);
    }
}
