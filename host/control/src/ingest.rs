//! What becomes of a batch: which records are new, how each came, what is missing, and how far the cursor moves. Pure; the store
//! writes what is decided here, in one transaction.
//!
//! A history has no hole and no overlap up to its cursor. The live lane stores results ahead of it; when the backlog comes to where they
//! stand, they are passed over.

use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use wire::results::{Delivery, Gap, Lane, Record, RunResult, State};
use wire::{Mistake, MonitorId, Position, ResultId};

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

impl Incoming {
    /// Of the result, if it is one.
    pub(crate) fn id(&self) -> Option<ResultId> {
        match self {
            Self::Result { result, .. } => Some(result.id),
            Self::Gap(_) => None,
        }
    }
}

/// Results that came by the live lane and stand after the cursor.
pub(crate) type Ahead = BTreeMap<Position, ResultId>;

/// What is stored of the agent that sent a batch.
#[derive(Debug)]
pub(crate) struct History<'a> {
    /// Everything up to here is.
    pub cursor: Position,
    /// This is beside.
    pub ahead: &'a Ahead,
    /// The batch's results that are stored already, wherever they stand.
    pub known: HashSet<ResultId>,
}

/// A new result.
#[derive(Debug, PartialEq)]
pub(crate) struct New {
    /// Where it stands.
    pub position: Position,
    /// How it came.
    pub delivery: Delivery,
    /// Milliseconds since the run ended, if the agent knows.
    pub age_ms: Option<u64>,
    /// What was found.
    pub result: RunResult,
}

/// What becomes of a batch.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decision {
    /// New results.
    pub results: Vec<New>,
    /// New gaps: the agent's own, and those noticed here.
    pub gaps: Vec<Gap>,
    /// Results that were stored ahead elsewhere and stand here from now on.
    pub moved: Vec<(ResultId, Position)>,
    /// Positions of stored results that are not ahead any more.
    pub passed: Vec<Position>,
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
            Ok(Record::Result { result, .. }) if result.state == State::Maintenance => {
                "the state \"maintenance\" is given by the control plane, and not by agents".to_owned()
            }
            Ok(Record::Result { epoch, seq, age_ms, result }) if counts(epoch) && counts(seq) => {
                read.push(Incoming::Result { position: Position { epoch, seq }, age_ms, result });
                continue;
            }
            Ok(Record::Gap(gap))
                if counts(gap.epoch) && gap.from > 0 && gap.from <= gap.to && counts(gap.to) =>
            {
                read.push(Incoming::Gap(gap));
                continue;
            }
            Ok(record) => {
                format!("position {} is impossible: epoch and seq count from 1 to {LAST}", record.position())
            }
            Err(e) => e.to_string(),
        };
        mistakes.push(Mistake { at: format!("/records/{index}"), message });
        match stands {
            (Some(epoch), Some(seq)) if counts(epoch) && counts(seq) => {
                read.push(Incoming::Gap(gap(epoch, seq, seq, "rejected")));
            }
            _ => lost = true,
        }
    }
    if lost { Err(mistakes) } else { Ok((read, mistakes)) }
}

/// What becomes of these records. `recorded` is the last result recorded before the session began; `interval_ms` knows the monitors
/// that there are.
pub(crate) fn decide(
    lane: Lane,
    history: &History<'_>,
    recorded: Position,
    interval_ms: impl Fn(MonitorId) -> Option<u64>,
    records: Vec<Incoming>,
) -> Decision {
    let delivered = |position, age_ms, result: &RunResult| {
        delivery(position, recorded, age_ms, interval_ms(result.monitor_id))
    };
    match lane {
        Lane::Live => ahead(history, delivered, records),
        Lane::Backlog => follow(history, recorded, delivered, records),
    }
}

/// The live lane: what is new is stored by its id and its position, the cursor stays. Whatever cannot be taken here comes in order later.
fn ahead(
    history: &History<'_>,
    delivered: impl Fn(Position, Option<u64>, &RunResult) -> Delivery,
    records: Vec<Incoming>,
) -> Decision {
    let mut decision = Decision { cursor: history.cursor, ..Decision::default() };
    let (mut positions, mut ids) = (HashSet::new(), HashSet::new());
    for record in records {
        let Incoming::Result { position, age_ms, result } = record else { continue };
        let room = history.ahead.len() + decision.results.len() < AHEAD_LIMIT;
        let taken = position <= history.cursor || history.ahead.contains_key(&position);
        if !room || taken || history.known.contains(&result.id) {
            continue;
        }
        if positions.insert(position) && ids.insert(result.id) {
            let delivery = delivered(position, age_ms, &result);
            decision.results.push(New { position, delivery, age_ms, result: *result });
        }
    }
    decision
}

