//! Everything that alerts remember. Gives each result to the pure machines beside and gathers what they decide into a [`Draft`]: it is
//! written together with the results that caused it, and only then true in memory too. What time alone brings is `tick`'s.

use std::collections::{BTreeMap, HashMap, hash_map};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wire::results::{Delivery, State};
use wire::{AgentId, MonitorId, Position};

use super::digest::{Digest, Old};
use super::draft::Draft;
use super::event::{self, Event};
use super::machine::{About, Level, Rule, Seen, Session, Step, Unit};
use super::outbox::Outbox;
use super::tick::{Pace, Watch};
use crate::clock::Now;
use crate::control::Registry;
use crate::monitors::Monitor;
use crate::store::{Kept, Row};

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(super) units: HashMap<Key, Entry>,
    pub(super) digests: HashMap<AgentId, Digest>,
    /// Since when the backlog of a digest is drained.
    pub(super) drained: HashMap<AgentId, u64>,
    /// Since when the clock of an agent is known to be off.
    pub(super) skewed: HashMap<AgentId, u64>,
    pub(super) watch: Watch,
    /// The events whose alerts go on, by alert.
    pub(super) open: BTreeMap<Uuid, Event>,
    pub(crate) outbox: Outbox,
    /// The version of the configuration that the units were compared with last.
    pub(super) version: Option<u64>,
    pub(super) pace: Pace,
}

/// A monitor at a location.
pub(super) type Key = (MonitorId, String);

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) unit: Unit,
    pub(super) alert: Option<Uuid>,
    /// What the latest live result says.
    pub(super) reason: String,
}

/// What is kept of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptUnit {
    /// Which monitor.
    pub monitor: MonitorId,
    /// Where.
    pub location: String,
    /// What alerts said last.
    pub settled: Level,
    /// The alert that goes on.
    pub alert: Option<Uuid>,
}

/// A batch of new results, all of one agent.
pub(crate) struct Heard<'a> {
    pub(crate) session: Session,
    /// Everything up to here is stored with this batch.
    pub(crate) cursor: Position,
    pub(crate) rows: &'a [Row],
    pub(crate) registry: &'a Registry,
    pub(crate) now: Now,
}

impl Book {
    /// As it was kept.
    pub(crate) fn load(kept: &mut Kept) -> Self {
        let (watch, pace) = (std::mem::take(&mut kept.watch), Pace::new());
        let mut book = Self { watch, pace, ..Self::default() };
        let rules: HashMap<_, _> = kept.monitors.iter().map(|m| (m.id, Rule::of(&m.spec))).collect();
        let latest = kept.latest.iter().filter_map(|row| {
            let level = rules.get(&row.result.monitor_id)?.level(row.result.state)?;
            let key = (row.result.monitor_id, row.location.clone());
            Some((key, (row.agent, level, row.at(), row.position)))
        });
        let mut latest: HashMap<Key, _> = latest.collect();
        for kept in kept.units.drain(..) {
            let key = (kept.monitor, kept.location);
            let unit = Unit::kept(kept.settled, latest.remove(&key));
            book.units.insert(key, Entry { unit, alert: kept.alert, reason: String::new() });
        }
        let untold = latest.into_iter().map(|(key, last)| {
            (key, Entry { unit: Unit::kept(Level::Up, Some(last)), alert: None, reason: String::new() })
        });
        book.units.extend(untold.collect::<Vec<_>>());
        book.digests = kept.digests.drain(..).map(|d| (d.agent, d)).collect();
        book.open = kept.open.drain(..).map(|e| (e.notice.alert, e)).collect();
        kept.waiting.drain(..).for_each(|parcel| book.outbox.add(parcel));
        book
    }

    /// The events whose alerts go on, oldest first.
    pub(crate) fn open(&self) -> Vec<Event> {
        let mut open: Vec<_> = self.open.values().cloned().collect();
        open.sort_by_key(|e| e.notice.id);
        open
    }

    /// Takes a batch in. What is to be done is decided after its last result: what is over when it arrives wakes nobody.
    pub(crate) fn hear(&self, heard: &Heard<'_>) -> Draft {
        let Heard { session, cursor, rows, registry, now } = *heard;
        let mut draft = Draft::default();
        let mut touched = BTreeMap::new();
        for row in rows {
            let Some(monitor) = registry.monitor(row.result.monitor_id) else { continue };
            if monitor.spec.enabled && monitor.spec.locations.contains(&row.location) {
                self.hear_one(&mut draft, heard, row, monitor);
                touched.insert((monitor.id, row.location.clone()), monitor);
            }
        }
        let about = About { drained: cursor >= session.recorded, heard_ms: Some(now.up_ms) };
        for (key, monitor) in touched {
            if monitor.is_maintained(now.wall) {
                self.entry(&mut draft, &key).unit.rest();
                continue;
            }
            let step = self.entry(&mut draft, &key).unit.look(Rule::of(&monitor.spec), about, now.up_ms);
            if let Some(step) = step {
                self.step(&mut draft, &key, monitor, step, registry, now);
            }
        }
        draft
    }

