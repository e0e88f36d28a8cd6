//! Starts that follow each other too quickly. They are counted on disk, and from the fifth within five minutes each waits longer
//! before it does anything, so that an agent that cannot run burdens neither its machine nor its control plane.
//!
//! Owns the count and the wait. Does not own what ends an agent, nor whether it is started again: that is whoever supervises it.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::slots::{Kind, Slots, Stored};

/// The starts of the agent of one data directory.
#[derive(Debug)]
pub(crate) struct Starts {
    slots: Slots,
    counted: Counted,
}

/// A start that has to wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Looping {
    /// How many starts there were within [`WITHIN`], this one included.
    pub(crate) starts: usize,
    /// How long it waits.
    pub(crate) wait: Duration,
}

/// What is kept. Pure. Times of another boot mean nothing, so a boot begins anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counted {
    boot_id: String,
    /// The starts that still count, on the boot clock.
    recent_ms: Vec<u64>,
    /// Starts that waited since the last run that lasted.
    waited: u32,
}

impl Starts {
    /// What `data` tells of earlier starts. Damage costs the count, nothing else.
    pub(crate) fn open(data: &Path) -> Result<Self, Error> {
        let path = data.join("starts");
        let (slots, stored) = Slots::open(path.clone(), KIND).map_err(|source| Error::NotWritable {
            path,
            remedy: "the agent must be able to read its own files".to_owned(),
            source,
        })?;
        let counted = match stored {
            Stored::Newer { path, format } => return Err(Error::newer(path, format)),
            Stored::Valid(payloads) => payloads.iter().find_map(|p| serde_json::from_slice(p).ok()),
            Stored::Nothing | Stored::Damaged { .. } => None,
        };
        Ok(Self { slots, counted: counted.unwrap_or_default() })
    }

    /// Counts a start, before anything else is done. `first` is the first wait, which doubles; none with zero. Says whether it has to wait.
    pub(crate) fn begin(&mut self, boot_id: &str, now_ms: u64, first: Duration) -> Option<Looping> {
        let looping = self.counted.begin(boot_id, now_ms, first);
        self.keep();
        looping
    }

    /// The agent has run for [`STABLE`]: what was before is forgotten.
    pub(crate) fn lasted(&mut self) {
        self.counted = Counted::default();
        self.keep();
    }

    fn keep(&mut self) {
        let payload = serde_json::to_vec(&self.counted).expect("strings and numbers are always JSON");
        if let Err(error) = self.slots.store(&payload) {
            tracing::warn!(%error, "cannot keep the count of starts: a loop of restarts would not be slowed down");
        }
    }
}

impl Counted {
    fn begin(&mut self, boot_id: &str, now_ms: u64, first: Duration) -> Option<Looping> {
        if self.boot_id != boot_id {
            *self = Self { boot_id: boot_id.to_owned(), ..Self::default() };
        }
        self.recent_ms.retain(|at| now_ms.checked_sub(*at).is_some_and(|ago| ago < millis(WITHIN)));
        self.recent_ms.push(now_ms);
        // The waits spread the starts: once they are slowed down they stay so, until a run lasts.
        if self.recent_ms.len() < TOO_MANY && self.waited == 0 {
            return None;
        }
        let wait = first.saturating_mul(2_u32.saturating_pow(self.waited)).min(LONGEST);
        self.waited = self.waited.saturating_add(1);
        (!wait.is_zero()).then_some(Looping { starts: self.recent_ms.len(), wait })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A run of this length ends a loop.
pub(crate) const STABLE: Duration = Duration::from_secs(300);
/// In a loop the control plane is not spoken to before the agent has run for so long: one that ends sooner asked nothing of it.
pub(crate) const QUIET: Duration = Duration::from_secs(10);
const WITHIN: Duration = Duration::from_secs(300);
const TOO_MANY: usize = 5;
const LONGEST: Duration = Duration::from_secs(60);
const KIND: Kind = *b"st";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    fn waits(starts: &mut Starts, times: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let wait = |s: u64| {
            starts.begin("b", s * 1_000, Settings::START_WAIT).map_or(0, |looping| looping.wait.as_secs())
        };
        times.into_iter().map(wait).collect()
    }

    #[test]
    fn from_the_fifth_start_within_five_minutes_each_waits_twice_as_long_up_to_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let mut starts = Starts::open(dir.path()).unwrap();
        assert_eq!(waits(&mut starts, 0..12), [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(waits(&mut starts, [400, 800]), [60, 60], "the waits themselves do not end a loop");
    }

    #[test]
    fn starts_that_lie_apart_never_wait() {
        let dir = tempfile::tempdir().unwrap();
        let mut starts = Starts::open(dir.path()).unwrap();
        assert!(
            waits(&mut starts, (0..1_000).map(|n| n * 75)).iter().all(|wait| *wait == 0),
            "four in 300 s"
        );
    }

    #[test]
    fn the_count_survives_every_start_and_ends_with_a_run_that_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let found: Vec<_> = (0..7).flat_map(|s| waits(&mut Starts::open(dir.path()).unwrap(), [s])).collect();
        assert_eq!(found, [0, 0, 0, 0, 1, 2, 4]);
        Starts::open(dir.path()).unwrap().lasted();
        assert_eq!(waits(&mut Starts::open(dir.path()).unwrap(), [8]), [0]);
    }

    #[test]
    fn another_boot_begins_anew_and_a_clock_that_went_back_counts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut starts = Starts::open(dir.path()).unwrap();
        waits(&mut starts, 100..106);
        assert_eq!(starts.begin("another", 107_000, Settings::START_WAIT), None);
        waits(&mut starts, 100..103);
        assert_eq!(waits(&mut starts, [1]), [0]);
    }

    #[test]
    fn damage_costs_the_count_only() {
        let dir = tempfile::tempdir().unwrap();
        waits(&mut Starts::open(dir.path()).unwrap(), 0..9);
        for slot in ["slot.a", "slot.b"] {
            std::fs::write(dir.path().join("starts").join(slot), b"torn").unwrap();
        }
        assert_eq!(waits(&mut Starts::open(dir.path()).unwrap(), [10]), [0]);
    }
}
