//! Agents, monitors and channels as they are kept, and what a change of them writes. Pure; who may change them when is `control`'s.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use wire::event::AgentEvent;
use wire::{AgentId, MonitorId};

use crate::agents::Agent;
use crate::alert::Channel;
use crate::monitors::Monitor;
use crate::store::Write;

/// What is kept of agents and monitors. A clone shares everything, and a change copies only the map that it is made in, never the
/// monitors that stay as they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    pub(crate) agents: Arc<BTreeMap<String, Agent>>,
    pub(crate) monitors: Arc<BTreeMap<String, Arc<Monitor>>>,
    pub(crate) channels: Arc<BTreeMap<String, Channel>>,
    pub(crate) version: u64,
    /// Names of the agents, and of the monitors, by id: every request of an agent asks for them.
    names: Arc<HashMap<AgentId, String>>,
    monitor_names: Arc<HashMap<MonitorId, String>>,
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
            agents: Arc::new(agents.into_iter().map(|a| (a.name.clone(), a)).collect()),
            monitors: Arc::new(monitors.into_iter().map(|m| (m.spec.name.clone(), m.into())).collect()),
            channels: Arc::new(channels.into_iter().map(|c| (c.name.clone(), c)).collect()),
            version,
            ..Self::default()
        };
        registry.index(&Self::default());
        registry
    }

    pub(crate) fn agent(&self, id: AgentId) -> Option<&Agent> {
        self.agents.get(self.names.get(&id)?)
    }

    pub(crate) fn interval_ms(&self, id: MonitorId) -> Option<u64> {
        self.monitor(id).map(|m| m.interval_ms)
    }

    pub(crate) fn monitor(&self, id: MonitorId) -> Option<&Monitor> {
        self.monitor_named(self.monitor_names.get(&id)?)
    }

    pub(crate) fn monitor_named(&self, name: &str) -> Option<&Monitor> {
        self.monitors.get(name).map(Arc::as_ref)
    }

    /// The monitors, by name.
    pub(crate) fn all_monitors(&self) -> impl Iterator<Item = &Monitor> {
        self.monitors.values().map(Arc::as_ref)
    }

    /// The agents, to be changed.
    pub(crate) fn agents_mut(&mut self) -> &mut BTreeMap<String, Agent> {
        Arc::make_mut(&mut self.agents)
    }

    /// The monitors, to be changed.
    pub(crate) fn monitors_mut(&mut self) -> &mut BTreeMap<String, Arc<Monitor>> {
        Arc::make_mut(&mut self.monitors)
    }

    /// The channels, to be changed.
    pub(crate) fn channels_mut(&mut self) -> &mut BTreeMap<String, Channel> {
        Arc::make_mut(&mut self.channels)
    }

    /// Notes the names of what is another than before.
    pub(super) fn index(&mut self, before: &Self) {
        if !Arc::ptr_eq(&self.agents, &before.agents) {
            self.names = Arc::new(self.agents.values().map(|a| (a.id, a.name.clone())).collect());
        }
        if !Arc::ptr_eq(&self.monitors, &before.monitors) {
            let names = self.monitors.values().map(|m| (m.id, m.spec.name.clone()));
            self.monitor_names = Arc::new(names.collect());
        }
    }
}

/// A [`Write`] that owns what it writes.
#[expect(clippy::large_enum_variant, reason = "lives as long as one change of the registry takes")]
pub(crate) enum Written {
    /// `true` where monitors may move because of it.
    Agent(Agent, bool),
    AgentGone(AgentId),
    Event(AgentId, AgentEvent),
    Monitor(Arc<Monitor>),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitors::tests::monitor;

    #[test]
    fn a_change_copies_only_the_map_that_it_is_made_in_and_finds_what_is_new() {
        let before = Registry::new(vec![], vec![monitor(1, "shop", &["dc1"])], vec![], 1);
        let mut after = before.clone();
        after.monitors_mut().insert("cart".into(), monitor(2, "cart", &["dc1"]).into());
        after.index(&before);
        let new = monitor(2, "cart", &["dc1"]).id;
        assert_eq!(after.monitor(new).map(|m| m.spec.name.as_str()), Some("cart"));
        assert_eq!((before.monitor(new), before.monitors.len()), (None, 1));
        assert!(Arc::ptr_eq(&before.monitors["shop"], &after.monitors["shop"]));
        assert!(Arc::ptr_eq(&before.agents, &after.agents) && Arc::ptr_eq(&before.names, &after.names));
    }
}