    fn hear_one(&self, draft: &mut Draft, heard: &Heard<'_>, row: &Row, monitor: &Monitor) {
        let rule = Rule::of(&monitor.spec);
        let (live, at) = (row.delivery == Delivery::Live, row.at());
        let entry = self.entry(draft, &(monitor.id, row.location.clone()));
        if row.result.state == State::Maintenance {
            entry.unit.see_maintained(row.agent, row.position);
            return;
        }
        let Some(level) = rule.level(row.result.state) else {
            if live {
                entry.unit.see_unclear(row.agent, row.position);
            }
            return;
        };
        let settled = entry.unit.settled();
        let seen = Seen { session: heard.session, position: row.position, live, level, at };
        entry.unit.see(&seen, rule, heard.now.up_ms);
        if live {
            entry.reason.clone_from(&row.result.summary);
        }
        let old = Old { monitor: monitor.id, name: &monitor.spec.name, level, at };
        if live && level == Level::Up {
            self.digest(draft, row, false).into_iter().for_each(|digest| digest.over(monitor.id, at));
        } else if !live && settled == Level::Up {
            self.digest(draft, row, level != Level::Up).into_iter().for_each(|digest| digest.add(old));
        }
    }

    /// The agent's digest, if there is one or one is to be made.
    fn digest<'d>(&self, draft: &'d mut Draft, row: &Row, made: bool) -> Option<&'d mut Digest> {
        match draft.digests.entry(row.agent) {
            hash_map::Entry::Occupied(drafted) => Some(drafted.into_mut()),
            hash_map::Entry::Vacant(free) => match self.digests.get(&row.agent) {
                Some(digest) => Some(free.insert(digest.clone())),
                None if made => {
                    Some(free.insert(Digest::new(row.agent, row.agent_name.clone(), row.location.clone())))
                }
                None => None,
            },
        }
    }

    pub(super) fn step(
        &self,
        draft: &mut Draft,
        key: &Key,
        monitor: &Monitor,
        step: Step,
        registry: &Registry,
        now: Now,
    ) {
        let entry = self.entry(draft, key);
        let turn = match step {
            // Until an agent can run another one's monitor, its own runs it again, and the alert says that it is not confirmed.
            Step::Ask(_whom) => {
                if let Some(agent) = entry.unit.agent() {
                    draft.ask(agent, monitor);
                }
                return;
            }
            Step::Turn(turn) => turn,
        };
        let (alert, reason) = (entry.alert, entry.reason.clone());
        let began = alert.and_then(|alert| self.standing(draft, alert)).cloned();
        let agent = registry.agent(turn.agent).map_or_else(|| turn.agent.to_string(), |a| a.name.clone());
        let about =
            event::About { monitor: &monitor.spec.name, location: &key.1, agent: &agent, reason: &reason };
        let mut event = Event::turned(&turn, about, began.as_ref(), now);
        event.channels.clone_from(&monitor.spec.channels);
        event.notice.severity = monitor.spec.severity;
        event.notice.runbook_url.clone_from(&monitor.spec.runbook_url);
        let entry = self.entry(draft, key);
        entry.alert = event.open.then_some(event.notice.alert);
        let kept = KeptUnit { monitor: key.0, location: key.1.clone(), settled: turn.to, alert: entry.alert };
        draft.kept.push(kept);
        self.close(draft, alert);
        draft.tell(event, registry);
        if turn.to != Level::Up {
            if let Some(digest) = self.digests.get(&turn.agent) {
                let digest = draft.digests.entry(turn.agent).or_insert_with(|| digest.clone());
                digest.alerted(monitor.id);
            } else if let Some(digest) = draft.digests.get_mut(&turn.agent) {
                digest.alerted(monitor.id);
            }
        }
    }

    /// The event that the alert stands on, also one of a moment ago.
    pub(super) fn standing<'a>(&'a self, draft: &'a Draft, alert: Uuid) -> Option<&'a Event> {
        let latest = draft.events.iter().rev().find(|e| e.notice.alert == alert);
        latest.or_else(|| self.open.get(&alert)).filter(|event| event.open)
    }

    /// The event that the alert stood on is not the last word any more.
    pub(super) fn close(&self, draft: &mut Draft, alert: Option<Uuid>) {
        if let Some(event) = alert.and_then(|alert| self.standing(draft, alert)) {
            let closed = Event { open: false, ..event.clone() };
            draft.events.push(closed);
        }
    }

    pub(super) fn entry<'d>(&self, draft: &'d mut Draft, key: &Key) -> &'d mut Entry {
        draft.units.entry(key.clone()).or_insert_with(|| {
            let fresh = || Entry { unit: Unit::default(), alert: None, reason: String::new() };
            self.units.get(key).cloned().unwrap_or_else(fresh)
        })
    }

    /// The draft is on disk: it is true.
    pub(crate) fn adopt(&mut self, draft: Draft) {
        self.units.extend(draft.units);
        draft.gone.iter().for_each(|key| drop(self.units.remove(key)));
        self.digests.extend(draft.digests);
        for agent in &draft.told {
            self.digests.remove(agent);
            self.drained.remove(agent);
        }
        if let Some(watch) = draft.watch {
            if self.watch.own_clock.is_some() && watch.own_clock.is_none() {
                // Those whose clocks are still off may only not have been heard since: they have their time again.
                self.skewed.clear();
            }
            self.watch = watch;
        }
        for event in draft.events {
            if event.open {
                self.open.insert(event.notice.alert, event);
            } else if self.open.get(&event.notice.alert).is_some_and(|e| e.notice.id == event.notice.id) {
                self.open.remove(&event.notice.alert);
            }
        }
        draft.parcels.into_iter().for_each(|parcel| self.outbox.add(parcel));
        self.version = draft.version.or(self.version);
    }
}
