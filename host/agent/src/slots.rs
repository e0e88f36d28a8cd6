//! Two files that take turns: the agent's door to the disk for what must survive a power cut at any moment.
//!
//! A write goes to the *other* file and is fsynced before anything relies on it, so the last good state is never touched. A file is
//!
//! ```text
//! magic "PICKET" | kind, 2 bytes | format, u16 | sequence, u64 | length, u32 | payload | SHA-256 of all before it
//! ```
//!
//! in little endian. Reading takes the valid file with the higher sequence. What the payload means belongs to whoever stores it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::disk;

/// A pair of slots in a directory of its own.
#[derive(Debug)]
pub(crate) struct Slots {
    directory: PathBuf,
    kind: Kind,
    /// The slot that holds the newest valid state, and its sequence.
    newest: Option<(usize, u64)>,
    /// The slot that the disk did not show.
    unread: Option<usize>,
}

/// Two bytes that keep one kind of state from being read as another.
pub(crate) type Kind = [u8; 2];

/// What the two files hold.
#[derive(Debug)]
pub(crate) enum Stored {
    /// Neither file exists.
    Nothing,
    /// The payloads of the valid files, newest first.
    Valid(Vec<Zeroizing<Vec<u8>>>),
    /// Files exist and none is valid; whether both exist.
    Damaged { both: bool },
    /// A valid file of a later format: not to be touched.
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format; we read up to [`FORMAT`].
        format: u16,
    },
}

impl Slots {
    /// Reads `directory`/slot.a and slot.b. The directory need not exist; nothing is written. A file that the disk does not show is as
    /// good as damaged if the other is valid; alone it is an error, because it may be the only one.
    pub(crate) fn open(directory: PathBuf, kind: Kind) -> io::Result<(Self, Stored)> {
        let mut slots = Self { directory, kind, newest: None, unread: None };
        let (mut valid, mut existing, mut unread) = (Vec::new(), 0, None);
        for index in 0..NAMES.len() {
            let bytes = match read(&slots.path(index)) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(error) if error.raw_os_error() == Some(EIO) => {
                    unread = Some((index, error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            existing += 1;
            match decode(kind, &bytes) {
                Ok((sequence, payload)) => valid.push((sequence, index, payload)),
                Err(Invalid::Newer(format)) => {
                    let path = slots.path(index);
                    return Ok((slots, Stored::Newer { path, format }));
                }
                Err(Invalid::Damaged) => {}
            }
        }
        if let Some((index, error)) = unread {
            if valid.is_empty() {
                return Err(error);
            }
            tracing::warn!(%error, path = %slots.path(index).display(), "the disk does not show it: going on with the other slot");
            slots.unread = Some(index);
        }
        valid.sort_by_key(|(sequence, ..)| std::cmp::Reverse(*sequence));
        slots.newest = valid.first().map(|(sequence, index, _)| (*index, *sequence));
        let stored = match (existing, valid.is_empty()) {
            (0, _) => Stored::Nothing,
            (_, true) => Stored::Damaged { both: existing == NAMES.len() },
            (_, false) => Stored::Valid(valid.into_iter().map(|(.., payload)| payload).collect()),
        };
        Ok((slots, stored))
    }

    /// Puts `payload` into the slot that is not the newest. After `Ok` it survives a power cut; after an error the previous state does.
    pub(crate) fn store(&mut self, payload: &[u8]) -> io::Result<()> {
        disk::wait(|| self.put(payload))
    }

    /// Where the slots lie.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn put(&mut self, payload: &[u8]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let (index, sequence) = match self.newest {
            Some((newest, sequence)) => (1 - newest, sequence + 1),
            None => (0, 1),
        };
        let bytes = encode(self.kind, sequence, payload);
        if self.unread.take_if(|unread| *unread == index).is_some() {
            // A new file gets blocks of its own.
            std::fs::remove_file(self.path(index))?;
        }
        // Over what is there, because on a full disk only that is still ours; a tail of it would not fit the checksum.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(self.path(index))?;
        file.write_all(&bytes)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_all()?;
        File::open(&self.directory)?.sync_all()?;
        if let Some(parent) = self.directory.parent().filter(|_| sequence == 1) {
            File::open(parent)?.sync_all()?;
        }
        self.newest = Some((index, sequence));
        Ok(())
    }

    fn path(&self, index: usize) -> PathBuf {
        self.directory.join(NAMES[index])
    }
}

/// The bytes of a slot. They may hold secrets.
fn encode(kind: Kind, sequence: u64, payload: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = u32::try_from(payload.len()).expect("a state is megabytes at most");
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER + payload.len() + CHECKSUM));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&kind);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    let checksum = Sha256::digest(&bytes[..]);
    bytes.extend_from_slice(&checksum);
    bytes
}

