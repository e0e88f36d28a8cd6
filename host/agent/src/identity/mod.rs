//! Who this agent is: its key, its token and the control plane's key that it trusts.
//!
//! An identity is never deleted, and always wins over a setup token. How it lies on disk is `slot`'s, how it comes to be is `enroll`'s.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::{SigningKey, VerifyingKey};
use uuid::Uuid;
use wire::AgentId;
use zeroize::Zeroizing;

use crate::Error;
use crate::slots::{Slots, Stored};

pub(crate) mod enroll;
pub(crate) mod slot;

/// An enrolled agent.
pub(crate) struct Identity {
    /// Given by the control plane.
    pub(crate) agent: AgentId,
    /// As given to `picket agents create`.
    pub(crate) name: String,
    /// Where it watches from.
    pub(crate) location: String,
    /// Of the token.
    pub(crate) generation: u64,
    /// Made here; travels in the `authorization` header.
    pub(crate) token: Zeroizing<String>,
    /// The device key; never leaves the data directory.
    pub(crate) key: SigningKey,
    /// The control plane's, pinned at enrolment.
    pub(crate) server_key: VerifyingKey,
    /// Enrolled in this start: nothing was ever recorded under this id. Not on disk.
    pub(crate) fresh: bool,
}

/// An enrolment that was begun, on disk before anything was said.
pub(crate) struct Enrolling {
    /// The same in every attempt.
    pub(crate) enrollment_id: Uuid,
    /// Becomes the token of generation 1.
    pub(crate) token: Zeroizing<String>,
    /// The device key.
    pub(crate) key: SigningKey,
}

/// What the identity's slots hold.
pub(crate) enum State {
    /// Nothing was begun.
    New,
    /// Begun, no answer yet.
    Enrolling(Box<Enrolling>),
    /// Enrolled.
    Active(Arc<Identity>),
}

/// Reads the identity of the data directory `data`.
pub(crate) fn load(data: &Path) -> Result<(Slots, State), Error> {
    let directory = data.join("identity");
    let damaged = |problem: &str| Error::Damaged { path: directory.clone(), problem: problem.to_owned() };
    let (slots, stored) =
        Slots::open(directory.clone(), slot::KIND).map_err(|source| Error::NotWritable {
            path: directory.clone(),
            remedy: "the agent must be able to read its own identity".to_owned(),
            source,
        })?;
    let state = match stored {
        // One damaged file alone is a first write that was cut: nothing had been said yet.
        Stored::Nothing | Stored::Damaged { both: false } => State::New,
        Stored::Damaged { both: true } => {
            return Err(damaged(
                "both slots are damaged: restore them from a backup, or move the directory away and enrol with a new setup token",
            ));
        }
        Stored::Newer { path, format } => return Err(Error::newer(path, format)),
        Stored::Valid(payloads) => {
            payloads.iter().find_map(|payload| slot::decode(payload)).ok_or_else(|| {
                damaged("the slots hold something that is no identity: restore them from a backup")
            })?
        }
    };
    Ok((slots, state))
}

impl Enrolling {
    /// A new key, token and enrolment.
    pub(crate) fn new() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        let mut token = Zeroizing::new([0; 32]);
        getrandom::fill(&mut seed[..]).expect("the kernel gives randomness on every system that we run on");
        getrandom::fill(&mut token[..]).expect("the kernel gives randomness on every system that we run on");
        Self {
            enrollment_id: Uuid::new_v4(),
            token: Zeroizing::new(hex::encode(&token[..])),
            key: SigningKey::from_bytes(&seed),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} {} of {})", self.agent, self.name, self.location)
    }
}
