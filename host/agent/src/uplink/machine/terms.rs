//! What the machine is told and what it says. Values only.

use std::time::Duration;

use wire::Position;
use wire::results::Lane;

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

/// A hello and its welcome.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Greeting {
    /// What the hello declared as buffered.
    pub(crate) mark: Position,
    /// The last result that was recorded then.
    pub(crate) recorded: Position,
    /// Whether anything waited to be sent.
    pub(crate) backlog: bool,
    /// The control plane has everything up to here.
    pub(crate) cursor: Position,
    /// The last position that it has at all.
    pub(crate) seen: Position,
    /// It asks for other positions.
    pub(crate) renumber: bool,
}

/// Where the next batch comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// Its lane.
    pub(crate) lane: Lane,
    /// It begins after this position.
    pub(crate) after: Position,
    /// Records at most; at least 1.
    pub(crate) limit: usize,
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
    /// Signed: there is too much to do, and when to come again.
    Busy(Duration),
    /// The same from whoever stands in between, so that it can only lengthen a wait.
    Later(Duration),
    /// Signed: anything else.
    Refused,
}

/// What to tell the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Forget everything up to here.
    pub(crate) release: Option<Position>,
    /// The control plane has less than we released: offer again what is still held after here. Until that is said to be done there is
    /// no session.
    pub(crate) rewind: Option<Position>,
    /// The control plane has positions that were not given here: give what is still held others, above this one.
    pub(crate) renumber: Option<Position>,
    /// The cursor made no sense.
    pub(crate) odd: bool,
    /// The cursor lies beyond all that was ever recorded here: nothing is released, and a hello settles it.
    pub(crate) later_life: bool,
}
