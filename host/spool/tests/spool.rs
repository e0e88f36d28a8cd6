//! The spool as its user sees it, on a real directory: what is recorded, given, released, and still there after a restart.

#![allow(clippy::unwrap_used, reason = "helpers of a test may fail as the test does")]
#![allow(clippy::print_stdout, reason = "the seed of a failure is on its output")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use picket_spool::{ENTRY_LIMIT, Entry, Error, Position, Settings, Spool, Stored};

fn open(dir: &Path) -> Spool {
    Spool::open(Settings { fallback_epoch: 100, ..Settings::at(dir.join("spool")) }).unwrap()
}

fn entry(n: u64) -> Entry {
    Entry { at_ms: n as i64, down: false, bytes: n.to_le_bytes().to_vec() }
}

/// Appends these at once and gives their positions in order.
async fn append(spool: &Spool, numbers: std::ops::Range<u64>) -> Vec<Position> {
    let appends = numbers.map(|n| {
        let spool = spool.clone();
        tokio::spawn(async move { spool.append(entry(n)).await.unwrap() })
    });
    let mut positions = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        positions.push(append.await.unwrap());
    }
    positions.sort();
    positions
}

async fn positions(spool: &Spool, after: Position) -> Vec<Position> {
    spool.peek(after, usize::MAX).await.unwrap().iter().map(Stored::position).collect()
}

#[tokio::test]
async fn seqs_are_dense_from_one_and_each_opening_is_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    for epoch in 100..103 {
        let spool = open(dir.path());
        assert_eq!(spool.status().recorded, Position::new(epoch, 0));
        let expected = (1..=200).map(|seq| Position::new(epoch, seq)).collect::<Vec<_>>();
        assert_eq!(append(&spool, 0..200).await, expected);
        assert_eq!(spool.status().recorded, Position::new(epoch, 200));
        spool.close().await;
    }
    let spool = open(dir.path());
    assert_eq!(spool.status().pending, 600);
    assert_eq!(positions(&spool, Position::START).await.len(), 600);
}

#[tokio::test]
async fn what_was_released_is_not_given_again_after_a_restart_until_a_rewind() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let recorded = append(&spool, 0..100).await;
    spool.release(recorded[59]).await.unwrap();
    assert_eq!(positions(&spool, Position::START).await, recorded[60..]);
    spool.close().await;

    let spool = open(dir.path());
    assert_eq!((spool.status().acknowledged, spool.status().pending), (recorded[59], 40));
    assert_eq!(positions(&spool, Position::START).await, recorded[60..]);
    spool.rewind(recorded[9]).await.unwrap();
    assert_eq!(positions(&spool, Position::START).await, recorded[10..]);
    spool.close().await;

    let spool = open(dir.path());
    assert_eq!(positions(&spool, Position::START).await, recorded[10..]);
    assert_eq!(spool.status().pending, 90);
}

#[tokio::test]
async fn peek_goes_on_after_the_position_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let recorded = append(&spool, 0..10).await;
    let page = spool.peek(recorded[2], 4).await.unwrap();
    assert_eq!(page.iter().map(Stored::position).collect::<Vec<_>>(), recorded[3..7]);
    assert_eq!(positions(&spool, recorded[9]).await, []);
}

#[tokio::test]
async fn a_lone_entry_on_an_idle_spool_does_not_wait_for_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let patient =
        Settings { group_wait: Duration::from_secs(3600), ..Settings::at(dir.path().join("spool")) };
    let spool = Spool::open(patient).unwrap();
    let started = Instant::now();
    spool.append(entry(1)).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_full_group_does_not_wait_for_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let patient =
        Settings { group_wait: Duration::from_secs(3600), ..Settings::at(dir.path().join("spool")) };
    let spool = Spool::open(patient).unwrap();
    spool.append(entry(0)).await.unwrap();
    assert_eq!(append(&spool, 1..65).await.len(), 64);
}

#[tokio::test]
async fn a_release_beyond_the_recorded_is_refused_and_an_old_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let recorded = append(&spool, 0..4).await;
    let beyond = Position::new(100, 5);
    assert!(matches!(spool.release(beyond).await, Err(Error::Beyond { upto, .. }) if upto == beyond));
    spool.release(recorded[2]).await.unwrap();
    spool.release(recorded[0]).await.unwrap();
    assert_eq!(spool.status().acknowledged, recorded[2]);
}

#[tokio::test]
async fn an_entry_that_is_too_large_takes_no_seq() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let large = Entry { bytes: vec![0; ENTRY_LIMIT + 1], ..entry(0) };
    assert!(matches!(spool.append(large).await, Err(Error::TooLarge { .. })));
    let largest = Entry { bytes: vec![7; ENTRY_LIMIT], ..entry(0) };
    assert_eq!(spool.append(largest).await.unwrap(), Position::new(100, 1));
}

#[tokio::test]
async fn a_second_spool_on_the_same_directory_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let recorded = append(&spool, 0..3).await;
    let second = Spool::open(Settings::at(dir.path().join("spool")));
    assert!(matches!(second, Err(Error::InUse { .. })));
    assert_eq!(positions(&spool, Position::START).await, recorded);
}

#[tokio::test]
async fn a_closed_spool_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    let other = spool.clone();
    spool.close().await;
    assert!(matches!(other.append(entry(1)).await, Err(Error::Closed)));
}

#[test]
fn settings_below_the_promise_are_refused_by_name() {
    let settings = Settings { capacity_records: 9_999, ..Settings::at("/nonexistent/spool") };
    let message = Spool::open(settings).unwrap_err().to_string();
    assert_eq!(message, "spool setting `capacity_records` is 9999, expected at least 10000");
}
