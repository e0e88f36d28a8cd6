//! What to say to the control plane next, and what may be released: decided here, without a network or a clock of its own.
//!
//! The one rule that everything serves: nothing is released beyond what was both sent and acknowledged.

use std::collections::BTreeSet;
use std::time::Duration;

use wire::results::Lane;
use wire::{BATCH_LIMIT, HEARTBEAT_S, Position};

use super::backoff::Backoff;
use super::lanes::Lanes;
use super::retry_after;
pub(crate) use terms::{Failure, Greeting, Step, Verdict, Wanted};

mod terms;

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
    /// What the session declared as buffered.
    mark: Option<Position>,
    /// Whether the last welcome asked for other positions.
    renumbered: bool,
    /// Whether the last exchange succeeded.
    reached: bool,
    /// When one last did.
    heard: Duration,
    /// Nothing is said before.
    until: Duration,
    backoff: Backoff,
    /// Everything up to here is released; sending goes on after it.
    acknowledged: Position,
    /// Everything up to here was sent in order in this process.
    sent: Position,
    lanes: Lanes,
    /// Records of the next batch.
    limit: usize,
    /// Positions that the control plane does not take; they travel as gaps.
    rejected: BTreeSet<Position>,
    /// Whether a result was taken since the last rejection. Where none is, the fault is hardly the results'.
    taken: bool,
}

impl Machine {
    /// A stranger whose spool released everything up to `acknowledged`.
    pub(crate) fn new(acknowledged: Position) -> Self {
        Self { acknowledged, limit: BATCH_LIMIT, taken: true, ..Self::default() }
    }

    /// What to do now, `ready` saying whether the spool holds something that was not sent.
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

    /// Where the next batch comes from, `recorded` being the last result there is.
    pub(crate) fn wanted(&self, recorded: Position) -> Wanted {
        match self.lanes.next(self.acknowledged, recorded) {
            Lane::Live => Wanted { lane: Lane::Live, after: self.lanes.ahead(), limit: BATCH_LIMIT },
            Lane::Backlog => Wanted { lane: Lane::Backlog, after: self.acknowledged, limit: self.limit },
        }
    }

    /// Up to here there is nothing that could go ahead.
    pub(crate) fn pass(&mut self, upto: Position) {
        self.lanes.passed(upto);
    }

    /// Whether the control plane answered last time it was asked.
    pub(crate) fn connected(&self) -> bool {
        self.greeted && self.reached
    }

    /// Positions that travel as gaps.
    pub(crate) fn rejected(&self) -> &BTreeSet<Position> {
        &self.rejected
    }

    /// What the next hello declares as buffered: everything up to `recorded`, though after a short silence only what the session before
    /// declared. So a control plane that was restarted does not turn what is fresh into history.
    pub(crate) fn declared(&self, now: Duration, recorded: Position) -> Position {
        let resumed = self.mark.filter(|_| now.saturating_sub(self.heard) <= RESUMABLE);
        resumed.unwrap_or(recorded).min(recorded)
    }

    /// There is a lease.
    pub(crate) fn welcomed(&mut self, now: Duration, greeting: Greeting, chance: f64) -> Verdict {
        let Greeting { mark, recorded, backlog, cursor, seen, renumber } = greeting;
        self.greeted = true;
        self.proven = false;
        self.reached = true;
        self.heard = now;
        self.welcomed = now;
        self.recorded = recorded;
        self.mark = Some(mark);
        self.lanes.begin(backlog.then_some(mark));
        let seen = seen.max(cursor);
        if renumber || seen > recorded {
            return self.renumber(now, seen, chance);
        }
        self.renumbered = false;
        if self.lacks(cursor) {
            // Until the spool offers again what it released, the next batch would leave a hole, which counts as lost.
            self.greeted = false;
            return Verdict { rewind: Some(cursor), ..Verdict::default() };
        }
        Verdict { release: self.release(cursor), ..Verdict::default() }
    }

