//! Who this agent is: its key, its token and the control plane's key that it trusts.
//!
//! An identity is never deleted, and always wins over a setup token. How it lies on disk is `slot`'s, how it comes to be is `enroll`'s,
//! what it keeps while it runs is `keeper`'s, and when a new token is made is `rotation`'s.

use std::fmt;
use std::path::Path;

use ed25519_dalek::{SigningKey, VerifyingKey};
use uuid::Uuid;
use wire::AgentId;
use zeroize::Zeroizing;

use crate::Error;
use crate::slots::{Slots, Stored};
use keeper::{Kept, Token};

pub(crate) mod enroll;
pub(crate) mod keeper;
pub(crate) mod rotation;
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
    Active(Box<Kept>),
}

/// An identity as it was read.
pub(crate) struct Loaded {
    pub(crate) slots: Slots,
    pub(crate) state: State,
    /// Whether damage to one slot would leave another state than this one, or none.
    pub(crate) frail: bool,
}

/// Reads the identity of the data directory `data`.
pub(crate) fn load(data: &Path) -> Result<Loaded, Error> {
    let directory = data.join("identity");
    let damaged = |problem: &str| Error::Damaged { path: directory.clone(), problem: problem.to_owned() };
    let (slots, stored) =
        Slots::open(directory.clone(), slot::KIND).map_err(|source| Error::NotWritable {
            path: directory.clone(),
            remedy: "the agent must be able to read its own identity".to_owned(),
            source,
        })?;
    let mut frail = false;
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
            let mut states = payloads.iter().filter_map(|payload| slot::decode(payload));
            let newest = states.next().ok_or_else(|| {
                damaged("the slots hold something that is no identity: restore them from a backup")
            })?;
            let alike = |other| std::mem::discriminant(&other) == std::mem::discriminant(&newest);
            frail = !states.next().is_some_and(alike);
            newest
        }
    };
    Ok(Loaded { slots, state, frail })
}

impl Enrolling {
    /// A new key, token and enrolment.
    pub(crate) fn new() -> Self {
        Self { enrollment_id: Uuid::new_v4(), token: secret(), key: SigningKey::from_bytes(&random()) }
    }
}

impl Identity {
    /// The same device with another token.
    pub(crate) fn with(&self, token: &Token) -> Self {
        let Self { agent, name, location, key, server_key, fresh, .. } = self;
        Self {
            agent: *agent,
            name: name.clone(),
            location: location.clone(),
            generation: token.generation,
            token: token.token.clone(),
            key: key.clone(),
            server_key: *server_key,
            fresh: *fresh,
        }
    }
}

/// Makes a state durable.
fn store(slots: &mut Slots, payload: &[u8]) -> Result<(), Error> {
    let path = slots.directory().to_owned();
    slots.store(payload).map_err(|source| Error::NotWritable {
        path,
        remedy: "an agent that cannot keep its identity makes no new one".to_owned(),
        source,
    })
}

/// A new token: 256 random bits, hexadecimal.
fn secret() -> Zeroizing<String> {
    Zeroizing::new(hex::encode(&random()[..]))
}

fn random() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut bytes[..]).expect("the kernel gives randomness on every system that we run on");
    bytes
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} {} of {})", self.agent, self.name, self.location)
    }
}
