//! The two clocks, as a value: tests bend them.

use std::sync::Arc;
use std::time::Instant;

use wire::Timestamp;

/// What both clocks say at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Now {
    /// For people and for what outlives a restart; may jump.
    pub wall: Timestamp,
    /// Milliseconds since the control plane started; never jumps. For leases, nonces and presence.
    pub up_ms: u64,
}

/// Reads the clocks.
pub(crate) type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// The machine's own.
pub(crate) fn system() -> Clock {
    let started = Instant::now();
    Arc::new(move || Now {
        wall: jiff::Timestamp::now().into(),
        up_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}
