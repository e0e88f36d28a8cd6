//! The durable queue of results on the agent's disk. It stores opaque bytes, gives each a position once it is fsynced, and
//! forgets none of them silently: what it must drop becomes a gap that travels like a result.
//!
//! Knows nothing of results, of the control plane and of clocks; a thread of its own waits for the disk.
//!
//! ```text
//! spool.rs    the handle: append, peek, release, rewind, renumber, status
//! writer.rs   the thread: groups, one fsync each, opening again after a failure
//! queue.rs    the rules: numbering, release, eviction with its gap, rewind, renumber (pure over a Store)
//! census.rs   what is there at opening, and what is missing                      (pure)
//! home.rs     the directory: lock, slots, database, reserve
//! aside.rs    databases that were put aside as damaged
//! manifest.rs the checksums that the database writes and does not read
//! rescue.rs   what a damaged database still tells
//! rewrite.rs  the journals once more, after an fsync that failed
//! space.rs    what room there is, and journals that are given up for it
//! salvage.rs  what somebody from outside may know and take, without changing a byte
//! slot.rs     two files that know the numbering when the database is gone
//! opener.rs   opening on a thread of its own, which may panic or take long
//! fjall.rs    the database                                                       (the only file that names it)
//! ```
//!
//! A crash of the process loses nothing recorded. A power cut loses at most what was not yet recorded.

mod aside;
mod census;
mod command;
mod error;
mod fjall;
mod home;
mod key;
mod manifest;
mod marker;
#[cfg(test)]
mod model;
mod opener;
mod place;
mod probe;
mod queue;
mod rescue;
mod reserve;
mod rewrite;
mod salvage;
mod slot;
mod space;
mod spool;
mod store;
mod types;
mod writer;

pub use error::Error;
pub use salvage::{Facts, Salvaged, inspect, salvage};
pub use spool::Spool;
pub use types::{
    CAPACITY_FLOOR, Disk, ENTRY_LIMIT, Entry, Gap, Loss, Position, Reason, Settings, Status, Stored,
};
