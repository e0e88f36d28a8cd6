//! The one file that names fjall: the store on the disk, how it is kept small, and what its errors mean for us.
//!
//! One keyspace, because a quiet second one would pin old journals. Every commit is fsynced before it returns. The journal
//! rotates at 64 MB and at most two exist for long; memory holds a few write buffers of [`WRITE_BUFFER`].

use std::{
    io::ErrorKind,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use ::fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::store::{Changes, Fault, Store};

/// Bytes in memory before they are written as a table. Small: an agent that is cut off should not grow by it.
const WRITE_BUFFER: u64 = 2 * 1024 * 1024;

/// Bytes of tables kept in memory for reading.
const CACHE: u64 = 2 * 1024 * 1024;

/// fjall's lower bound for the journals; the default would be 512 MiB.
const JOURNALS: u64 = 64 * 1024 * 1024;

/// An open database.
pub(crate) struct FjallStore {
    records: Keyspace,
    database: Database,
}

impl FjallStore {
    /// Opens the database in this directory or makes a new one. Blocks for as long as the journal takes to read.
    pub(crate) fn open(dir: &Path) -> Result<Self, Fault> {
        guarded(|| {
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
            Ok(Self { records, database })
        })
    }
}

impl Store for FjallStore {
    fn commit(&mut self, changes: Changes) -> Result<(), Fault> {
        guarded(|| {
            let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(&self.records, key, value),
                    None => batch.remove(&self.records, key),
                }
            }
            batch.commit()
        })
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        guarded(|| Ok(self.records.get(key)?.map(|value| value.to_vec())))
    }

    fn scan(&self, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), Fault> {
        guarded(|| {
            for item in self.records.range(from..) {
                let (key, value) = item.into_inner()?;
                if visit(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// Runs one call of the database. It panics on some damaged files; that is damage too.
fn guarded<T>(call: impl FnOnce() -> fjall::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| fault(&error)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(Fault::Damaged(format!("the database panicked: {text}")))
        }
    }
}

fn fault(error: &fjall::Error) -> Fault {
    match error {
        fjall::Error::Io(io) => io_fault(io),
        fjall::Error::Storage(fjall::LsmError::Io(io)) => io_fault(io),
        fjall::Error::Locked => Fault::Refused("another process uses it".to_owned()),
        fjall::Error::Poisoned => Fault::Failed("an earlier write failed".to_owned()),
        other => Fault::Damaged(format!("{other:?}")),
    }
}

fn io_fault(error: &std::io::Error) -> Fault {
    const NO_FILE_LEFT: [i32; 2] = [23, 24];
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Fault::Full,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Fault::Refused(error.to_string()),
        _ if error.raw_os_error().is_some_and(|code| NO_FILE_LEFT.contains(&code)) => {
            Fault::Refused(error.to_string())
        }
        ErrorKind::Interrupted | ErrorKind::OutOfMemory => Fault::Failed(error.to_string()),
        _ => Fault::Damaged(error.to_string()),
    }
}
