//! How a queue begins: what its store and the slots know is held against what is there, and what is missing becomes a gap.

use std::collections::{BTreeMap, VecDeque};

use super::{Limits, Queue, add_gap};
use crate::{
    census::{Census, Cover},
    key,
    marker::Marker,
    store::{Fault, Store},
    types::{Gap, Position, Reason},
};

/// What is known when a queue is opened, beside what its store holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening<'a> {
    pub(crate) limits: Limits,
    /// The marker of the slots.
    pub(crate) known: Option<&'a Marker>,
    /// The epoch to begin with when neither the store nor the slots know one.
    pub(crate) fallback: u64,
    /// The last position reported as recorded in this process, where there is one: later records of its epoch go, for their
    /// append was answered with an error.
    pub(crate) reported: Option<Position>,
    /// Stands for the boot of the machine.
    pub(crate) boot: u64,
}

impl<S: Store> Queue<S> {
    /// Begins a new epoch, higher than any that the store, the slots or the fallback names; in the same commit writes a gap for
    /// whatever should be there and is not: `power` for the newest that an unclean end of the machine explains, else `corrupt`.
    ///
    /// When there is no room even for that and nothing is missing, the queue is frozen: it gives and releases what it holds.
    pub(crate) fn open(mut store: S, opening: Opening<'_>) -> Result<Self, Fault> {
        let Opening { limits, known, fallback, reported, boot } = opening;
        let mut census = Census::take(&store, reported)?;
        let own = census.marker.take();
        let newest = [own.as_ref(), known].into_iter().flatten().max_by_key(|marker| marker.revision);
        let before = newest.cloned().unwrap_or_default();
        let ends = ends([own.as_ref(), known], &census.cover, reported);
        let unclean = reported.is_none() && (!before.closed || before.boot != boot);
        let last = ends.iter().next_back().map(|(epoch, last)| (*epoch, *last));
        let power = last.filter(|_| own.is_some() && unclean);

        let mut changes = census.repair;
        for (epoch, from, to) in census.cover.holes(before.acknowledged, &ends) {
            let reason = if Some((epoch, to)) == power { Reason::Power } else { Reason::Corrupt };
            let gap = Gap { epoch, from, to, reason, first_at_ms: None, last_at_ms: None, down: None };
            add_gap(&mut census.gaps, &mut changes, gap);
        }
        let whole = changes.is_empty();
        let mut marker = before.clone();
        marker.epoch = if newest.is_some() { 1 } else { fallback };
        marker.epoch = [own.as_ref(), known]
            .into_iter()
            .flatten()
            .map(|marker| marker.epoch + 1)
            .fold(marker.epoch, u64::max);
        marker.epoch = last.map_or(0, |(epoch, _)| epoch + 1).max(marker.epoch);
        marker.revision += 1;
        marker.last = 0;
        marker.boot = boot;
        marker.closed = false;
        marker.tails = ends.clone();
        marker.trim();
        changes.insert(key::MARKER.to_vec(), Some(marker.encode()));
        let frozen = match store.commit(changes) {
            Err(Fault::Full) if whole && own.is_some() => {
                marker = Marker { last: ends.get(&before.epoch).copied().unwrap_or_default(), ..before };
                true
            }
            committed => committed.map(|()| false)?,
        };

        let mut queue = Self {
            store,
            limits,
            marker,
            gaps: census.gaps,
            held: census.held,
            pending: 0,
            bytes: census.bytes,
            evicted: 0,
            frozen,
            tight: false,
            front: VecDeque::new(),
            swept: Position::START,
        };
        if !frozen {
            queue.finish_renumbering()?;
        }
        queue.pending = queue.entries_after(queue.marker.acknowledged, None)?;
        Ok(queue)
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
