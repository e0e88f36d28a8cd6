//! The tokens of one agent over time: which one counts, which one may follow, which ones are over. Pure; both clocks come in.
//!
//! A rotation has two steps, so that whatever is lost in between, the agent holds a token that is good: a new token is *registered*
//! beside the active one, and its first accepted use *activates* it. The one before stays good for ten minutes, for what is under way.

use serde::{Deserialize, Serialize};
use wire::{Problem, Timestamp};

use super::same;
use crate::clock::Now;

/// What is kept of an agent's tokens; the active one stands in the members of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tokens {
    /// Of the active token, lower-case hexadecimal.
    pub token_sha256: String,
    /// Of the active token.
    pub generation: u64,
    /// When the active token was made known.
    #[serde(default)]
    pub made_at: Timestamp,
    /// Registered, not used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Token>,
    /// What was active before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// Those before it, oldest first: their use is told from a guess.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Token>,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Token {
    pub generation: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// When it was made known.
    pub made_at: Timestamp,
}

/// A token that another one took the place of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Previous {
    #[serde(flatten)]
    pub token: Token,
    /// The end of its overlap by the wall clock, for after a restart.
    pub until: Timestamp,
    /// The same by the clock that never jumps; none after a restart.
    #[serde(skip)]
    pub until_up_ms: Option<u64>,
}

/// What a token that is known is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Active,
    /// Its use activates it.
    Pending,
    /// Within its overlap.
    Previous,
    /// It was good once.
    Superseded,
}

impl Tokens {
    /// The first token of an agent.
    pub(crate) fn first(token_sha256: &str, now: Timestamp) -> Self {
        Self {
            token_sha256: token_sha256.to_owned(),
            generation: 1,
            made_at: now,
            pending: None,
            previous: None,
            retired: vec![],
        }
    }

    /// What the token with this hash is good for, and when it was made known; none when it never was. `generation` is what the request
    /// says, if it says one.
    pub(crate) fn judge(
        &self,
        sha256: &str,
        generation: Option<u64>,
        now: Now,
    ) -> Option<(Standing, Timestamp)> {
        let is =
            |token: &Token| same(&token.sha256, sha256) && generation.is_none_or(|g| g == token.generation);
        let active = self.active();
        if is(&active) {
            return Some((Standing::Active, active.made_at));
        }
        if let Some(token) = self.pending.as_ref().filter(|token| is(token)) {
            return Some((Standing::Pending, token.made_at));
        }
        if let Some(previous) = self.previous.as_ref().filter(|previous| is(&previous.token)) {
            let standing = if previous.lasts(now) { Standing::Previous } else { Standing::Superseded };
            return Some((standing, previous.token.made_at));
        }
        let retired = self.retired.iter().find(|token| is(token))?;
        Some((Standing::Superseded, retired.made_at))
    }

    /// With another token that may follow. The same again changes nothing; another one for the same generation takes its place, for the
    /// one before was never used.
    pub(crate) fn registered(&self, generation: u64, sha256: &str, now: Timestamp) -> Result<Self, Problem> {
        let same_as = |token: &Token| token.generation == generation && token.sha256 == sha256;
        if same_as(&self.active()) || self.pending.as_ref().is_some_and(same_as) {
            return Ok(self.clone());
        }
        if generation != self.generation + 1 || self.knows(sha256) {
            return Err(self.out_of_turn(generation, self.generation + 1));
        }
        Ok(Self { pending: Some(Token::new(generation, sha256, now)), ..self.clone() })
    }

    /// After the first accepted use of the pending token.
    pub(crate) fn activated(&self, now: Now) -> Self {
        let Some(pending) = self.pending.clone() else { return self.clone() };
        let previous = Previous {
            token: self.active(),
            until: now.wall.plus_millis(OVERLAP_MS.cast_signed()),
            until_up_ms: Some(now.up_ms + OVERLAP_MS),
        };
        let retired = self.retire(self.previous.iter().map(|previous| previous.token.clone()));
        Self { previous: Some(previous), retired, ..pending.alone() }
    }

    /// After a recovery: the new token is the active one, and every other is over. The same again changes nothing.
    pub(crate) fn recovered(&self, generation: u64, sha256: &str, now: Timestamp) -> Result<Self, Problem> {
        if self.generation == generation && self.token_sha256 == sha256 {
            return Ok(self.clone());
        }
        if generation < self.next() || self.knows(sha256) {
            return Err(self.out_of_turn(generation, self.next()));
        }
        let over = self.previous.iter().map(|previous| previous.token.clone());
        let retired = self.retire(over.chain([self.active()]).chain(self.pending.clone()));
        Ok(Self { retired, ..Token::new(generation, sha256, now).alone() })
    }

    /// The lowest generation that was never given out.
    pub(crate) fn next(&self) -> u64 {
        self.pending.as_ref().map_or(self.generation, |pending| pending.generation).saturating_add(1)
    }

    fn active(&self) -> Token {
        Token::new(self.generation, &self.token_sha256, self.made_at)
    }

    fn knows(&self, sha256: &str) -> bool {
        let before = self.previous.iter().map(|previous| &previous.token).chain(&self.retired);
        self.token_sha256 == sha256 || before.chain(&self.pending).any(|token| token.sha256 == sha256)
    }

    fn retire(&self, over: impl Iterator<Item = Token>) -> Vec<Token> {
        let mut retired = self.retired.clone();
        retired.extend(over);
        retired.drain(..retired.len().saturating_sub(RETIRED));
        retired
    }

    fn out_of_turn(&self, generation: u64, next: u64) -> Problem {
        let detail = format!(
            "a token of generation {generation} cannot follow generation {}: make a new token of generation {next}",
            self.generation
        );
        Problem::new(Problem::CONFLICT, detail)
    }
}

impl Token {
    fn new(generation: u64, sha256: &str, made_at: Timestamp) -> Self {
        Self { generation, sha256: sha256.to_owned(), made_at }
    }

    /// As the active token of an agent that has no other.
    fn alone(self) -> Tokens {
        Tokens {
            token_sha256: self.sha256,
            generation: self.generation,
            made_at: self.made_at,
            pending: None,
            previous: None,
            retired: vec![],
        }
    }
}

impl Previous {
    /// Whether its overlap goes on. After a restart the wall clock decides; one that was put back ends it.
    fn lasts(&self, now: Now) -> bool {
        match self.until_up_ms {
            Some(until) => now.up_ms < until,
            None => {
                let left = self.until.as_millis().saturating_sub(now.wall.as_millis());
                (1..=OVERLAP_MS.cast_signed()).contains(&left)
            }
        }
    }
}

/// How long the token before stays good: longer than anything that an agent has under way.
const OVERLAP_MS: u64 = 600_000;

/// Retired tokens that are remembered: at one a week, half a year.
const RETIRED: usize = 26;

#[cfg(test)]
mod tests;
