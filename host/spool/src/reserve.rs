//! Room on the disk that nobody else can take: freed when the disk is full, so that the database can be opened, record a little
//! longer and shrink; made again when there is plenty. Failing to make one is not an error, only less safety.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate};

use crate::space;

/// Less is not worth a file.
const LEAST: u64 = 1024 * 1024;

/// The reserve takes at most this part of what is free, so that it is never what fills the disk; and once it was freed, it
/// comes back only when that part is half of what it was, at least.
const PART: u64 = 4;

/// The file `reserve`.
pub(crate) struct Reserve {
    path: PathBuf,
    wanted: u64,
    /// Bytes that it holds; 0 for none.
    held: u64,
    /// Bytes that it held when it was freed.
    freed: u64,
}

impl Reserve {
    /// Finds the reserve in this directory, or makes one where there is room.
    pub(crate) fn open(dir: &Path, wanted: u64) -> Self {
        let path = dir.join("reserve");
        let held = fs::metadata(&path).map_or(0, |file| file.len().min(file.blocks() * 512));
        let mut reserve = Self { path, wanted, held, freed: 0 };
        if wanted == 0 {
            reserve.free();
        }
        reserve.make();
        reserve
    }

    /// Whether there should be one and is none.
    pub(crate) fn missing(&self) -> bool {
        self.wanted > 0 && self.held < LEAST
    }

    /// Gives its room to whoever writes next; says whether there was any.
    pub(crate) fn free(&mut self) -> bool {
        if self.held == 0 {
            return false;
        }
        let bytes = std::mem::take(&mut self.held);
        self.freed = bytes;
        match fs::remove_file(&self.path) {
            Ok(()) => {
                tracing::warn!(bytes, "freed the spool's reserve: the disk is nearly full");
                true
            }
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "the spool's reserve cannot be freed");
                false
            }
        }
    }

    /// Gives its room away before the disk is full to the last byte.
    pub(crate) fn free_if_short(&mut self) {
        if self.path.parent().is_some_and(space::short) {
            self.free();
        }
    }

    /// Whether whoever writes next finds room: on the disk, or here.
    pub(crate) fn room(&self) -> bool {
        self.held > 0 || !self.path.parent().is_some_and(space::short)
    }

    /// Makes it where it is missing and there is room.
    pub(crate) fn make(&mut self) {
        if !self.missing() {
            return;
        }
        let size = self.available().map_or(0, |available| size(available, self.wanted, self.freed));
        if size < LEAST {
            return;
        }
        match allocate(&self.path, size) {
            Ok(()) => self.held = size,
            Err(error) => {
                tracing::debug!(%error, path = %self.path.display(), "the spool's reserve cannot be made");
                // A part of it helps nobody.
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    /// Bytes that it holds.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// Bytes that a user may still take on this file system.
    fn available(&self) -> Option<u64> {
        space::available(self.path.parent()?)
    }
}

/// How much to take of what is available; 0 for nothing.
fn size(available: u64, wanted: u64, freed: u64) -> u64 {
    let size = wanted.min(available / PART);
    if size < freed.min(wanted) / 2 { 0 } else { size }
}

fn allocate(path: &Path, size: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, size) {
        Err(rustix::io::Errno::OPNOTSUPP) => fill(&file, size)?,
        allocated => allocated?,
    }
    file.sync_all()
}

/// For file systems that can only be made to give room by writing to it.
fn fill(mut file: &File, size: u64) -> io::Result<()> {
    let zeros = vec![0; LEAST as usize];
    for _ in 0..size / LEAST {
        file.write_all(&zeros)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn it_takes_what_is_wanted_and_of_a_small_disk_a_quarter() {
        assert_eq!(size(1000 * MIB, 32 * MIB, 0), 32 * MIB);
        assert_eq!(size(20 * MIB, 32 * MIB, 0), 5 * MIB);
    }

    #[test]
    fn once_freed_it_waits_until_the_disk_has_plenty_again() {
        assert_eq!(size(33 * MIB, 32 * MIB, 32 * MIB), 0);
        assert_eq!(size(63 * MIB, 32 * MIB, 32 * MIB), 0);
        assert_eq!(size(64 * MIB, 32 * MIB, 32 * MIB), 16 * MIB);
        assert_eq!(size(128 * MIB, 32 * MIB, 32 * MIB), 32 * MIB);
        assert_eq!(size(20 * MIB, 32 * MIB, 5 * MIB), 5 * MIB);
    }

    #[test]
    fn its_bytes_are_taken_from_the_disk_found_again_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::open(dir.path(), 2 * MIB);
        assert!(!reserve.missing());
        let file = fs::metadata(dir.path().join("reserve")).unwrap();
        assert_eq!((file.len(), file.blocks() * 512 >= 2 * MIB), (2 * MIB, true));
        assert!(!Reserve::open(dir.path(), 2 * MIB).missing());

        assert!(reserve.free());
        assert!(reserve.missing() && !dir.path().join("reserve").exists());
        assert!(!reserve.free(), "it is given once");
        reserve.make();
        assert!(!reserve.missing(), "this disk has plenty");

        assert!(!Reserve::open(dir.path(), 0).missing());
        assert!(!dir.path().join("reserve").exists(), "who wants none has none");
    }
}
