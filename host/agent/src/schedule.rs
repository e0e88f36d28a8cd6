//! When each monitor is due. Pure: times come in as values, nothing sleeps.
//!
//! Plans lie on a fixed grid, `phase + n · interval` of the boot clock, with a phase that is a hash of monitor and agent, so load
//! spreads and stays spread. The first run of a monitor that is new here comes quickly, or within its interval where thousands are new
//! together, then it settles on its grid. A time that passed is counted, never replayed, and runs of one monitor never overlap. Runs
//! that somebody asks for come beside the plan, at most twenty a second; a planned run that comes first takes the place of one that
//! nobody waits for by name.
//!
//! Monitors whose last run was slow have a bound of their own. A target that is gone makes a run last as long as its timeout, and a
//! thousand of them would take every place: those beyond the bound wait for each other, never the others for them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use sha2::{Digest, Sha256};
use uuid::Uuid;
use wire::{AgentId, MonitorId};

/// Milliseconds of the boot clock.
pub(crate) type Millis = u64;

/// A monitor as the schedule sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// Which.
    pub(crate) monitor: MonitorId,
    /// From start to start, at least [`SHORTEST`].
    pub(crate) interval: Millis,
    /// Changes when its configuration does; then the next run comes quickly.
    pub(crate) digest: u64,
}

/// A run that is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Due {
    /// Of which monitor.
    pub(crate) monitor: MonitorId,
    /// When it was due.
    pub(crate) planned: Millis,
    /// Times before it that passed without a run.
    pub(crate) missed: u64,
    /// Of whoever waits for it, when it was asked for beside the plan.
    pub(crate) request: Option<Uuid>,
    /// Whether it is beside the plan: whoever asks wants to know how it is now, and the next plan comes soon.
    pub(crate) asked: bool,
}

/// All plans of one agent.
#[derive(Debug)]
pub(crate) struct Schedule {
    agent: AgentId,
    plans: HashMap<MonitorId, Plan>,
    heap: Times,
    /// Runs under way, those of monitors that are not planned any more included: they may return before the run ends.
    running: HashSet<MonitorId>,
    /// Those of them whose last run was slow, at most [`Schedule::slow_places`].
    slow: HashSet<MonitorId>,
    slow_places: usize,
    /// Slow ones that were due when there was none of those places.
    held: Times,
    /// Runs beside the plan, in the order in which they were asked for.
    asked: VecDeque<Asked>,
    /// The next of them comes no earlier.
    asked_from: Millis,
}

/// Plans by time. An entry that does not agree with its plan is stale and skipped.
type Times = BinaryHeap<Reverse<(Millis, MonitorId)>>;

#[derive(Debug, PartialEq)]
struct Asked {
    monitor: MonitorId,
    request: Option<Uuid>,
    at: Millis,
}

#[derive(Debug)]
struct Plan {
    interval: Millis,
    digest: u64,
    next: Millis,
    missed: u64,
    /// Whether the last run took longer than [`SLOW`].
    slow: bool,
}

impl Schedule {
    /// Nothing planned, for an agent that makes so many runs at the same time.
    pub(crate) fn new(agent: AgentId, places: usize) -> Self {
        Self {
            agent,
            plans: HashMap::new(),
            heap: BinaryHeap::new(),
            running: HashSet::new(),
            slow: HashSet::new(),
            slow_places: (places - places / 4).max(1),
            held: BinaryHeap::new(),
            asked: VecDeque::new(),
            asked_from: 0,
        }
    }

    /// From now on exactly these monitors. What did not change keeps its plan.
    pub(crate) fn replace(&mut self, now: Millis, wanted: impl IntoIterator<Item = Wanted>) {
        let mut before = std::mem::take(&mut self.plans);
        let mut new = Vec::new();
        for Wanted { monitor, interval, digest } in wanted {
            let interval = interval.max(SHORTEST);
            match before.remove(&monitor) {
                Some(plan) if plan.interval == interval && plan.digest == digest => {
                    self.plans.insert(monitor, plan);
                }
                _ => new.push(Wanted { monitor, interval, digest }),
            }
        }
        let within = FIRST_WITHIN.max(FIRST_EACH * new.len() as Millis);
        for Wanted { monitor, interval, digest } in new {
            let next = now + self.hash(monitor, b"first") % interval.min(within);
            self.plans.insert(monitor, Plan { interval, digest, next, missed: 0, slow: false });
        }
        self.heap = self.plans.iter().map(|(monitor, plan)| Reverse((plan.next, *monitor))).collect();
        self.held.clear();
        self.asked.retain(|asked| self.plans.contains_key(&asked.monitor));
    }

    /// Somebody wants a run of this monitor now; what is not planned here is passed over. A run without a request that waits already
    /// is not asked for twice.
    pub(crate) fn ask(&mut self, now: Millis, monitor: MonitorId, request: Option<Uuid>) {
        let waits = || self.asked.iter().any(|asked| asked.monitor == monitor && asked.request == request);
        if self.plans.contains_key(&monitor) && self.asked.len() < ASKED && !waits() {
            self.asked.push_back(Asked { monitor, request, at: now });
        }
    }

    /// When something is due next.
    pub(crate) fn next_at(&mut self) -> Option<Millis> {
        let asked = self.next_asked().map(|index| self.asked[index].at.max(self.asked_from));
        self.next_planned().into_iter().chain(asked).min()
    }

