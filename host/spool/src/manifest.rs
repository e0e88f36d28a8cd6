//! Holds a database's manifests against the checksums that stand beside them: fjall writes those and does not read them. Of a length that
//! one flipped bit made it would ask gigabytes of memory, and the kernel would end the process at each start anew.
//!
//! `keyspaces/N/current` names a manifest: number u64, XXH3-128 of its file, a byte 0, all little endian; `keyspaces/N/vNUMBER` is it.

use std::{fs, path::Path};

use xxhash_rust::xxh3::xxh3_128;

use crate::store::Fault;

/// An error when a manifest is not what was written. What is missing, or written in another way, is left to the database.
pub(crate) fn check(database: &Path) -> Result<(), Fault> {
    let keyspaces = fs::read_dir(database.join("keyspaces")).into_iter().flatten();
    for keyspace in keyspaces.filter_map(Result::ok).map(|entry| entry.path()) {
        let Some((number, checksum)) = fs::read(keyspace.join("current")).ok().as_deref().and_then(named)
        else {
            continue;
        };
        let path = keyspace.join(format!("v{number}"));
        let Ok(manifest) = fs::read(&path) else { continue };
        if xxh3_128(&manifest) != checksum {
            return Err(Fault::Damaged(format!("{} is not what was written", path.display())));
        }
    }
    Ok(())
}

fn named(current: &[u8]) -> Option<(u64, u128)> {
    let (number, rest) = current.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    (*kind == [0]).then(|| (u64::from_le_bytes(*number), u128::from_le_bytes(*checksum)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fjall::FjallStore, store::Store};

    #[test]
    fn a_database_agrees_with_its_checksums_and_no_flipped_bit_of_a_manifest_does() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("queue");
        let mut store = FjallStore::open(&database).unwrap();
        store.commit([(vec![1], Some(vec![2]))].into()).unwrap();
        drop(store);
        check(&database).unwrap();
        let keyspace = database.join("keyspaces/1");
        let (number, _) = named(&fs::read(keyspace.join("current")).unwrap()).expect("it is written so");
        let path = keyspace.join(format!("v{number}"));
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, flipped).unwrap();
            assert!(matches!(check(&database), Err(Fault::Damaged(_))), "byte {at}");
        }
    }
}
