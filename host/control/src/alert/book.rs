//! Everything that alerts remember, under one lock. Gives each result and each moment to the pure machines beside, and gathers what
//! they decide into a [`Draft`]: it is written together with the results that caused it, and only then true in memory too.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wire::{AgentId, MonitorId, Position, Timestamp};

use super::absence::{self, Absence, Expected, News};
use super::digest::{Digest, Old};
use super::event::{self, Event, fresh};
use super::machine::{About, Level, Rule, Seen, Session, Step, Unit};
use super::outbox::{Outbox, Parcel};
use crate::clock::Now;
use crate::control::Registry;
use crate::monitors::Monitor;
use crate::store::{Kept, Row, Write};
use wire::results::Delivery;

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Book {
    units: HashMap<Key, Entry>,
    digests: HashMap<AgentId, Digest>,
    /// Since when the backlog of a digest is drained.
    drained: HashMap<AgentId, u64>,
    watch: Watch,
    /// The events whose alerts go on, by alert.
    open: BTreeMap<Uuid, Event>,
    sessions: HashMap<AgentId, (Session, Position)>,
    pub(crate) outbox: Outbox,
    /// The version of the configuration that the units were compared with last.
    version: Option<u64>,
    pace: Pace,
}

/// A monitor at a location.
type Key = (MonitorId, String);

#[derive(Clone, Debug)]
struct Entry {
    unit: Unit,
    alert: Option<Uuid>,
    /// What the latest live result says.
    reason: String,
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

/// What is watched about agents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watch {
    /// Who is gone.
    pub absences: Vec<Absence>,
    /// The alerts about clocks that go on.
    pub clocks: BTreeMap<AgentId, Uuid>,
}

/// Whether the control plane itself was there: it calls nobody absent before it has been for a full window.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    since_ms: u64,
    last_ms: u64,
    window_ms: u64,
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

/// What is known at a moment beside the results.
pub(crate) struct Moment<'a> {
    pub(crate) now: Now,
    pub(crate) registry: &'a Registry,
    /// Those that should be heard from.
    pub(crate) roll: &'a [Expected],
    /// What is wrong with clocks.
    pub(crate) clocks: &'a HashMap<AgentId, String>,
}

/// What is to become true.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    units: HashMap<Key, Entry>,
    kept: Vec<KeptUnit>,
    gone: Vec<Key>,
    digests: HashMap<AgentId, Digest>,
    told: Vec<AgentId>,
    watch: Option<Watch>,
    events: Vec<Event>,
    parcels: Vec<Parcel>,
    session: Option<(Session, Position)>,
    version: Option<u64>,
    /// Monitors that are to run again at once, by agent.
    pub(crate) asks: BTreeMap<AgentId, Vec<MonitorId>>,
}

