//! How much of the last day, week and month a monitor's target was up. The arithmetic is pure; below it is what asks the store.
//!
//! A result speaks from its start until the next one, at most for two intervals and the timeout ([`judge::speaks_ms`]), by the interval
//! of its own time. *Up* and *degraded* are up time, *down* is down time; *error* says nothing about the target and is unknown, like time
//! without a result, time in a gap, and time without an agent. Time before the monitor was made at a location, while it was not
//! enabled, or in maintenance does not count at all. Buffered results count when they were made. So uptime is a share of what is known, and what is
//! unknown is said beside it.

use std::collections::HashMap;

use wire::admin::Uptime;
use wire::results::State;
use wire::{AgentId, Problem, Timestamp};

use crate::control::{Control, Registry, failed, lock};
use crate::judge;
use crate::monitors::{Monitor, Pace};
use crate::store::{self, KeptGap, Point, Row};
use memo::Memo;
pub(crate) use memo::Memos;

mod memo;

/// What is known about a span of time, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    up: u64,
    degraded: u64,
    down: u64,
    error: u64,
    /// Does not count.
    maintenance: u64,
    /// Nobody spoke.
    silent: u64,
}

/// Results of an agent that will never come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    agent: AgentId,
    from: Timestamp,
    to: Timestamp,
}

/// A span of time in which the last result at a location says one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Segment {
    from: Timestamp,
    to: Timestamp,
    state: State,
}

/// What the results of one location say, oldest first. `points` and `lost` are ordered by time.
fn segments(paces: &[Pace], points: &[&Point], lost: &[Lost]) -> Vec<Segment> {
    let (mut pace, mut gap) = (0, 0);
    let mut segments = Vec::<Segment>::new();
    for (index, point) in points.iter().enumerate() {
        while paces.get(pace + 1).is_some_and(|next| next.since <= point.at) {
            pace += 1;
        }
        while lost.get(gap).is_some_and(|lost| lost.to < point.at) {
            gap += 1;
        }
        let Pace { interval_ms, timeout_ms, .. } = paces[pace];
        let mut until = point.at.plus_millis(judge::speaks_ms(interval_ms, timeout_ms));
        if let Some(next) = points.get(index + 1) {
            until = until.min(next.at);
        }
        let near = lost[gap..].iter().take_while(|lost| lost.from <= until.plus_millis(millis(timeout_ms)));
        let missed = near.filter(|lost| lost.agent == point.agent);
        until = missed.filter_map(|lost| missing(point.at, &paces[pace], lost)).fold(until, Timestamp::min);
        extend(&mut segments, Segment { from: point.at, to: until, state: point.state });
    }
    segments
}

/// Adds a segment at the end; one that goes on with what the last one says makes it longer.
fn extend(segments: &mut Vec<Segment>, next: Segment) {
    match segments.last_mut() {
        _ if next.from >= next.to => {}
        Some(last) if last.state == next.state && last.to == next.from => last.to = next.to,
        _ => segments.push(next),
    }
}

/// What is known of a monitor at one location in each of the [`WINDOWS`].
fn tallies(paces: &[Pace], location: &str, segments: &[Segment], now: Timestamp) -> [Tally; 3] {
    let runs = runs(paces, location, now);
    let counted = |window_ms: i64, from: Timestamp, to: Timestamp| {
        let begin = now.plus_millis(-window_ms);
        runs.iter().map(|(first, last)| overlap((from, to), (begin.max(*first), *last))).sum::<u64>()
    };
    WINDOWS.map(|(_, window_ms)| {
        let mut tally = Tally::default();
        for Segment { from, to, state } in segments {
            let part = match state {
                State::Up => &mut tally.up,
                State::Degraded => &mut tally.degraded,
                State::Down => &mut tally.down,
                State::Error => &mut tally.error,
                State::Maintenance => &mut tally.maintenance,
            };
            *part += counted(window_ms, *from, *to);
        }
        let spoken = tally.up + tally.degraded + tally.down + tally.error + tally.maintenance;
        tally.silent = counted(window_ms, Timestamp::from_millis(i64::MIN), now).saturating_sub(spoken);
        tally
    })
}

