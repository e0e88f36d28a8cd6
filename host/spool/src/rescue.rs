//! Takes records out of the journals of a database that was put aside. It looks for whatever proves by its checksum to be a
//! record of ours and takes nothing else on trust, so it needs no intact structure; what it does not find becomes a gap.
//!
//! The journal keeps the last 64 MB of writes at least, so this finds nearly everything that was not yet released; where there was
//! little room (`space.rs`), it keeps less. Reads a few MiB at a time.

use std::{
    fs::{self, File},
    io::{self, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use crate::{
    fjall::io_fault,
    key::{self, Record},
    store::{Changes, Fault, Store},
    types::{ENTRY_LIMIT, Position},
};

/// Before each record in a journal of fjall 3 stand its key's length (u16), its value's length and stored length (u32, alike
/// without compression), all little endian. Then the key, then the value.
const HEAD: usize = 10;
const KEY: usize = 17;

const CHUNK: usize = 1024 * 1024;
const COMMIT_RECORDS: usize = 1024;
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// Puts into `store` the records after `acknowledged` that the journals in this directory hold, and gives their number. Of
/// several values of one key the last written counts. A disk that gives an error is an error: what it does not show now is not lost.
pub(crate) fn journals(dir: &Path, acknowledged: Position, store: &mut impl Store) -> Result<u64, Fault> {
    let mut rescued = 0;
    let mut changes = Changes::new();
    let mut bytes = 0;
    for path in readable(by_age(dir))?.unwrap_or_default() {
        let Some(file) = readable(File::open(&path))? else { continue };
        let mut found = Records::new(file);
        while let Some((position, value)) = readable(found.next())?.flatten() {
            let end = match key::decode(position, value) {
                Some(Record::Gap(gap)) => gap.position(),
                _ => position,
            };
            if end <= acknowledged {
                continue;
            }
            bytes += value.len();
            rescued += 1;
            changes.insert(key::record(position), Some(value.to_vec()));
            if changes.len() >= COMMIT_RECORDS || bytes >= COMMIT_BYTES {
                store.commit(std::mem::take(&mut changes))?;
                bytes = 0;
            }
        }
    }
    if !changes.is_empty() {
        store.commit(changes)?;
    }
    Ok(rescued)
}

/// Shows every record that the journals in this directory hold, the oldest write first, until told to stop. What cannot be read is
/// passed over.
pub(crate) fn each(dir: &Path, show: &mut impl FnMut(Position, &[u8]) -> ControlFlow<()>) {
    for file in by_age(dir).unwrap_or_default().into_iter().filter_map(|path| File::open(path).ok()) {
        let mut found = Records::new(file);
        while let Ok(Some((position, value))) = found.next() {
            if show(position, value).is_break() {
                return;
            }
        }
    }
}

/// The journals, the oldest first; their names are numbers.
fn by_age(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let number = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok();
    let mut journals = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        journals.extend(number(&path).filter(|_| path.is_file()).map(|number| (number, path)));
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// None where it is not there or not for us, which time does not change.
fn readable<T>(read: io::Result<T>) -> Result<Option<T>, Fault> {
    match read.map_err(|error| io_fault(&error)) {
        Ok(read) => Ok(Some(read)),
        Err(Fault::Failed(reason)) => {
            Err(Fault::Failed(format!("what was put aside cannot be read: {reason}")))
        }
        Err(_) => Ok(None),
    }
}

/// Reads through bytes and stops at each record.
struct Records<R> {
    input: R,
    window: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Records<R> {
    fn new(input: R) -> Self {
        Self { input, window: Vec::new(), at: 0, ended: false }
    }

    fn next(&mut self) -> io::Result<Option<(Position, &[u8])>> {
        loop {
            let rest = &self.window[self.at..];
            match find(rest) {
                Found::Record { position, value, end } => {
                    let value = self.at + value..self.at + end;
                    self.at = value.end;
                    return Ok(Some((position, &self.window[value])));
                }
                // A head whose value would reach beyond the end is none.
                Found::Cut(skip) if self.ended && skip < rest.len() => self.at += skip + 1,
                Found::Cut(_) if self.ended => return Ok(None),
                Found::Cut(skip) => {
                    self.at += skip;
                    self.fill()?;
                }
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.window.drain(..self.at);
        self.at = 0;
        let read = self.input.by_ref().take(CHUNK as u64).read_to_end(&mut self.window)?;
        self.ended = read == 0;
        Ok(())
    }
}

enum Found {
    /// A record whose value lies there.
    Record { position: Position, value: usize, end: usize },
    /// None in the bytes before this; from here on more bytes are needed to tell.
    Cut(usize),
}

fn find(bytes: &[u8]) -> Found {
    let mut from = 0;
    while let Some(step) = bytes[from..].iter().position(|byte| *byte == KEY as u8) {
        let at = from + step;
        from = at + 1;
        let Some(head) = bytes.get(at..at + HEAD + KEY) else { return Found::Cut(at) };
        let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
        let plausible = head[1] == 0 && head[2..6] == head[6..10] && length <= ENTRY_LIMIT + 64;
        let Some(position) = key::position(&head[HEAD..]).filter(|_| plausible) else { continue };
        let value = at + HEAD + KEY;
        let Some(body) = bytes.get(value..value + length) else { return Found::Cut(at) };
        if key::decode(position, body).is_some() {
            return Found::Record { position, value, end: value + length };
        }
    }
    Found::Cut(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Entry;

    fn journal(numbers: std::ops::Range<u64>, size: usize) -> Vec<u8> {
        let mut bytes = b"\x01start".to_vec();
        for n in numbers {
            let position = Position::new(2, n);
            let value = key::entry(position, &Entry { at_ms: 0, down: false, bytes: vec![17; size] });
            bytes.extend_from_slice(b"\x02\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x11\x00");
            bytes.extend_from_slice(&[(value.len() as u32).to_le_bytes(); 2].concat());
            bytes.extend_from_slice(&key::record(position));
            bytes.extend_from_slice(&value);
        }
        bytes
    }

    fn seqs(bytes: &[u8]) -> Vec<u64> {
        let mut records = Records::new(bytes);
        std::iter::from_fn(|| records.next().unwrap().map(|(position, _)| position.seq)).collect()
    }

    #[test]
    fn every_record_is_found_between_whatever_else_there_is() {
        let mut bytes = journal(1..4, 100);
        bytes.extend_from_slice(&[17; 5000]);
        bytes.extend(journal(4..6, 3));
        bytes.extend_from_slice(&[0; 100_000]);
        assert_eq!(seqs(&bytes), [1, 2, 3, 4, 5]);
        assert_eq!(seqs(&[]), [0_u64; 0]);
    }

    #[test]
    fn a_record_that_was_changed_or_cut_is_passed_over_and_its_neighbours_are_not() {
        let mut bytes = journal(1..6, 50);
        let third = bytes.len() / 5 * 3 - 20;
        bytes[third] ^= 1;
        bytes.truncate(bytes.len() - 1);
        assert_eq!(seqs(&bytes), [1, 2, 4]);
    }

    #[test]
    fn records_are_found_across_the_borders_of_what_is_read_at_once() {
        assert_eq!(seqs(&journal(1..40, 300_000)), (1..40).collect::<Vec<_>>());
        assert_eq!(seqs(&journal(1..4, ENTRY_LIMIT)), [1, 2, 3]);
    }
}
