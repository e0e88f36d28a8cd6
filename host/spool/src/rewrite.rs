//! Writes the journals once more after an fsync that failed. The system has given up then what that fsync should have written, takes it
//! for written, and still shows it to whoever reads; no later fsync brings it to the disk, and a power cut would leave a hole before
//! everything recorded since. What is written again is owed to the disk again.
//!
//! Tables need no such care: a table whose fsync failed is not part of the database.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::{fjall::io_fault, store::Fault};

/// Puts the journals in this directory on the disk as they are read now. Nobody may have the database open.
pub(crate) fn journals(dir: &Path) -> Result<(), Fault> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    for path in entries.filter(|path| path.extension().is_some_and(|end| end == "jnl")) {
        again(&path).map_err(|error| match io_fault(&error) {
            // Nothing tells that it is damaged: it is only not yet on the disk.
            Fault::Damaged(reason) => Fault::Failed(reason),
            fault => fault,
        })?;
    }
    Ok(())
}

fn again(path: &Path) -> io::Result<()> {
    let mut journal = File::options().read(true).write(true).open(path)?;
    let (mut chunk, mut at) = (Vec::with_capacity(CHUNK), 0);
    loop {
        chunk.clear();
        if journal.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)? == 0 {
            return journal.sync_all();
        }
        // A journal is mostly the zeros that follow its end: they were never written, and take no room.
        for page in chunk.chunks(PAGE) {
            if page.iter().any(|byte| *byte != 0) {
                journal.write_all_at(page, at)?;
            }
            at += page.len() as u64;
        }
    }
}

const CHUNK: usize = 1024 * 1024;
const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_journal_stays_as_it_is_and_its_zeros_take_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.jnl");
        let mut bytes = vec![0; 3 * CHUNK];
        bytes[..10_000].fill(7);
        bytes[CHUNK + 5] = 9;
        fs::write(&path, &bytes[..=CHUNK + 5]).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(bytes.len() as u64).unwrap();
        let blocks = fs::metadata(&path).unwrap().blocks();
        journals(dir.path()).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
        assert_eq!(fs::metadata(&path).unwrap().blocks(), blocks);
    }
}
