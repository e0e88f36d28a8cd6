//! The values that go in and come out: settings, entries, positions, gaps, status. Decides nothing.

use std::{path::PathBuf, time::Duration};

/// Bytes of one entry at most. A result is below 1 KiB; this leaves room for its evidence.
pub const ENTRY_LIMIT: usize = 1024 * 1024;

/// Unreleased entries that always fit, whatever the settings.
pub const CAPACITY_FLOOR: u64 = 10_000;

/// Where the spool lives and how much it keeps.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its own directory, made with mode 0700 if absent: the database, the two slots, the reserve, at most one quarantined
    /// database.
    pub dir: PathBuf,
    /// Entries that wait together before a commit starts without waiting for [`Settings::group_wait`]. Default 64, from 1.
    pub group: usize,
    /// Time between two commits as long as fewer than [`Settings::group`] entries wait. An entry that comes later than this
    /// after the previous commit is committed at once. Default 100 ms: this is what a power cut may cost.
    pub group_wait: Duration,
    /// Entries held at most, acknowledged ones included. Default 1,000,000, at least 10,000.
    pub capacity_records: u64,
    /// Bytes held at most, acknowledged ones included, 64 bytes of overhead an entry counted in. Default 512 MiB, at least
    /// 16 MiB. The newest 10,000 unreleased entries stay even above it. The disk holds up to 128 MiB of journal and one
    /// quarantined database beside it.
    pub capacity_bytes: u64,
    /// Entries older than this go when a new one comes, by [`Entry::at_ms`] of both; the newest 10,000 unreleased entries stay
    /// at any age, so that a clock that jumps costs little. Default none.
    pub capacity_age: Option<Duration>,
    /// Bytes on the disk that are kept from everybody, to be given to the database when the disk is full: it needs room to
    /// record, to be opened and to shrink. At most a quarter of what is free is taken. Default 32 MiB; 0 keeps none.
    pub reserve_bytes: u64,
    /// Names the boot of the machine, to tell a loss that a power cut explains from one that it does not. Default empty: not
    /// known.
    pub boot_id: String,
    /// The epoch to start with when nothing on the disk says which were used before: give the wall clock's seconds, so that
    /// an epoch is not used twice even when the whole directory was lost. Default 1.
    pub fallback_epoch: u64,
    /// How long the disk may take before a full queue in memory is an error and no longer patience. Default 10 s.
    pub stall: Duration,
}

impl Settings {
    /// The defaults in this directory.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), ..Self::default() }
    }
}

impl Default for Settings {
    /// As documented at the fields, in the directory `spool`.
    fn default() -> Self {
        Self {
            dir: PathBuf::from("spool"),
            group: 64,
            group_wait: Duration::from_millis(100),
            capacity_records: 1_000_000,
            capacity_bytes: 512 * 1024 * 1024,
            capacity_age: None,
            reserve_bytes: 32 * 1024 * 1024,
            boot_id: String::new(),
            fallback_epoch: 1,
            stall: Duration::from_secs(10),
        }
    }
}

/// What the agent records: bytes that the spool does not read, and two facts that a gap will tell about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Wall clock in milliseconds since 1970, for gaps only. Orders nothing.
    pub at_ms: i64,
    /// Whether it says that a target is down, for the count in a gap.
    pub down: bool,
    /// At most [`ENTRY_LIMIT`].
    pub bytes: Vec<u8>,
}

/// A place in the order of everything ever recorded. An epoch is one opening of the spool; seq is dense from 1 within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Which opening; grows, with holes.
    pub epoch: u64,
    /// Which entry of it; 0 stands before the first.
    pub seq: u64,
}

impl Position {
    /// Before everything.
    pub const START: Self = Self { epoch: 0, seq: 0 };

    /// This position.
    pub fn new(epoch: u64, seq: u64) -> Self {
        Self { epoch, seq }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}

/// Why entries are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The spool was full; they were the oldest.
    Evicted,
    /// The disk lost or changed them.
    Corrupt,
    /// They were acknowledged and made room; then the control plane asked for them again.
    Released,
    /// The disk was full or refused to be written, and so did what holds results in memory meanwhile.
    Enospc,
    /// It was larger than [`ENTRY_LIMIT`].
    Rejected,
    /// The disk was slower than the results came.
    SlowDisk,
    /// The newest were gone after the machine had ended without closing the spool: the disk had not kept what it said it kept.
    Power,
}

