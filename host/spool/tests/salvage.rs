//! What somebody sees who looks at a spool from outside, whole or broken, and that it stays as it was.

#![allow(clippy::unwrap_used, reason = "helpers of a test may fail as the test does")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use picket_spool::{Entry, Error, Position, Salvaged, Settings, Spool, inspect, salvage};

async fn filled(dir: &Path, entries: u64) -> Spool {
    let spool = Spool::open(Settings { reserve_bytes: 0, ..Settings::at(dir) }).unwrap();
    let appends = (0..entries).map(|n| {
        let spool = spool.clone();
        let entry = Entry { at_ms: 0, down: false, bytes: n.to_le_bytes().repeat(40) };
        tokio::spawn(async move { spool.append(entry).await.unwrap() })
    });
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap();
    }
    spool
}

/// Every file with its bytes.
fn image(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            files.extend(image(&entry.path()));
        } else {
            files.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    files
}

fn found(dir: &Path) -> (Salvaged, BTreeMap<Position, Vec<u8>>) {
    let scratch = tempfile::tempdir().unwrap();
    let mut entries = BTreeMap::new();
    let salvaged = salvage(dir, scratch.path(), &mut |position, bytes| {
        assert_eq!(entries.insert(position, bytes.to_vec()), None, "{position} twice");
        Ok(())
    });
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "the copy is gone");
    (salvaged.unwrap(), entries)
}

#[tokio::test]
async fn everything_readable_comes_out_of_a_whole_and_of_a_broken_database_and_nothing_is_changed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("spool");
    filled(&dir, 300).await.close().await;
    let before = image(&dir);
    let (salvaged, whole) = found(&dir);
    assert_eq!(salvaged, Salvaged { entries: 300, opened: 1, ..Salvaged::default() });
    assert_eq!(image(&dir), before);

    // What was damaged and put aside is looked at as well.
    fs::write(dir.join("queue/version"), b"garbage").unwrap();
    let (salvaged, still) = found(&dir);
    assert_eq!((salvaged.broken, still), (1, whole.clone()));
    let spool = filled(&dir, 1).await;
    assert_eq!(spool.status().quarantined, 1);
    spool.close().await;
    let (_, all) = found(&dir);
    assert_eq!(all.len(), 301);
    assert!(whole.iter().all(|(position, bytes)| all.get(position) == Some(bytes)));
}

#[tokio::test]
async fn without_a_place_for_the_copy_the_journals_are_read_and_nothing_is_called_damaged() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("spool");
    filled(&dir, 30).await.close().await;
    let nowhere = home.path().join("nowhere");
    let salvaged = salvage(&dir, &nowhere, &mut |_, _| Ok(())).unwrap();
    assert_eq!((salvaged.entries, salvaged.broken), (30, 0));
    let reason = salvaged.unread.unwrap();
    assert!(reason.contains(&nowhere.display().to_string()) && reason.contains("queue"), "{reason}");
}

#[tokio::test]
async fn the_facts_are_there_while_a_process_uses_the_directory_but_salvage_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("spool");
    let spool = filled(&dir, 30).await;
    spool.release(Position::new(1, 10)).await.unwrap();
    let facts = inspect(&dir).unwrap();
    assert_eq!(
        (facts.recorded, facts.acknowledged),
        (Some(Position::new(1, 30)), Some(Position::new(1, 10)))
    );
    assert_eq!((facts.unreleased, facts.reserve_bytes, facts.quarantined.len()), (20, 0, 0));
    assert!(facts.database_bytes > 0);
    let refused = salvage(&dir, home.path(), &mut |_, _| Ok(()));
    assert!(matches!(refused, Err(Error::InUse { .. })));
    assert!(matches!(inspect(&home.path().join("nowhere")), Err(Error::File { .. })));
}
