//! Work side by side: as many threads as are useful, and the first thing that breaks ends the row with its own words.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::row::Run;

/// Does the run's times, each once, on `lanes` threads; `work` is told which time it is. After one broke no other is begun.
pub fn times(run: &Run, lanes: u64, work: impl Fn(u64) + Sync) {
    let (next, broken) = (AtomicU64::new(0), AtomicBool::new(false));
    each(lanes.min(run.count), |_| {
        let stop = Stop(&broken);
        while !broken.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= run.count {
                break;
            }
            work(n);
        }
        std::mem::forget(stop);
    });
}

/// Runs `work` on so many threads, each of which is told its number.
pub fn each(lanes: u64, work: impl Fn(u64) + Sync) {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..lanes).map(|lane| scope.spawn(move || work(lane))).collect();
        let ended: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        if let Some(panic) = ended.into_iter().find_map(Result::err) {
            resume_unwind(panic);
        }
    });
}

/// Dropped only by a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