    fn next_planned(&mut self) -> Option<Millis> {
        let held = if self.has_slow_place() { first(&mut self.held, &self.plans) } else { None };
        first(&mut self.heap, &self.plans).into_iter().chain(held).min()
    }

    fn has_slow_place(&self) -> bool {
        self.slow.len() < self.slow_places
    }

    /// Takes the run that has been due for the longest, if any is due. It counts as running until [`Schedule::finished`].
    pub(crate) fn take(&mut self, now: Millis) -> Option<Due> {
        self.take_asked(now).or_else(|| self.take_planned(now))
    }

    /// What was asked for stands in nobody's plan: the time that falls due meanwhile is missed as with any long run.
    fn take_asked(&mut self, now: Millis) -> Option<Due> {
        let asked = self.next_asked().filter(|_| now >= self.asked_from)?;
        let Asked { monitor, request, at } = self.asked.remove(asked)?;
        self.asked_from = now + ASKED_EVERY;
        self.running.insert(monitor);
        Some(Due { monitor, planned: at, missed: 0, request, asked: true })
    }

    /// The first whose monitor does not run.
    fn next_asked(&self) -> Option<usize> {
        self.asked.iter().position(|asked| !self.running.contains(&asked.monitor))
    }

    fn take_planned(&mut self, now: Millis) -> Option<Due> {
        while self.next_planned().is_some_and(|at| at <= now) {
            // Of two heaps of times that come backwards the greater has the earlier.
            let has_slow_place = self.has_slow_place();
            let from_held = has_slow_place && self.held.peek() > self.heap.peek();
            let times = if from_held { &mut self.held } else { &mut self.heap };
            let Some(Reverse((_, monitor))) = times.pop() else { break };
            let grid = self.phase(monitor);
            let Some(plan) = self.plans.get_mut(&monitor) else { continue };
            if plan.slow && !has_slow_place && !self.running.contains(&monitor) {
                self.held.push(Reverse((plan.next, monitor)));
                continue;
            }
            let late = (now - plan.next) / plan.interval;
            let planned = plan.next + late * plan.interval;
            plan.missed += late;
            plan.next = grid.after(planned + plan.interval / 2, plan.interval);
            self.heap.push(Reverse((plan.next, monitor)));
            if !self.running.insert(monitor) {
                plan.missed += 1;
                continue;
            }
            if plan.slow {
                self.slow.insert(monitor);
            }
            let missed = std::mem::take(&mut plan.missed);
            // It says what a run beside the plan would, and leaves the place to a monitor that runs more rarely.
            self.asked.retain(|asked| asked.monitor != monitor || asked.request.is_some());
            return Some(Due { monitor, planned, missed, request: None, asked: false });
        }
        None
    }

    /// A run ended, however it ended, and took so long.
    pub(crate) fn finished(&mut self, monitor: MonitorId, took: Millis) {
        self.running.remove(&monitor);
        if let Some(plan) = self.plans.get_mut(&monitor) {
            plan.slow = took > SLOW;
        }
        self.slow.remove(&monitor);
    }

    /// Monitors that are planned.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.plans.len()
    }

    fn phase(&self, monitor: MonitorId) -> Grid {
        Grid { hash: self.hash(monitor, b"phase") }
    }

    fn hash(&self, monitor: MonitorId, what: &[u8]) -> u64 {
        let digest =
            Sha256::new().chain_update(what).chain_update(monitor.0).chain_update(self.agent.0).finalize();
        u64::from_le_bytes(digest[..8].try_into().expect("a SHA-256 digest has 32 bytes"))
    }
}

/// The earliest that agrees with its plan; what is stale before it goes.
fn first(times: &mut Times, plans: &HashMap<MonitorId, Plan>) -> Option<Millis> {
    while let Some(Reverse((at, monitor))) = times.peek() {
        if plans.get(monitor).is_some_and(|plan| plan.next == *at) {
            return Some(*at);
        }
        times.pop();
    }
    None
}

/// The times at which one monitor is due for ever.
#[derive(Clone, Copy, Debug)]
struct Grid {
    hash: u64,
}

impl Grid {
    /// The first time on the grid after `at`.
    fn after(self, at: Millis, interval: Millis) -> Millis {
        let phase = self.hash % interval.min(SPREAD);
        match at.checked_sub(phase) {
            Some(since) => phase + (since / interval + 1) * interval,
            None => phase,
        }
    }
}

/// The shortest interval.
pub(crate) const SHORTEST: Millis = 1_000;
/// A run that takes longer is slow.
const SLOW: Millis = 1_000;
/// Phases spread over at most this much, so that a monitor with a long interval need not wait for long.
const SPREAD: Millis = 120_000;
/// The first run of a new monitor comes within this, as long as few are new together.
const FIRST_WITHIN: Millis = 5_000;
/// The time that each of many new monitors adds to that, but never beyond its interval: 200 first runs a second. All of a large
/// configuration within five seconds would be late, and a storm for their targets.
const FIRST_EACH: Millis = 5;
/// Between two runs beside the plan: twenty a second.
const ASKED_EVERY: Millis = 50;
/// Runs that wait beside the plan at most.
const ASKED: usize = 10_000;

#[cfg(test)]
mod tests;