/// The backlog: in order from the cursor on, which follows. What was stored ahead stays as it is.
fn follow(
    history: &History<'_>,
    recorded: Position,
    delivered: impl Fn(Position, Option<u64>, &RunResult) -> Delivery,
    records: Vec<Incoming>,
) -> Decision {
    let mut decision = Decision { cursor: history.cursor, ..Decision::default() };
    let elsewhere =
        LazyCell::new(|| history.ahead.iter().map(|(at, id)| (*id, *at)).collect::<HashMap<_, _>>());
    let mut ids = HashSet::new();
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
        // What came ahead in an epoch that ended without it may still move.
        let passed = history.ahead.range(Position { epoch, seq: next }..=end);
        decision.passed.extend(passed.map(|(position, _)| *position));
        if from > next {
            decision.miss(gap(epoch, next, from - 1, "missing"), history.ahead);
        }
        match record {
            Incoming::Gap(gap) => decision.miss(Gap { from: from.max(next), ..gap }, history.ahead),
            // It came by the live lane, or the agent contradicts itself: what stands here stays.
            Incoming::Result { position, .. } if history.ahead.contains_key(&position) => {}
            Incoming::Result { position, result, .. } if !ids.insert(result.id) => decision.repeat(position),
            Incoming::Result { position, age_ms, result } if !history.known.contains(&result.id) => {
                let delivery = delivered(position, age_ms, &result);
                decision.results.push(New { position, delivery, age_ms, result: *result });
            }
            Incoming::Result { position, result, .. } => match elsewhere.get(&result.id) {
                Some(was) => {
                    decision.moved.push((result.id, position));
                    decision.passed.push(*was);
                }
                None => decision.repeat(position),
            },
        }
        decision.cursor = end;
    }
    // What the agent held when it said hello has come: whatever still stands ahead in an epoch before moves no more.
    if decision.cursor >= recorded {
        decision.passed.extend(history.ahead.range(..=decision.cursor).map(|(position, _)| *position));
    }
    decision.passed.sort_unstable();
    decision.passed.dedup();
    decision
}

impl Decision {
    /// Adds a gap, but for the positions where a result stands that came ahead.
    fn miss(&mut self, gap: Gap, ahead: &Ahead) {
        let at = |seq| Position { epoch: gap.epoch, seq };
        let mut from = gap.from;
        let mut cut = false;
        for (stands, _) in ahead.range(at(gap.from)..=at(gap.to)) {
            cut = true;
            if from < stands.seq {
                self.gaps.push(Gap { from, to: stands.seq - 1, down: None, ..gap.clone() });
            }
            from = stands.seq + 1;
        }
        if from <= gap.to {
            let down = gap.down.filter(|_| !cut);
            self.gaps.push(Gap { from, down, ..gap });
        }
    }

    /// Says that the result at this position is stored at another one: nothing is missing, and the seqs stay dense.
    fn repeat(&mut self, position: Position) {
        let Position { epoch, seq } = position;
        match self.gaps.last_mut() {
            Some(last) if last.reason == REPEATED && (last.epoch, last.to + 1) == (epoch, seq) => {
                last.to = seq;
            }
            _ => self.gaps.push(gap(epoch, seq, seq, REPEATED)),
        }
    }
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

/// Whether an epoch or a seq can be one: what comes after it can still be counted.
fn counts(number: u64) -> bool {
    (1..=LAST).contains(&number)
}

fn gap(epoch: u64, from: u64, to: u64, reason: &str) -> Gap {
    Gap { epoch, from, to, reason: reason.into(), first_at: None, last_at: None, down: None }
}

/// The result stands elsewhere: it was given another position after it had been stored.
pub(crate) const REPEATED: &str = "repeated";

/// No epoch and no seq is greater: a million results a second reach it after 285 years, and every JSON reader counts so far.
const LAST: u64 = (1 << 53) - 1;

/// Results of one agent that are stored ahead at most; more come in order.
const AHEAD_LIMIT: usize = 100_000;

/// Younger than this is never late.
const LATE_AT_LEAST_MS: u64 = 30_000;

/// Older than this is always late.
const LATE_AT_MOST_MS: u64 = 120_000;

#[cfg(test)]
mod tests;