impl Book {
    /// As it was kept.
    pub(crate) fn load(kept: &mut Kept) -> Self {
        let pace = Pace { window_ms: window_ms(), ..Pace::default() };
        let mut book = Self { watch: std::mem::take(&mut kept.watch), pace, ..Self::default() };
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
        let mut draft = Draft { session: Some((session, cursor)), ..Draft::default() };
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
            let step = self.entry(&mut draft, &key).unit.look(Rule::of(&monitor.spec), about, now.up_ms);
            if let Some(step) = step {
                self.step(&mut draft, &key, monitor, step, registry, now);
            }
        }
        draft
    }

    fn hear_one(&self, draft: &mut Draft, heard: &Heard<'_>, row: &Row, monitor: &Monitor) {
        let rule = Rule::of(&monitor.spec);
        let Some(level) = rule.level(row.result.state) else { return };
        let (live, at) = (row.delivery == Delivery::Live, told_time(row));
        let entry = self.entry(draft, &(monitor.id, row.location.clone()));
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
        if !draft.digests.contains_key(&row.agent) {
            let digest = match self.digests.get(&row.agent) {
                Some(digest) => digest.clone(),
                None if made => Digest::new(row.agent, row.agent_name.clone(), row.location.clone()),
                None => return None,
            };
            draft.digests.insert(row.agent, digest);
        }
        draft.digests.get_mut(&row.agent)
    }

    /// Looks at what time alone brings.
    pub(crate) fn tick(&self, moment: &Moment<'_>) -> Draft {
        let mut draft = Draft::default();
        if self.version != Some(moment.registry.version) {
            self.reconcile(&mut draft, moment.registry);
        }
        self.look(&mut draft, moment);
        if self.pace.is_steady(moment.now.up_ms) {
            self.call_roll(&mut draft, moment);
            self.watch_clocks(&mut draft, moment);
        }
        self.tell_digests(&mut draft, moment);
        draft
    }

    /// A unit whose monitor is gone, disabled or moved elsewhere ends, and its alert in silence.
    fn reconcile(&self, draft: &mut Draft, registry: &Registry) {
        draft.version = Some(registry.version);
        for (key, entry) in &self.units {
            let there =
                registry.monitor(key.0).is_some_and(|m| m.spec.enabled && m.spec.locations.contains(&key.1));
            if !there {
                draft.gone.push(key.clone());
                self.close(draft, entry.alert);
            }
        }
    }

    fn look(&self, draft: &mut Draft, moment: &Moment<'_>) {
        let Moment { now, registry, roll, .. } = *moment;
        let heard: HashMap<_, _> = roll.iter().map(|e| (e.id, e.silent_ms)).collect();
        let absent = |id| self.watch.absences.iter().any(|a| a.members.contains(&id));
        for (key, entry) in self.units.iter().filter(|(_, e)| e.unit.is_restless()) {
            let (Some(monitor), Some(agent)) = (registry.monitor(key.0), entry.unit.agent()) else {
                continue;
            };
            if draft.gone.contains(key) {
                continue;
            }
            let silent = heard.get(&agent).filter(|_| !absent(agent));
            let about = About {
                drained: self.is_drained(agent),
                heard_ms: silent.map(|ms| now.up_ms.saturating_sub(*ms)),
            };
            let entry = self.entry(draft, key);
            if let Some(step) = entry.unit.look(Rule::of(&monitor.spec), about, now.up_ms) {
                self.step(draft, key, monitor, step, registry, now);
            }
        }
    }

    fn call_roll(&self, draft: &mut Draft, moment: &Moment<'_>) {
        let mut watch = self.watch.clone();
        let news = absence::call(&mut watch.absences, moment.roll, moment.now, &mut || fresh(moment.now));
        for news in news {
            match news {
                News::Gone(absence, names) => {
                    draft.tell(Event::gone(&absence, names, moment.now), moment.registry);
                }
                News::Back(absence, rest) => {
                    self.close(draft, Some(absence.alert));
                    draft.tell(Event::back(&absence, rest, moment.now), moment.registry);
                }
                News::Dropped(absence) => self.close(draft, Some(absence.alert)),
            }
        }
        // Also where nobody is told: who came back is not waited for any more.
        draft.watch = (watch != self.watch).then_some(watch);
    }

    /// A clock that is off is told once, and once that it is right again.
    fn watch_clocks(&self, draft: &mut Draft, moment: &Moment<'_>) {
        let Moment { now, registry, roll, clocks } = *moment;
        let mut watch = draft.watch.clone().unwrap_or_else(|| self.watch.clone());
        for agent in roll.iter().filter(|agent| agent.silent_ms < HEARD_MS) {
            let (Expected { id, name, location, .. }, off) = (agent, clocks.get(&agent.id));
            match (watch.clocks.get(id).copied(), off) {
                (None, Some(detail)) => {
                    let event = Event::clock(name, location, Some(detail), None, now);
                    watch.clocks.insert(*id, event.notice.alert);
                    draft.tell(event, registry);
                }
                (Some(alert), None) => {
                    watch.clocks.remove(id);
                    self.close(draft, Some(alert));
                    draft.tell(Event::clock(name, location, None, Some(alert), now), registry);
                }
                _ => {}
            }
        }
        let there = |id: &AgentId| registry.agent(*id).is_some();
        let gone: Vec<_> = watch.clocks.iter().filter(|(id, _)| !there(id)).map(|(id, _)| *id).collect();
        for id in gone {
            let alert = watch.clocks.remove(&id);
            self.close(draft, alert);
        }
        draft.watch = (watch != self.watch).then_some(watch);
    }

    /// Digests whose backlog is drained: after a moment, when each trouble has its end, or after half a minute anyway.
    fn tell_digests(&self, draft: &mut Draft, moment: &Moment<'_>) {
        for (agent, drained_ms) in &self.drained {
            let Some(digest) = draft.digests.get(agent).or(self.digests.get(agent)) else { continue };
            let waited = moment.now.up_ms.saturating_sub(*drained_ms);
            if waited < DIGEST_AT_LEAST_MS || (waited < DIGEST_AT_MOST_MS && !digest.is_settled()) {
                continue;
            }
            let event = Event::digest(digest, moment.now);
            draft.told.push(*agent);
            event.into_iter().for_each(|event| draft.tell(event, moment.registry));
        }
    }

    fn step(
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
                    draft.asks.entry(agent).or_default().push(monitor.id);
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
    fn standing<'a>(&'a self, draft: &'a Draft, alert: Uuid) -> Option<&'a Event> {
        let latest = draft.events.iter().rev().find(|e| e.notice.alert == alert);
        latest.or_else(|| self.open.get(&alert)).filter(|event| event.open)
    }

    /// The event that the alert stood on is not the last word any more.
    fn close(&self, draft: &mut Draft, alert: Option<Uuid>) {
        if let Some(event) = alert.and_then(|alert| self.standing(draft, alert)) {
            let closed = Event { open: false, ..event.clone() };
            draft.events.push(closed);
        }
    }

    fn entry<'d>(&self, draft: &'d mut Draft, key: &Key) -> &'d mut Entry {
        draft.units.entry(key.clone()).or_insert_with(|| {
            let fresh = || Entry { unit: Unit::default(), alert: None, reason: String::new() };
            self.units.get(key).cloned().unwrap_or_else(fresh)
        })
    }

    fn is_drained(&self, agent: AgentId) -> bool {
        self.sessions.get(&agent).is_none_or(|(session, cursor)| *cursor >= session.recorded)
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
        if let Some((session, cursor)) = draft.session {
            self.sessions.insert(session.agent, (session, cursor));
        }
        self.version = draft.version.or(self.version);
    }

    /// Notes that time passed. A long pause between two ticks was the control plane's own: it was stopped, and heard nobody.
    pub(crate) fn pass(&mut self, up_ms: u64) {
        if up_ms.saturating_sub(self.pace.last_ms) > STALL_MS {
            self.pace.since_ms = up_ms;
        }
        self.pace.last_ms = up_ms;
        let (drained, left): (Vec<_>, Vec<_>) =
            self.digests.keys().copied().partition(|agent| self.is_drained(*agent));
        for agent in drained {
            self.drained.entry(agent).or_insert(up_ms);
        }
        self.drained.retain(|agent, _| !left.contains(agent));
    }
}

