//! Agents, monitors and channels as they are kept, and what a change of them writes. Pure; who may change them when is `control`'s.

use std::collections::{BTreeMap, HashMap};

use wire::event::AgentEvent;
use wire::{AgentId, MonitorId};

use crate::agents::Agent;
use crate::alert::Channel;
use crate::monitors::Monitor;
use crate::store::Write;

/// What is kept of agents and monitors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    pub(crate) agents: BTreeMap<String, Agent>,
    pub(crate) monitors: BTreeMap<String, Monitor>,
    pub(crate) channels: BTreeMap<String, Channel>,
    pub(crate) version: u64,
    /// Names of the agents, and of the monitors, by id: every request of an agent asks for them.
    names: HashMap<AgentId, String>,
    monitor_names: HashMap<MonitorId, String>,
}

impl Registry {
    /// As it was kept.
    pub(super) fn new(
        agents: Vec<Agent>,
        monitors: Vec<Monitor>,
        channels: Vec<Channel>,
        version: u64,
    ) -> Self {
        let mut registry = Self {
            agents: agents.into_iter().map(|a| (a.name.clone(), a)).collect(),
            monitors: monitors.into_iter().map(|m| (m.spec.name.clone(), m)).collect(),
            channels: channels.into_iter().map(|c| (c.name.clone(), c)).collect(),
            version,
            ..Self::default()
        };
        registry.index();
        registry
    }

    pub(crate) fn agent(&self, id: AgentId) -> Option<&Agent> {
        self.agents.get(self.names.get(&id)?)
    }

    pub(crate) fn interval_ms(&self, id: MonitorId) -> Option<u64> {
        self.monitor(id).map(|m| m.interval_ms)
    }

    pub(crate) fn monitor(&self, id: MonitorId) -> Option<&Monitor> {
        self.monitors.get(self.monitor_names.get(&id)?)
    }

    pub(super) fn index(&mut self) {
        self.names = self.agents.values().map(|a| (a.id, a.name.clone())).collect();
        self.monitor_names = self.monitors.values().map(|m| (m.id, m.spec.name.clone())).collect();
    }
}

/// A [`Write`] that owns what it writes.
pub(crate) enum Written {
    /// `true` where monitors may move because of it.
    Agent(Agent, bool),
    AgentGone(AgentId),
    Event(AgentId, AgentEvent),
    Monitor(Monitor),
    MonitorGone(MonitorId),
    Channel(Channel),
    ChannelGone(String),
}

impl Written {
    pub(super) fn moves_monitors(&self) -> bool {
        !matches!(self, Self::Agent(_, false) | Self::Event(..) | Self::Channel(_) | Self::ChannelGone(_))
    }

    pub(super) fn as_write(&self) -> Write<'_> {
        match self {
            Self::Agent(agent, _) => Write::Agent(agent),
            Self::AgentGone(id) => Write::AgentGone(*id),
            Self::Event(id, event) => Write::Event(*id, event),
            Self::Monitor(monitor) => Write::Monitor(monitor),
            Self::MonitorGone(id) => Write::MonitorGone(*id),
            Self::Channel(channel) => Write::Channel(channel),
            Self::ChannelGone(name) => Write::ChannelGone(name),
        }
    }
}
