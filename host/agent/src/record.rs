//! What the spool holds for one run, and how it becomes a record on the wire. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spool::{Entry, Stored};
use wire::results::{Gap, Record, RunResult, State};
use wire::{Position, Timestamp};

/// The bytes of a spool entry: a result, and when it ended on a clock that counts suspend.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Spooled {
    /// Of the boot that `ended_boot_ms` counts from.
    boot_id: String,
    ended_boot_ms: u64,
    result: RunResult,
}

/// A moment on the clock that counts suspend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment<'a> {
    /// Which boot; empty when it is not known.
    pub(crate) boot_id: &'a str,
    /// Since then.
    pub(crate) boot: Duration,
}

/// A result that ended `at`, ready for the spool.
pub(crate) fn entry(result: RunResult, at: Moment<'_>) -> Entry {
    let ended = result.started_at.plus_millis(i64::try_from(result.duration_ms).unwrap_or(i64::MAX));
    let down = result.state == State::Down;
    let spooled = Spooled { boot_id: at.boot_id.to_owned(), ended_boot_ms: millis(at.boot), result };
    let bytes = serde_json::to_vec(&spooled).expect("results are made of strings, finite numbers and lists");
    Entry { at_ms: ended.as_millis(), down, bytes }
}

/// What leaves for a stored record `now`. What the control plane rejected, or nobody can read, leaves as a gap.
pub(crate) fn record(stored: Stored, now: Moment<'_>, rejected: &BTreeSet<Position>) -> Record {
    let (position, bytes) = match stored {
        Stored::Gap(gap) => return Record::Gap(wire_gap(gap)),
        Stored::Entry { position, bytes } => (from_spool(position), bytes),
    };
    let Ok(Spooled { boot_id, ended_boot_ms, result }) = serde_json::from_slice(&bytes) else {
        return Record::Gap(single(position, "corrupt", None));
    };
    if rejected.contains(&position) {
        return Record::Gap(single(position, "rejected", Some(&result)));
    }
    let same_boot = !boot_id.is_empty() && boot_id == now.boot_id;
    let age_ms = same_boot.then(|| millis(now.boot).saturating_sub(ended_boot_ms));
    Record::Result { epoch: position.epoch, seq: position.seq, age_ms, result: Box::new(result) }
}

/// The result in the bytes of an entry; none when they are none that this version reads.
pub(crate) fn result(bytes: &[u8]) -> Option<RunResult> {
    serde_json::from_slice(bytes).map(|Spooled { result, .. }| result).ok()
}

/// The same place.
pub(crate) fn from_spool(position: spool::Position) -> Position {
    Position { epoch: position.epoch, seq: position.seq }
}

/// The same place.
pub(crate) fn to_spool(position: Position) -> spool::Position {
    spool::Position::new(position.epoch, position.seq)
}

fn wire_gap(gap: spool::Gap) -> Gap {
    Gap {
        epoch: gap.epoch,
        from: gap.from,
        to: gap.to,
        reason: gap.reason.as_str().to_owned(),
        first_at: gap.first_at_ms.map(Timestamp::from_millis),
        last_at: gap.last_at_ms.map(Timestamp::from_millis),
        down: gap.down,
    }
}

fn single(position: Position, reason: &str, result: Option<&RunResult>) -> Gap {
    let at = result.map(|result| result.started_at);
    let down = result.map(|result| u64::from(result.state == State::Down));
    Gap {
        epoch: position.epoch,
        from: position.seq,
        to: position.seq,
        reason: reason.to_owned(),
        first_at: at,
        last_at: at,
        down,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use uuid::Uuid;
    use wire::{MonitorId, ResultId};

    use super::*;

    pub(crate) fn result(state: State) -> RunResult {
        RunResult {
            id: ResultId(Uuid::from_u128(1)),
            monitor_id: MonitorId(Uuid::from_u128(2)),
            planned_at: Timestamp::from_millis(1_000),
            started_at: Timestamp::from_millis(1_002),
            duration_ms: 20,
            attempt: 1,
            request: None,
            missed: 0,
            state,
            code: "ok".into(),
            summary: "200".into(),
            phases: Default::default(),
            remote_address: None,
            metrics: Vec::new(),
            findings: Vec::new(),
            attributes: Default::default(),
            evidence: None,
            plugin_digest: None,
            config_digest: "d".into(),
            agent_version: "0".into(),
        }
    }

    const AT: spool::Position = spool::Position { epoch: 3, seq: 9 };

    fn stored(boot_id: &str) -> Stored {
        let entry = entry(result(State::Down), Moment { boot_id, boot: Duration::from_secs(100) });
        assert_eq!((entry.at_ms, entry.down), (1_022, true));
        Stored::Entry { position: AT, bytes: entry.bytes }
    }

    fn now(boot_id: &str) -> Moment<'_> {
        Moment { boot_id, boot: Duration::from_secs(107) }
    }

    #[test]
    fn the_age_is_told_only_within_one_known_boot() {
        for (then, boot_id, age) in [("a", "a", Some(7_000)), ("a", "b", None), ("", "", None)] {
            let Record::Result { epoch: 3, seq: 9, age_ms, result: sent } =
                record(stored(then), now(boot_id), &BTreeSet::new())
            else {
                panic!()
            };
            assert_eq!((age_ms, *sent), (age, result(State::Down)));
        }
    }

    #[test]
    fn a_rejected_result_and_one_that_cannot_be_read_leave_as_gaps_of_one() {
        let rejected = BTreeSet::from([from_spool(AT)]);
        let broken = Stored::Entry { position: AT, bytes: b"{".to_vec() };
        for (stored, reason, down) in [(stored("a"), "rejected", Some(1)), (broken, "corrupt", None)] {
            let Record::Gap(gap) = record(stored, now("a"), &rejected) else { panic!() };
            assert_eq!((gap.epoch, gap.from, gap.to, &gap.reason[..], gap.down), (3, 9, 9, reason, down));
        }
    }
}
