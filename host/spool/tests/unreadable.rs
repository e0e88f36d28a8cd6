//! A database that cannot be had for a while, because its disk gives errors or somebody holds it: nothing is taken for damaged because of that, nothing is put aside or deleted, and all is
//! there when the disk is itself again.

#![allow(clippy::unwrap_used, reason = "helpers of a test may fail as the test does")]

use std::{fs, os::unix::fs::symlink, path::Path};

use picket_spool::{Disk, Entry, Position, Settings, Spool, Stored};

fn settings(dir: &Path) -> Settings {
    Settings { reserve_bytes: 0, ..Settings::at(dir) }
}

async fn filled(dir: &Path, entries: u64) {
    let spool = Spool::open(settings(dir)).unwrap();
    for n in 0..entries {
        append(&spool, n).await;
    }
    spool.close().await;
}

async fn append(spool: &Spool, n: u64) {
    spool.append(Entry { at_ms: 0, down: false, bytes: n.to_le_bytes().to_vec() }).await.unwrap();
}

/// Keeps the bytes of a file, of which every read gives EIO from now on.
fn break_down(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    // Nothing is mapped at its beginning.
    symlink("/proc/self/mem", path).unwrap();
    assert_eq!(fs::read(path).unwrap_err().raw_os_error(), Some(5));
    bytes
}

fn mend(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn aside(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut aside = names.filter(|name| name.starts_with("quarantine")).collect::<Vec<_>>();
    aside.sort();
    aside
}

/// The numbers of the entries that are there.
async fn numbers(spool: &Spool) -> Vec<u64> {
    let found = spool.peek(Position::START, 1_000).await.unwrap();
    let entries = found.iter().map(|stored| match stored {
        Stored::Entry { bytes, .. } => u64::from_le_bytes(bytes[..].try_into().unwrap()),
        Stored::Gap(gap) => panic!("{gap:?}"),
    });
    entries.collect()
}

#[tokio::test]
async fn a_database_that_cannot_be_read_for_now_is_not_put_aside_and_all_of_it_is_there_afterwards() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("spool");
    filled(&dir, 20).await;
    let files = ["queue/version", "queue/keyspaces/1/current"];
    for (n, file) in files.into_iter().enumerate() {
        let bytes = break_down(&dir.join(file));
        let spool = Spool::open_or_wait(settings(&dir)).unwrap();
        assert_eq!((spool.status().disk, spool.status().quarantined), (Disk::Unusable, 0), "{file}");
        assert!(spool.peek(Position::START, 1).await.is_err(), "{file}");
        spool.close().await;
        assert_eq!(aside(&dir), [""; 0], "{file}");
        mend(&dir.join(file), &bytes);

        let spool = Spool::open(settings(&dir)).unwrap();
        append(&spool, 20 + n as u64).await;
        assert_eq!(numbers(&spool).await, (0..=20 + n as u64).collect::<Vec<_>>(), "{file}");
        spool.close().await;
    }
}

#[tokio::test]
async fn what_was_put_aside_stays_until_a_queue_has_it_however_often_opening_fails() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("spool");
    filled(&dir, 20).await;
    fs::write(dir.join("queue/version"), b"garbage").unwrap();
    let journal = break_down(&dir.join("queue/0.jnl"));
    // Its version tells that it is damaged, and its journal is not shown: the second start finds a database that was only begun, and
    // the third another that is damaged itself.
    for start in 0..3 {
        let spool = Spool::open_or_wait(settings(&dir)).unwrap();
        assert_eq!(spool.status().disk, Disk::Unusable, "start {start}");
        spool.close().await;
        if start == 1 {
            fs::write(dir.join("queue/version"), b"garbage").unwrap();
        }
    }
    assert_eq!(aside(&dir), ["quarantine-1", "quarantine-2"]);
    mend(&dir.join("quarantine-1/0.jnl"), &journal);

    let spool = Spool::open(settings(&dir)).unwrap();
    assert_eq!(numbers(&spool).await, (0..20).collect::<Vec<_>>());
    assert_eq!(aside(&dir), ["quarantine-2"], "one is evidence, two are a full disk");
}

#[tokio::test]
async fn a_database_that_something_else_has_open_is_waited_for_and_not_put_aside() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("spool");
    filled(&dir, 20).await;
    let held = fs::File::open(dir.join("queue/lock")).unwrap();
    held.lock().unwrap();
    let spool = Spool::open_or_wait(settings(&dir)).unwrap();
    assert_eq!((spool.status().disk, spool.status().quarantined), (Disk::Unusable, 0));
    spool.close().await;
    drop(held);
    let spool = Spool::open(settings(&dir)).unwrap();
    assert_eq!(numbers(&spool).await, (0..20).collect::<Vec<_>>());
    assert_eq!(aside(&dir), [""; 0]);
}
