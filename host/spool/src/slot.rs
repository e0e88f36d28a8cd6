//! Two files beside the database that hold the marker once more, written in turn: whatever happens to the database, and
//! whenever the power goes, one of them is whole. From them the next epoch is known, and how much a damaged database lost.
//!
//! A slot: `"PKSPOOL\n"`, generation u64 LE, length u32 LE, the marker (which carries its checksum), zeros up to 4,096 bytes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    error::Error,
    marker::{MARKER_LIMIT, Marker, Unreadable},
};

const MAGIC: &[u8; 8] = b"PKSPOOL\n";
const SIZE: usize = 4096;
const HEAD: usize = 20;
const _: () = assert!(HEAD + MARKER_LIMIT <= SIZE);

/// The pair. A write goes to one file until that was synced, then to the other, so that the last synced one stays whole.
pub(crate) struct Slots {
    files: [(PathBuf, File); 2],
    turn: usize,
    generation: u64,
    dirty: bool,
    /// What was written last.
    bytes: Vec<u8>,
    /// The last sync failed. The system has forgotten then what it owed to the disk, and would answer the next one with success.
    failed: bool,
}

impl Slots {
    /// Opens or creates `slot.a` and `slot.b` and gives the newest marker that can be read; none when neither holds one.
    /// A disk that shows only one of them, and a good one, costs at most what the other knew more.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Option<Marker>), Error> {
        let mut files = [file(dir, "slot.a")?, file(dir, "slot.b")?];
        let found = match [read(dir, &files[0]), read(dir, &files[1])] {
            [Ok(a), Ok(b)] => [a, b],
            [Err(error @ Error::File { .. }), Ok(Some(good))] => {
                files[0] = replaced(dir, "slot.a", &error)?;
                [None, Some(good)]
            }
            [Ok(Some(good)), Err(error @ Error::File { .. })] => {
                files[1] = replaced(dir, "slot.b", &error)?;
                [Some(good), None]
            }
            [Err(error), _] | [_, Err(error)] => return Err(error),
        };
        let newest = found.iter().enumerate().filter_map(|(n, slot)| Some((n, slot.as_ref()?)));
        let newest = newest.max_by_key(|(_, (generation, _))| *generation);
        let (turn, generation) = newest.map_or((0, 0), |(n, (generation, _))| (1 - n, *generation));
        let marker = newest.map(|(_, (_, marker))| marker.clone());
        let slots = Self { files, turn, generation, dirty: false, bytes: Vec::new(), failed: false };
        Ok((slots, marker))
    }

    /// Leaves the marker with the operating system: a crash of the process keeps it, a power cut may not. Microseconds.
    pub(crate) fn write(&mut self, marker: &Marker) -> Result<(), Error> {
        self.generation += 1;
        let marker = marker.encode();
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&(marker.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&marker);
        bytes.resize(SIZE, 0);
        self.bytes = bytes;
        self.put()?;
        self.dirty = true;
        Ok(())
    }

    /// Puts what was written on the disk, and takes the other file for the next write. After a failure it is written anew, through a
    /// handle of its own.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if self.dirty {
            if self.failed {
                self.put()?;
            }
            let (path, file) = &self.files[self.turn];
            let synced = file.sync_all().map_err(|source| failed("write", path, source));
            self.failed = synced.is_err();
            synced?;
            self.turn = 1 - self.turn;
            self.dirty = false;
        }
        Ok(())
    }

    fn put(&mut self) -> Result<(), Error> {
        let (path, file) = &mut self.files[self.turn];
        if self.failed {
            *file = options().open(&path).map_err(|source| failed("open", path, source))?;
            self.failed = false;
        }
        file.write_all_at(&self.bytes, 0).map_err(|source| failed("write", path, source))
    }

    /// Whether something was written since the last sync.
    pub(crate) fn dirty(&self) -> bool {
        self.dirty
    }
}

/// The newest marker that the slots in this directory hold, as far as they can be read. Opens nothing for writing.
pub(crate) fn newest(dir: &Path) -> Option<Marker> {
    let slots = ["slot.a", "slot.b"].map(|name| {
        let bytes = std::fs::read(dir.join(name)).ok()?;
        parse(bytes.first_chunk()?).ok()
    });
    slots.into_iter().flatten().max_by_key(|(generation, _)| *generation).map(|(_, marker)| marker)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

fn file(dir: &Path, name: &str) -> Result<(PathBuf, File), Error> {
    let path = dir.join(name);
    match options().open(&path) {
        Ok(file) => Ok((path, file)),
        Err(source) => Err(failed("create", &path, source)),
    }
}

/// A new file in place of one that the disk does not show: it is the next to be written, and may have got better blocks then.
fn replaced(dir: &Path, name: &str, error: &Error) -> Result<(PathBuf, File), Error> {
    let why = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, why, "going on with the other slot of the spool");
    let path = dir.join(name);
    std::fs::remove_file(&path).map_err(|source| failed("remove", &path, source))?;
    file(dir, name)
}

