//! Records as bytes. Owns the layout of the database; every value carries a checksum over itself and its key, so that a
//! value that was changed on the disk, or stands under another key, is never taken for one that was recorded.
//!
//! ```text
//! key     00                                      the marker (marker.rs)
//!         01  epoch u64 BE  seq u64 BE            a record, so that byte order is the order of positions
//! value   00  flags u8  at_ms i64 LE  bytes …  xxh3 u64 LE          an entry; flags bit 0: down
//!         01  flags u8  reason u8  to u64 LE  first i64 LE  last i64 LE  down u64 LE  xxh3 u64 LE
//!                                                 a gap from the key's seq; flags bits 0–2: first, last, down are known
//! ```

use xxhash_rust::xxh3::Xxh3;

use crate::types::{Entry, Gap, Position, Reason};

/// The key of the marker.
pub(crate) const MARKER: &[u8] = &[0];

/// The key before all records.
pub(crate) const RECORDS: &[u8] = &[1];

const ENTRY: u8 = 0;
const GAP: u8 = 1;
const CHECKSUM: usize = 8;

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// An entry's two facts and its bytes.
    Entry { at_ms: i64, down: bool, bytes: &'a [u8] },
    /// A gap.
    Gap(Gap),
}

/// The key of the record at this position.
pub(crate) fn record(position: Position) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.push(RECORDS[0]);
    key.extend_from_slice(&position.epoch.to_be_bytes());
    key.extend_from_slice(&position.seq.to_be_bytes());
    key
}

/// The position that a record's key stands for; none for any other key.
pub(crate) fn position(key: &[u8]) -> Option<Position> {
    let rest = key.strip_prefix(RECORDS)?;
    let (epoch, seq) = rest.split_at_checked(8)?;
    Some(Position::new(u64::from_be_bytes(epoch.try_into().ok()?), u64::from_be_bytes(seq.try_into().ok()?)))
}

/// The value of an entry.
pub(crate) fn entry(position: Position, entry: &Entry) -> Vec<u8> {
    let mut value = Vec::with_capacity(entry.bytes.len() + 10 + CHECKSUM);
    value.push(ENTRY);
    value.push(u8::from(entry.down));
    value.extend_from_slice(&entry.at_ms.to_le_bytes());
    value.extend_from_slice(&entry.bytes);
    sealed(position, value)
}

/// The value of a gap; its key is that of its first position.
pub(crate) fn gap(gap: &Gap) -> Vec<u8> {
    let known = u8::from(gap.first_at_ms.is_some())
        | u8::from(gap.last_at_ms.is_some()) << 1
        | u8::from(gap.down.is_some()) << 2;
    let mut value = vec![GAP, known, reason_code(gap.reason)];
    value.extend_from_slice(&gap.to.to_le_bytes());
    value.extend_from_slice(&gap.first_at_ms.unwrap_or_default().to_le_bytes());
    value.extend_from_slice(&gap.last_at_ms.unwrap_or_default().to_le_bytes());
    value.extend_from_slice(&gap.down.unwrap_or_default().to_le_bytes());
    sealed(gap.start(), value)
}

/// Reads a value back; none when it is not what was written under this position.
pub(crate) fn decode(position: Position, value: &[u8]) -> Option<Record<'_>> {
    let (body, checksum) = value.split_at_checked(value.len().checked_sub(CHECKSUM)?)?;
    if u64::from_le_bytes(checksum.try_into().ok()?) != digest(position, body) {
        return None;
    }
    match *body.first()? {
        ENTRY => {
            let (at_ms, bytes) = body.get(2..)?.split_at_checked(8)?;
            let at_ms = i64::from_le_bytes(at_ms.try_into().ok()?);
            Some(Record::Entry { at_ms, down: body[1] & 1 == 1, bytes })
        }
        GAP => {
            let known = *body.get(1)?;
            let word = |n: usize| Some(u64::from_le_bytes(body.get(3 + 8 * n..11 + 8 * n)?.try_into().ok()?));
            Some(Record::Gap(Gap {
                epoch: position.epoch,
                from: position.seq,
                to: word(0)?,
                reason: reason(*body.get(2)?)?,
                first_at_ms: (known & 1 != 0).then_some(word(1)? as i64),
                last_at_ms: (known & 2 != 0).then_some(word(2)? as i64),
                down: (known & 4 != 0).then_some(word(3)?),
            }))
        }
        _ => None,
    }
}

fn sealed(position: Position, mut value: Vec<u8>) -> Vec<u8> {
    let checksum = digest(position, &value);
    value.extend_from_slice(&checksum.to_le_bytes());
    value
}

fn digest(position: Position, body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&record(position));
    hasher.update(body);
    hasher.digest()
}

fn reason_code(reason: Reason) -> u8 {
    match reason {
        Reason::Evicted => 0,
        Reason::Corrupt => 1,
        Reason::Released => 2,
        Reason::Enospc => 3,
        Reason::SlowDisk => 4,
        Reason::Power => 5,
        Reason::Rejected => 6,
    }
}

const REASONS: [Reason; 7] = [
    Reason::Evicted,
    Reason::Corrupt,
    Reason::Released,
    Reason::Enospc,
    Reason::SlowDisk,
    Reason::Power,
    Reason::Rejected,
];

fn reason(code: u8) -> Option<Reason> {
    REASONS.into_iter().find(|known| reason_code(*known) == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Position, Entry) {
        (Position::new(3, 7), Entry { at_ms: -5, down: true, bytes: b"result".to_vec() })
    }

    #[test]
    fn an_entry_comes_back_as_it_was() {
        let (at, entry) = sample();
        let value = super::entry(at, &entry);
        assert_eq!(decode(at, &value), Some(Record::Entry { at_ms: -5, down: true, bytes: b"result" }));
    }

    #[test]
    fn a_gap_comes_back_as_it_was_with_and_without_its_facts() {
        for (first, last, down) in [(None, None, None), (Some(-1), Some(i64::MAX), Some(u64::MAX))] {
            for reason in REASONS {
                let gap =
                    Gap { epoch: 9, from: 2, to: 40, reason, first_at_ms: first, last_at_ms: last, down };
                assert_eq!(decode(gap.start(), &super::gap(&gap)), Some(Record::Gap(gap)));
            }
        }
    }

    #[test]
    fn no_single_flipped_bit_and_no_cut_is_taken_for_a_value() {
        let (at, entry) = sample();
        let value = super::entry(at, &entry);
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(at, &flipped), None, "bit {bit}");
        }
        for length in 0..value.len() {
            assert_eq!(decode(at, &value[..length]), None, "cut to {length}");
        }
    }

    #[test]
    fn a_value_under_another_key_is_not_taken() {
        let (at, entry) = sample();
        assert_eq!(decode(Position::new(3, 8), &super::entry(at, &entry)), None);
    }

    #[test]
    fn keys_sort_as_positions_do_and_the_marker_comes_before() {
        let positions = [(0, 0), (0, 256), (1, 1), (1, u64::MAX), (256, 0)].map(|(e, s)| Position::new(e, s));
        for pair in positions.windows(2) {
            assert!(record(pair[0]) < record(pair[1]));
            assert_eq!(position(&record(pair[0])), Some(pair[0]));
        }
        assert!(MARKER < record(positions[0]).as_slice());
        assert_eq!(position(MARKER), None);
    }
}