    /// What was released after `to` is offered again, so the session may begin.
    pub(crate) fn rewound(&mut self, to: Position) {
        self.acknowledged = to;
        self.greeted = true;
    }

    /// What is held has other positions now; everything up to `acknowledged` is released.
    pub(crate) fn renumbered(&mut self, acknowledged: Position) {
        self.acknowledged = acknowledged;
        self.rejected.clear();
    }

    /// A batch that ends at `last` is about to leave. It counts as sent even when the answer is lost.
    pub(crate) fn sending(&mut self, lane: Lane, last: Option<Position>) {
        self.lanes.sending(lane);
        if lane == Lane::Backlog {
            self.sent = self.sent.max(last.unwrap_or_default());
        }
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
        if self.lacks(cursor) {
            // It lost what it had, and only a hello may take us back.
            self.greeted = false;
            self.wait(now, chance);
            return Verdict { odd: true, ..Verdict::default() };
        }
        let release = self.release(cursor);
        if self.lanes.last() == Lane::Live {
            self.lanes.passed(batch.last().copied().unwrap_or_default());
            self.backoff.good(now);
            return Verdict { release, ..Verdict::default() };
        }
        if release.is_none() && !batch.is_empty() {
            self.wait(now, chance);
            return Verdict { odd: true, ..Verdict::default() };
        }
        self.taken |= batch.iter().any(|position| *position <= cursor && !self.rejected.contains(position));
        self.rejected = self.rejected.split_off(&self.acknowledged);
        self.rejected.remove(&self.acknowledged);
        if self.taken {
            self.backoff.good(now);
        }
        self.limit = (self.limit * 2).min(BATCH_LIMIT);
        Verdict { release, ..Verdict::default() }
    }

    /// An exchange failed; `batch` are the positions that were sent in it. Nothing is released.
    pub(crate) fn failed(&mut self, now: Duration, failure: Failure, batch: &[Position], chance: f64) {
        // Whoever says when to come again is there: the session goes on, and its stream stays open.
        self.reached = matches!(failure, Failure::Busy(_) | Failure::Rejected);
        match failure {
            Failure::Network | Failure::Refused => {
                // The link may be too slow for a batch of this size within the time that an exchange has.
                if self.lanes.last() == Lane::Backlog && batch.len() > SMALL {
                    self.limit = batch.len() / 2;
                }
                self.wait(now, chance);
            }
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
            Failure::Busy(asked) => self.until = now + retry_after::wait(asked, true, chance),
            Failure::Later(asked) => {
                self.wait(now, chance);
                self.until = self.until.max(now + retry_after::wait(asked, false, chance));
            }
            // The backlog finds out which it is.
            Failure::Rejected if self.lanes.last() == Lane::Live => {
                self.lanes.passed(batch.last().copied().unwrap_or_default());
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

    /// Says hello again with other positions, at once the first time.
    fn renumber(&mut self, now: Duration, above: Position, chance: f64) -> Verdict {
        self.greeted = false;
        self.mark = None;
        if std::mem::replace(&mut self.renumbered, true) {
            self.wait(now, chance);
        }
        Verdict { renumber: Some(above), ..Verdict::default() }
    }

    /// Keeps everything and says hello again after a while.
    fn hold_back(&mut self, now: Duration, chance: f64) -> Verdict {
        self.greeted = false;
        self.wait(now, chance);
        Verdict { later_life: true, ..Verdict::default() }
    }

    /// Whether the control plane has less than was released. Before the first result of an epoch nothing is missing: what came before
    /// was given other positions.
    fn lacks(&self, cursor: Position) -> bool {
        cursor < self.acknowledged && self.acknowledged.seq > 0
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

/// A batch of so few goes through any link in time: what failed with it was something else.
const SMALL: usize = 50;

/// A silence up to this long resumes the lease; after it the agent says hello and declares what is buffered.
const RESUMABLE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests;
