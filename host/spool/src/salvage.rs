//! What a directory holds, for a person who looks at it from outside: facts without opening the database, and every entry that can
//! still be read, without changing a byte. The agent need not work any more, and nothing here helps it to.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    ops::ControlFlow,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::{
    aside,
    error::Error,
    fjall::FjallStore,
    key::{self, Record},
    rescue, slot,
    store::{Fault, Store},
    types::Position,
};

/// What the files of a spool tell without being opened as a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The last recorded position, as the slots have it; none when neither can be read.
    pub recorded: Option<Position>,
    /// Everything up to here was released.
    pub acknowledged: Option<Position>,
    /// Seqs after it, gaps counted like entries.
    pub unreleased: u64,
    /// Bytes that the database takes on the disk.
    pub database_bytes: u64,
    /// Bytes of the reserve; 0 when it was freed.
    pub reserve_bytes: u64,
    /// Databases that were put aside as damaged, the newest last.
    pub quarantined: Vec<PathBuf>,
}

/// How much [`salvage`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Entries that were shown.
    pub entries: u64,
    /// Databases that could be opened as such.
    pub opened: u64,
    /// Databases that are damaged: what their journals still tell was shown.
    pub broken: u64,
    /// Why one could not be looked at although nothing says that it is damaged: no place for the copy, or a disk that gives errors. What
    /// its journals tell was shown.
    pub unread: Option<String>,
}

/// Reads the facts of a spool, whether or not a process uses it.
pub fn inspect(dir: &Path) -> Result<Facts, Error> {
    let quarantined = aside::all(dir)?;
    let marker = slot::newest(dir);
    let acknowledged = marker.as_ref().map(|marker| marker.acknowledged);
    let ends = marker.as_ref().map(crate::marker::Marker::ends).unwrap_or_default();
    let after = acknowledged.unwrap_or_default();
    let unreleased = ends
        .range(after.epoch..)
        .map(|(epoch, last)| if *epoch == after.epoch { last.saturating_sub(after.seq) } else { *last });
    Ok(Facts {
        recorded: marker.as_ref().map(crate::marker::Marker::recorded),
        acknowledged,
        unreleased: unreleased.sum(),
        database_bytes: taken(&dir.join("queue")),
        reserve_bytes: taken(&dir.join("reserve")),
        quarantined: quarantined.into_iter().map(|(_, path)| path).collect(),
    })
}

/// Shows every entry that can be read in the database and in what was put aside, released ones included, each position once, in no
/// order. Refused while a process uses the directory. Databases are copied to `scratch` before they are opened, because opening
/// one writes; where that cannot take them, their journals are read alone.
pub fn salvage(
    dir: &Path,
    scratch: &Path,
    show: &mut dyn FnMut(Position, &[u8]) -> io::Result<()>,
) -> Result<Salvaged, Error> {
    let _lock = lock(dir)?;
    let put_aside = aside::all(dir)?;
    let mut salvaged = Salvaged::default();
    let mut seen = HashSet::new();
    let mut failed = None;
    let mut take = |position: Position, value: &[u8]| {
        if let Some(Record::Entry { bytes, .. }) = key::decode(position, value)
            && seen.insert(position)
        {
            salvaged.entries += 1;
            failed = show(position, bytes).err();
        }
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let (mut opened, mut broken, mut unread) = (0, 0, None);
    let databases = std::iter::once(dir.join("queue")).chain(put_aside.into_iter().map(|(_, path)| path));
    for database in databases.filter(|database| database.exists()) {
        match read(&database, scratch, &mut take) {
            Ok(()) => opened += 1,
            Err(fault) => {
                tracing::warn!(%fault, database = %database.display(), "cannot be opened: reading its journals only");
                if matches!(fault, Fault::Damaged(_)) {
                    broken += 1;
                } else {
                    unread = Some(format!("{}: {fault}", database.display()));
                }
            }
        }
        rescue::each(&database, &mut take);
    }
    match failed {
        Some(source) => {
            Err(Error::File { operation: "write what was found in", path: dir.to_owned(), source })
        }
        None => Ok(Salvaged { opened, broken, unread, ..salvaged }),
    }
}

/// Shows the records of a database, by way of a copy.
fn read(
    database: &Path,
    scratch: &Path,
    take: &mut impl FnMut(Position, &[u8]) -> ControlFlow<()>,
) -> Result<(), Fault> {
    let copy = scratch.join(format!("picket-salvage-{}", std::process::id()));
    let uncopied = |error| Fault::Failed(format!("cannot copy it to {}: {error}", scratch.display()));
    let done = copy_all(database, &copy).map_err(uncopied).and_then(|()| {
        let store = FjallStore::open(&copy)?;
        store.scan(key::RECORDS, &mut |key, value| match key::position(key) {
            Some(position) => take(position, value),
            None => ControlFlow::Continue(()),
        })
    });
    // What is left of it is in the place for such things.
    let _ = fs::remove_dir_all(&copy);
    done
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The lock of a directory that nobody uses; none where there never was one. A file that can be read can be locked.
fn lock(dir: &Path) -> Result<Option<File>, Error> {
    let path = dir.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && dir.is_dir() => return Ok(None),
        Err(source) => return Err(Error::File { operation: "read", path, source }),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::File { operation: "lock", path, source }),
    }
}

/// Bytes that a file or directory takes on the disk.
fn taken(path: &Path) -> u64 {
    let Ok(facts) = fs::symlink_metadata(path) else { return 0 };
    if !facts.is_dir() {
        return facts.blocks() * 512;
    }
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| taken(&entry.path())).sum()
}
