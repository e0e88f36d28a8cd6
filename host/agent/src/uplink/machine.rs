//! What to say to the control plane next, and what may be released: decided here, without a network or a clock of its own.
//!
//! The one rule that everything serves: nothing is released beyond what was both sent and acknowledged.

use std::collections::BTreeSet;
use std::time::Duration;

use wire::{BATCH_LIMIT, HEARTBEAT_S, Position};

use super::backoff::Backoff;

/// The session's state. `now` is always the boot clock, so that a suspend ends a session.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// Whether there is a lease.
    greeted: bool,
    /// Whether the lease was good for anything yet.
    proven: bool,
    /// Whether the last exchange succeeded.
    reached: bool,
    /// When one last did.
    heard: Duration,
    /// Nothing is said before.
    until: Duration,
    backoff: Backoff,
    /// Everything up to here is released; sending goes on after it.
    acknowledged: Position,
    /// The last position that was sent in this process.
    sent: Position,
    /// Records of the next batch.
    limit: usize,
    /// Positions that the control plane does not take; they travel as gaps.
    rejected: BTreeSet<Position>,
    /// Whether a result was taken since the last rejection. Where none is, the fault is hardly the results'.
    taken: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Fetch a nonce and say hello.
    Hello,
    /// Send what is ready; when nothing is, it is the heartbeat.
    Send,
    /// Nothing before this time, unless new results come.
    Wait(Duration),
}

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Failure {
    /// No answer, or none that the control plane signed.
    Network,
    /// Signed: the lease ended, or the signature does not fit it.
    LeaseUnknown,
    /// Signed: something in this batch cannot be taken.
    Rejected,
    /// Signed: anything else.
    Refused,
}

/// What to tell the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Forget everything up to here.
    pub(crate) release: Option<Position>,
    /// The control plane has less than we released: offer again what is still held after here.
    pub(crate) rewind: Option<Position>,
    /// The cursor made no sense.
    pub(crate) odd: bool,
}

impl Machine {
    /// A stranger whose spool released everything up to `acknowledged`.
    pub(crate) fn new(acknowledged: Position) -> Self {
        Self { acknowledged, limit: BATCH_LIMIT, taken: true, ..Self::default() }
    }

    /// What to do now, `ready` saying whether the spool holds something after [`Machine::after`].
    pub(crate) fn next(&mut self, now: Duration, ready: bool) -> Step {
        if !self.may_speak(now) {
            return Step::Wait(self.until);
        }
        if !self.greeted || now.saturating_sub(self.heard) > RESUMABLE {
            self.greeted = false;
            return Step::Hello;
        }
        let heartbeat = self.heard + Duration::from_secs(HEARTBEAT_S);
        if ready || now >= heartbeat { Step::Send } else { Step::Wait(heartbeat) }
    }

    /// Whether the wait after the last failure is over.
    pub(crate) fn may_speak(&self, now: Duration) -> bool {
        now >= self.until
    }

    /// The next batch begins after this position.
    pub(crate) fn after(&self) -> Position {
        self.acknowledged
    }

    /// Records of the next batch at most; at least 1.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether the control plane answered last time it was asked.
    pub(crate) fn connected(&self) -> bool {
        self.greeted && self.reached
    }

    /// Positions that travel as gaps.
    pub(crate) fn rejected(&self) -> &BTreeSet<Position> {
        &self.rejected
    }

    /// There is a lease, and the control plane has everything up to `cursor`.
    pub(crate) fn welcomed(&mut self, now: Duration, cursor: Position) -> Verdict {
        self.greeted = true;
        self.proven = false;
        self.reached = true;
        self.heard = now;
        if cursor < self.acknowledged {
            self.acknowledged = cursor;
            return Verdict { rewind: Some(cursor), ..Verdict::default() };
        }
        Verdict { release: self.release(cursor), ..Verdict::default() }
    }

    /// A batch that ends at `last` is about to leave. It counts as sent even when the answer is lost.
    pub(crate) fn sending(&mut self, last: Option<Position>) {
        self.sent = self.sent.max(last.unwrap_or_default());
    }

    /// The batch was answered with `cursor`.
    pub(crate) fn answered(
        &mut self,
        now: Duration,
        batch: &[Position],
        cursor: Position,
        chance: f64,
    ) -> Verdict {
        self.heard = now;
        self.proven = true;
        self.reached = true;
        if cursor < self.acknowledged {
            // It lost what it had, and only a hello may take us back.
            self.greeted = false;
            self.wait(now, chance);
            return Verdict { odd: true, ..Verdict::default() };
        }
        let release = self.release(cursor);
        if release.is_none() && !batch.is_empty() {
            self.wait(now, chance);
            return Verdict { odd: true, ..Verdict::default() };
        }
        self.taken |= batch.iter().any(|position| *position <= cursor && !self.rejected.contains(position));
        self.rejected = self.rejected.split_off(&self.acknowledged);
        self.rejected.remove(&self.acknowledged);
        if self.taken {
            self.backoff.succeeded();
        }
        self.limit = (self.limit * 2).min(BATCH_LIMIT);
        Verdict { release, rewind: None, odd: cursor > self.sent }
    }

