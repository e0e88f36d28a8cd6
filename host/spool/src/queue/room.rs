//! Makes room: the oldest entries go, and what was not released leaves its gap in the same commit.

use std::{
    collections::{VecDeque, btree_map::OccupiedEntry},
    ops::ControlFlow,
};

use super::{Limits, Queue, add_gap, next};
use crate::{
    census::cost,
    key::{self, Record},
    store::{Changes, Fault, Store},
    types::{Entry, Gap, Position, Reason},
};

/// Oldest entries looked up at once when room is made.
const SWEEP: usize = 1024;

/// Released entries that one commit lets go while there is little room on the disk: each takes some room first.
const LET_GO: usize = 4096;

/// What a gap will tell about an entry.
pub(super) struct Oldest {
    position: Position,
    at_ms: i64,
    down: bool,
    cost: u64,
}

/// What room is made for.
#[derive(Clone, Copy, Default)]
pub(super) struct Coming {
    pub(super) entries: u64,
    pub(super) cost: u64,
    newest_ms: Option<i64>,
}

impl Coming {
    pub(super) fn of(entries: &[Entry]) -> Self {
        Self {
            entries: entries.len() as u64,
            cost: entries.iter().map(|entry| cost(entry.bytes.len())).sum(),
            newest_ms: entries.iter().map(|entry| entry.at_ms).max(),
        }
    }
}

impl<S: Store> Queue<S> {
    /// Evicts the oldest entries until these fit. The released ones stand before all others and go without a trace; while there
    /// is little room on the disk, they go although these would fit, and others go for as much as comes.
    pub(super) fn make_room(&mut self, coming: Coming, changes: &mut Changes) -> Result<(), Fault> {
        let (before, evicted) = (self.swept, self.evicted);
        let mut limits = self.limits;
        if self.tight {
            limits.bytes = limits.bytes.min(self.bytes);
        }
        let mut more = if self.tight { LET_GO } else { 0 };
        while more > 0 || self.may_be_too_much(coming, limits) {
            let Some(oldest) = self.oldest()? else { break };
            let let_go = more > 0 && oldest.position <= self.marker.acknowledged;
            if !let_go && !self.must_go(&oldest, coming, limits) {
                self.front.push_front(oldest);
                break;
            }
            more = more.saturating_sub(1);
            changes.insert(key::record(oldest.position), None);
            self.held -= 1;
            self.bytes -= oldest.cost;
            self.swept = oldest.position;
            if oldest.position > self.marker.acknowledged {
                self.pending -= 1;
                self.evicted += 1;
                self.miss(&oldest, changes);
            }
        }
        if self.swept > before {
            let released =
                self.gaps.range(..self.swept).filter(|(_, gap)| gap.position() <= self.marker.acknowledged);
            for start in released.map(|(start, _)| *start).collect::<Vec<_>>() {
                self.gaps.remove(&start);
                changes.insert(key::record(start), None);
            }
        }
        if self.evicted > evicted {
            self.join_gaps(changes);
            failpoint::hit("spool.evict");
        }
        Ok(())
    }

    /// Whether it is worth a look at the oldest entry.
    fn may_be_too_much(&self, coming: Coming, limits: Limits) -> bool {
        let Limits { records, bytes, age_ms, .. } = limits;
        self.held + coming.entries > records
            || self.bytes + coming.cost > bytes
            || (age_ms.is_some() && coming.entries > 0)
    }

    fn must_go(&self, oldest: &Oldest, coming: Coming, limits: Limits) -> bool {
        let Limits { records, bytes, age_ms, floor, .. } = limits;
        let spare = oldest.position <= self.marker.acknowledged || self.pending + coming.entries > floor;
        let old =
            age_ms.zip(coming.newest_ms).is_some_and(|(age, now)| now.saturating_sub(oldest.at_ms) > age);
        self.held + coming.entries > records || (spare && (old || self.bytes + coming.cost > bytes))
    }

    /// Tells of this entry in a gap.
    fn miss(&mut self, entry: &Oldest, changes: &mut Changes) {
        let gap = Gap {
            epoch: entry.position.epoch,
            from: entry.position.seq,
            to: entry.position.seq,
            reason: Reason::Evicted,
            first_at_ms: Some(entry.at_ms),
            last_at_ms: Some(entry.at_ms),
            down: Some(u64::from(entry.down)),
        };
        self.widen_or_add(gap, changes);
    }

    /// Widens the gap of the same reason that ends where this one begins, unless it was released; otherwise begins this one.
    pub(super) fn widen_or_add(&mut self, gap: Gap, changes: &mut Changes) {
        let acknowledged = self.marker.acknowledged;
        let before = self.gaps.range_mut(..gap.start()).next_back().map(|(_, before)| before);
        let Some(before) = before.filter(|before| {
            before.reason == gap.reason
                && before.position() > acknowledged
                && (before.epoch, before.to + 1) == (gap.epoch, gap.from)
        }) else {
            return add_gap(&mut self.gaps, changes, gap);
        };
        before.to = gap.to;
        before.last_at_ms = gap.last_at_ms;
        before.down = before.down.zip(gap.down).map(|(before, more)| before + more);
        changes.insert(key::record(before.start()), Some(key::gap(before)));
    }

    /// Where there are many gaps, makes one of those that touch: what stood between them was evicted, and nobody knows how long it goes
    /// on. The reason is that of the larger.
    pub(super) fn join_gaps(&mut self, changes: &mut Changes) {
        if self.gaps.len() <= self.limits.gaps {
            return;
        }
        let acknowledged = self.marker.acknowledged;
        for (start, gap) in std::mem::take(&mut self.gaps) {
            let before = self.gaps.last_entry().map(OccupiedEntry::into_mut);
            let Some(before) = before.filter(|before| {
                before.position() > acknowledged && (before.epoch, before.to + 1) == (gap.epoch, gap.from)
            }) else {
                self.gaps.insert(start, gap);
                continue;
            };
            if gap.to - gap.from > before.to - before.from {
                before.reason = gap.reason;
            }
            before.to = gap.to;
            before.last_at_ms = gap.last_at_ms;
            before.down = before.down.zip(gap.down).map(|(before, more)| before + more);
            changes.insert(key::record(start), None);
            changes.insert(key::record(before.start()), Some(key::gap(before)));
        }
    }

    /// Takes the oldest entry off the read-ahead, filling that first when it is empty.
    fn oldest(&mut self) -> Result<Option<Oldest>, Fault> {
        if self.front.is_empty() {
            let mut front = VecDeque::with_capacity(SWEEP);
            self.store.scan(&key::record(next(self.swept)), &mut |key, value| {
                let position = key::position(key);
                let record = position.and_then(|position| Some((position, key::decode(position, value)?)));
                if let Some((position, Record::Entry { at_ms, down, bytes })) = record {
                    front.push_back(Oldest { position, at_ms, down, cost: cost(bytes.len()) });
                }
                if front.len() < SWEEP { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            self.front = front;
        }
        Ok(self.front.pop_front())
    }
}
