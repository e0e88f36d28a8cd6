//! What can go wrong with the spool, one variant an operation. Says nothing of fjall: `fjall.rs` translates.

use std::path::PathBuf;

use crate::Position;

/// Why the spool did not do what it was asked. No message holds an entry's bytes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A limit in the settings contradicts another or the promise of 10,000 entries.
    #[error("spool setting `{key}` is {found}, expected {expected}")]
    Settings {
        /// The field of [`crate::Settings`].
        key: &'static str,
        /// What it was.
        found: u64,
        /// What to write instead.
        expected: &'static str,
    },
    /// Another process holds the directory.
    #[error("spool directory {} is used by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory was written by a newer version. It is left untouched.
    #[error("spool directory {} has format {found}, this version reads up to {known}: install the newer version again, or move the directory away", dir.display())]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// The format on disk.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// A file or directory of the spool could not be read or written: no permission, read-only, no space.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// "create", "read", "write", "lock", "rename".
        operation: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The disk is full. Nothing was recorded; what was recorded before is safe.
    #[error("no space left on the disk of the spool")]
    Full,
    /// The database refused or failed, and did so again after it was opened anew. Nothing was recorded.
    #[error("cannot {operation} the spool's database: {reason}")]
    Store {
        /// "open", "read", "commit".
        operation: &'static str,
        /// The database's own words.
        reason: String,
    },
    /// What the database holds is not what was written.
    #[error("the spool's database is damaged: {reason}")]
    Damaged {
        /// The database's own words, or what does not fit.
        reason: String,
    },
    /// An entry is larger than [`crate::ENTRY_LIMIT`]. It got no seq.
    #[error("entry has {size} bytes, expected at most {limit}")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// A release beyond what was recorded. Nothing was released.
    #[error("cannot release up to {upto}: only {recorded} was recorded")]
    Beyond {
        /// What was asked for.
        upto: Position,
        /// The last recorded position.
        recorded: Position,
    },
    /// The disk did not answer for longer than [`crate::Settings::stall`], and the queue in memory is full.
    #[error("the spool's disk does not answer for {seconds} s")]
    Stalled {
        /// For how long.
        seconds: u64,
    },
    /// The spool was closed, or its writer thread ended.
    #[error("the spool is closed")]
    Closed,
}

impl Error {
    /// Whether neither time nor room on the disk helps: a mistake, another process, a newer version.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Settings { .. } | Self::InUse { .. } | Self::Newer { .. })
    }
}