    /// An exchange failed; `batch` are the positions that were sent in it. Nothing is released.
    pub(crate) fn failed(&mut self, now: Duration, failure: Failure, batch: &[Position], chance: f64) {
        self.reached = false;
        match failure {
            Failure::Network | Failure::Refused => self.wait(now, chance),
            Failure::LeaseUnknown => {
                self.greeted = false;
                if !self.proven {
                    self.wait(now, chance);
                }
            }
            Failure::Rejected => self.reject(now, batch, chance),
        }
    }

    /// Halves the batch until the one result that is not taken stands alone, then lets a gap travel in its place.
    fn reject(&mut self, now: Duration, batch: &[Position], chance: f64) {
        match batch {
            [position] if !self.rejected.contains(position) => {
                self.rejected.insert(*position);
                if !std::mem::take(&mut self.taken) {
                    self.wait(now, chance);
                }
            }
            [] | [_] => self.wait(now, chance),
            _ => self.limit = batch.len() / 2,
        }
    }

    /// Moves on to the lower of `cursor` and what was sent.
    fn release(&mut self, cursor: Position) -> Option<Position> {
        let upto = cursor.min(self.sent);
        (upto > self.acknowledged).then(|| {
            self.acknowledged = upto;
            upto
        })
    }

    fn wait(&mut self, now: Duration, chance: f64) {
        self.until = now + self.backoff.failed(chance);
    }
}

