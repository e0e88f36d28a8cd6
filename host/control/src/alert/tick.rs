//! What time alone brings: agents that fall silent or return, questions that nobody answered, digests that are complete, monitors that
//! are gone. Called every second.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wire::AgentId;
use wire::admin::Shown;

use super::absence::{self, Absence, Expected, News};
use super::book::Book;
use super::draft::Draft;
use super::event::{Event, fresh};
use super::machine::{About, Rule};
use crate::clock::Now;
use crate::control::Registry;

/// What is watched about agents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watch {
    /// Who is gone.
    pub absences: Vec<Absence>,
    /// The alerts about clocks that go on.
    pub clocks: BTreeMap<AgentId, Uuid>,
    /// The alert that goes on about our own.
    #[serde(default)]
    pub own_clock: Option<Uuid>,
}

/// Whether the control plane itself was there: it calls nobody absent before it has been for a full window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    since_ms: u64,
    last_ms: u64,
    window_ms: u64,
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

impl Book {
    /// Looks at what time alone brings.
    pub(crate) fn tick(&self, moment: &Moment<'_>) -> Draft {
        let mut draft = Draft::default();
        if self.version != Some(moment.registry.version) {
            self.reconcile(&mut draft, moment);
        }
        self.look(&mut draft, moment);
        if self.pace.is_steady(moment.now.up_ms) {
            self.call_roll(&mut draft, moment);
            self.watch_clocks(&mut draft, moment);
        }
        self.tell_digests(&mut draft, moment);
        draft
    }

    /// A unit whose monitor is gone, disabled or moved elsewhere ends, and with it its alert.
    fn reconcile(&self, draft: &mut Draft, moment: &Moment<'_>) {
        draft.version = Some(moment.registry.version);
        for (key, entry) in &self.units {
            let (why, state) = match moment.registry.monitor(key.0) {
                None => ("the monitor was deleted".to_owned(), Shown::Unknown),
                Some(monitor) if !monitor.spec.enabled => {
                    ("the monitor was disabled".to_owned(), Shown::Disabled)
                }
                Some(monitor) if !monitor.spec.locations.contains(&key.1) => {
                    (format!("the monitor was taken from {}", key.1), Shown::Unknown)
                }
                Some(_) => continue,
            };
            draft.gone.push(key.clone());
            self.end(draft, entry.alert, &why, Some(state), moment);
        }
    }

    /// Ends an alert whose subject is no more. Whoever was told that it began is told, so that nobody waits for its end for ever.
    pub(super) fn end(
        &self,
        draft: &mut Draft,
        alert: Option<Uuid>,
        why: &str,
        state: Option<Shown>,
        moment: &Moment<'_>,
    ) {
        if let Some(began) = alert.and_then(|alert| self.standing(draft, alert)) {
            let event = Event::ended(began, why, state, moment.now);
            self.close(draft, alert);
            draft.tell(event, moment.registry);
        }
    }

    fn look(&self, draft: &mut Draft, moment: &Moment<'_>) {
        let Moment { now, registry, roll, .. } = *moment;
        let expected: HashMap<_, _> = roll.iter().map(|e| (e.id, e)).collect();
        let absent = |id| self.watch.absences.iter().any(|a| a.members.contains(&id));
        for (key, entry) in self.units.iter().filter(|(_, e)| e.unit.is_restless()) {
            let (Some(monitor), Some(agent)) = (registry.monitor(key.0), entry.unit.agent()) else {
                continue;
            };
            if draft.gone.contains(key) {
                continue;
            }
            if monitor.is_maintained(now.wall) {
                self.entry(draft, key).unit.rest();
                continue;
            }
            let there = expected.get(&agent).filter(|_| !absent(agent));
            let about = About {
                drained: there.is_some_and(|agent| agent.drained),
                heard_ms: there.map(|agent| now.up_ms.saturating_sub(agent.silent_ms)),
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
                News::Dropped(absence) => {
                    let state = Some(Shown::Unknown);
                    self.end(draft, Some(absence.alert), "it was deleted or revoked", state, moment);
                }
            }
        }
        // Also where nobody is told: who came back is not waited for any more.
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

    /// Notes that time passed. A long pause between two ticks was the control plane's own: it was stopped, and heard nobody.
    ///
    /// A digest waits for an agent whose backlog is still on its way, also for one that did not say hello since our own start; not for
    /// one that nobody expects any more.
    pub(crate) fn pass(&mut self, moment: &Moment<'_>) {
        let Moment { now: Now { up_ms, .. }, roll, clocks, .. } = *moment;
        if up_ms.saturating_sub(self.pace.last_ms) > STALL_MS {
            self.pace.since_ms = up_ms;
        }
        self.pace.last_ms = up_ms;
        let behind: HashSet<_> = roll.iter().filter(|agent| !agent.drained).map(|agent| agent.id).collect();
        for agent in self.digests.keys().filter(|agent| !behind.contains(agent)) {
            self.drained.entry(*agent).or_insert(up_ms);
        }
        self.drained.retain(|agent, _| !behind.contains(agent));
        for agent in clocks.keys() {
            self.skewed.entry(*agent).or_insert(up_ms);
        }
        self.skewed.retain(|agent, _| clocks.contains_key(agent));
    }
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { window_ms: window_ms(), ..Self::default() }
    }

    fn is_steady(self, up_ms: u64) -> bool {
        up_ms.saturating_sub(self.since_ms) >= self.window_ms
    }
}

/// How long the control plane itself must have been there. Tests do not wait for it: builds with debug assertions obey them.
fn window_ms() -> u64 {
    let wanted = std::env::var("PICKET_DEBUG_WINDOW_MS").ok().and_then(|ms| ms.parse().ok());
    wanted.filter(|_| cfg!(debug_assertions)).unwrap_or(WINDOW_MS)
}

/// Three heartbeats and the longest wait of an agent that did not reach the control plane.
const WINDOW_MS: u64 = 90_000;

/// Ticks come every second; so long a pause was no accident of the scheduler.
const STALL_MS: u64 = 10_000;

const DIGEST_AT_LEAST_MS: u64 = 3_000;
const DIGEST_AT_MOST_MS: u64 = 30_000;
