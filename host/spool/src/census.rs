//! Counts what a database holds when it is opened, and finds the seqs that should be there and are not. Pure but for the one
//! scan; writes nothing: `queue.rs` writes the gaps that come out of it.

use std::{collections::BTreeMap, ops::ControlFlow};

use crate::{
    key::{self, Record},
    marker::{Marker, Unreadable},
    store::{Changes, Fault, Store},
    types::{Gap, Position},
};

/// Seqs that are accounted for by entries or gaps: per epoch, ascending stretches that do not touch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Cover(BTreeMap<u64, Vec<(u64, u64)>>);

impl Cover {
    /// Adds a stretch that begins after all of its epoch so far.
    pub(crate) fn add(&mut self, epoch: u64, from: u64, to: u64) {
        let stretches = self.0.entry(epoch).or_default();
        match stretches.last_mut() {
            Some((_, end)) if *end + 1 == from => *end = to,
            _ => stretches.push((from, to)),
        }
    }

    /// The last seq accounted for in this epoch; 0 for none.
    pub(crate) fn end(&self, epoch: u64) -> u64 {
        self.0.get(&epoch).and_then(|stretches| stretches.last()).map_or(0, |(_, to)| *to)
    }

    /// Every epoch with its last seq.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.keys().map(|epoch| (*epoch, self.end(*epoch)))
    }

    /// The seqs after this position and up to these ends that nothing accounts for, as (epoch, from, to).
    pub(crate) fn holes(&self, after: Position, ends: &BTreeMap<u64, u64>) -> Vec<(u64, u64, u64)> {
        let mut holes = Vec::new();
        for (&epoch, &last) in ends.range(after.epoch..) {
            let mut next = if epoch == after.epoch { after.seq + 1 } else { 1 };
            for &(from, to) in self.0.get(&epoch).into_iter().flatten() {
                if from > next {
                    holes.push((epoch, next, from - 1));
                }
                next = next.max(to + 1);
            }
            if next <= last {
                holes.push((epoch, next, last));
            }
        }
        holes
    }
}

/// What the database holds.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Its own marker; none when it is new or its marker is unreadable.
    pub(crate) marker: Option<Marker>,
    /// What is accounted for.
    pub(crate) cover: Cover,
    /// The gaps by their first position.
    pub(crate) gaps: BTreeMap<Position, Gap>,
    /// Entries.
    pub(crate) held: u64,
    /// Their cost.
    pub(crate) bytes: u64,
    /// What must go or be cut because it cannot be what was written.
    pub(crate) repair: Changes,
}

impl Census {
    /// Reads everything once. Records after `discard` in its epoch were never reported as recorded and go; so does what is
    /// not readable or stands twice.
    pub(crate) fn take(store: &impl Store, discard: Option<Position>) -> Result<Self, Fault> {
        let mut census = Self { marker: marker(store)?, ..Self::default() };
        store.scan(key::RECORDS, &mut |key, value| {
            census.record(key, value, discard);
            ControlFlow::Continue(())
        })?;
        Ok(census)
    }

    fn record(&mut self, key: &[u8], value: &[u8], discard: Option<Position>) {
        let record = key::position(key).and_then(|position| Some((position, key::decode(position, value)?)));
        let Some((position, record)) = record else {
            self.repair.insert(key.to_vec(), None);
            return;
        };
        let unreported = discard.is_some_and(|last| position.epoch == last.epoch && position.seq > last.seq);
        let covered = self.cover.end(position.epoch);
        match record {
            _ if unreported => {
                self.repair.insert(key.to_vec(), None);
            }
            Record::Entry { .. } if position.seq <= covered => {
                self.repair.insert(key.to_vec(), None);
            }
            Record::Entry { bytes, .. } => {
                self.cover.add(position.epoch, position.seq, position.seq);
                self.held += 1;
                self.bytes += cost(bytes.len());
            }
            Record::Gap(gap) if gap.to < gap.from.max(covered + 1) => {
                self.repair.insert(key.to_vec(), None);
            }
            Record::Gap(mut gap) => {
                if gap.from <= covered {
                    self.repair.insert(key.to_vec(), None);
                    gap = Gap { from: covered + 1, down: None, ..gap };
                    self.repair.insert(key::record(gap.start()), Some(key::gap(&gap)));
                }
                self.cover.add(gap.epoch, gap.from, gap.to);
                self.gaps.insert(gap.start(), gap);
            }
        }
    }
}

/// What an entry of this many bytes counts against the capacity.
pub(crate) fn cost(bytes: usize) -> u64 {
    bytes as u64 + 64
}

fn marker(store: &impl Store) -> Result<Option<Marker>, Fault> {
    match store.value(key::MARKER)?.map(|bytes| Marker::decode(&bytes)) {
        None | Some(Err(Unreadable::Broken)) => Ok(None),
        Some(Err(Unreadable::Newer(format))) => Err(Fault::Newer(format)),
        Some(Ok(marker)) => Ok(Some(marker)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cover(stretches: &[(u64, u64, u64)]) -> Cover {
        let mut cover = Cover::default();
        for &(epoch, from, to) in stretches {
            cover.add(epoch, from, to);
        }
        cover
    }

    fn check(held: &[(u64, u64, u64)], after: (u64, u64), ends: &[(u64, u64)], expected: &[(u64, u64, u64)]) {
        let ends = ends.iter().copied().collect();
        let holes = cover(held).holes(Position::new(after.0, after.1), &ends);
        assert_eq!(holes, expected, "held {held:?} after {after:?} up to {ends:?}");
    }

    #[test]
    fn a_dense_queue_has_no_holes() {
        check(&[(1, 1, 5), (2, 1, 9)], (0, 0), &[(1, 5), (2, 9)], &[]);
        check(&[(1, 4, 5), (2, 1, 9)], (1, 3), &[(1, 5), (2, 9)], &[]);
    }

    #[test]
    fn what_is_missing_at_the_front_in_the_middle_and_at_the_end_is_a_hole() {
        check(&[(1, 3, 4), (1, 6, 7)], (0, 0), &[(1, 9)], &[(1, 1, 2), (1, 5, 5), (1, 8, 9)]);
    }

    #[test]
    fn an_epoch_that_vanished_whole_is_a_hole() {
        check(&[(3, 1, 2)], (1, 4), &[(1, 6), (2, 8), (3, 2)], &[(1, 5, 6), (2, 1, 8)]);
    }

    #[test]
    fn what_was_acknowledged_is_not_missed() {
        check(&[(2, 5, 6)], (2, 4), &[(1, 100), (2, 6)], &[]);
        check(&[(2, 3, 3), (2, 9, 9)], (2, 7), &[(2, 9)], &[(2, 8, 8)]);
    }

    #[test]
    fn stretches_that_touch_become_one() {
        assert_eq!(cover(&[(1, 1, 2), (1, 3, 3)]), cover(&[(1, 1, 3)]));
    }
}
