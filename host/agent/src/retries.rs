//! Runs that are made again because they were down: what waits, until when, and what was said so far. Pure: times come in as values.
//! Whether a run is worth another is `judged`'s, how often the monitor's.

use std::collections::BTreeMap;

use spool::Entry;
use wire::MonitorId;

use crate::schedule::{Due, Millis};

/// A run to be made: the first at its time, or another one.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// What is due.
    pub(crate) due: Due,
    /// From 1.
    pub(crate) number: u32,
    /// What each earlier one came to.
    pub(crate) earlier: Vec<String>,
}

impl Attempt {
    /// The first of what is due.
    pub(crate) fn first(due: Due) -> Self {
        Self { due, number: 1, earlier: Vec::new() }
    }
}

/// A run that is made again.
#[derive(Debug)]
pub(crate) struct Again {
    /// When.
    pub(crate) at: Millis,
    /// What is tried.
    pub(crate) next: Attempt,
    /// Of the monitor as it was tried so far; another one is not tried.
    pub(crate) digest: String,
    /// The monitor's, for messages.
    pub(crate) name: String,
    /// What is recorded where there will be no other attempt.
    pub(crate) so_far: Entry,
}

/// All that wait, by time.
#[derive(Debug, Default)]
pub(crate) struct Retries(BTreeMap<(Millis, MonitorId), Again>);

impl Retries {
    /// It waits.
    pub(crate) fn wait(&mut self, again: Again) {
        self.0.insert((again.at, again.next.due.monitor), again);
    }

    /// When the next one is due.
    pub(crate) fn next_at(&self) -> Option<Millis> {
        self.0.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes one that is due, the oldest first.
    pub(crate) fn take(&mut self, now: Millis) -> Option<Attempt> {
        let due = self.0.first_entry().filter(|first| first.key().0 <= now)?;
        Some(due.remove().next)
    }

    /// Gives up those that are not wanted any more.
    pub(crate) fn give_up(&mut self, wanted: impl Fn(MonitorId, &str) -> bool) -> Vec<Again> {
        let gone = self.0.extract_if(.., |(_, monitor), again| !wanted(*monitor, &again.digest));
        gone.map(|(_, again)| again).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn again(n: u128, at: Millis, digest: &str) -> Again {
        let monitor = MonitorId(Uuid::from_u128(n));
        let due = Due { monitor, planned: 0, missed: 0, request: None, asked: false };
        Again {
            at,
            next: Attempt { due, number: 2, earlier: Vec::new() },
            digest: digest.to_owned(),
            name: "shop".to_owned(),
            so_far: Entry { at_ms: 0, down: true, bytes: Vec::new() },
        }
    }

    fn number(attempt: Option<Attempt>) -> Option<u128> {
        attempt.map(|attempt| attempt.due.monitor.0.as_u128())
    }

    #[test]
    fn what_waits_is_taken_when_it_is_due_the_oldest_first() {
        let mut retries = Retries::default();
        assert_eq!((retries.next_at(), number(retries.take(1_000))), (None, None));
        [again(1, 30, "a"), again(2, 10, "a"), again(3, 20, "a")].into_iter().for_each(|a| retries.wait(a));
        assert_eq!(retries.next_at(), Some(10));
        assert_eq!(number(retries.take(9)), None);
        assert_eq!([25, 25, 25].map(|now| number(retries.take(now))), [Some(2), Some(3), None]);
        assert_eq!((retries.next_at(), number(retries.take(30))), (Some(30), Some(1)));
    }

    #[test]
    fn a_monitor_that_is_another_now_is_given_up() {
        let mut retries = Retries::default();
        [again(1, 30, "a"), again(2, 10, "b"), again(3, 20, "a")].into_iter().for_each(|a| retries.wait(a));
        let given_up = retries.give_up(|monitor, digest| monitor.0.as_u128() != 3 && digest == "a");
        let mut numbers: Vec<_> = given_up.iter().map(|a| a.next.due.monitor.0.as_u128()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [2, 3]);
        assert_eq!(number(retries.take(100)), Some(1));
        assert_eq!(retries.next_at(), None);
    }
}
