//! The one file that names fjall: the store on the disk, how it is kept small, and what its errors mean for us.
//!
//! One keyspace, because a quiet second one would pin old journals. Every commit is fsynced before it returns. The journal
//! rotates at 64 MB, or before where there is little room (`space.rs`), and at most two exist for long; memory holds a few write
//! buffers of [`WRITE_BUFFER`].

use std::{
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ::fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::{
    manifest,
    opener::Opener,
    space,
    store::{Changes, Fault, Store, Visitor},
};

/// Bytes in memory before they are written as a table. Small: an agent that is cut off should not grow by it.
const WRITE_BUFFER: u64 = 2 * 1024 * 1024;

/// Bytes of tables kept in memory for reading.
const CACHE: u64 = 2 * 1024 * 1024;

/// fjall's lower bound for the journals; the default would be 512 MiB.
const JOURNALS: u64 = 64 * 1024 * 1024;

/// How long a journal may take to become a table before nobody waits for it any more.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// How long opening is waited for before it goes on without us. Reading two full journals takes seconds; a disk may take seconds for
/// each of ten fsyncs. Below the time after which the agent takes its database for stuck.
const PATIENCE: Duration = Duration::from_secs(15);

/// The way to the database in a directory, for as long as the process has that.
pub(crate) struct Door {
    dir: PathBuf,
    opener: Opener<FjallStore>,
    /// Whether a call of the last database panicked: whatever it left locked stays so until the process ends.
    panicked: Arc<AtomicBool>,
}

impl Door {
    /// To this directory; touches nothing yet.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, opener: Opener::default(), panicked: Arc::default() }
    }

    /// Whether an opening is under way: nobody else may touch the files.
    pub(crate) fn is_busy(&self) -> bool {
        self.opener.is_busy()
    }

    /// Opens the database or makes a new one. Blocks for as long as the journal takes to read, but not for ever: what takes longer is an
    /// error now, and given to whoever asks when it is done.
    pub(crate) fn open(&mut self) -> Result<FjallStore, Fault> {
        let (dir, panicked) = (self.dir.clone(), self.panicked.load(Ordering::Relaxed));
        let store = self.opener.open(PATIENCE, move || {
            manifest::check(&dir)?;
            open(dir).map_err(|error| match error {
                fjall::Error::Locked if panicked => {
                    Fault::Damaged("an earlier panic still holds the database".to_owned())
                }
                error => fault(&error),
            })
        })?;
        self.panicked = Arc::clone(&store.panicked);
        Ok(store)
    }
}

/// An open database.
pub(crate) struct FjallStore {
    dir: PathBuf,
    /// None only while it is dropped.
    handles: Option<(Keyspace, Database)>,
    panicked: Arc<AtomicBool>,
}

impl FjallStore {
    /// Opens the database in a directory that nobody else opens.
    pub(crate) fn open(dir: &Path) -> Result<Self, Fault> {
        Door::new(dir.to_owned()).open()
    }

    /// Waits until what the older journals hold is in tables and they are gone, or until that failed, but not for ever.
    pub(crate) fn settle(&self) {
        let begun = Instant::now();
        let outstanding = || {
            self.guarded(|_, database| {
                // Says whether a thread of the database failed.
                database.persist(PersistMode::Buffer)?;
                Ok(database.journal_count() > 1)
            })
        };
        while outstanding().is_ok_and(|outstanding| outstanding) && begun.elapsed() < SETTLE_LIMIT {
            // Nobody tells when it is done.
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Runs one call of the database. It panics on some damaged files; that is damage too.
    fn guarded<T>(&self, call: impl FnOnce(&Keyspace, &Database) -> fjall::Result<T>) -> Result<T, Fault> {
        let (records, database) = self.handles.as_ref().expect("only drop takes them");
        match catch_unwind(AssertUnwindSafe(|| call(records, database))) {
            Ok(result) => result.map_err(|error| match error {
                // Its threads do not tell what they lacked.
                fjall::Error::Poisoned if space::short(&self.dir) => Fault::Full,
                error => fault(&error),
            }),
            Err(panic) => {
                self.panicked.store(true, Ordering::Relaxed);
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                Err(Fault::Damaged(format!("the database panicked: {text}")))
            }
        }
    }
}

impl Drop for FjallStore {
    fn drop(&mut self) {
        if self.panicked.load(Ordering::Relaxed) {
            // Closing would wait for locks that the panic left behind, or panic again.
            std::mem::forget(self.handles.take());
        }
    }
}

impl Store for FjallStore {
    fn commit(&mut self, changes: Changes) -> Result<(), Fault> {
        self.guarded(|records, database| {
            let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(records, key, value),
                    None => batch.remove(records, key),
                }
            }
            batch.commit()
        })
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.guarded(|records, _| Ok(records.get(key)?.map(|value| value.to_vec())))
    }

    fn scan(&self, from: &[u8], visit: &mut Visitor<'_>) -> Result<(), Fault> {
        self.guarded(|records, _| {
            for item in records.range(from..) {
                let (key, value) = item.into_inner()?;
                if visit(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

fn open(dir: PathBuf) -> fjall::Result<FjallStore> {
    let database = Database::builder(&dir)
        .worker_threads(2)
        .cache_size(CACHE)
        .max_cached_files(Some(64))
        .max_journaling_size(JOURNALS)
        .journal_compression(CompressionType::None)
        .open()?;
    let records = database.keyspace("records", || {
        KeyspaceCreateOptions::default().max_memtable_size(WRITE_BUFFER).manual_journal_persist(true)
    })?;
    Ok(FjallStore { dir, handles: Some((records, database)), panicked: Arc::default() })
}

fn fault(error: &fjall::Error) -> Fault {
    match error {
        fjall::Error::Io(io) => io_fault(io),
        fjall::Error::Storage(fjall::LsmError::Io(io)) => io_fault(io),
        // No other process for long: home.rs holds a lock. A child of ours has it between its fork and its exec.
        fjall::Error::Locked => Fault::Failed("something has it open".to_owned()),
        fjall::Error::Poisoned => Fault::Failed("an earlier write failed".to_owned()),
        other => Fault::Damaged(format!("{other:?}")),
    }
}

/// What an error of the file system means for the database. Only what tells that a file is not as it was written is damage: a disk
/// that gives errors may give none the next time, and what it holds is good until it was read and found wanting.
pub(crate) fn io_fault(error: &std::io::Error) -> Fault {
    const NO_FILE_LEFT: [i32; 2] = [23, 24];
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Fault::Full,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Fault::Refused(error.to_string()),
        ErrorKind::UnexpectedEof
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::InvalidData
        | ErrorKind::InvalidInput
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::DirectoryNotEmpty => Fault::Damaged(error.to_string()),
        _ if error.raw_os_error().is_some_and(|code| NO_FILE_LEFT.contains(&code)) => {
            Fault::Refused(error.to_string())
        }
        _ => Fault::Failed(error.to_string()),
    }
}
