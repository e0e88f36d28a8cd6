//! Results that are finished and not yet on the disk: so many at most, and what does not fit is counted. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use spool::{Entry, Loss, Reason};

/// Results in memory at most, those on their way to the disk included. They are volatile: an end of the process loses them.
pub(super) const HELD: usize = 1_000;

/// Their bytes at most.
const HELD_BYTES: usize = 16 * 1024 * 1024;

/// A result that is finished.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finished {
    /// Whose.
    pub(super) monitor: Arc<str>,
    pub(super) entry: Entry,
    /// Its place in the order in which they came. The wall clock tells none: it may have been set in between.
    turn: u64,
}

/// The queue, its oldest in front.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Finished>,
    bytes: usize,
    /// Results that came since the start.
    turns: u64,
    /// Results that left it for the disk and have no answer yet.
    under_way: usize,
    /// What did not fit and is in no gap yet; one loss a reason.
    losses: Vec<Loss>,
    /// Everything that did not fit since the start.
    lost: u64,
}

impl Waiting {
    /// One more; the oldest make room, lost for this reason.
    pub(super) fn push(&mut self, monitor: Arc<str>, entry: Entry, reason: Reason) {
        self.bytes += entry.bytes.len();
        self.queue.push_back(Finished { monitor, entry, turn: self.turns });
        self.turns += 1;
        self.fit(reason);
    }

    /// The oldest, on its way to the disk.
    pub(super) fn next(&mut self) -> Option<Finished> {
        let finished = self.queue.pop_front()?;
        self.bytes -= finished.entry.bytes.len();
        self.under_way += 1;
        Some(finished)
    }

    /// One that was on its way is on the disk, or will never be.
    pub(super) fn done(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// The disk did not take it: it waits again, in its place.
    pub(super) fn back(&mut self, finished: Finished, reason: Reason) {
        self.done();
        self.bytes += finished.entry.bytes.len();
        let at = self.queue.partition_point(|waiting| waiting.turn < finished.turn);
        self.queue.insert(at, finished);
        self.fit(reason);
    }

    /// A result that will never be recorded.
    pub(super) fn lose(&mut self, loss: Loss) {
        match self.losses.iter_mut().find(|known| known.reason == loss.reason) {
            Some(known) => *known = known.and(loss),
            None => self.losses.push(loss),
        }
    }

    /// A loss that is to become a gap; it goes when [`Waiting::told`] says that it did.
    pub(super) fn loss(&self) -> Option<Loss> {
        self.losses.first().copied()
    }

    /// This much of it is in a gap.
    pub(super) fn told(&mut self, loss: Loss) {
        self.losses.retain_mut(|known| {
            if known.reason != loss.reason {
                return true;
            }
            // More may have come meanwhile.
            known.count -= loss.count;
            known.down -= loss.down;
            known.first_at_ms = loss.last_at_ms;
            known.count > 0
        });
    }

    /// Results in memory.
    pub(super) fn held(&self) -> usize {
        self.queue.len() + self.under_way
    }

    /// Whether nothing is left to do.
    pub(super) fn is_empty(&self) -> bool {
        self.held() == 0 && self.losses.is_empty()
    }

    /// Results that did not fit since the start.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    fn fit(&mut self, reason: Reason) {
        while self.held() > HELD || self.bytes > HELD_BYTES {
            let Some(oldest) = self.queue.pop_front() else { return };
            self.bytes -= oldest.entry.bytes.len();
            self.lost += 1;
            self.lose(Loss::of(&oldest.entry, reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at_ms: i64) -> Entry {
        Entry { at_ms, down: at_ms % 2 == 0, bytes: vec![0; 10] }
    }

    fn push(waiting: &mut Waiting, at_ms: i64, reason: Reason) {
        waiting.push("shop".into(), entry(at_ms), reason);
    }

    fn next(waiting: &mut Waiting) -> i64 {
        waiting.next().unwrap().entry.at_ms
    }

    fn filled(count: i64) -> Waiting {
        let mut waiting = Waiting::default();
        (0..count).for_each(|n| push(&mut waiting, n, Reason::SlowDisk));
        waiting
    }

    #[test]
    fn what_does_not_fit_is_the_oldest_and_is_counted() {
        let mut waiting = filled(1_010);
        assert_eq!((waiting.held(), waiting.lost()), (1_000, 10));
        let loss = Loss { reason: Reason::SlowDisk, count: 10, first_at_ms: 0, last_at_ms: 9, down: 5 };
        assert_eq!(waiting.loss(), Some(loss));
        assert_eq!(next(&mut waiting), 10);
    }

    #[test]
    fn what_is_on_its_way_counts_and_comes_back_in_its_place() {
        let mut waiting = filled(1_000);
        let first = waiting.next().unwrap();
        push(&mut waiting, 1_000, Reason::Enospc);
        assert_eq!((waiting.held(), waiting.lost()), (1_000, 1), "the oldest that waited went");
        let second = waiting.next().unwrap();
        waiting.back(second.clone(), Reason::Enospc);
        waiting.back(first.clone(), Reason::Enospc);
        assert_eq!((waiting.next(), waiting.next()), (Some(first), Some(second)));
    }

    #[test]
    fn a_clock_that_was_set_back_changes_no_order() {
        let mut waiting = Waiting::default();
        [5_000, 6_000, 1_000].into_iter().for_each(|at_ms| push(&mut waiting, at_ms, Reason::Enospc));
        let under_way = [waiting.next().unwrap(), waiting.next().unwrap()];
        under_way.into_iter().for_each(|refused| waiting.back(refused, Reason::Enospc));
        let order: Vec<_> = (0..3).map(|_| next(&mut waiting)).collect();
        assert_eq!(order, [5_000, 6_000, 1_000]);
    }

    #[test]
    fn a_loss_that_grew_while_it_was_told_keeps_the_rest() {
        let mut waiting = filled(1_002);
        let told = waiting.loss().unwrap();
        push(&mut waiting, 2_000, Reason::SlowDisk);
        waiting.told(told);
        assert_eq!(waiting.loss().map(|rest| (rest.count, rest.down)), Some((1, 1)));
        waiting.told(waiting.loss().unwrap());
        assert_eq!(waiting.loss(), None);
    }

    #[test]
    fn losses_of_two_reasons_stay_apart() {
        let mut waiting = filled(1_001);
        push(&mut waiting, 3_000, Reason::Enospc);
        assert_eq!(
            waiting.losses.iter().map(|loss| loss.reason).collect::<Vec<_>>(),
            [Reason::SlowDisk, Reason::Enospc]
        );
    }

    #[test]
    fn large_results_are_bounded_by_their_bytes() {
        let mut waiting = Waiting::default();
        let large = Entry { bytes: vec![0; 1024 * 1024], ..entry(1) };
        (0..20).for_each(|_| waiting.push("shop".into(), large.clone(), Reason::Enospc));
        assert_eq!((waiting.held(), waiting.lost()), (16, 4));
    }
}
