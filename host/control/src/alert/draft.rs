//! What a batch or a moment comes to, before it is true: written first, then adopted by the book.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use wire::{AgentId, MonitorId};

use super::book::{Entry, KeptUnit, Key};
use super::digest::Digest;
use super::event::Event;
use super::outbox::Parcel;
use super::tick::Watch;
use crate::control::Registry;
use crate::monitors::Monitor;
use crate::store::Write;

/// What is to become true.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(super) units: HashMap<Key, Entry>,
    pub(super) kept: Vec<KeptUnit>,
    pub(super) gone: Vec<Key>,
    pub(super) digests: HashMap<AgentId, Digest>,
    pub(super) told: Vec<AgentId>,
    pub(super) watch: Option<Watch>,
    pub(super) events: Vec<Event>,
    pub(super) parcels: Vec<Parcel>,
    pub(super) version: Option<u64>,
    /// Monitors that are to run again at once, by agent.
    asks: BTreeMap<AgentId, Vec<Ask>>,
}

/// A monitor that is to run again, and how often it runs anyway.
#[derive(Debug)]
struct Ask {
    monitor: MonitorId,
    interval_ms: u64,
}

impl Draft {
    /// Has the agent run a monitor again.
    pub(super) fn ask(&mut self, agent: AgentId, monitor: &Monitor) {
        let ask = Ask { monitor: monitor.id, interval_ms: monitor.interval_ms };
        self.asks.entry(agent).or_default().push(ask);
    }

    /// Takes what agents are to run again, the monitors that run rarely first. An agent runs twenty a second beside its plan: after an
    /// outage in which hundreds went down, the others are checked by plan while those that would wait for long are asked for. What only
    /// runs rarely and is not in doubt is not asked for: its agent checked it on while it was away, and runs what it missed by itself.
    pub(super) fn take_asks(&mut self) -> impl Iterator<Item = (AgentId, Vec<MonitorId>)> + use<> {
        std::mem::take(&mut self.asks).into_iter().map(|(agent, mut asks)| {
            asks.sort_by_key(|ask| Reverse(ask.interval_ms));
            (agent, asks.into_iter().map(|ask| ask.monitor).collect())
        })
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.writes().is_empty()
    }

    /// Whether somebody is to be told.
    pub(crate) fn has_parcels(&self) -> bool {
        !self.parcels.is_empty()
    }

    /// What is to be written.
    pub(crate) fn writes(&self) -> Vec<Write<'_>> {
        let mut writes: Vec<_> = self.kept.iter().map(Write::Unit).collect();
        writes.extend(self.gone.iter().map(|(monitor, location)| Write::UnitGone(*monitor, location)));
        let untold = self.digests.values().filter(|d| !self.told.contains(&d.agent));
        writes.extend(untold.map(Write::Digest));
        writes.extend(self.told.iter().map(|agent| Write::DigestGone(*agent)));
        writes.extend(self.watch.as_ref().map(Write::Watch));
        writes.extend(self.events.iter().map(Write::Told));
        writes.extend(self.parcels.iter().map(Write::Parcel));
        writes
    }

    /// Adds an event, and a parcel for each channel that gets it.
    pub(super) fn tell(&mut self, event: Event, registry: &Registry) {
        let notice = &event.notice;
        tracing::info!(event = %notice.event, alert = %notice.alert, id = %notice.id, "{}", notice.summary);
        let names = registry.channels.keys();
        let wanted = names.filter(|name| event.channels.is_empty() || event.channels.contains(name));
        let parcel = |name: &String| Parcel::new(notice.id, notice.alert, name.clone(), notice.at);
        self.parcels.extend(wanted.map(parcel));
        self.events.push(event);
    }
}
