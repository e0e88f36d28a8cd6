//! What must be known about positions beside the entries themselves, and its bytes. The same marker lies in the database and in
//! the slots beside it: the newer one speaks when the other is lost.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::types::Position;

/// The newest layout of markers and records that this version reads and the one it writes.
pub(crate) const FORMAT: u32 = 2;

/// Ended epochs whose last seq is remembered. More restarts than this without the control plane lose the exact size of a loss.
pub(crate) const TAILS: usize = 128;

/// The largest marker in bytes: a slot reserves this much.
pub(crate) const MARKER_LIMIT: usize = 4 + WORDS * 8 + 4 + TAILS * 16 + 8;

/// Words before the tails; format 1 had the first five.
const WORDS: usize = 9;
const WORDS_OF_1: usize = 5;

/// The state of the numbering.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Grows by one whenever the acknowledged position or the epoch changes: says which of two markers is the newer.
    pub(crate) revision: u64,
    /// The newest epoch in use.
    pub(crate) epoch: u64,
    /// Its last durable seq when the marker was written; 0 for none.
    pub(crate) last: u64,
    /// Everything up to here was released.
    pub(crate) acknowledged: Position,
    /// What was recorded before this epoch has another numbering now, or belongs to somebody else: nothing goes back behind it.
    pub(crate) floor: u64,
    /// The epoch that everything unreleased is being moved to; 0 when no renumbering is under way.
    pub(crate) moving: u64,
    /// Stands for the boot of the machine in which it was written; 0 when nobody told.
    pub(crate) boot: u64,
    /// Whether it was written by a spool that was closed in order.
    pub(crate) closed: bool,
    /// Last seq of ended epochs that had entries, the newest [`TAILS`].
    pub(crate) tails: BTreeMap<u64, u64>,
}

/// Why bytes are not a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Cut, changed or never written.
    Broken,
    /// Whole, but of a newer version.
    Newer(u32),
}

impl Marker {
    /// Of the last recorded entry; seq 0 when the epoch has none.
    pub(crate) fn recorded(&self) -> Position {
        Position::new(self.epoch, self.last)
    }

    /// Before the first position that may be given.
    pub(crate) fn floor(&self) -> Position {
        Position::new(self.floor, 0)
    }

    /// Every epoch that had entries with its last seq, the newest epoch included.
    pub(crate) fn ends(&self) -> BTreeMap<u64, u64> {
        let mut ends = self.tails.clone();
        if self.last > 0 {
            ends.insert(self.epoch, self.last);
        }
        ends
    }

    /// Forgets the oldest tails beyond [`TAILS`].
    pub(crate) fn trim(&mut self) {
        while self.tails.len() > TAILS {
            self.tails.pop_first();
        }
    }

    /// `format u32, revision, epoch, last, acknowledged (epoch, seq), floor, moving, boot, closed, n u32, n × (epoch, last), xxh3`,
    /// little endian; what has no type here is a u64.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        let words: [u64; WORDS] = [
            self.revision,
            self.epoch,
            self.last,
            self.acknowledged.epoch,
            self.acknowledged.seq,
            self.floor,
            self.moving,
            self.boot,
            u64::from(self.closed),
        ];
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend_from_slice(&(self.tails.len() as u32).to_le_bytes());
        bytes.extend(
            self.tails.iter().flat_map(|(epoch, last)| [epoch.to_le_bytes(), last.to_le_bytes()]).flatten(),
        );
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads what [`Marker::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (body, checksum) = bytes
            .len()
            .checked_sub(8)
            .and_then(|end| bytes.split_at_checked(end))
            .ok_or(Unreadable::Broken)?;
        if xxh3_64(body).to_le_bytes() != checksum {
            return Err(Unreadable::Broken);
        }
        let format = body.first_chunk().map(|chunk| u32::from_le_bytes(*chunk)).ok_or(Unreadable::Broken)?;
        match format {
            1 => Self::fields(&body[4..], WORDS_OF_1).ok_or(Unreadable::Broken),
            FORMAT => Self::fields(&body[4..], WORDS).ok_or(Unreadable::Broken),
            newer => Err(Unreadable::Newer(newer)),
        }
    }

    fn fields(body: &[u8], words: usize) -> Option<Self> {
        let at = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let word = |n: usize| if n < words { at(8 * n) } else { Some(0) };
        let tails = 8 * words;
        let count = u32::from_le_bytes(body.get(tails..tails + 4)?.try_into().ok()?) as usize;
        let tail = |n: usize| Some((at(tails + 4 + 16 * n)?, at(tails + 12 + 16 * n)?));
        Some(Self {
            revision: word(0)?,
            epoch: word(1)?,
            last: word(2)?,
            acknowledged: Position::new(word(3)?, word(4)?),
            floor: word(5)?,
            moving: word(6)?,
            boot: word(7)?,
            closed: word(8)? != 0,
            tails: (0..count).map(tail).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Marker {
        Marker {
            revision: 4,
            epoch: 9,
            last: 77,
            acknowledged: Position::new(8, 3),
            floor: 7,
            moving: 9,
            boot: 0xb007,
            closed: true,
            tails: [(7, 10), (8, 12)].into(),
        }
    }

    #[test]
    fn a_marker_comes_back_as_it_was() {
        for marker in [Marker::default(), sample()] {
            assert_eq!(Marker::decode(&marker.encode()), Ok(marker));
        }
    }

    #[test]
    fn no_flipped_bit_and_no_cut_is_taken_for_a_marker() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Marker::decode(&flipped), Err(Unreadable::Broken), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(Marker::decode(&bytes[..length]), Err(Unreadable::Broken), "cut to {length}");
        }
    }

    #[test]
    fn a_marker_of_a_newer_version_says_so() {
        assert_eq!(
            Marker::decode(&sealed((FORMAT + 1).to_le_bytes().to_vec())),
            Err(Unreadable::Newer(FORMAT + 1))
        );
    }

    #[test]
    fn a_marker_of_format_1_is_read() {
        let mut bytes = 1_u32.to_le_bytes().to_vec();
        bytes.extend([20, 9, 40, 8, 3].into_iter().flat_map(u64::to_le_bytes));
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend([8, 12].into_iter().flat_map(u64::to_le_bytes));
        let expected = Marker {
            revision: 20,
            epoch: 9,
            last: 40,
            acknowledged: Position::new(8, 3),
            tails: [(8, 12)].into(),
            ..Marker::default()
        };
        assert_eq!(Marker::decode(&sealed(bytes)), Ok(expected));
    }

    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn the_largest_marker_fits_its_limit() {
        let mut marker = sample();
        marker.tails = (0..1000).map(|epoch| (epoch, 1)).collect();
        marker.trim();
        assert_eq!(marker.tails.first_key_value(), Some((&(1000 - TAILS as u64), &1)));
        assert_eq!(marker.encode().len(), MARKER_LIMIT);
    }
}
