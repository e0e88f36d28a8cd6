//! How much is let in at once, and when the rest shall come again. After an outage every agent comes at the same moment: whoever is
//! beyond the rate gets a time of its own instead of a place in a queue that grows. The rules are pure; `Control` brings the clock.

use std::sync::Mutex;

use tokio::sync::{Semaphore, SemaphorePermit};
use wire::Problem;

use crate::control::{Control, lock};

/// What is under way and what was promised.
#[derive(Debug)]
pub(crate) struct Herd {
    hellos: Mutex<Rate>,
    batches: Semaphore,
}

impl Default for Herd {
    fn default() -> Self {
        Self { hellos: Mutex::new(Rate::new(HELLOS_PER_S)), batches: Semaphore::new(BATCHES) }
    }
}

impl Control {
    /// Lets a hello begin, or says when it is its turn.
    pub(crate) fn admit_hello(&self) -> Result<(), Problem> {
        let now_ms = self.now().up_ms;
        match lock(&self.herd.hellos).take(now_ms) {
            Ok(()) => Ok(()),
            Err(wait_ms) => Err(Problem::busy(wait_ms.div_ceil(1000).max(1))),
        }
    }

    /// A place for the work on one batch, as long as it is held. They are worked on one after another: what waits behind a queue of
    /// them would be sent again before it is answered.
    pub(crate) fn admit_batch(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let place = self.herd.batches.try_acquire();
        place.map_err(|_| Problem::busy(rand::random_range(1..=BATCH_WAIT_S)))
    }
}

/// A bucket of tokens that fills steadily, and a list of future places: each refusal is promised the next of them.
#[derive(Debug)]
struct Rate {
    per_s: u64,
    /// Tokens in thousandths.
    tokens: u64,
    at_ms: u64,
    /// Places before this time are promised.
    promised_ms: u64,
}

impl Rate {
    fn new(per_s: u64) -> Self {
        Self { per_s, tokens: per_s * 1000, at_ms: 0, promised_ms: 0 }
    }

    /// Takes a token, or gives the milliseconds until a place is free.
    fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        self.tokens = passed_ms.saturating_mul(self.per_s).saturating_add(self.tokens).min(self.per_s * 1000);
        if self.tokens >= 1000 {
            self.tokens -= 1000;
            return Ok(());
        }
        self.promised_ms = self.promised_ms.max(now_ms) + (1000 / self.per_s).max(1);
        Err(self.promised_ms - now_ms)
    }
}

/// Sessions that may begin in a second. Each costs two signatures and brings a batch.
const HELLOS_PER_S: u64 = 200;

/// Batches that wait for the store at the same time: at some milliseconds each, the last waits less than an agent does.
const BATCHES: usize = 128;

/// Those beyond come again within so many seconds.
const BATCH_WAIT_S: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_whatever_comes() {
        let mut rate = Rate::new(200);
        let mut let_in = Vec::new();
        for ms in 0..10_000 {
            (0..5).for_each(|_| let_in.extend(rate.take(ms).is_ok().then_some(ms)));
        }
        let in_second = |s: u64| let_in.iter().filter(|ms| **ms / 1000 == s).count();
        assert_eq!(
            (in_second(0), in_second(1), in_second(9)),
            (399, 200, 200),
            "one second's worth at first"
        );
    }

    #[test]
    fn those_who_are_refused_are_spread_over_the_time_that_they_need() {
        let mut rate = Rate::new(200);
        let waits: Vec<_> = (0..1_000).filter_map(|_| rate.take(0).err()).collect();
        assert_eq!((waits.len(), waits[0], waits[799]), (800, 5, 4_000));
        // At its time everybody is let in.
        let mut due: Vec<_> = waits.into_iter().map(|ms| ms.div_ceil(1000) * 1000).collect();
        due.sort_unstable();
        assert!(due.iter().all(|at| rate.take(*at).is_ok()));
    }

    #[test]
    fn promises_are_forgotten_when_their_time_is_over() {
        let mut rate = Rate::new(1);
        assert_eq!((rate.take(0), rate.take(0), rate.take(0)), (Ok(()), Err(1_000), Err(2_000)));
        assert_eq!((rate.take(60_000), rate.take(60_000)), (Ok(()), Err(1_000)));
    }
}