fn read(dir: &Path, (path, file): &(PathBuf, File)) -> Result<Option<(u64, Marker)>, Error> {
    let mut bytes = [0; SIZE];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(short) if short.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(source) => return Err(failed("read", path, source)),
    }
    match parse(&bytes) {
        Ok(slot) => Ok(Some(slot)),
        Err(Unreadable::Broken) => Ok(None),
        Err(Unreadable::Newer(found)) => {
            Err(Error::Newer { dir: dir.to_owned(), found, known: crate::marker::FORMAT })
        }
    }
}

fn parse(bytes: &[u8; SIZE]) -> Result<(u64, Marker), Unreadable> {
    let (head, rest) = bytes.split_at(HEAD);
    let generation = head[8..16].try_into().map(u64::from_le_bytes).map_err(|_| Unreadable::Broken)?;
    let length = head[16..].try_into().map(u32::from_le_bytes).map_err(|_| Unreadable::Broken)?;
    if &head[..8] != MAGIC {
        return Err(Unreadable::Broken);
    }
    let marker = rest.get(..length as usize).ok_or(Unreadable::Broken)?;
    Ok((generation, Marker::decode(marker)?))
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(revision: u64) -> Marker {
        Marker { revision, epoch: 3, last: revision, ..Marker::default() }
    }

    #[test]
    fn the_newest_marker_is_read_whichever_file_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, found) = Slots::open(dir.path()).unwrap();
        assert_eq!(found, None);
        for revision in 1..6 {
            slots.write(&marker(revision)).unwrap();
            slots.sync().unwrap();
            assert_eq!(Slots::open(dir.path()).unwrap().1, Some(marker(revision)));
            assert_eq!(newest(dir.path()), Some(marker(revision)));
        }
    }

    #[test]
    fn a_slot_that_the_disk_does_not_show_is_passed_over_if_the_other_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, _) = Slots::open(dir.path()).unwrap();
        for revision in 1..3 {
            slots.write(&marker(revision)).unwrap();
            slots.sync().unwrap();
        }
        let path = dir.path().join("slot.b");
        std::fs::remove_file(&path).unwrap();
        // Nothing is mapped at its beginning: a read gives EIO.
        std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
        let (mut slots, found) = Slots::open(dir.path()).unwrap();
        assert_eq!(found, Some(marker(1)));
        slots.write(&marker(3)).unwrap();
        slots.sync().unwrap();
        assert_eq!(Slots::open(dir.path()).unwrap().1, Some(marker(3)));
    }

    #[test]
    fn a_slot_that_the_disk_does_not_show_is_waited_for_if_the_other_is_not_good() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("slot.a"), b"torn").unwrap();
        let path = dir.path().join("slot.b");
        std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
        assert!(matches!(Slots::open(dir.path()), Err(Error::File { operation: "read", .. })));
        assert!(path.is_symlink(), "it may hold what nothing else does");
    }

    #[test]
    fn writes_between_two_syncs_leave_the_other_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, _) = Slots::open(dir.path()).unwrap();
        slots.write(&marker(1)).unwrap();
        slots.sync().unwrap();
        for revision in 2..9 {
            slots.write(&marker(revision)).unwrap();
        }
        assert_eq!(Slots::open(dir.path()).unwrap().1, Some(marker(8)));
        std::fs::write(dir.path().join("slot.b"), b"torn").unwrap();
        assert_eq!(Slots::open(dir.path()).unwrap().1, Some(marker(1)));
    }

    #[test]
    fn after_a_flipped_byte_anywhere_in_one_file_a_marker_that_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, _) = Slots::open(dir.path()).unwrap();
        for revision in 1..3 {
            slots.write(&marker(revision)).unwrap();
            slots.sync().unwrap();
        }
        let path = dir.path().join("slot.b");
        let whole = std::fs::read(&path).unwrap();
        for at in (0..HEAD + 80).chain((HEAD + 80..SIZE).step_by(97)) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            std::fs::write(&path, flipped).unwrap();
            let found = Slots::open(dir.path()).unwrap().1;
            assert!(found == Some(marker(1)) || found == Some(marker(2)), "byte {at}: {found:?}");
        }
    }
}
