//! What becomes of a batch: which records are new, how each came, what is missing, and how far the cursor moves. Pure; the store
//! writes what is decided here, in one transaction.

use serde_json::Value;
use wire::results::{Delivery, Gap, Record, RunResult};
use wire::{Mistake, MonitorId, Position};

/// One record of a batch, as far as it could be read.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A result.
    Result {
        /// Where it stands.
        position: Position,
        /// Milliseconds since the run ended, if the agent knows.
        age_ms: Option<u64>,
        /// What was found.
        result: Box<RunResult>,
    },
    /// Results that will never come; `from` ≤ `to`.
    Gap(Gap),
}

/// What becomes of a batch.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decision {
    /// New results.
    pub results: Vec<(Position, Delivery, RunResult)>,
    /// New gaps: the agent's own, and those noticed here.
    pub gaps: Vec<Gap>,
    /// Everything up to here is then stored.
    pub cursor: Position,
}

/// Reads the records one by one, so that one that cannot be read blocks none of the others: a *rejected* gap takes its place. Only a
/// record that does not even say where it stands fails the batch.
pub(crate) fn read(records: Vec<Value>) -> Result<(Vec<Incoming>, Vec<Mistake>), Vec<Mistake>> {
    let (mut read, mut mistakes, mut lost) = (Vec::with_capacity(records.len()), Vec::new(), false);
    for (index, raw) in records.into_iter().enumerate() {
        let stands = (raw["epoch"].as_u64(), raw["seq"].as_u64());
        let message = match serde_json::from_value::<Record>(raw) {
            Ok(Record::Result { epoch, seq, age_ms, result }) if epoch > 0 && seq > 0 => {
                read.push(Incoming::Result { position: Position { epoch, seq }, age_ms, result });
                continue;
            }
            Ok(Record::Gap(gap)) if gap.epoch > 0 && gap.from > 0 && gap.from <= gap.to => {
                read.push(Incoming::Gap(gap));
                continue;
            }
            Ok(record) => format!("position {} is impossible: epoch and seq count from 1", record.position()),
            Err(e) => e.to_string(),
        };
        mistakes.push(Mistake { at: format!("/records/{index}"), message });
        match stands {
            (Some(epoch), Some(seq)) if epoch > 0 && seq > 0 => read.push(Incoming::Gap(Gap {
                epoch,
                from: seq,
                to: seq,
                reason: "rejected".into(),
                first_at: None,
                last_at: None,
                down: None,
            })),
            _ => lost = true,
        }
    }
    if lost { Err(mistakes) } else { Ok((read, mistakes)) }
}

/// Goes through a batch from `cursor` on. `recorded` is the last result recorded before the session began; `interval_ms` knows the
/// monitors that there are.
pub(crate) fn decide(
    cursor: Position,
    recorded: Position,
    interval_ms: impl Fn(MonitorId) -> Option<u64>,
    records: Vec<Incoming>,
) -> Decision {
    let mut decision = Decision { cursor, ..Decision::default() };
    for record in records {
        let (epoch, from, to) = match &record {
            Incoming::Result { position, .. } => (position.epoch, position.seq, position.seq),
            Incoming::Gap(gap) => (gap.epoch, gap.from, gap.to),
        };
        let end = Position { epoch, seq: to };
        if end <= decision.cursor {
            continue;
        }
        let next = if epoch == decision.cursor.epoch { decision.cursor.seq + 1 } else { 1 };
        if from > next {
            decision.gaps.push(missing(epoch, next, from - 1));
        }
        match record {
            Incoming::Result { position, age_ms, result } => {
                let known = interval_ms(result.monitor_id);
                let delivery = delivery(position, recorded, age_ms, known);
                decision.results.push((position, delivery, *result));
            }
            Incoming::Gap(gap) => decision.gaps.push(Gap { from: from.max(next), ..gap }),
        }
        decision.cursor = end;
    }
    decision
}

/// How a result came. The wall clocks of both sides have no say.
fn delivery(
    position: Position,
    recorded: Position,
    age_ms: Option<u64>,
    interval_ms: Option<u64>,
) -> Delivery {
    let limit = interval_ms.unwrap_or(LATE_AT_MOST_MS).clamp(LATE_AT_LEAST_MS, LATE_AT_MOST_MS);
    match age_ms {
        _ if position <= recorded => Delivery::Buffered,
        Some(age) if age <= limit => Delivery::Live,
        _ => Delivery::Late,
    }
}

fn missing(epoch: u64, from: u64, to: u64) -> Gap {
    Gap { epoch, from, to, reason: "missing".into(), first_at: None, last_at: None, down: None }
}

/// Younger than this is never late.
const LATE_AT_LEAST_MS: u64 = 30_000;

/// Older than this is always late.
const LATE_AT_MOST_MS: u64 = 120_000;

#[cfg(test)]
mod tests;
