//! Gives everything unreleased new positions in a fresh epoch: after this agent's life was continued elsewhere, or its directory
//! was restored, the old ones belong to somebody else.
//!
//! It goes in steps of one commit each, and a crash between two of them is made good at the next opening: the marker says that
//! a renumbering is under way, and the same entries get the same positions again. Each stretch is logged before its commit,
//! so that whoever follows the log knows of every move that was made.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::{Queue, next};
use crate::{
    census::cost,
    key::{self, Record},
    store::{Changes, Fault, Store},
    types::{Entry, Gap, Position},
};

/// Records of one step.
const STEP: usize = if cfg!(test) { 4 } else { 512 };

/// Bytes of one step, unless a single record has more.
const STEP_BYTES: u64 = 4 * 1024 * 1024;

/// A stretch of seqs that moves as a whole.
struct Stretch {
    from: Position,
    to: Position,
    count: u64,
}

/// Where records stand, and their bytes.
type Records = Vec<(Position, Vec<u8>)>;

impl<S: Store> Queue<S> {
    /// Moves what is unreleased, entries and gaps in their order, to an epoch above all of ours and above `above`; new entries
    /// follow there. What was released stays behind and is not given again, whatever is rewound.
    pub(crate) fn renumber(&mut self, above: Position) -> Result<(), Fault> {
        if self.frozen {
            return Err(Fault::Full);
        }
        let used = self.marker.epoch.max(above.epoch);
        let fresh =
            used.checked_add(1).ok_or_else(|| Fault::Failed(format!("no epoch is left above {above}")))?;
        let ended = self.marker.recorded();
        self.marker.revision += 1;
        self.marker.epoch = fresh;
        self.marker.last = 0;
        self.marker.moving = fresh;
        self.set_end(ended.epoch, ended.seq);
        self.store.commit(BTreeMap::from([(key::MARKER.to_vec(), Some(self.marker.encode()))]))?;
        self.finish_renumbering()
    }

    /// Does what is left of a renumbering; nothing when none is under way.
    pub(super) fn finish_renumbering(&mut self) -> Result<(), Fault> {
        while self.marker.moving != 0 {
            failpoint::hit("spool.renumber");
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), Fault> {
        let epoch = self.marker.moving;
        let (records, last) = self.records_to_move(epoch)?;
        let mut changes = Changes::new();
        let mut stretches = Vec::<Stretch>::new();
        let mut end = Position::new(epoch, self.end(epoch));
        for (from, value) in records {
            let to = next(end);
            let record = key::decode(from, &value)
                .ok_or_else(|| Fault::Damaged(format!("the record at {from} does not match its checksum")))?;
            let count = match record {
                Record::Entry { at_ms, down, bytes } => {
                    let entry = Entry { at_ms, down, bytes: bytes.to_vec() };
                    changes.insert(key::record(to), Some(key::entry(to, &entry)));
                    1
                }
                Record::Gap(gap) => {
                    let count = gap.to - gap.from + 1;
                    let moved = Gap { epoch, from: to.seq, to: to.seq + (count - 1), ..gap };
                    changes.insert(key::record(to), Some(key::gap(&moved)));
                    self.gaps.remove(&from);
                    self.gaps.insert(to, moved);
                    count
                }
            };
            changes.insert(key::record(from), None);
            end = Position::new(epoch, to.seq + (count - 1));
            self.marker.acknowledged = Position::new(from.epoch, from.seq + (count - 1));
            match stretches.last_mut() {
                Some(before) if before.continues(from, to) => before.count += count,
                _ => stretches.push(Stretch { from, to, count }),
            }
        }
        self.set_end(epoch, end.seq);
        if last {
            self.marker.moving = 0;
            self.marker.floor = epoch;
            self.marker.acknowledged = self.marker.floor();
            self.marker.tails.retain(|tail, _| *tail >= epoch);
        }
        for Stretch { from, to, count } in stretches {
            tracing::info!("renumbered from={from} to={to} count={count}");
        }
        self.front.clear();
        self.marker.revision += 1;
        changes.insert(key::MARKER.to_vec(), Some(self.marker.encode()));
        self.store.commit(changes)
    }

    /// The next records before this epoch that are unreleased, and whether they are the last of them.
    fn records_to_move(&self, epoch: u64) -> Result<(Records, bool), Fault> {
        let acknowledged = self.marker.acknowledged;
        // A gap that was released in part stays where its key is: only its rest moves.
        let rest = self.rest_of_gap(acknowledged).filter(|gap| gap.epoch < epoch);
        let mut records = rest.map(|gap| (gap.start(), key::gap(&gap))).into_iter().collect::<Vec<_>>();
        let (mut bytes, mut last) = (0, true);
        self.store.scan(&key::record(next(acknowledged)), &mut |key, value| {
            let Some(position) = key::position(key).filter(|position| position.epoch < epoch) else {
                return ControlFlow::Break(());
            };
            bytes += cost(value.len());
            if !records.is_empty() && (records.len() >= STEP || bytes > STEP_BYTES) {
                last = false;
                return ControlFlow::Break(());
            }
            records.push((position, value.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok((records, last))
    }

    /// The last seq of an epoch.
    fn end(&self, epoch: u64) -> u64 {
        if epoch == self.marker.epoch {
            self.marker.last
        } else {
            self.marker.tails.get(&epoch).copied().unwrap_or_default()
        }
    }

    fn set_end(&mut self, epoch: u64, last: u64) {
        if epoch == self.marker.epoch {
            self.marker.last = last;
        } else if last > 0 {
            self.marker.tails.insert(epoch, last);
            self.marker.trim();
        }
    }
}

impl Stretch {
    fn continues(&self, from: Position, to: Position) -> bool {
        let follows = |start: Position, next: Position| {
            (start.epoch, start.seq.checked_add(self.count)) == (next.epoch, Some(next.seq))
        };
        follows(self.from, from) && follows(self.to, to)
    }
}
