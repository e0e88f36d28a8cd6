//! Where a database takes little room: what the file system still has, and the journals, which fjall gives up only at 64 MB each. On a
//! small volume they would fill it with what was acknowledged long ago. A journal that is not the newest when the database is
//! opened goes as soon as what it holds is in tables: a few MiB at most, for the rest is there already.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::statvfs;

use crate::types::CAPACITY_FLOOR;

/// A spool with less than this for itself may not keep [`CAPACITY_FLOOR`] entries of a result's size: so much they take twice, with
/// a journal and a reserve.
const LEAST: u64 = 24 * MIB;

const MIB: u64 = 1024 * 1024;

/// Room for a journal and for what the write buffers hold. Beside it a compaction wants as much as the tables take, for it writes
/// them once more before it gives anything back.
const LEEWAY: u64 = 10 * MIB;

/// More than this no compaction writes at once.
const COMPACTION: u64 = 256 * MIB;

/// With less than this, the disk is as good as full.
const SHORT: u64 = MIB;

/// Bytes of a journal from which on it is worth to open the database anew, where that is also much of what is left.
const WORTH: u64 = 4 * MIB;

/// What giving up a journal may take before it gives: the write buffers as tables.
const NEEDED: u64 = 4 * MIB;

/// How it stands with room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// For whatever the settings allow.
    Plenty,
    /// For no more than is there.
    Tight,
    /// For no more than is there, unless the database is opened anew: then it gives up a journal.
    InJournals,
}

impl Room {
    /// In the directory of this database. `reserve` can be given to it.
    pub(crate) fn of(database: &Path, reserve: u64) -> Self {
        let available = match available(database) {
            Some(available) if available < LEEWAY + COMPACTION => available,
            _ => return Self::Plenty,
        };
        let journal = newest_journal(database).map_or(0, |(_, bytes)| bytes);
        Self::judge(available, reserve, journal, taken(&database.join("keyspaces")))
    }

    fn judge(available: u64, reserve: u64, journal: u64, tables: u64) -> Self {
        if journal >= WORTH.max(available / 2) && available + reserve >= NEEDED {
            Self::InJournals
        } else if available < LEEWAY + tables.min(COMPACTION) {
            Self::Tight
        } else {
            Self::Plenty
        }
    }
}

/// Says so where a spool in this directory cannot keep the entries that otherwise always fit. `reserve` is of it already.
pub(crate) fn warn_if_small(dir: &Path, reserve: u64) {
    let Some(bytes) = available(dir).map(|available| available + reserve + taken(&dir.join("queue"))) else {
        return;
    };
    if bytes < LEAST {
        let entries = CAPACITY_FLOOR;
        tracing::warn!(dir = %dir.display(), bytes, "the disk is too small for {entries} results: make room for {LEAST} bytes");
    }
}

/// Bytes that a user may still take on the file system of this directory; none when it does not tell.
pub(crate) fn available(dir: &Path) -> Option<u64> {
    let free = statvfs(dir).ok()?;
    Some(free.f_bavail.saturating_mul(free.f_frsize))
}

/// Whether so little is left that the database may fail in its own threads, which do not say that the disk is full.
pub(crate) fn short(dir: &Path) -> bool {
    available(dir).is_some_and(|available| available < SHORT)
}

/// Whether a journal can be given up without what the reserve holds.
pub(crate) fn enough(database: &Path) -> bool {
    available(database).is_none_or(|available| available >= NEEDED)
}

/// Makes an empty journal the newest of the database in this directory. Nobody may have it open.
pub(crate) fn seal(database: &Path) -> io::Result<()> {
    let Some((number, _)) = newest_journal(database) else { return Ok(()) };
    let path = database.join(format!("{}.jnl", number + 1));
    File::options().write(true).create_new(true).mode(0o600).open(path)?.sync_all()?;
    File::open(database)?.sync_all()
}

/// The number of the newest journal and the bytes that it takes.
fn newest_journal(database: &Path) -> Option<(u64, u64)> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok();
    let paths = fs::read_dir(database).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let (number, path) = paths.filter_map(|path| Some((number(&path)?, path))).max()?;
    Some((number, fs::metadata(path).ok()?.blocks() * 512))
}

/// Bytes that everything below this directory takes.
fn taken(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let each = entries.map(|entry| match entry.metadata() {
        Ok(file) if file.is_dir() => taken(&entry.path()),
        Ok(file) => file.blocks() * 512,
        // It was deleted just now.
        Err(_) => 0,
    });
    each.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fjall::FjallStore,
        store::{Changes, Store},
    };

    #[test]
    fn room_is_judged_by_what_giving_some_back_takes_first() {
        for (available, reserve, journal, tables, expected) in [
            (300, 32, 60, 200, Room::Plenty),
            (100, 32, 40, 80, Room::Plenty),
            (100, 32, 40, 95, Room::Tight),
            (100, 32, 55, 0, Room::InJournals),
            (8, 5, 3, 5, Room::Tight),
            (8, 5, 4, 5, Room::InJournals),
            (0, 5, 20, 5, Room::InJournals),
            (3, 0, 20, 5, Room::Tight),
        ] {
            let judged = Room::judge(available * MIB, reserve * MIB, journal * MIB, tables * MIB);
            assert_eq!(judged, expected, "{available} {reserve} {journal} {tables}");
        }
    }

    #[test]
    fn a_journal_that_is_not_the_newest_at_the_opening_goes_and_what_it_held_stays() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("queue");
        let mut store = FjallStore::open(&dir).unwrap();
        for n in 0..200_u8 {
            store.commit(Changes::from([(vec![1, n], Some(vec![n; 5000]))])).unwrap();
        }
        drop(store);
        let (number, before) = newest_journal(&dir).unwrap();
        assert!(before > 1_000_000, "{before} bytes");

        seal(&dir).unwrap();
        let mut store = FjallStore::open(&dir).unwrap();
        store.settle();
        store.commit(Changes::from([(vec![1, 200], Some(vec![200]))])).unwrap();
        let journals = fs::read_dir(&dir).unwrap().filter(|entry| {
            entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "jnl")
        });
        assert_eq!(journals.count(), 1);
        assert!(
            newest_journal(&dir).is_some_and(|(newest, bytes)| newest == number + 1 && bytes < before / 10)
        );
        drop(store);
        let store = FjallStore::open(&dir).unwrap();
        for n in 0..200_u8 {
            assert_eq!(store.value(&[1, n]).unwrap(), Some(vec![n; 5000]));
        }
        assert_eq!(store.value(&[1, 200]).unwrap(), Some(vec![200]));
    }
}
