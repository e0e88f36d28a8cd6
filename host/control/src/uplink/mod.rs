//! What agents ask for, a file a concern: who it is (`admission`), how it becomes somebody (`enrolment`), its session, its tokens, its results.
//! Owns the order of the checks on a request; who decides what stands beside: `agents`, `identity::lease`, `ingest`, `assign`, `judge`.

mod admission;
mod enrolment;
mod results;
mod session;
mod token;

use wire::signature::{Asked, Stamp};
use wire::{Mistake, Position, Problem};

use crate::agents::Agent;

/// A request that was signed, as far as its headers go. No `Debug`: it holds the token.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) stamp: Stamp,
    pub(crate) token: String,
    pub(crate) signature: String,
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
}

impl Signed {
    /// What the answer is bound to.
    pub(crate) fn asked(&self, body: &[u8]) -> Asked {
        Asked::new(&self.method, &self.path, body)
    }
}

/// An agent whose request was let in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) agent: Agent,
    /// The last result recorded before its session.
    pub(crate) recorded: Position,
}

/// A body as JSON, or the mistake in it.
pub(crate) fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|e| invalid(vec![Mistake { at: String::new(), message: e.to_string() }]))
}

/// A problem that lists mistakes.
pub(crate) fn invalid(mistakes: Vec<Mistake>) -> Problem {
    let detail = match mistakes.len() {
        1 => "the input has a mistake".to_owned(),
        n => format!("the input has {n} mistakes"),
    };
    Problem { mistakes, ..Problem::new(Problem::INVALID, detail) }
}
