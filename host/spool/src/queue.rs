//! The queue's rules over any [`Store`]: numbering, release, loss, eviction with its gap in the same commit, rewind, renumbering.
//! One thread calls it; it knows no files, no clock and no channel. After an `Err` of a verb that writes it is spent: open a new one.

mod opening;
mod renumber;
mod room;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
};

use crate::{
    census::Cover,
    key::{self, Record},
    marker::Marker,
    store::{Changes, Fault, Store},
    types::{Entry, Gap, Loss, Position, Reason, Status, Stored},
};
pub(crate) use opening::Opening;
use room::{Coming, Oldest};

/// How much the queue holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Entries.
    pub(crate) records: u64,
    /// Their cost.
    pub(crate) bytes: u64,
    /// Milliseconds between the times of the oldest entry and of a new one.
    pub(crate) age_ms: Option<i64>,
    /// Unreleased entries that go neither for their cost nor for their age.
    pub(crate) floor: u64,
    /// Gaps, before those that touch become one whatever their reasons.
    pub(crate) gaps: usize,
}

/// Bytes that one [`Queue::peek`] gives at most, unless the first record alone has more.
const PEEK_BYTES: usize = 4 * 1024 * 1024;

/// Everything recorded and not yet evicted, in order of positions. Whatever stands at or before the acknowledged position was
/// released, and is kept until its room is needed.
pub(crate) struct Queue<S> {
    store: S,
    limits: Limits,
    marker: Marker,
    /// All gaps by their first position. Few: neighbours of one reason are one gap, and where there are many, all neighbours.
    gaps: BTreeMap<Position, Gap>,
    held: u64,
    pending: u64,
    bytes: u64,
    evicted: u64,
    /// The store took not even the new epoch: it can only be read, and what is released is told to the slots alone.
    frozen: bool,
    /// The disk has room for no more than is there.
    tight: bool,
    /// The oldest entries, read ahead.
    front: VecDeque<Oldest>,
    /// The last entry taken off the front: the store holds none up to it once the commit under way is done.
    swept: Position,
}

impl<S: Store> Queue<S> {
    /// Records these entries and moves the acknowledged position, all in one commit; room is made in it too. Gives the
    /// position of the first entry; the others follow densely.
    pub(crate) fn commit(&mut self, entries: &[Entry], release: Option<Position>) -> Result<Position, Fault> {
        if self.frozen && !entries.is_empty() {
            return Err(Fault::Full);
        }
        let mut changes = Changes::new();
        let release = release.filter(|upto| *upto > self.marker.acknowledged);
        if let Some(upto) = release {
            self.pending -= self.entries_after(self.marker.acknowledged, Some(upto))?;
            self.acknowledge(upto, &mut changes);
        }
        let coming = Coming::of(entries);
        if !self.frozen {
            self.make_room(coming, &mut changes)?;
        }

        let first = Position::new(self.marker.epoch, self.marker.last + 1);
        for (position, entry) in (first.seq..).map(|seq| Position::new(first.epoch, seq)).zip(entries) {
            changes.insert(key::record(position), Some(key::entry(position, entry)));
        }
        if !changes.is_empty() && !self.frozen {
            self.store.commit(changes)?;
        }
        self.marker.last += coming.entries;
        self.held += coming.entries;
        self.pending += coming.entries;
        self.bytes += coming.cost;
        Ok(first)
    }

    /// Gives entries that were never recorded their positions, as a gap.
    pub(crate) fn lose(&mut self, loss: &Loss) -> Result<(), Fault> {
        if self.frozen {
            return Err(Fault::Full);
        }
        let gap = Gap {
            epoch: self.marker.epoch,
            from: self.marker.last + 1,
            to: self.marker.last + loss.count,
            reason: loss.reason,
            first_at_ms: Some(loss.first_at_ms),
            last_at_ms: Some(loss.last_at_ms),
            down: Some(loss.down),
        };
        let mut changes = Changes::new();
        self.widen_or_add(gap, &mut changes);
        self.join_gaps(&mut changes);
        self.store.commit(changes)?;
        self.marker.last += loss.count;
        Ok(())
    }

