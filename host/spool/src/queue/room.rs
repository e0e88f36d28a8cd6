//! Makes room: the oldest entries go, and what was not released leaves its gap in the same commit.

use std::{collections::VecDeque, ops::ControlFlow};

use super::{Queue, next};
use crate::{
    census::cost,
    key::{self, Record},
    store::{Changes, Fault, Store},
    types::{Gap, Position, Reason},
};

/// Oldest entries looked up at once when room is made.
const SWEEP: usize = 1024;

/// What a gap will tell about an entry.
pub(super) struct Oldest {
    position: Position,
    at_ms: i64,
    down: bool,
    cost: u64,
}

impl<S: Store> Queue<S> {
    /// Evicts the oldest entries until this many more fit. The released ones stand before all others and go without a trace.
    pub(super) fn make_room(&mut self, entries: u64, bytes: u64, changes: &mut Changes) -> Result<(), Fault> {
        let before = self.swept;
        while self.held + entries > self.limits.records || self.bytes + bytes > self.limits.bytes {
            let Some(oldest) = self.oldest()? else { break };
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
        Ok(())
    }

    /// Widens the gap before this entry, or begins one.
    fn miss(&mut self, entry: &Oldest, changes: &mut Changes) {
        let acknowledged = self.marker.acknowledged;
        let before = self.gaps.range_mut(..entry.position).next_back().map(|(_, gap)| gap).filter(|gap| {
            gap.reason == Reason::Evicted
                && gap.position() > acknowledged
                && (gap.epoch, gap.to + 1) == (entry.position.epoch, entry.position.seq)
        });
        let gap = match before {
            Some(gap) => {
                gap.to = entry.position.seq;
                gap.last_at_ms = Some(entry.at_ms);
                gap.down = gap.down.map(|down| down + u64::from(entry.down));
                gap
            }
            None => self.gaps.entry(entry.position).or_insert(Gap {
                epoch: entry.position.epoch,
                from: entry.position.seq,
                to: entry.position.seq,
                reason: Reason::Evicted,
                first_at_ms: Some(entry.at_ms),
                last_at_ms: Some(entry.at_ms),
                down: Some(u64::from(entry.down)),
            }),
        };
        changes.insert(key::record(gap.start()), Some(key::gap(gap)));
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
