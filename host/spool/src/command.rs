//! What the handles and the writer thread say to each other.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    error::Error,
    types::{Entry, Loss, Position, Stored},
};

/// Where the answer to a command goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What the public handle asks for.
pub(crate) enum Command {
    /// Record this; answered after the fsync. The permit bounds what waits in memory.
    Append { entry: Entry, reply: Reply<Position>, permit: OwnedSemaphorePermit },
    /// Give entries that were never recorded their positions.
    Lose { loss: Loss, reply: Reply<()> },
    /// Move the acknowledged position; goes with the next group.
    Release { upto: Position, reply: Reply<()> },
    /// Read.
    Peek { after: Position, limit: usize, reply: Reply<Vec<Stored>> },
    /// Move the acknowledged position back.
    Rewind { to: Position, reply: Reply<()> },
    /// Move everything unreleased to a fresh epoch.
    Renumber { above: Position, reply: Reply<()> },
    /// Commit what waits, and end.
    Close { reply: oneshot::Sender<()> },
}

/// Since when the thread has been waiting for the disk; read by the handles without a lock.
#[derive(Debug)]
pub(crate) struct Busy {
    origin: Instant,
    /// Milliseconds after the origin, plus one; 0 when idle.
    since: AtomicU64,
}

impl Busy {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now(), since: AtomicU64::new(0) }
    }

    /// How long the operation under way has taken.
    pub(crate) fn elapsed(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.origin.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.since.store(self.origin.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        let result = work();
        self.since.store(0, Ordering::Relaxed);
        result
    }
}

/// How groups form, and how often a failure is tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Entries that start a commit at once.
    pub(crate) group: usize,
    /// Time since the previous commit after which one entry is enough.
    pub(crate) wait: Duration,
    /// Time between two tries to open a queue that could not be opened again, and between two syncs of the slots.
    pub(crate) pause: Duration,
}
