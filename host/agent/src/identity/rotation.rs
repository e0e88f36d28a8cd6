//! When the agent makes a new token and what comes next on the way to it: decided here, without a network, a disk or a clock of its own.
//!
//! ```text
//! settled → a new token is on disk (pending) → the control plane knows it → it was used → it is the active one on disk
//! ```
//!
//! What fails on the way is repeated with the same token. Of the two tokens that the agent then holds, one is always good; when both are
//! refused all the same (a backup was restored, here or there), the device key recovers.

use std::time::Duration;

use crate::uplink::backoff::Backoff;

/// The way of one agent from token to token. `now` is always the boot clock: the wall clock may jump.
#[derive(Debug)]
pub(crate) struct Rotation {
    every: Duration,
    stage: Stage,
    /// A new token is made then at the latest.
    due: Duration,
    /// From then on a session that begins is taken as the occasion.
    eager: Duration,
    /// No new token is made before.
    earliest: Duration,
    /// Somebody asked for a new token.
    asked: bool,
    /// Nothing is tried before.
    until: Duration,
    backoff: Backoff,
    /// Answers without a signature that say the token is unknown, in a row.
    unknown: u32,
    /// The token is refused, and this is who says so.
    refused: Option<Refusal>,
    /// When a recovery was last tried on no signed word.
    tried: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing follows the active token.
    Settled,
    /// The next token is on disk; whether the control plane knows it is not known.
    Pending,
    /// The control plane knows it.
    Known,
    /// The active token is over: hellos are tried with the next one.
    Trial,
}

/// Of the two tokens that an agent may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Active,
    Pending,
}

/// Who refuses a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The control plane, with its signature: another token took the place of this one.
    Signed,
    /// Anybody: the control plane signs only for tokens that it knows, and so does no proxy.
    Unsigned,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make a token and put it on the disk.
    Prepare,
    /// Make it known, with the active one.
    Register,
    /// Use it.
    Prove,
    /// Prove who this is with the device key.
    Recover,
    /// Nothing before this time, unless something happens.
    Wait(Duration),
}

impl Rotation {
    /// The way of an agent whose token has this age, and that has a pending one on disk or not. `chance` in 0..1 spreads the agents.
    pub(crate) fn new(every: Duration, pending: bool, age: Duration, now: Duration, chance: f64) -> Self {
        let begun = Self {
            every,
            stage: if pending { Stage::Pending } else { Stage::Settled },
            due: Duration::ZERO,
            eager: Duration::ZERO,
            earliest: now,
            asked: false,
            until: now,
            backoff: Backoff::default(),
            unknown: 0,
            refused: None,
            tried: None,
        };
        let left = |of: Duration| now + of.saturating_sub(age);
        Self { due: left(spread(every, chance)), eager: left(every * 5 / 7), ..begun }
    }

    /// What to do now, `session` saying whether there is a lease to do it in.
    pub(crate) fn next(&self, now: Duration, session: bool) -> Step {
        let soonest = self.until;
        match (self.refused, self.stage) {
            _ if now < soonest => Step::Wait(soonest),
            (Some(Refusal::Signed), _) => Step::Recover,
            (Some(Refusal::Unsigned), _) => match self.tried.map(|tried| tried + SELDOM) {
                Some(again) if now < again => Step::Wait(again),
                _ => Step::Recover,
            },
            (None, Stage::Settled) if session => {
                let at = if self.asked { self.earliest } else { self.due.max(self.earliest) };
                if now >= at { Step::Prepare } else { Step::Wait(at) }
            }
            (None, Stage::Pending) if session => Step::Register,
            (None, Stage::Known) if session => Step::Prove,
            (None, _) => Step::Wait(Duration::MAX),
        }
    }

    /// Somebody asked for a new token.
    pub(crate) fn ask(&mut self) {
        self.asked = true;
    }

    /// A session began with this token. Gives whether the pending token is the active one from now on.
    pub(crate) fn welcomed(&mut self, now: Duration, which: Which) -> bool {
        self.unknown = 0;
        self.asked |= now >= self.eager;
        self.refused = None;
        self.stage == Stage::Trial && which == Which::Pending
    }

    /// The control plane answered something else than a refusal of the token.
    pub(crate) fn heard(&mut self) {
        self.unknown = 0;
        if self.refused == Some(Refusal::Unsigned) {
            self.refused = None;
        }
    }

    /// A new token is on disk.
    pub(crate) fn prepared(&mut self) {
        self.stage = Stage::Pending;
    }

    /// The control plane knows it.
    pub(crate) fn registered(&mut self) {
        self.stage = Stage::Known;
    }

    /// The control plane refuses it as one whose turn it is not, and so it will for ever: a recovery that never came to its end made it.
    /// Another one takes its place.
    pub(crate) fn out_of_turn(&mut self) {
        self.stage = Stage::Settled;
        self.asked = true;
    }

    /// It is the active one, here and there.
    pub(crate) fn activated(&mut self, now: Duration, chance: f64) {
        let tried = if self.refused == Some(Refusal::Unsigned) { Some(now) } else { self.tried };
        *self = Self {
            earliest: now + self.every.min(SHORTEST),
            tried,
            ..Self::new(self.every, false, Duration::ZERO, now, chance)
        };
    }

    /// A step failed. It is repeated, a use of the next token from its registration on: the control plane may have forgotten it.
    pub(crate) fn failed(&mut self, now: Duration, chance: f64) {
        if self.stage == Stage::Known {
            self.stage = Stage::Pending;
        }
        if self.refused == Some(Refusal::Unsigned) {
            self.tried = Some(now);
        }
        self.until = now + self.backoff.failed(chance);
    }

    /// A token is refused. Gives the one to speak with from now on.
    pub(crate) fn refused(&mut self, which: Which, refusal: Refusal) -> Which {
        if refusal == Refusal::Unsigned {
            self.unknown += 1;
            if self.unknown < REPEATED {
                return if self.stage == Stage::Trial { Which::Pending } else { Which::Active };
            }
        }
        match (self.stage, which) {
            (Stage::Pending | Stage::Known, Which::Active) if refusal == Refusal::Signed => {
                self.stage = Stage::Trial;
                self.unknown = 0;
                Which::Pending
            }
            // A late word about the token that was tried before.
            (Stage::Trial, Which::Active) => Which::Pending,
            (Stage::Trial, Which::Pending) => {
                // The active one was refused with a signature, and the next one is not known either.
                self.stage = Stage::Pending;
                self.refused = Some(Refusal::Signed);
                Which::Active
            }
            _ => {
                self.refused = Some(refusal);
                Which::Active
            }
        }
    }
}

/// The interval, a tenth shorter or longer.
fn spread(every: Duration, chance: f64) -> Duration {
    every.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0))
}

/// Between two rotations at least, whoever asks.
const SHORTEST: Duration = Duration::from_secs(60);

/// Between two recoveries on no signed word: a proxy or a broken control plane says it for days.
const SELDOM: Duration = Duration::from_secs(3_600);

/// Unsigned refusals in a row that count.
const REPEATED: u32 = 2;

#[cfg(test)]
mod tests;