impl Reason {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Corrupt => "corrupt",
            Self::Released => "released",
            Self::Enospc => "enospc",
            Self::Rejected => "rejected",
            Self::SlowDisk => "slow_disk",
            Self::Power => "power",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Entries that were never recorded, and are to become a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub reason: Reason,
    /// How many; from 1.
    pub count: u64,
    /// [`Entry::at_ms`] of the first.
    pub first_at_ms: i64,
    /// [`Entry::at_ms`] of the last.
    pub last_at_ms: i64,
    /// How many were down.
    pub down: u64,
}

impl Loss {
    /// Of one entry.
    pub fn of(entry: &Entry, reason: Reason) -> Self {
        Self {
            reason,
            count: 1,
            first_at_ms: entry.at_ms,
            last_at_ms: entry.at_ms,
            down: u64::from(entry.down),
        }
    }

    /// This one and a later one of the same reason.
    pub fn and(self, later: Self) -> Self {
        Self {
            count: self.count + later.count,
            last_at_ms: later.last_at_ms,
            down: self.down + later.down,
            ..self
        }
    }
}

/// Entries of one epoch that will never come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Their epoch.
    pub epoch: u64,
    /// First missing seq.
    pub from: u64,
    /// Last missing seq.
    pub to: u64,
    /// Why.
    pub reason: Reason,
    /// [`Entry::at_ms`] of the first; none when that is lost too.
    pub first_at_ms: Option<i64>,
    /// [`Entry::at_ms`] of the last.
    pub last_at_ms: Option<i64>,
    /// How many were down, when it is known.
    pub down: Option<u64>,
}

impl Gap {
    /// Of its first missing entry.
    pub fn start(&self) -> Position {
        Position::new(self.epoch, self.from)
    }

    /// Of its last missing entry: what a release must name to release it.
    pub fn position(&self) -> Position {
        Position::new(self.epoch, self.to)
    }
}

/// What [`crate::Spool::peek`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// An entry as it was recorded.
    Entry {
        /// Where it stands.
        position: Position,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A hole in the seqs.
    Gap(Gap),
}

impl Stored {
    /// Its last position: give this to the next [`crate::Spool::peek`], or to [`crate::Spool::release`].
    pub fn position(&self) -> Position {
        match self {
            Self::Entry { position, .. } => *position,
            Self::Gap(gap) => gap.position(),
        }
    }
}

/// How it stands with room on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disk {
    /// Entries are recorded, and the reserve stands by.
    #[default]
    Good,
    /// Entries are recorded, but no reserve stands by: the next full disk stops recording.
    Low,
    /// Nothing can be recorded; what is there can be read and released. Tried again every few seconds.
    Full,
    /// Nothing can be recorded or read. Tried again every few seconds.
    Unusable,
}

/// How the spool is. Read without waiting for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The current epoch; 0 while it is not known. It grows within a process only when the database had to be opened again, or
    /// at a renumbering.
    pub epoch: u64,
    /// The last recorded (fsynced) entry; seq 0 when this epoch has none yet.
    pub recorded: Position,
    /// Everything up to here was released.
    pub acknowledged: Position,
    /// Entries recorded and not yet released. Gaps are not counted.
    pub pending: u64,
    /// Gaps not yet released.
    pub gaps: u64,
    /// Entries on the disk, the released ones included.
    pub held: u64,
    /// Their bytes, with 64 of overhead each.
    pub bytes: u64,
    /// Unreleased entries evicted since the start of the process.
    pub evicted: u64,
    /// Databases put aside as damaged since the start of the process.
    pub quarantined: u64,
    /// Times that the database was opened again within the process: after it refused to write, or so that it takes less room.
    pub reopened: u64,
    /// Room on the disk.
    pub disk: Disk,
    /// How long the operation under way takes by now; zero when none is. Above some seconds: the disk hangs.
    pub busy: Duration,
}