/// How the monitor ran since it was made.
fn paces(monitor: &Monitor) -> Vec<Pace> {
    if monitor.paces.is_empty() { vec![monitor.pace(monitor.created_at)] } else { monitor.paces.clone() }
}

/// The spans in which it was to run at a location.
fn runs(paces: &[Pace], location: &str, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let ends = paces.iter().skip(1).map(|next| next.since).chain([now]);
    let here = |pace: &Pace| pace.locations.iter().any(|l| l == location);
    paces.iter().zip(ends).filter(|(pace, _)| here(pace)).map(|(pace, end)| (pace.since, end)).collect()
}

/// When the first result after `at` was due that a gap swallowed: a lost result ends what the one before says, as it would have. A gap
/// tells when its results ended, not whose they are; a monitor that was not due within it lost nothing.
fn missing(at: Timestamp, pace: &Pace, lost: &Lost) -> Option<Timestamp> {
    let interval = millis(pace.interval_ms).max(1);
    let earliest = lost.from.as_millis().saturating_sub(millis(pace.timeout_ms));
    let runs = earliest.saturating_sub(at.as_millis()).max(1);
    let due = at.plus_millis((runs + interval - 1) / interval * interval);
    (due <= lost.to).then_some(due)
}

fn overlap(a: (Timestamp, Timestamp), b: (Timestamp, Timestamp)) -> u64 {
    let (from, to) = (a.0.max(b.0), a.1.min(b.1));
    u64::try_from(to.as_millis().saturating_sub(from.as_millis())).unwrap_or(0)
}

fn millis(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

impl Tally {
    /// The mean of several locations: each is heard as much as it knows.
    fn mean(tallies: &[Self]) -> Self {
        // A location at which nothing was to be run in this window has no say.
        let counted: Vec<_> = tallies.iter().filter(|tally| tally.known() + tally.unknown() > 0).collect();
        let n = counted.len().max(1) as u64;
        let mean = |part: fn(&Self) -> u64| counted.iter().map(|tally| part(tally)).sum::<u64>().div_ceil(n);
        Self {
            up: mean(|t| t.up),
            degraded: mean(|t| t.degraded),
            down: mean(|t| t.down),
            error: mean(|t| t.error),
            maintenance: mean(|t| t.maintenance),
            silent: mean(|t| t.silent),
        }
    }

    fn known(&self) -> u64 {
        self.up + self.degraded + self.down
    }

    fn unknown(&self) -> u64 {
        self.error + self.silent
    }

    /// For people. Times are rounded up to seconds, percentages down: no down time is hidden.
    fn view(&self, window: &str) -> Uptime {
        let (known, up) = (u128::from(self.known()), u128::from(self.up + self.degraded));
        // Thousandths, so that 100 is said only of time without a millisecond of down.
        let thousandths = (up * 100_000).checked_div(known).and_then(|share| u32::try_from(share).ok());
        Uptime {
            window: window.to_owned(),
            up_percent: thousandths.map(|share| f64::from(share) / 1_000.0),
            known_s: self.known().div_ceil(1_000),
            unknown_s: self.unknown().div_ceil(1_000),
            down_s: self.down.div_ceil(1_000),
            degraded_s: self.degraded.div_ceil(1_000),
            error_s: self.error.div_ceil(1_000),
            maintenance_s: self.maintenance.div_ceil(1_000),
        }
    }
}

/// Uptime of a monitor, over all its locations and of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uptimes {
    /// Over all.
    pub(crate) all: Vec<Uptime>,
    /// Of each location that the monitor has now.
    pub(crate) by_location: HashMap<String, Vec<Uptime>>,
}

impl Memo {
    /// Uptime as far as this knows.
    fn uptimes(&self, monitor: &Monitor, now: Timestamp) -> Uptimes {
        let paces = paces(monitor);
        let of = |location: &String| {
            let segments = self.segments.get(location.as_str()).map_or(&[][..], Vec::as_slice);
            (location.clone(), tallies(&paces, location, segments, now))
        };
        let each: Vec<_> = monitor.spec.locations.iter().map(of).collect();
        let views = |tallies: [Tally; 3]| {
            tallies.iter().zip(WINDOWS).map(|(tally, (window, _))| tally.view(window)).collect::<Vec<_>>()
        };
        let mean = |window: usize| Tally::mean(&each.iter().map(|(_, t)| t[window]).collect::<Vec<_>>());
        let all = views(std::array::from_fn(mean));
        Uptimes { all, by_location: each.into_iter().map(|(location, t)| (location, views(t))).collect() }
    }
}

