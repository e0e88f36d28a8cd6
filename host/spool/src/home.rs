//! The spool's directory: its lock, the slots, the database, and what is put aside. Owns the decision what is damage and what is
//! only in the way, and survives the first without a person.
//!
//! ```text
//! lock            held for the life of the process
//! slot.a slot.b   the marker (slot.rs)
//! queue/          the database (fjall.rs)
//! reserve         room for the database when the disk is full (reserve.rs)
//! quarantine-3/   the newest damaged database, for a person to look at; older ones only until a queue has what they hold
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    error::Error,
    fjall::{Door, FjallStore},
    key,
    marker::{FORMAT, Marker},
    queue::{Limits, Opening, Queue},
    rescue,
    reserve::Reserve,
    rewrite,
    slot::Slots,
    store::{Fault, Store},
    types::{CAPACITY_FLOOR, Position, Settings},
};

/// Where the writer gets its queue from, again when a queue is spent, and where it leaves the marker.
pub(crate) trait Source: Send {
    /// What the queue stands on.
    type Store: Store + Send;

    /// Opens the queue with a new epoch that is on the disk when this returns, or frozen. `reported` as in [`Opening`].
    fn queue(&mut self, reported: Option<Position>) -> Result<Queue<Self::Store>, Error>;

    /// Leaves the marker beside the database.
    fn keep(&mut self, marker: &Marker) -> Result<(), Error>;

    /// Puts on the disk what [`Source::keep`] left.
    fn sync(&mut self) -> Result<(), Error>;

    /// Whether [`Source::sync`] has something to do.
    fn dirty(&self) -> bool;

    /// Databases put aside so far.
    fn quarantined(&self) -> u64;

    /// The marker that was left beside the database, also while that cannot be opened.
    fn known(&self) -> Option<Marker>;

    /// Whether the next full disk stops recording.
    fn low(&self) -> bool;

    /// Whether a database that found no room may find some by now; also where nobody can tell.
    fn room(&self) -> bool;

    /// Now and then: makes the reserve again where there is room for it.
    fn tend(&mut self);
}

/// The directory, locked.
pub(crate) struct Home {
    dir: PathBuf,
    limits: Limits,
    fallback: u64,
    boot: u64,
    slots: Slots,
    marker: Option<Marker>,
    reserve: Reserve,
    door: Door,
    quarantined: u64,
    /// The database was begun by us and did not open whole yet: all that it may hold was put aside before it, and still is.
    begun: bool,
    _lock: File,
}

