//! Names of things: identifiers and the position of a result in an agent's history.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id! {
    /// An agent: given by the control plane at enrolment, kept for ever.
    AgentId
}
id! {
    /// A monitor: a monitor that is deleted and made again under the same name is another one.
    MonitorId
}
id! {
    /// A result: UUIDv7, made by the agent when the run ended.
    ResultId
}

/// Where a result stands in the history of its agent.
///
/// The epoch grows by one with every start of the agent and is on disk before its first result; `seq` is dense from 1 within it.
/// Position 0/0 stands before everything.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
pub struct Position {
    /// Number of the agent's start.
    pub epoch: u64,
    /// Number within the epoch, from 1.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}
