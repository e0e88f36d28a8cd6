//! The one file that names fjall: the store on the disk, how it is kept small, and what its errors mean for us.
//!
//! One keyspace, because a quiet second one would pin old journals. Every commit is fsynced before it returns. The journal
//! rotates at 64 MB and at most two exist for long; memory holds a few write buffers of [`WRITE_BUFFER`].

use std::{
    cell::{Cell, RefCell},
    io::ErrorKind,
    panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind},
    path::{Path, PathBuf},
    sync::{Once, mpsc},
    thread,
    time::Duration,
};

use ::fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::{
    manifest,
    store::{Changes, Fault, Store, Visitor},
};

/// Bytes in memory before they are written as a table. Small: an agent that is cut off should not grow by it.
const WRITE_BUFFER: u64 = 2 * 1024 * 1024;

/// Bytes of tables kept in memory for reading.
const CACHE: u64 = 2 * 1024 * 1024;

/// fjall's lower bound for the journals; the default would be 512 MiB.
const JOURNALS: u64 = 64 * 1024 * 1024;

/// How long opening may take. Reading two full journals takes seconds; a disk may take seconds for each of ten fsyncs.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// An open database.
pub(crate) struct FjallStore {
    /// None only while it is dropped.
    handles: Option<(Keyspace, Database)>,
    panicked: Cell<bool>,
}

impl FjallStore {
    /// Opens the database in this directory or makes a new one. Blocks for as long as the journal takes to read.
    ///
    /// It runs on a thread of its own, because some damage makes fjall panic in a state in which unwinding panics again and
    /// would end the process, at each start anew. Such a thread is stopped for ever where it panicked; so is one that hangs.
    /// The directory stays locked by it and can only be put aside.
    pub(crate) fn open(dir: &Path) -> Result<Self, Fault> {
        let dir = dir.to_owned();
        let (sender, opened) = mpsc::channel();
        let panicked = sender.clone();
        let work = move || {
            stop_here_on_panic(move |reason| drop(panicked.send(Err(Fault::Damaged(reason)))));
            // Nobody waits any more only if it took too long: then it is closed again.
            drop(sender.send(manifest::check(&dir).and_then(|()| open(dir).map_err(|error| fault(&error)))));
        };
        let spawned = thread::Builder::new().name("spool-open".to_owned()).spawn(work);
        spawned.map_err(|error| Fault::Refused(error.to_string()))?;
        let late = |_| Err(Fault::Damaged(format!("the database did not open within {OPEN_LIMIT:?}")));
        opened.recv_timeout(OPEN_LIMIT).unwrap_or_else(late)
    }

    /// Runs one call of the database. It panics on some damaged files; that is damage too.
    fn guarded<T>(&self, call: impl FnOnce(&Keyspace, &Database) -> fjall::Result<T>) -> Result<T, Fault> {
        let (records, database) = self.handles.as_ref().expect("only drop takes them");
        match catch_unwind(AssertUnwindSafe(|| call(records, database))) {
            Ok(result) => result.map_err(|error| fault(&error)),
            Err(panic) => {
                self.panicked.set(true);
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                Err(Fault::Damaged(format!("the database panicked: {text}")))
            }
        }
    }
}

impl Drop for FjallStore {
    fn drop(&mut self) {
        if self.panicked.get() {
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
    let database = Database::builder(dir)
        .worker_threads(2)
        .cache_size(CACHE)
        .max_cached_files(Some(64))
        .max_journaling_size(JOURNALS)
        .journal_compression(CompressionType::None)
        .open()?;
    let records = database.keyspace("records", || {
        KeyspaceCreateOptions::default().max_memtable_size(WRITE_BUFFER).manual_journal_persist(true)
    })?;
    Ok(FjallStore { handles: Some((records, database)), panicked: Cell::new(false) })
}

/// If the current thread panics from here on, it reports and stops instead of unwinding. Other threads are not concerned.
fn stop_here_on_panic(report: impl FnOnce(String) + 'static) {
    static HOOK: Once = Once::new();
    REPORT.set(Some(Box::new(report)));
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| match REPORT.try_with(RefCell::take).ok().flatten() {
            Some(report) => stop(report, info),
            None => others(info),
        }));
    });
}

fn stop(report: Report, info: &PanicHookInfo<'_>) {
    report(format!("the database panicked: {}", info.payload_as_str().unwrap_or("no message")));
    loop {
        thread::park();
    }
}

type Report = Box<dyn FnOnce(String)>;

thread_local! {
    static REPORT: RefCell<Option<Report>> = const { RefCell::new(None) };
}

fn fault(error: &fjall::Error) -> Fault {
    match error {
        fjall::Error::Io(io) => io_fault(io),
        fjall::Error::Storage(fjall::LsmError::Io(io)) => io_fault(io),
        // No other process: home.rs holds a lock. Only one of our threads that stopped can have it.
        fjall::Error::Locked => Fault::Damaged("an earlier panic still holds the database".to_owned()),
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
