//! What the agent is good for at the moment, as the control plane last said with its signature.
//!
//! Owns the word. Who decides it is `uplink::token`; the runner starts runs only while it is [`Duty::Active`]. The spool and the identity
//! are kept in every duty.

/// What the agent does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Duty {
    /// It checks and reports. An agent that cannot reach its control plane, or waits for its owner's approval, checks on.
    #[default]
    Active,
    /// Another device holds this identity: nothing is checked or sent, and a hello asks now and then whether the other fell silent.
    Standby,
    /// The owner revoked it: nothing is checked or sent, and a hello asks once a minute whether it was approved again.
    Revoked,
}

impl Duty {
    /// Whether runs start.
    pub(crate) fn checks(self) -> bool {
        self == Self::Active
    }
}
