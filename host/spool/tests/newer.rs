//! A spool of a newer version is refused, in words, and not one byte of it is changed.

#![allow(clippy::unwrap_used, reason = "helpers of a test may fail as the test does")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use picket_spool::{Entry, Error, Settings, Spool};
use xxhash_rust::xxh3::xxh3_64;

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Gives the marker in a slot format 7, as a later version would.
fn lift(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let length = u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
    let marker = &mut bytes[20..20 + length];
    marker[..4].copy_from_slice(&7_u32.to_le_bytes());
    let covered = length - 8;
    let checksum = xxh3_64(&marker[..covered]);
    marker[covered..].copy_from_slice(&checksum.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_newer_spool_is_not_touched() {
    for slots in [&["slot.a"][..], &["slot.b"], &["slot.a", "slot.b"]] {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let spool = Spool::open(Settings::at(dir.path())).unwrap();
            spool.append(Entry { at_ms: 1, down: true, bytes: b"recorded".to_vec() }).await.unwrap();
            spool.close().await;
        }
        slots.iter().for_each(|slot| lift(&dir.path().join(slot)));
        let before = files(dir.path());
        let error = Spool::open(Settings::at(dir.path())).unwrap_err();
        assert!(matches!(error, Error::Newer { found: 7, .. }), "{error}");
        assert!(files(dir.path()) == before, "{slots:?}: something was changed");
    }
}
