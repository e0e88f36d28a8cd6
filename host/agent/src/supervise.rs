//! Keeps the parts of the agent alive: one that panics is counted, said in the log and started again in place.
//!
//! Owns when a part is given up. Does not own what a part does, nor what its end means: that is `parts`.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::{Error, clock};

/// How often each part panicked since the start of the agent. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Panics(watch::Sender<Counts>);

/// Panics by part.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

impl Panics {
    /// None so far.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Counts::new()))
    }

    /// One more.
    pub(crate) fn count(&self, part: &'static str) {
        self.0.send_modify(|counts| *counts.entry(part).or_default() += 1);
    }

    /// The counts and their changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Counts> {
        self.0.subscribe()
    }
}

/// Does `work` until it ends, again after each panic: then with what it left behind, which every part takes as it finds it. Gives why
/// the agent cannot go on without the part.
pub(crate) async fn keep(part: &'static str, panics: Panics, work: impl AsyncFnMut()) -> Error {
    keep_resting(part, panics, work, sleep).await
}

async fn keep_resting(
    part: &'static str,
    panics: Panics,
    mut work: impl AsyncFnMut(),
    rest: impl AsyncFn(Duration),
) -> Error {
    let mut recent = Recent::default();
    while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
        panics.count(part);
        let Some(wait) = recent.panicked(clock::boot()) else {
            tracing::error!(part, "panicked {GIVEN_UP} times within {} s", WITHIN.as_secs());
            return Error::Panicked { part, times: GIVEN_UP, within: WITHIN };
        };
        tracing::error!(part, ?wait, "panicked, and is started again");
        rest(wait).await;
    }
    Error::Stopped { part }
}

/// The panics that still count. Pure.
#[derive(Debug, Default)]
struct Recent(VecDeque<Duration>);

impl Recent {
    /// How long to wait after one more, on the boot clock; none when that was one too many.
    fn panicked(&mut self, now: Duration) -> Option<Duration> {
        self.0.retain(|at| now.saturating_sub(*at) < WITHIN);
        self.0.push_back(now);
        let doubled = u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX);
        (self.0.len() < GIVEN_UP).then(|| FIRST_WAIT * 2_u32.pow(doubled))
    }
}

/// A part that panics so often is broken: a new process may help, this one will not.
const GIVEN_UP: usize = 5;
const WITHIN: Duration = Duration::from_secs(60);
/// Doubles with each panic that still counts.
const FIRST_WAIT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_waits_longer_after_each_panic_and_is_given_up_after_five_within_a_minute() {
        let mut recent = Recent::default();
        let waits = [0, 10, 20, 30, 59].map(|s| recent.panicked(Duration::from_secs(s)));
        assert_eq!(
            waits,
            [Some(100), Some(200), Some(400), Some(800), None].map(|w| w.map(Duration::from_millis))
        );
    }

    #[test]
    fn panics_that_lie_apart_never_add_up() {
        let mut recent = Recent::default();
        for n in 0..100 {
            assert!(recent.panicked(Duration::from_secs(16 * n)).is_some(), "four in 64 s");
        }
    }

    #[tokio::test]
    async fn a_part_that_panicked_goes_on_with_what_it_has_and_is_counted() {
        let panics = Panics::new();
        let mut left = 3;
        let work = async || {
            left -= 1;
            assert!(left == 0, "broken on purpose");
        };
        let ended = keep_resting("uplink", panics.clone(), work, async |_| ());
        assert!(matches!(ended.await, Error::Stopped { part: "uplink" }));
        assert_eq!(*panics.watch().borrow(), Counts::from([("uplink", 2)]));
    }

    #[tokio::test]
    async fn a_part_that_only_panics_ends_the_agent() {
        let panics = Panics::new();
        let work = async || panic!("broken on purpose");
        let ended = keep_resting("runner", panics.clone(), work, async |_| ()).await;
        assert_eq!(ended.exit_code(), 70);
        assert_eq!(ended.to_string(), "the runner panicked 5 times within 60 s");
        assert_eq!(panics.watch().borrow()["runner"], 5);
    }
}
