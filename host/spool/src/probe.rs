//! Asks the disk itself, past the database: one byte, fsynced.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
};

use tokio::sync::oneshot;

/// Comes back when the disk has taken a byte in this directory, or refuses it. Whoever stops waiting leaves a thread to the disk.
pub(crate) async fn disk(dir: PathBuf) -> io::Result<()> {
    let (sender, answer) = oneshot::channel();
    let probing = move || drop(sender.send(write(&dir.join("probe"))));
    thread::Builder::new().name("spool-probe".to_owned()).spawn(probing)?;
    answer.await.unwrap_or_else(|_| Err(io::Error::other("the probe of the disk broke")))
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(b"?")?;
    file.sync_all()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn a_disk_that_works_answers_and_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        super::disk(dir.path().to_owned()).await.unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(super::disk(dir.path().join("nowhere")).await.is_err());
    }
}