    /// Up to `limit` records after this position, or after the acknowledged one where that is later; at most 4 MiB of
    /// entries, but one record at least if there is any. A gap that `after` lies in is given from the seq behind it.
    pub(crate) fn peek(&self, after: Position, limit: usize) -> Result<Vec<Stored>, Fault> {
        let after = after.max(self.marker.acknowledged);
        let mut found: Vec<Stored> = self.rest_of_gap(after).map(Stored::Gap).into_iter().collect();
        let mut bytes_left = PEEK_BYTES;
        let mut damaged = None;
        if found.len() >= limit {
            return Ok(found);
        }
        self.store.scan(&key::record(next(after)), &mut |key, value| {
            let record =
                key::position(key).and_then(|position| Some((position, key::decode(position, value)?)));
            match record {
                None => {
                    damaged = Some(format!("record {} does not match its checksum", Hex(key)));
                    return ControlFlow::Break(());
                }
                Some((_, Record::Gap(gap))) => found.push(Stored::Gap(gap)),
                Some((position, Record::Entry { bytes, .. })) => {
                    if bytes.len() > bytes_left && !found.is_empty() {
                        return ControlFlow::Break(());
                    }
                    bytes_left = bytes_left.saturating_sub(bytes.len());
                    found.push(Stored::Entry { position, bytes: bytes.to_vec() });
                }
            }
            if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        match damaged {
            None => Ok(found),
            Some(reason) => Err(Fault::Damaged(reason)),
        }
    }

    /// Moves the acknowledged position back to `to`, so that what is held after it is given again; what is not held any
    /// more becomes a gap `released`. A position that is not before the acknowledged one changes nothing, and what was
    /// recorded before the last renumbering stays where it is.
    pub(crate) fn rewind(&mut self, to: Position) -> Result<(), Fault> {
        let to = to.max(self.marker.floor());
        if to >= self.marker.acknowledged {
            return Ok(());
        }
        if self.frozen {
            return Err(Fault::Full);
        }
        let mut changes = Changes::new();
        for (epoch, from, to) in self.cover_after(to)?.holes(to, &self.marker.ends()) {
            let reason = Reason::Released;
            let gap = Gap { epoch, from, to, reason, first_at_ms: None, last_at_ms: None, down: None };
            add_gap(&mut self.gaps, &mut changes, gap);
        }
        self.pending += self.entries_after(to, Some(self.marker.acknowledged))?;
        self.acknowledge(to, &mut changes);
        self.store.commit(changes)
    }

    /// The numbering as it is on the disk.
    pub(crate) fn marker(&self) -> &Marker {
        &self.marker
    }

    /// Says whether the disk has room for no more than is there: then what was released goes, and the oldest go for what comes.
    pub(crate) fn tighten(&mut self, tight: bool) {
        self.tight = tight;
    }

    /// Whether everything in it was released.
    pub(crate) fn idle(&self) -> bool {
        self.pending == 0
            && self.gaps.values().next_back().is_none_or(|gap| gap.position() <= self.marker.acknowledged)
    }

    /// Whether it takes nothing in.
    pub(crate) fn frozen(&self) -> bool {
        self.frozen
    }

    /// The numbering as the slots are to have it after an orderly end.
    pub(crate) fn closed(&self) -> Marker {
        Marker { revision: self.marker.revision + 1, closed: true, ..self.marker.clone() }
    }

    /// The counts.
    pub(crate) fn status(&self) -> Status {
        let acknowledged = self.marker.acknowledged;
        Status {
            epoch: self.marker.epoch,
            recorded: self.marker.recorded(),
            acknowledged,
            pending: self.pending,
            gaps: self.gaps.values().rev().take_while(|gap| gap.position() > acknowledged).count() as u64,
            held: self.held,
            bytes: self.bytes,
            evicted: self.evicted,
            ..Status::default()
        }
    }

    fn acknowledge(&mut self, position: Position, changes: &mut Changes) {
        self.marker.revision += 1;
        self.marker.acknowledged = position;
        changes.insert(key::MARKER.to_vec(), Some(self.marker.encode()));
    }

    /// The part behind this position of the gap that it lies in.
    fn rest_of_gap(&self, position: Position) -> Option<Gap> {
        let (_, gap) = self.gaps.range(..=position).next_back()?;
        let rest = || Gap { from: position.seq + 1, down: None, ..gap.clone() };
        (gap.position() > position).then(rest)
    }

    fn entries_after(&self, after: Position, upto: Option<Position>) -> Result<u64, Fault> {
        let mut count = 0;
        let end = upto.unwrap_or(Position::new(u64::MAX, u64::MAX));
        self.store.scan(&key::record(next(after)), &mut |key, _| {
            match key::position(key).filter(|position| *position <= end) {
                None => return ControlFlow::Break(()),
                Some(position) => count += u64::from(!self.gaps.contains_key(&position)),
            }
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// What is held after this position, and the whole of a gap that it lies in.
    fn cover_after(&self, after: Position) -> Result<Cover, Fault> {
        let mut cover = Cover::default();
        if let Some(rest) = self.rest_of_gap(after) {
            cover.add(rest.epoch, rest.from, rest.to);
        }
        self.store.scan(&key::record(next(after)), &mut |key, _| {
            if let Some(position) = key::position(key) {
                let to = self.gaps.get(&position).map_or(position.seq, |gap| gap.to);
                cover.add(position.epoch, position.seq, to);
            }
            ControlFlow::Continue(())
        })?;
        Ok(cover)
    }
}

fn add_gap(gaps: &mut BTreeMap<Position, Gap>, changes: &mut Changes, gap: Gap) {
    changes.insert(key::record(gap.start()), Some(key::gap(&gap)));
    gaps.insert(gap.start(), gap);
}

fn next(position: Position) -> Position {
    Position::new(position.epoch, position.seq.saturating_add(1))
}

/// A key in a message.
struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
