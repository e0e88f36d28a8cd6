//! How long to wait after a failure: full jitter between one second and a bound that doubles up to a minute.

use std::time::Duration;

/// Counts failures in a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    /// When it went well again after the last of them.
    good_since: Option<Duration>,
}

impl Backoff {
    /// The wait after one more failure. `chance` in 0..1 spreads agents that failed together.
    pub(crate) fn failed(&mut self, chance: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.good_since = None;
        let bound = 2_f64.powi(self.failures.min(10) as i32).min(LONGEST_S);
        Duration::from_secs_f64(SHORTEST_S + (bound - SHORTEST_S) * chance.clamp(0.0, 1.0))
    }

    /// The same, at least as long as somebody `asks` to wait.
    pub(crate) fn failed_or(&mut self, asks: Option<Duration>, chance: f64) -> Duration {
        self.failed(chance).max(asks.unwrap_or_default())
    }

    /// An exchange succeeded: the next failure waits shortly again.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// An exchange succeeded `now`. The next failure waits shortly again once that has been so for half a minute: a link that comes and
    /// goes is not asked in its rhythm.
    pub(crate) fn good(&mut self, now: Duration) {
        let since = *self.good_since.get_or_insert(now);
        if now.saturating_sub(since) >= STEADY {
            self.failures = 0;
        }
    }
}

const SHORTEST_S: f64 = 1.0;
const LONGEST_S: f64 = 60.0;
/// So long it has to go well.
const STEADY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_a_minute_and_no_wait_is_shorter_than_a_second() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.failed(1.0).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.failed(0.0), Duration::from_secs(1));
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            backoff.failed(0.5);
        }
        backoff.succeeded();
        assert_eq!(backoff.failed(1.0), Duration::from_secs(2));
    }

    #[test]
    fn a_link_that_comes_and_goes_starts_over_only_after_half_a_minute_without_a_failure() {
        let mut backoff = Backoff::default();
        let s = Duration::from_secs;
        for turn in 0..10 {
            backoff.good(s(turn * 30));
            backoff.good(s(turn * 30 + 29));
            backoff.failed(0.5);
        }
        assert_eq!(backoff.failed(1.0), s(60));
        backoff.good(s(400));
        backoff.good(s(430));
        assert_eq!(backoff.failed(1.0), s(2));
    }
}
