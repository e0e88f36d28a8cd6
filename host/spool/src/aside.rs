//! Databases that were put aside as damaged, `quarantine-<n>` beside the queue: evidence for a person, and for a while the only place
//! where their records are. When they go says `home.rs`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::error::Error;

/// All of them in the spool's directory, the oldest first.
pub(crate) fn all(dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
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

/// Renames the database to the next one.
pub(crate) fn put(dir: &Path, database: &Path) -> Result<(), Error> {
    let n = all(dir)?.last().map_or(1, |(n, _)| n + 1);
    failpoint::hit("spool.quarantine.begin");
    let to = dir.join(format!("quarantine-{n}"));
    #[expect(
        clippy::disallowed_methods,
        reason = "a directory has no A/B slots, and the parent is fsynced below"
    )]
    fs::rename(database, &to).map_err(|source| failed("rename", database, source))?;
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| failed("write", dir, source))?;
    failpoint::hit("spool.quarantine.renamed");
    Ok(())
}

/// Deletes all but so many of the newest.
pub(crate) fn keep(dir: &Path, newest: usize) {
    let mut aside = all(dir).unwrap_or_default();
    aside.truncate(aside.len().saturating_sub(newest));
    for (_, path) in aside {
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(%error, path = %path.display(), "a database that was put aside cannot be removed");
        }
    }
}

/// Deletes the tables in them: a rescue reads only journals, and only a person the rest. Says whether there were any.
pub(crate) fn drop_tables(dir: &Path) -> bool {
    let tables = all(dir).unwrap_or_default().into_iter().map(|(_, path)| path.join("keyspaces"));
    tables.filter(|path| fs::remove_dir_all(path).is_ok()).count() > 0
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { operation, path: path.to_owned(), source }
}
