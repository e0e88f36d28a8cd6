//! What befalls the identities of agents, for their owners: kept in the store, and in the log. Owns how often the same is told; what is
//! told is decided where it happens.

use std::collections::HashMap;

use wire::event::{AgentEvent, AgentEventKind};
use wire::{AgentId, Problem, Timestamp};

use crate::admin::no_such;
use crate::agents::Agent;
use crate::control::{Control, Written, failed, lock};
use crate::store::Write;

/// When each kind was last told of each agent.
#[derive(Debug, Default)]
pub(crate) struct Told {
    last: HashMap<(AgentId, AgentEventKind), u64>,
}

impl Told {
    /// Whether it may be told now: who provokes it again and again does not drive everything else out.
    fn may(&mut self, agent: AgentId, kind: AgentEventKind, up_ms: u64) -> bool {
        let recent =
            self.last.get(&(agent, kind)).is_some_and(|last| up_ms.saturating_sub(*last) < BETWEEN_MS);
        if !recent {
            self.last.insert((agent, kind), up_ms);
        }
        !recent
    }

    /// The agent is no more.
    pub(crate) fn forget(&mut self, agent: AgentId) {
        self.last.retain(|(owner, _), _| *owner != agent);
    }
}

impl Agent {
    /// An event, to be written with the change that it tells of.
    pub(crate) fn event(&self, kind: AgentEventKind, detail: String, at: Timestamp) -> Written {
        tracing::info!(agent = self.name, %kind, "{detail}");
        Written::Event(self.id, AgentEvent { at, agent: self.name.clone(), kind, detail })
    }
}

impl Control {
    /// Tells the owner of something that changes nothing: once a minute and kind at most. A store that fails costs the entry only.
    pub(crate) fn note(&self, agent: &Agent, kind: AgentEventKind, detail: &str) {
        let now = self.now();
        if !lock(&self.told_events).may(agent.id, kind, now.up_ms) {
            return;
        }
        tracing::warn!(agent = agent.name, %kind, "{detail}");
        let event = AgentEvent { at: now.wall, agent: agent.name.clone(), kind, detail: detail.to_owned() };
        if let Err(error) = self.parts.store.commit(&[Write::Event(agent.id, &event)]) {
            failed(&error);
        }
    }

    /// What befell one agent, or all, newest first.
    pub(crate) fn events(&self, name: Option<&str>, limit: usize) -> Result<Vec<AgentEvent>, Problem> {
        let registry = self.registry();
        let agent = match name {
            None => None,
            Some(name) => match registry.agents.get(name) {
                Some(agent) => Some(agent.id),
                None => return Err(no_such("agent", name, registry.agents.keys())),
            },
        };
        self.parts.store.agent_events(agent, limit).map_err(|e| failed(&e))
    }
}

/// Between two events of one kind and agent.
const BETWEEN_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_same_is_told_once_a_minute_of_each_agent() {
        let (one, two) = (AgentId(Uuid::from_u128(1)), AgentId(Uuid::from_u128(2)));
        let mut told = Told::default();
        assert!(told.may(one, AgentEventKind::Forked, 5));
        assert!(!told.may(one, AgentEventKind::Forked, 5 + BETWEEN_MS - 1));
        assert!(told.may(one, AgentEventKind::Stolen, 5) && told.may(two, AgentEventKind::Forked, 5));
        assert!(told.may(one, AgentEventKind::Forked, 5 + BETWEEN_MS));
        told.forget(two);
        assert!(told.may(two, AgentEventKind::Forked, 6));
    }
}