impl Pace {
    fn is_steady(self, up_ms: u64) -> bool {
        up_ms.saturating_sub(self.since_ms) >= self.window_ms
    }
}

impl Draft {
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
    fn tell(&mut self, event: Event, registry: &Registry) {
        let notice = &event.notice;
        tracing::info!(event = %notice.event, alert = %notice.alert, id = %notice.id, "{}", notice.summary);
        let names = registry.channels.keys();
        let wanted = names.filter(|name| event.channels.is_empty() || event.channels.contains(name));
        let parcel = |name: &String| Parcel::new(notice.id, notice.alert, name.clone(), notice.at);
        self.parcels.extend(wanted.map(parcel));
        self.events.push(event);
    }
}

/// Since when a result says what it says: its start. A live one of an agent whose clock is off came when it was made.
fn told_time(row: &Row) -> Timestamp {
    let apart_ms = row.received_at.as_millis().saturating_sub(row.at().as_millis());
    if row.delivery == Delivery::Live && apart_ms > SKEW_MS { row.received_at } else { row.at() }
}

/// How long the control plane itself must have been there. Tests do not wait for it: builds with debug assertions obey them.
fn window_ms() -> u64 {
    let wanted = std::env::var("PICKET_DEBUG_WINDOW_MS").ok().and_then(|ms| ms.parse().ok());
    wanted.filter(|_| cfg!(debug_assertions)).unwrap_or(WINDOW_MS)
}

/// Three heartbeats and the longest wait of an agent that did not reach the control plane.
const WINDOW_MS: u64 = 90_000;

/// A live result is never so old.
const SKEW_MS: i64 = 300_000;

/// An agent that was silent for longer says nothing about its clock.
const HEARD_MS: u64 = 30_000;

/// Ticks come every second; so long a pause was no accident of the scheduler.
const STALL_MS: u64 = 10_000;

const DIGEST_AT_LEAST_MS: u64 = 3_000;
const DIGEST_AT_MOST_MS: u64 = 30_000;
