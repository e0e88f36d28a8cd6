//! What must be known about positions beside the entries themselves, and its bytes. The same marker lies in the database and in
//! the slots beside it: the newer one speaks when the other is lost.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::types::Position;

/// The newest layout of markers and records that this version reads and the one it writes.
pub(crate) const FORMAT: u32 = 1;

/// Ended epochs whose last seq is remembered. More restarts than this without the control plane lose the exact size of a loss.
pub(crate) const TAILS: usize = 128;

/// The largest marker in bytes: a slot reserves this much.
pub(crate) const MARKER_LIMIT: usize = 4 + 5 * 8 + 4 + TAILS * 16 + 8;

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

    /// `format u32, revision, epoch, last, acknowledged (epoch, seq), n u32, n × (epoch, last), xxh3`, little endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        let words = [self.revision, self.epoch, self.last, self.acknowledged.epoch, self.acknowledged.seq];
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
            FORMAT => Self::fields(&body[4..]).ok_or(Unreadable::Broken),
            newer => Err(Unreadable::Newer(newer)),
        }
    }

    fn fields(body: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let count = u32::from_le_bytes(body.get(40..44)?.try_into().ok()?) as usize;
        let tails =
            (0..count).map(|n| Some((word(44 + 16 * n)?, word(52 + 16 * n)?))).collect::<Option<_>>()?;
        Some(Self {
            revision: word(0)?,
            epoch: word(8)?,
            last: word(16)?,
            acknowledged: Position::new(word(24)?, word(32)?),
            tails,
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
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        assert_eq!(Marker::decode(&bytes), Err(Unreadable::Newer(2)));
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
