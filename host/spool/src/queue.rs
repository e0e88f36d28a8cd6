//! The queue's rules over any [`Store`]: numbering, release, eviction with its gap in the same commit, rewind, renumbering.
//! One thread calls it; it knows no files, no clock and no channel. After an `Err` of a verb that writes it is spent: open a new one.

mod renumber;
mod room;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
};

use crate::{
    census::{Census, Cover, cost},
    key::{self, Record},
    marker::Marker,
    store::{Changes, Fault, Store},
    types::{Entry, Gap, Position, Reason, Status, Stored},
};
use room::Oldest;

/// How much the queue holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Entries.
    pub(crate) records: u64,
    /// Their cost.
    pub(crate) bytes: u64,
}

/// Bytes that one [`Queue::peek`] gives at most, unless the first record alone has more.
const PEEK_BYTES: usize = 4 * 1024 * 1024;

/// Everything recorded and not yet evicted, in order of positions. Whatever stands at or before the acknowledged position was
/// released, and is kept until its room is needed.
pub(crate) struct Queue<S> {
    store: S,
    limits: Limits,
    marker: Marker,
    /// All gaps by their first position. Few: neighbours of one reason are one gap.
    gaps: BTreeMap<Position, Gap>,
    held: u64,
    pending: u64,
    bytes: u64,
    evicted: u64,
    /// The oldest entries, read ahead.
    front: VecDeque<Oldest>,
    /// The last entry taken off the front: the store holds none up to it once the commit under way is done.
    swept: Position,
}

impl<S: Store> Queue<S> {
    /// Begins a new epoch, higher than any the store, `known` (the slots) or `fallback` names; in the same commit writes a gap
    /// `corrupt` for whatever should be there and is not. `discard`: the last position reported as recorded, where the caller
    /// knows it; later records of its epoch go, for their append was answered with an error.
    pub(crate) fn open(
        mut store: S,
        limits: Limits,
        known: Option<&Marker>,
        fallback: u64,
        discard: Option<Position>,
    ) -> Result<Self, Fault> {
        let mut census = Census::take(&store, discard)?;
        let own = census.marker.take();
        let newest = [own.as_ref(), known].into_iter().flatten().max_by_key(|marker| marker.revision);
        let mut marker = newest.cloned().unwrap_or_default();
        let ends = ends([own.as_ref(), known], &census.cover, discard);

        let first_epoch = if newest.is_some() { 1 } else { fallback };
        let used = ends.keys().next_back().copied().unwrap_or_default().max(marker.epoch);
        let used =
            [own.as_ref(), known].into_iter().flatten().map(|marker| marker.epoch).fold(used, u64::max);
        marker.epoch = (used + 1).max(first_epoch);
        marker.revision += 1;
        marker.last = 0;

        let mut changes = census.repair;
        for hole in census.cover.holes(marker.acknowledged, &ends) {
            add_gap(&mut census.gaps, &mut changes, hole, Reason::Corrupt);
        }
        marker.tails = ends;
        marker.trim();
        changes.insert(key::MARKER.to_vec(), Some(marker.encode()));
        store.commit(changes)?;

        let mut queue = Self {
            store,
            limits,
            marker,
            gaps: census.gaps,
            held: census.held,
            pending: 0,
            bytes: census.bytes,
            evicted: 0,
            front: VecDeque::new(),
            swept: Position::START,
        };
        queue.finish_renumbering()?;
        queue.pending = queue.entries_after(queue.marker.acknowledged, None)?;
        Ok(queue)
    }

    /// Records these entries and moves the acknowledged position, all in one commit; room is made in it too. Gives the
    /// position of the first entry; the others follow densely.
    pub(crate) fn commit(&mut self, entries: &[Entry], release: Option<Position>) -> Result<Position, Fault> {
        let mut changes = Changes::new();
        let release = release.filter(|upto| *upto > self.marker.acknowledged);
        if let Some(upto) = release {
            self.pending -= self.entries_after(self.marker.acknowledged, Some(upto))?;
            self.acknowledge(upto, &mut changes);
        }
        let added = entries.iter().map(|entry| cost(entry.bytes.len())).sum();
        self.make_room(entries.len() as u64, added, &mut changes)?;

        let first = Position::new(self.marker.epoch, self.marker.last + 1);
        for (position, entry) in (first.seq..).map(|seq| Position::new(first.epoch, seq)).zip(entries) {
            changes.insert(key::record(position), Some(key::entry(position, entry)));
        }
        if !changes.is_empty() {
            self.store.commit(changes)?;
        }
        self.marker.last += entries.len() as u64;
        self.held += entries.len() as u64;
        self.pending += entries.len() as u64;
        self.bytes += added;
        Ok(first)
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
        let mut changes = Changes::new();
        for hole in self.cover_after(to)?.holes(to, &self.marker.ends()) {
            add_gap(&mut self.gaps, &mut changes, hole, Reason::Released);
        }
        self.pending += self.entries_after(to, Some(self.marker.acknowledged))?;
        self.acknowledge(to, &mut changes);
        self.store.commit(changes)
    }

    /// The numbering as it is on the disk.
    pub(crate) fn marker(&self) -> &Marker {
        &self.marker
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

/// The last seq of every epoch that any of these knows of; `discard` limits its own epoch.
fn ends(markers: [Option<&Marker>; 2], cover: &Cover, discard: Option<Position>) -> BTreeMap<u64, u64> {
    let mut ends = BTreeMap::new();
    let known = markers.into_iter().flatten().flat_map(Marker::ends);
    for (epoch, last) in known.chain(cover.ends()).chain(discard.map(|last| (last.epoch, last.seq))) {
        let end: &mut u64 = ends.entry(epoch).or_default();
        *end = last.max(*end);
    }
    ends.retain(|_, last| *last > 0);
    ends
}

fn add_gap(
    gaps: &mut BTreeMap<Position, Gap>,
    changes: &mut Changes,
    (epoch, from, to): (u64, u64, u64),
    reason: Reason,
) {
    let gap = Gap { epoch, from, to, reason, first_at_ms: None, last_at_ms: None, down: None };
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
