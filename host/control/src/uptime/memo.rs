//! What was learned of monitors' histories, so that a month of results is read once and not at every look. In memory: a restart reads again.
//!
//! A memo is a statement about the time up to a moment. A result, however late it comes, changes only what is known from its own
//! time on, so whatever arrives cuts the statement back to there, and the next look learns from there on.

use std::collections::{HashMap, HashSet};

use wire::{AgentId, MonitorId, Timestamp};

use super::{LONGEST_MS, Lost, Segment, extend, segments};
use crate::judge;
use crate::monitors::Pace;
use crate::store::Point;

/// What is known of a monitor up to a moment.
#[derive(Clone, Debug)]
pub(crate) struct Memo {
    pub(super) upto: Timestamp,
    /// By location, oldest first.
    pub(super) segments: HashMap<String, Vec<Segment>>,
    /// On which agents it ran, as far as this knows.
    agents: HashSet<AgentId>,
    /// Which taking this is of: only the last one is put back.
    taken: u64,
}

impl Default for Memo {
    fn default() -> Self {
        let upto = Timestamp::from_millis(i64::MIN);
        Self { upto, segments: HashMap::new(), agents: HashSet::new(), taken: 0 }
    }
}

impl Memo {
    /// From when on results are wanted to learn more: what began before may still speak.
    pub(super) fn wants_from(&self, paces: &[Pace], now: Timestamp) -> Timestamp {
        let longest = paces.iter().map(|p| judge::speaks_ms(p.interval_ms, p.timeout_ms)).max();
        let month = now.plus_millis(-LONGEST_MS);
        self.upto.max(month).plus_millis(longest.unwrap_or(0).saturating_neg())
    }

    /// Learns what `points` say about the time up to now. They begin at [`Memo::wants_from`].
    pub(super) fn learn(&mut self, paces: &[Pace], points: &[Point], lost: &[Lost], now: Timestamp) {
        // The clock may have been set back.
        self.cut(now);
        let mut heard = HashMap::<&str, Vec<&Point>>::new();
        for point in points {
            heard.entry(&point.location).or_default().push(point);
            self.agents.insert(point.agent);
        }
        for (location, points) in heard {
            let known = self.segments.entry(location.to_owned()).or_default();
            for new in segments(paces, &points, lost) {
                extend(known, Segment { from: new.from.max(self.upto), to: new.to.min(now), ..new });
            }
        }
        let month = now.plus_millis(-LONGEST_MS);
        self.segments.values_mut().for_each(|segments| segments.retain(|segment| segment.to > month));
        self.upto = now;
    }

    /// Forgets what was known from then on.
    pub(super) fn cut(&mut self, at: Timestamp) {
        if at >= self.upto {
            return;
        }
        self.upto = at;
        for segments in self.segments.values_mut() {
            segments.truncate(segments.partition_point(|segment| segment.from < at));
            if let Some(last) = segments.last_mut() {
                last.to = last.to.min(at);
            }
        }
    }
}

/// All memos, and what arrived since each was taken last.
#[derive(Debug, Default)]
pub(crate) struct Memos {
    kept: HashMap<MonitorId, Memo>,
    touched: HashMap<MonitorId, Timestamp>,
    /// On which agents each monitor ran since the start; what was read of it before is in its memo.
    heard: HashMap<MonitorId, HashSet<AgentId>>,
    taken: u64,
}

impl Memos {
    /// A result arrived that tells of this time. Whoever reads the history just now may have missed it, so it counts for what they
    /// put back, too.
    pub(crate) fn touch(&mut self, monitor: MonitorId, agent: AgentId, at: Timestamp) {
        self.heard.entry(monitor).or_default().insert(agent);
        self.mark(monitor, at);
    }

    /// Results of an agent from this time on will never come. That says nothing of a monitor that never ran there, and so much is only
    /// known of one whose history was read.
    pub(crate) fn lose(&mut self, monitor: MonitorId, agent: AgentId, at: Timestamp) {
        let read =
            self.kept.get(&monitor).is_some_and(|memo| self.has(monitor) && memo.agents.contains(&agent));
        let heard = self.heard.get(&monitor).is_some_and(|agents| agents.contains(&agent));
        if read || heard || !self.has(monitor) {
            self.mark(monitor, at);
        }
    }

    fn mark(&mut self, monitor: MonitorId, at: Timestamp) {
        let earliest = self.touched.entry(monitor).or_insert(at);
        *earliest = at.min(*earliest);
    }

    /// Whether the history was read.
    pub(super) fn has(&self, monitor: MonitorId) -> bool {
        self.kept.get(&monitor).is_some_and(|memo| memo.upto > Timestamp::from_millis(i64::MIN))
    }

    /// What is still true.
    pub(super) fn take(&mut self, monitor: MonitorId) -> Memo {
        let memo = self.kept.entry(monitor).or_default();
        if let Some(at) = self.touched.remove(&monitor) {
            memo.cut(at);
        }
        self.taken += 1;
        memo.taken = self.taken;
        memo.clone()
    }

    /// Keeps what was learned since, unless somebody took it later: they know of everything that arrived until then, this may not.
    pub(super) fn put(&mut self, monitor: MonitorId, memo: Memo) {
        if let Some(kept) = self.kept.get_mut(&monitor).filter(|kept| kept.taken == memo.taken) {
            *kept = memo;
        }
    }

    /// The monitor is no more.
    pub(crate) fn forget(&mut self, monitor: MonitorId) {
        self.kept.remove(&monitor);
        self.touched.remove(&monitor);
        self.heard.remove(&monitor);
    }
}
