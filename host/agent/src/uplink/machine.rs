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
    /// When the lease began.
    welcomed: Duration,
    /// The last position that was recorded when the lease began.
    recorded: Position,
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
    /// Signed: this agent is not to speak for so long; then a hello asks again.
    Barred(Duration),
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
    /// The cursor lies beyond all that was ever recorded here: what is sent may be skipped as old, so nothing is released.
    pub(crate) later_life: bool,
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

    /// There is a lease, and the control plane has everything up to `cursor`; the hello told that `recorded` is the last result here.
    pub(crate) fn welcomed(
        &mut self,
        now: Duration,
        cursor: Position,
        recorded: Position,
        chance: f64,
    ) -> Verdict {
        self.greeted = true;
        self.proven = false;
        self.reached = true;
        self.heard = now;
        self.welcomed = now;
        self.recorded = recorded;
        if cursor > recorded {
            return self.hold_back(now, chance);
        }
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
        if cursor > self.recorded.max(self.sent) {
            return self.hold_back(now, chance);
        }
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
        Verdict { release, ..Verdict::default() }
    }

    /// An exchange failed; `batch` are the positions that were sent in it. Nothing is released.
    pub(crate) fn failed(&mut self, now: Duration, failure: Failure, batch: &[Position], chance: f64) {
        self.reached = false;
        match failure {
            Failure::Network | Failure::Refused => self.wait(now, chance),
            Failure::LeaseUnknown => {
                // A lease that was good and lasted ended by a restart; one that did not is taken away, and a hello takes it back only
                // for a moment.
                let lasted = self.greeted && self.proven && now.saturating_sub(self.welcomed) > RESUMABLE;
                self.greeted = false;
                if !lasted {
                    self.wait(now, chance);
                }
            }
            Failure::Barred(time) => {
                self.greeted = false;
                self.until = now + time;
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

    /// Keeps everything and says hello again after a while.
    fn hold_back(&mut self, now: Duration, chance: f64) -> Verdict {
        self.greeted = false;
        self.wait(now, chance);
        Verdict { later_life: true, ..Verdict::default() }
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
mod tests;