impl Control {
    /// Uptime of a monitor. The first time, a month of its history is read; afterwards what came since.
    pub(crate) fn uptime(&self, monitor: &Monitor) -> Result<Uptimes, Problem> {
        let now = self.now().wall;
        self.lost(now).and_then(|lost| self.look(monitor, &lost, now)).map_err(|e| failed(&e))
    }

    /// The same of many, of each whose history was read before.
    pub(crate) fn uptimes_at_hand(&self, monitors: &[&Monitor]) -> Result<Vec<Option<Uptimes>>, Problem> {
        let now = self.now().wall;
        let lost = self.lost(now).map_err(|e| failed(&e))?;
        let one = |monitor: &&Monitor| {
            let at_hand = lock(&self.memos).has(monitor.id);
            at_hand.then(|| self.look(monitor, &lost, now)).transpose()
        };
        monitors.iter().map(one).collect::<Result<_, _>>().map_err(|e| failed(&e))
    }

    /// Reads the histories that nobody looked at yet, so that nobody has to wait for many at once.
    pub(crate) fn read_histories(&self) -> Result<(), store::Error> {
        let (registry, lost) = (self.registry(), self.lost(self.now().wall)?);
        for monitor in registry.all_monitors() {
            if !lock(&self.memos).has(monitor.id) {
                self.look(monitor, &lost, self.now().wall)?;
            }
        }
        Ok(())
    }

    fn look(&self, monitor: &Monitor, lost: &[Lost], now: Timestamp) -> Result<Uptimes, store::Error> {
        let (id, paces) = (monitor.id, paces(monitor));
        let mut memo = lock(&self.memos).take(id);
        let points = self.parts.store.history(id, memo.wants_from(&paces, now), now)?;
        memo.learn(&paces, &points, lost, now);
        let uptimes = memo.uptimes(monitor, now);
        lock(&self.memos).put(id, memo);
        Ok(uptimes)
    }

    fn lost(&self, now: Timestamp) -> Result<Vec<Lost>, store::Error> {
        Ok(lost(self.parts.store.gaps(None, GAPS)?, now.plus_millis(-LONGEST_MS)))
    }

    /// Must be told of everything that was stored, after it was: it may change what was known of an earlier time.
    pub(crate) fn remember(&self, registry: &Registry, rows: &[Row], gaps: &[KeptGap]) {
        let mut memos = lock(&self.memos);
        for row in rows {
            memos.touch(row.result.monitor_id, row.agent, row.at());
        }
        // A gap does not say whose results it swallowed, only on which agent.
        let month = self.now().wall.plus_millis(-LONGEST_MS);
        if let Some(Lost { agent, from, .. }) = lost(gaps.to_vec(), month).first() {
            for monitor in registry.all_monitors() {
                memos.lose(monitor.id, *agent, from.plus_millis(-millis(monitor.timeout_ms)));
            }
        }
    }
}

/// The gaps that have a time, ordered by it.
fn lost(gaps: Vec<KeptGap>, since: Timestamp) -> Vec<Lost> {
    let timed =
        |kept: KeptGap| Some(Lost { agent: kept.agent, from: kept.gap.first_at?, to: kept.gap.last_at? });
    let mut lost: Vec<_> = gaps.into_iter().filter_map(timed).filter(|lost| lost.to >= since).collect();
    lost.sort_by_key(|lost| lost.from);
    lost
}

/// Name and length.
const WINDOWS: [(&str, i64); 3] = [("24h", 24 * HOUR_MS), ("7d", 7 * 24 * HOUR_MS), ("30d", LONGEST_MS)];
const LONGEST_MS: i64 = 30 * 24 * HOUR_MS;
const HOUR_MS: i64 = 3_600_000;

/// Gaps that are looked at: the newest ones.
const GAPS: usize = 10_000;

#[cfg(test)]
mod tests;