impl Home {
    /// Makes the directory if it is absent, locks it and reads the slots.
    pub(crate) fn open(settings: &Settings) -> Result<Self, Error> {
        let dir = settings.dir.clone();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|source| failed("create", &dir, source))?;
        let lock = lock(&dir)?;
        let (slots, marker) = Slots::open(&dir)?;
        sync_directory(&dir)?;
        let age_ms = settings.capacity_age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let limits = Limits {
            records: settings.capacity_records,
            bytes: settings.capacity_bytes,
            age_ms,
            floor: CAPACITY_FLOOR,
        };
        let boot = if settings.boot_id.is_empty() { 0 } else { xxh3_64(settings.boot_id.as_bytes()) };
        let reserve = Reserve::open(&dir, settings.reserve_bytes);
        let door = Door::new(dir.join("queue"));
        Ok(Self {
            dir,
            limits,
            fallback: settings.fallback_epoch,
            boot,
            slots,
            marker,
            reserve,
            door,
            quarantined: 0,
            begun: false,
            _lock: lock,
        })
    }

    fn attempt(&mut self, reported: Option<Position>) -> Result<Queue<FjallStore>, Fault> {
        let database = self.dir.join("queue");
        let existed = self.marker.is_some() && database.exists();
        if reported.is_some() && !self.door.is_busy() {
            rewrite::journals(&database)?;
        }
        let mut store = self.door.open()?;
        // Without a marker it is new, its making was interrupted, or fjall dropped what it could not read: records that any
        // journal still holds go in before the marker does.
        if store.value(key::MARKER)?.is_none() {
            let aside = quarantines(&self.dir).map_err(|error| Fault::Failed(error.to_string()))?;
            let aside = aside.into_iter().map(|(_, path)| path);
            for source in aside.chain(existed.then_some(database)) {
                let acknowledged = self.marker.as_ref().map_or(Position::START, |marker| marker.acknowledged);
                let rescued = rescue::journals(&source, acknowledged, &mut store)?;
                tracing::warn!(from = %source.display(), rescued, "took records out of a damaged database");
            }
        }
        let opening = Opening {
            limits: self.limits,
            known: self.marker.as_ref(),
            fallback: self.fallback,
            reported,
            boot: self.boot,
        };
        Queue::open(store, opening)
    }

    /// Opens the database; where the disk is full, in the room of the reserve.
    fn attempt_with_room(&mut self, reported: Option<Position>) -> Result<Queue<FjallStore>, Fault> {
        self.reserve.free_if_short();
        let opened = self.attempt(reported);
        let full = match &opened {
            Ok(queue) => queue.frozen(),
            Err(fault) => matches!(fault, Fault::Full),
        };
        if !full || !self.reserve.free() {
            return opened;
        }
        drop(opened);
        self.attempt(reported)
    }

    /// Renames the database to the next `quarantine-<n>`. One that was begun after the last and never opened whole holds nothing of
    /// its own, and goes.
    fn quarantine(&mut self) -> Result<(), Error> {
        let from = self.dir.join("queue");
        if self.begun {
            return fs::remove_dir_all(&from).map_err(|source| failed("remove", &from, source));
        }
        let n = quarantines(&self.dir)?.last().map_or(1, |(n, _)| n + 1);
        failpoint::hit("spool.quarantine.begin");
        let to = self.dir.join(format!("quarantine-{n}"));
        #[expect(
            clippy::disallowed_methods,
            reason = "a directory has no A/B slots, and the parent is fsynced below"
        )]
        fs::rename(&from, &to).map_err(|source| failed("rename", &from, source))?;
        sync_directory(&self.dir)?;
        failpoint::hit("spool.quarantine.renamed");
        self.begun = true;
        self.quarantined += 1;
        Ok(())
    }

    /// A queue has what was put aside, as far as it could be read: the newest stays as evidence, and more would only fill the disk.
    fn forget_earlier(&mut self) {
        self.begun = false;
        let mut aside = quarantines(&self.dir).unwrap_or_default();
        aside.pop();
        for (_, path) in aside {
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(%error, path = %path.display(), "a database that was put aside cannot be removed");
            }
        }
    }

    fn error(&self, fault: Fault) -> Error {
        match fault {
            Fault::Full => Error::Full,
            Fault::Newer(found) => Error::Newer { dir: self.dir.clone(), found, known: FORMAT },
            Fault::Refused(reason) | Fault::Failed(reason) => Error::Store { operation: "open", reason },
            Fault::Damaged(reason) => Error::Damaged { reason },
        }
    }
}

impl Source for Home {
    type Store = FjallStore;

    fn queue(&mut self, reported: Option<Position>) -> Result<Queue<FjallStore>, Error> {
        let mut opened = self.attempt_with_room(reported);
        if let Err(Fault::Damaged(reason)) = &opened {
            tracing::error!(dir = %self.dir.display(), reason, "the spool's database is damaged: putting it aside");
            self.quarantine()?;
            opened = self.attempt_with_room(reported);
        }
        let queue = opened.map_err(|fault| self.error(fault))?;
        self.keep(queue.marker())?;
        self.sync()?;
        self.forget_earlier();
        Ok(queue)
    }

    fn keep(&mut self, marker: &Marker) -> Result<(), Error> {
        self.slots.write(marker)?;
        failpoint::hit("spool.slot.written");
        self.marker = Some(marker.clone());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.slots.sync()
    }

    fn dirty(&self) -> bool {
        self.slots.dirty()
    }

    fn quarantined(&self) -> u64 {
        self.quarantined
    }

    fn known(&self) -> Option<Marker> {
        self.marker.clone()
    }

    fn low(&self) -> bool {
        self.reserve.missing()
    }

    fn room(&self) -> bool {
        self.reserve.room()
    }

    fn tend(&mut self) {
        self.reserve.make();
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(|source| failed("create", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock", &path, source)),
    }
}

/// The databases that were put aside, the oldest first.
pub(crate) fn quarantines(dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let entries = fs::read_dir(dir).map_err(|source| failed("read", dir, source))?;
    let directories =
        entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let numbered = directories.filter_map(|entry| {
        let n = entry.file_name().to_str()?.strip_prefix("quarantine-")?.parse().ok()?;
        Some((n, entry.path()))
    });
    let mut numbered = numbered.collect::<Vec<_>>();
    numbered.sort();
    Ok(numbered)
}

fn sync_directory(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| failed("write", dir, source))
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { operation, path: path.to_owned(), source }
}
