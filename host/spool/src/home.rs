//! The spool's directory: its lock, the slots, the database, and what is put aside. Owns the decision what is damage and what is
//! only in the way, and survives the first without a person.
//!
//! ```text
//! lock            held for the life of the process
//! slot.a slot.b   the marker (slot.rs)
//! queue/          the database (fjall.rs)
//! reserve         room for the database when the disk is full (reserve.rs)
//! quarantine-3/   the newest damaged database, for a person to look at; older ones only until a queue has what they hold,
//!                 and none where there is little room
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    aside,
    error::Error,
    fjall::{Door, FjallStore},
    key,
    marker::{FORMAT, Marker},
    queue::{Limits, Opening, Queue},
    rescue,
    reserve::Reserve,
    rewrite,
    slot::Slots,
    space::{self, Room},
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

    /// What was written last may not be on the disk although it can be read: the queue failed.
    fn doubt(&mut self);

    /// Whether the next full disk stops recording.
    fn low(&self) -> bool;

    /// Whether a database that found no room may find some by now; also where nobody can tell.
    fn room(&self) -> bool;

    /// How much room there is. Cheap.
    fn space(&self) -> Room;

    /// Now and then, while a queue is open: makes the reserve again where there is room for it, and gives evidence away where there is
    /// little.
    fn tend(&mut self);
}

/// Gaps that keep their reasons.
const GAPS: usize = 1000;

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
    /// The last fsync may have failed, and the journals are to be written anew.
    doubted: bool,
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
            gaps: GAPS,
        };
        let boot = if settings.boot_id.is_empty() { 0 } else { xxh3_64(settings.boot_id.as_bytes()) };
        let reserve = Reserve::open(&dir, settings.reserve_bytes);
        let door = Door::new(dir.join("queue"));
        space::warn_if_small(&dir, reserve.held());
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
            doubted: false,
            _lock: lock,
        })
    }

    fn attempt(&mut self, reported: Option<Position>) -> Result<Queue<FjallStore>, Fault> {
        let database = self.database();
        let busy = self.door.is_busy();
        if self.begun && !busy && fs::remove_dir_all(&database).is_ok() {
            // An attempt that found no room would only take room from the next one.
            self.doubted = false;
        }
        let existed = self.marker.is_some() && database.exists();
        if self.doubted && !busy {
            rewrite::journals(&database)?;
            self.doubted = false;
        }
        // Without room for a file there is none for what it is to give either.
        let sealed = !busy && Room::of(&database, 0) == Room::InJournals && space::seal(&database).is_ok();
        let mut store = self.door.open()?;
        // From here on it is written to.
        self.doubted = true;
        if sealed {
            store.settle();
        }
        // Without a marker it is new, its making was interrupted, or fjall dropped what it could not read: records that any
        // journal still holds go in before the marker does.
        if store.value(key::MARKER)?.is_none() {
            let put_aside = aside::all(&self.dir).map_err(|error| Fault::Failed(error.to_string()))?;
            let put_aside = put_aside.into_iter().map(|(_, path)| path);
            for source in put_aside.chain(existed.then_some(database)) {
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
        Queue::open(store, opening).inspect(|queue| self.doubted = queue.frozen())
    }

    fn database(&self) -> PathBuf {
        self.dir.join("queue")
    }

    /// Opens the database; where the disk is full, in the room of the reserve.
    fn attempt_with_room(&mut self, reported: Option<Position>) -> Result<Queue<FjallStore>, Fault> {
        self.reserve.free_if_short();
        if Room::of(&self.database(), self.reserve.held()) == Room::InJournals
            && !space::enough(&self.database())
        {
            self.reserve.free();
        }
        let mut opened = self.attempt(reported);
        while match &opened {
            Ok(queue) => queue.frozen(),
            Err(fault) => matches!(fault, Fault::Full),
        } && (self.reserve.free() || aside::drop_tables(&self.dir))
        {
            drop(opened);
            opened = self.attempt(reported);
        }
        opened
    }

    /// Puts the database aside. One that was begun after the last and never opened whole holds nothing of its own, and goes.
    fn quarantine(&mut self) -> Result<(), Error> {
        let database = self.database();
        if self.begun {
            return fs::remove_dir_all(&database).map_err(|source| failed("remove", &database, source));
        }
        aside::put(&self.dir, &database)?;
        self.begun = true;
        self.quarantined += 1;
        Ok(())
    }

    /// A queue has what was put aside, as far as it could be read: the newest stay as evidence, so many of them, and more would only
    /// fill the disk.
    fn forget(&mut self, but: usize) {
        self.begun = false;
        aside::keep(&self.dir, but);
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
        let mut queue = opened.map_err(|fault| self.error(fault))?;
        self.keep(queue.marker())?;
        self.sync()?;
        if queue.frozen() && queue.idle() {
            // Only its room is of use any more. A crash leaves the slots, which know that all of it was released.
            tracing::warn!(dir = %self.dir.display(), "no room is left: giving up the spool's database, all of it is acknowledged");
            drop(queue);
            let database = self.database();
            fs::remove_dir_all(&database).map_err(|source| failed("remove", &database, source))?;
            queue = self.attempt_with_room(reported).map_err(|fault| self.error(fault))?;
            self.keep(queue.marker())?;
            self.sync()?;
        }
        self.forget(1);
        Ok(queue)
    }

    fn doubt(&mut self) {
        self.doubted = true;
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

    fn space(&self) -> Room {
        Room::of(&self.database(), self.reserve.held())
    }

    fn tend(&mut self) {
        self.reserve.make();
        if self.space() != Room::Plenty {
            self.forget(0);
        }
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

fn sync_directory(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| failed("write", dir, source))
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { operation, path: path.to_owned(), source }
}
