//! Values as bytes, and the engine's failures as the store's. The formats of keys and of the small values are `keys`'.

use fjall::{Guard, Keyspace};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::keys::Reader;
use crate::store::Error;

pub(super) fn all<T: DeserializeOwned>(keyspace: &Keyspace, what: &'static str) -> Result<Vec<T>, Error> {
    keyspace.iter().map(|entry: Guard| json(&entry.value().map_err(reading(what))?, what)).collect()
}

pub(super) fn json<T: DeserializeOwned>(value: &[u8], what: &'static str) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|_| Error::Damaged { what })
}

pub(super) fn bytes<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value)
        .expect("maps have text keys, and nothing else of what is kept can fail to encode")
}

pub(super) fn number(value: &[u8]) -> Result<u64, Error> {
    Reader(value).u64().ok_or(Error::Damaged { what: "a number" })
}

pub(super) fn last_uuid(bytes: &[u8]) -> Option<Uuid> {
    bytes.last_chunk().map(|id| Uuid::from_bytes(*id))
}

pub(super) fn reading(what: &'static str) -> impl Fn(fjall::Error) -> Error {
    move |e| Error::Read { what, source: e.into() }
}

pub(super) fn writing(what: &'static str) -> impl Fn(fjall::Error) -> Error {
    move |e| Error::Write { what, source: e.into() }
}
