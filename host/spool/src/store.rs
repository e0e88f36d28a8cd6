//! The door to whatever keeps the bytes: ordered keys, atomic commits. The only implementation for real is `fjall.rs`; the
//! model test has one that forgets what was not committed.

use std::{collections::BTreeMap, ops::ControlFlow};

/// What one commit changes: a value, or none where the key goes. A map, because no key may change twice in a commit.
pub(crate) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Is shown a key and its value.
pub(crate) type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered map on a disk.
pub(crate) trait Store {
    /// All changes or none, on the disk for good when this returns `Ok`. After an `Err` the store is not used again.
    fn commit(&mut self, changes: Changes) -> Result<(), Fault>;

    /// The value of a key.
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;

    /// Visits keys and values in ascending order from this key on, until the visitor breaks.
    fn scan(&self, from: &[u8], visit: &mut Visitor<'_>) -> Result<(), Fault>;
}

/// How a store fails, by what helps against it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// Space helps; then opening it again.
    #[error("no space left")]
    Full,
    /// Only a person helps: permission, read-only, another process.
    #[error("{0}")]
    Refused(String),
    /// Opening it again may help.
    #[error("{0}")]
    Failed(String),
    /// Nothing helps: put it aside.
    #[error("{0}")]
    Damaged(String),
    /// Written by a newer version, with this format.
    #[error("format {0}")]
    Newer(u32),
}