/// A silence up to this long resumes the lease; after it the agent says hello and declares what is buffered.
const RESUMABLE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seq: u64) -> Position {
        Position { epoch: 1, seq }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seqs(range: std::ops::RangeInclusive<u64>) -> Vec<Position> {
        range.map(at).collect()
    }

    /// A machine with a session since second 0 and nothing acknowledged.
    fn greeted() -> Machine {
        let mut machine = Machine::new(Position::default());
        machine.welcomed(s(0), Position::default());
        machine
    }

    #[test]
    fn says_hello_first_then_sends_then_rests_until_the_heartbeat() {
        let mut machine = Machine::new(Position::default());
        assert_eq!(machine.next(s(0), true), Step::Hello);
        machine.welcomed(s(0), Position::default());
        assert_eq!(machine.next(s(0), true), Step::Send);
        machine.sending(Some(at(3)));
        assert_eq!(machine.answered(s(1), &seqs(1..=3), at(3), 0.0).release, Some(at(3)));
        assert_eq!((machine.after(), machine.limit()), (at(3), 500));
        assert_eq!(machine.next(s(1), false), Step::Wait(s(11)));
        assert_eq!(machine.next(s(2), true), Step::Send);
        assert_eq!(machine.next(s(11), false), Step::Send);
    }

    #[test]
    fn releases_the_lower_of_cursor_and_sent() {
        for (sent, cursor, released) in [(5, 5, Some(5)), (5, 3, Some(3)), (5, 9, Some(5)), (5, 0, None)] {
            let mut machine = Machine::new(at(0));
            machine.welcomed(s(0), at(0));
            machine.sending(Some(at(sent)));
            let verdict = machine.answered(s(1), &seqs(1..=sent), at(cursor), 0.0);
            assert_eq!(verdict.release, released.map(at), "sent {sent}, cursor {cursor}");
            assert_eq!(verdict.odd, cursor > sent || released.is_none(), "sent {sent}, cursor {cursor}");
        }
    }

    #[test]
    fn a_cursor_of_another_epoch_releases_nothing_that_was_not_sent() {
        let mut machine = greeted();
        machine.sending(Some(at(2)));
        assert_eq!(
            machine.answered(s(1), &seqs(1..=2), Position { epoch: 9, seq: 9 }, 0.0).release,
            Some(at(2))
        );
    }

    #[test]
    fn a_cursor_that_does_not_move_waits_instead_of_sending_for_ever() {
        let mut machine = greeted();
        machine.sending(Some(at(2)));
        machine.answered(s(1), &seqs(1..=2), Position::default(), 0.0);
        assert_eq!(machine.next(s(1), true), Step::Wait(s(2)));
    }

    #[test]
    fn an_answer_that_was_lost_is_made_good_by_the_next_hello() {
        let mut machine = greeted();
        machine.sending(Some(at(7)));
        machine.failed(s(1), Failure::Network, &seqs(1..=7), 0.0);
        assert_eq!(machine.welcomed(s(20), at(7)).release, Some(at(7)));
    }

    #[test]
    fn after_a_restart_a_hello_alone_releases_nothing() {
        let mut machine = Machine::new(at(2));
        assert_eq!(machine.welcomed(s(0), at(9)), Verdict::default());
        assert_eq!(machine.after(), at(2));
    }

    #[test]
    fn a_control_plane_restored_from_a_backup_is_offered_again_what_is_held() {
        let mut machine = Machine::new(at(9));
        assert_eq!(machine.welcomed(s(0), at(4)).rewind, Some(at(4)));
        assert_eq!(machine.after(), at(4));
    }

    #[test]
    fn only_a_hello_takes_back_what_was_released() {
        let mut machine = greeted();
        machine.sending(Some(at(5)));
        machine.answered(s(1), &seqs(1..=5), at(5), 0.0);
        machine.sending(Some(at(6)));
        let verdict = machine.answered(s(2), &[at(6)], at(3), 0.0);
        assert_eq!(verdict, Verdict { odd: true, ..Verdict::default() });
        assert_eq!(machine.next(s(3), true), Step::Hello);
    }

    #[test]
    fn a_short_silence_resumes_the_lease_and_a_long_one_says_hello() {
        for (silence, step) in [(15, Step::Send), (16, Step::Hello)] {
            let mut machine = greeted();
            machine.failed(s(1), Failure::Network, &[], 0.0);
            assert_eq!(machine.next(s(silence), true), step, "{silence} s");
        }
    }

    #[test]
    fn an_unknown_lease_says_hello_at_once_but_not_in_a_circle() {
        let mut machine = greeted();
        machine.sending(Some(at(1)));
        machine.answered(s(1), &[at(1)], at(1), 0.0);
        machine.failed(s(2), Failure::LeaseUnknown, &[], 0.0);
        assert_eq!(machine.next(s(2), true), Step::Hello);
        machine.welcomed(s(2), at(1));
        machine.failed(s(2), Failure::LeaseUnknown, &[], 0.0);
        assert_eq!(machine.next(s(2), true), Step::Wait(s(3)));
    }

    #[test]
    fn one_poison_result_among_five_hundred_is_found_and_the_others_flow() {
        for poison in [1, 250, 333, 500] {
            let mut machine = greeted();
            let (mut requests, mut gaps) = (0, Vec::new());
            while machine.next(s(0), machine.after() < at(500)) == Step::Send {
                let first = machine.after().seq + 1;
                let batch = seqs(first..=(first + machine.limit() as u64 - 1).min(500));
                requests += 1;
                machine.sending(batch.last().copied());
                let bad = |p: &&Position| p.seq == poison && !machine.rejected().contains(p);
                if batch.iter().any(|p| bad(&p)) {
                    machine.failed(s(0), Failure::Rejected, &batch, 0.0);
                    continue;
                }
                gaps.extend(batch.iter().filter(|p| machine.rejected().contains(p)).copied());
                machine.answered(s(0), &batch, *batch.last().unwrap(), 0.0);
            }
            assert_eq!(gaps, [at(poison)]);
            assert!(requests < 40, "{requests} requests for poison at {poison}");
            assert_eq!(machine.next(s(0), false), Step::Wait(s(10)));
        }
    }

    #[test]
    fn a_control_plane_that_takes_nothing_does_not_turn_the_spool_into_gaps() {
        let mut machine = greeted();
        let mut now = s(0);
        for _ in 0..500 {
            match machine.next(now, true) {
                Step::Wait(until) => now = until,
                Step::Hello => drop(machine.welcomed(now, Position::default())),
                Step::Send => {
                    let batch = seqs(1..=machine.limit() as u64);
                    machine.sending(batch.last().copied());
                    machine.failed(now, Failure::Rejected, &batch, 0.5);
                }
            }
        }
        assert_eq!(machine.rejected().len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever cursors and failures come: nothing is released that was not both sent and acknowledged.
        #[test]
        fn never_releases_beyond_what_was_sent_and_acknowledged(
            script in prop::collection::vec((0_u8..6, 0_u64..4, 0_u64..60, 0.0..1.0_f64), 1..60),
        ) {
            let mut machine = Machine::new(Position::default());
            let (mut now, mut sent) = (Duration::ZERO, Position::default());
            for (answer, epoch, seq, chance) in script {
                let cursor = Position { epoch, seq };
                let check = |released: Option<Position>, sent: Position| {
                    released.is_none_or(|upto| upto <= sent && upto <= cursor)
                };
                match machine.next(now, true) {
                    Step::Wait(until) => now = until,
                    Step::Hello if answer < 4 => {
                        prop_assert!(check(machine.welcomed(now, cursor).release, sent));
                    }
                    Step::Hello => machine.failed(now, Failure::Network, &[], chance),
                    Step::Send => {
                        let (after, limit) = (machine.after(), machine.limit());
                        prop_assert!(limit >= 1);
                        let last = Position { epoch: after.epoch.max(1), seq: after.seq + 1 + seq % limit as u64 };
                        let batch = [Position { seq: after.seq + 1, ..last }, last];
                        machine.sending(Some(last));
                        sent = sent.max(last);
                        match answer {
                            0..=2 => {
                                let verdict = machine.answered(now, &batch, cursor, chance);
                                prop_assert!(check(verdict.release, sent));
                                prop_assert!(verdict.rewind.is_none());
                            }
                            3 => machine.failed(now, Failure::LeaseUnknown, &batch, chance),
                            4 => machine.failed(now, Failure::Rejected, &batch, chance),
                            _ => machine.failed(now, Failure::Network, &batch, chance),
                        }
                    }
                }
            }
        }
    }
}
