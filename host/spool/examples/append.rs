//! Measures the spool on this disk: `cargo run --release -p picket-spool --example append [DIR]`.
//!
//! Prints entries recorded a second with as many callers as given, then how long a database of 10,000 entries takes to open
//! that nobody closed, and what the directory holds.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing to say")]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use picket_spool::{Entry, Position, Settings, Spool, Stored};

const SIZE: usize = 512;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let dir = std::env::args().nth(1).map_or(temporary.path().to_owned(), PathBuf::from).join("spool-bench");
    println!("{SIZE}-byte entries in {}", dir.display());
    for callers in [1, 50, 500, 1000] {
        runtime.block_on(rate(&dir.join(format!("rate-{callers}")), callers));
    }
    runtime.block_on(ring(&dir.join("ring")));
    runtime.block_on(reopen(&dir.join("reopen")));
    fs::remove_dir_all(&dir).unwrap();
}

fn settings(dir: &Path) -> Settings {
    Settings { capacity_records: 10_000, group_wait: Duration::ZERO, ..Settings::at(dir) }
}

async fn append(spool: &Spool, callers: u64, until: Instant) -> u64 {
    let tasks = (0..callers).map(|_| {
        let spool = spool.clone();
        tokio::spawn(async move {
            let mut appended = 0;
            while Instant::now() < until {
                spool.append(Entry { at_ms: 0, down: false, bytes: vec![7; SIZE] }).await.unwrap();
                appended += 1;
            }
            appended
        })
    });
    let mut appended = 0;
    for task in tasks.collect::<Vec<_>>() {
        appended += task.await.unwrap();
    }
    appended
}

async fn rate(dir: &Path, callers: u64) {
    let spool = Spool::open(settings(dir)).unwrap();
    let started = Instant::now();
    let appended = append(&spool, callers, started + Duration::from_secs(3)).await;
    let rate = appended as f64 / started.elapsed().as_secs_f64();
    println!("{callers:>5} callers: {rate:>8.0} recorded/s");
    spool.close().await;
}

async fn ring(dir: &Path) {
    let spool = Spool::open(settings(dir)).unwrap();
    let appended = append(&spool, 1000, Instant::now() + Duration::from_secs(10)).await;
    println!("ring of 10,000 after {appended} entries: {} MiB on disk", disk(dir) / 1024 / 1024);
    spool.close().await;
}

async fn reopen(dir: &Path) {
    let spool = Spool::open(settings(dir)).unwrap();
    let tasks = (0..10_000).map(|_| {
        let spool = spool.clone();
        tokio::spawn(async move {
            spool.append(Entry { at_ms: 0, down: false, bytes: vec![7; SIZE] }).await.unwrap()
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    // What a kill would leave: a copy of the open directory.
    let copy = dir.with_extension("killed");
    clone(dir, &copy);
    spool.close().await;

    let started = Instant::now();
    let spool = Spool::open(settings(&copy)).unwrap();
    println!("reopened with {} pending in {:?}", spool.status().pending, started.elapsed());
    let started = Instant::now();
    let (mut after, mut batches) = (Position::START, 0);
    loop {
        let batch = spool.peek(after, 500).await.unwrap();
        let Some(last) = batch.last().map(Stored::position) else { break };
        spool.release(last).await.unwrap();
        (after, batches) = (last, batches + 1);
    }
    println!("peeked and released in {batches} batches in {:?}", started.elapsed());
    spool.close().await;
}

fn clone(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            clone(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Bytes that the files really take.
fn disk(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                disk(&entry.path())
            } else {
                entry.metadata().map_or(0, |file| file.blocks() * 512)
            }
        })
        .sum()
}