/// Sequence and payload of a slot's bytes.
fn decode(kind: Kind, bytes: &[u8]) -> Result<(u64, Zeroizing<Vec<u8>>), Invalid> {
    if bytes.len() < HEADER + CHECKSUM {
        return Err(Invalid::Damaged);
    }
    let (covered, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    if Sha256::digest(covered).as_slice() != checksum || &covered[..6] != MAGIC || covered[6..8] != kind {
        return Err(Invalid::Damaged);
    }
    let format = u16::from_le_bytes(array(&covered[8..10]));
    if format > FORMAT {
        return Err(Invalid::Newer(format));
    }
    let sequence = u64::from_le_bytes(array(&covered[10..18]));
    let length = u32::from_le_bytes(array(&covered[18..22]));
    let payload = &covered[HEADER..];
    if payload.len() != length as usize {
        return Err(Invalid::Damaged);
    }
    Ok((sequence, Zeroizing::new(payload.to_vec())))
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller slices as many bytes as it asks for")
}

/// The file's bytes; none when there is no file.
fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

#[derive(Debug, PartialEq)]
enum Invalid {
    Damaged,
    Newer(u16),
}

const NAMES: [&str; 2] = ["slot.a", "slot.b"];
const MAGIC: &[u8; 6] = b"PICKET";
/// The newest format that this version reads, and the one it writes.
pub(crate) const FORMAT: u16 = 1;
const HEADER: usize = 6 + 2 + 2 + 8 + 4;
const CHECKSUM: usize = 32;
/// What a disk says that cannot read.
const EIO: i32 = 5;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const KIND: Kind = *b"ts";

    /// A directory whose slots hold "one" (slot.a) and "two" (slot.b).
    fn pair() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (mut slots, stored) = Slots::open(dir.path().join("s"), KIND).unwrap();
        assert!(matches!(stored, Stored::Nothing));
        slots.store(b"one").unwrap();
        slots.store(b"two").unwrap();
        dir
    }

    fn newest(dir: &tempfile::TempDir) -> Vec<u8> {
        match Slots::open(dir.path().join("s"), KIND).unwrap().1 {
            Stored::Valid(payloads) => payloads[0].to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_write_leaves_the_state_before_it_in_the_other_file() {
        let dir = pair();
        let (mut slots, stored) = Slots::open(dir.path().join("s"), KIND).unwrap();
        let Stored::Valid(payloads) = stored else { panic!("{stored:?}") };
        assert_eq!(
            payloads.iter().map(|p| p.to_vec()).collect::<Vec<_>>(),
            [b"two".to_vec(), b"one".to_vec()]
        );
        slots.store(b"three").unwrap();
        assert_eq!(
            decode(KIND, &std::fs::read(dir.path().join("s/slot.a")).unwrap()).unwrap().1.to_vec(),
            b"three"
        );
        assert_eq!(
            decode(KIND, &std::fs::read(dir.path().join("s/slot.b")).unwrap()).unwrap().1.to_vec(),
            b"two"
        );
    }

    #[test]
    fn any_flipped_bit_of_the_newest_slot_falls_back_to_the_other() {
        let dir = pair();
        let path = dir.path().join("s/slot.b");
        let good = std::fs::read(&path).unwrap();
        for (byte, bit) in (0..good.len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut bad = good.clone();
            bad[byte] ^= 1 << bit;
            assert_eq!(decode(KIND, &bad).unwrap_err(), Invalid::Damaged, "byte {byte} bit {bit}");
        }
        let mut bad = good;
        bad[HEADER] ^= 1;
        std::fs::write(&path, bad).unwrap();
        assert_eq!(newest(&dir), b"one");
    }

    #[test]
    fn a_slot_torn_or_zeroed_after_any_byte_falls_back_to_the_other() {
        let dir = pair();
        let path = dir.path().join("s/slot.b");
        let good = std::fs::read(&path).unwrap();
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            assert_eq!(newest(&dir), b"one", "torn at {length}");
            let mut zeroed = good.clone();
            zeroed[length..].fill(0);
            std::fs::write(&path, zeroed).unwrap();
            assert_eq!(newest(&dir), b"one", "zero from {length}");
        }
    }

    #[test]
    fn a_slot_that_the_disk_does_not_show_falls_back_to_the_other_and_is_an_error_without_one() {
        let dir = pair();
        let path = dir.path().join("s/slot.b");
        std::fs::remove_file(&path).unwrap();
        // Nothing is mapped at its beginning: a read gives EIO.
        std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
        let (mut slots, _) = Slots::open(dir.path().join("s"), KIND).unwrap();
        assert_eq!(newest(&dir), b"one");
        slots.store(b"three").unwrap();
        assert_eq!(newest(&dir), b"three");

        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
        std::fs::write(dir.path().join("s/slot.a"), b"torn").unwrap();
        let error = Slots::open(dir.path().join("s"), KIND).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EIO));
    }

    #[test]
    fn after_a_fall_back_the_next_write_replaces_the_damaged_file() {
        let dir = pair();
        std::fs::write(dir.path().join("s/slot.b"), b"").unwrap();
        let (mut slots, _) = Slots::open(dir.path().join("s"), KIND).unwrap();
        slots.store(b"three").unwrap();
        std::fs::write(dir.path().join("s/slot.b"), b"").unwrap();
        assert_eq!(newest(&dir), b"one");
    }

    #[test]
    fn two_damaged_files_are_told_from_a_first_write_that_was_cut() {
        let dir = pair();
        for name in NAMES {
            std::fs::write(dir.path().join("s").join(name), b"PICK").unwrap();
        }
        let open = || Slots::open(dir.path().join("s"), KIND).unwrap().1;
        assert!(matches!(open(), Stored::Damaged { both: true }));
        std::fs::remove_file(dir.path().join("s/slot.b")).unwrap();
        assert!(matches!(open(), Stored::Damaged { both: false }));
    }

    #[test]
    fn a_slot_of_a_later_format_is_not_touched() {
        let dir = pair();
        let path = dir.path().join("s/slot.b");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8] = 2;
        let covered = bytes.len() - CHECKSUM;
        let checksum = Sha256::digest(&bytes[..covered]);
        bytes[covered..].copy_from_slice(&checksum);
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(
            Slots::open(dir.path().join("s"), KIND).unwrap().1,
            Stored::Newer { format: 2, .. }
        ));
    }

    #[test]
    fn only_the_owner_may_read_slots() {
        let dir = pair();
        let mode =
            |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("s"), mode("s/slot.a"), mode("s/slot.b")), (0o700, 0o600, 0o600));
    }

    #[test]
    fn one_kind_of_state_is_not_read_as_another() {
        assert!(decode(*b"xx", &encode(KIND, 1, b"p")).is_err());
    }
}
