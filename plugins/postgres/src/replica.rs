//! A standby: what it knows about itself, and the verdict.
//!
//! A standby knows two positions in the WAL, received and replayed, and the time of the last commit that it replayed. Neither
//! is a lag by itself. Where both positions are equal nothing waits, however old the last commit is: an idle primary. But they
//! are also equal behind a cut link, so that this counts only while a receiver streams. Where they differ, `pace` says what
//! the lag is.

use std::time::Duration;

use sdk::{Finding, Outcome, Stop};

use crate::choice::Role;
use crate::config::Config;
use crate::inbox::broken;
use crate::lag::Lag;
use crate::pace::{self, Goal, Look};
use crate::refusal;
use crate::session::Session;
use crate::wire::{Columns, Row};

/// What a standby said, oldest first, and to whom.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// Who asked.
    pub role: String,
    pub samples: Vec<Sample>,
}

/// What the standby says at one moment. Ages are differences of times of the same clock unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// The server's clock, in seconds.
    pub at: f64,
    /// False: it is a primary.
    pub in_recovery: bool,
    /// Bytes of WAL; none when nothing was ever streamed.
    pub received: Option<u64>,
    /// Bytes of WAL.
    pub replayed: Option<u64>,
    pub paused: bool,
    /// Seconds since the last replayed commit: this server's clock against the primary's. None when none was replayed yet.
    pub commit_age: Option<f64>,
    /// Seconds, 0 for none: `wal_receiver_timeout`.
    pub receiver_timeout: f64,
    pub receiver: Option<Receiver>,
}

/// The process that streams from the primary.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Receiver {
    pub pid: String,
    /// None: hidden from a role without `pg_monitor`.
    pub status: Option<String>,
    /// Seconds since the last message of the primary.
    pub silence: Option<f64>,
    /// It has not received anything yet: its times are those of its own start.
    pub is_fresh: bool,
    /// Seconds that the primary's clock was ahead when the last message came; negative is its travel, or a clock behind.
    pub ahead: Option<f64>,
    /// Of the WAL that was received last.
    pub timeline: Option<u32>,
}

/// Asks until what was received at first is replayed, for about a second or half of the budget.
pub(crate) fn observe(session: &mut Session) -> Result<Facts, Stop> {
    let mut samples = vec![ask(session)?];
    while !is_settled(&samples) && samples.len() < SAMPLES && session.may_wait(PAUSE) {
        session.pause(PAUSE);
        samples.push(ask(session)?);
    }
    Ok(Facts { role: session.role().into(), samples })
}

/// Asks once.
pub(crate) fn ask(session: &mut Session) -> Result<Sample, Stop> {
    let rows = session.query(QUESTION)?;
    rows.first()
        .and_then(sample)
        .ok_or_else(|| broken("the server answers with columns that were not asked for"))
}

/// Whether another sample would tell nothing more.
fn is_settled(samples: &[Sample]) -> bool {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return false };
    let waits = last.in_recovery && !last.paused && behind(first.received, last.replayed) > Some(0);
    let unsure = samples.len() == 1 && last.receiver.as_ref().is_some_and(|receiver| receiver.is_fresh);
    !waits && !unsure
}

/// Judges the samples.
pub(crate) fn judge(config: &Config, facts: &Facts) -> Result<Outcome, Stop> {
    let samples = &facts.samples;
    let Some(now) = samples.last() else { return Err(broken("the server says nothing about itself")) };
    now.readable(&facts.role)?;
    let (expected, found) = (config.expected_role(), Role::of(now.in_recovery));
    let role = Finding::new(
        "expect_role",
        expected == Role::Any || expected == found,
        expected.text(),
        found.text(),
    );
    if !now.in_recovery || !role.passed {
        let outcome = Outcome::up("the server is a primary, as expected; it follows nobody");
        let summary = || match found {
            Role::Primary => {
                "the server is no standby any more: it was promoted, or never followed anybody".into()
            }
            _ => "the server is a standby, a primary was expected".into(),
        };
        return Ok(outcome.must(role, "postgres.role", summary));
    }

    let lag = lag(samples);
    let mut outcome = Outcome::up(format!("the standby is {}", lag.text())).finding(role);
    let stream = stream(config, samples);
    outcome = outcome.must(
        Finding::new("receiver", stream.is_ok(), "streams from the primary", words(&stream)),
        "postgres.not_streaming",
        || format!("not streaming: {}", words(&stream)),
    );
    outcome = judge_pause(outcome, now, &lag);
    outcome = lag.metrics(lag.judge(outcome, config, "the standby"));
    if let Some(silence) = now.silence() {
        outcome = outcome.metric("postgres.receiver_silence", silence, "s");
    }
    Ok(outcome.metric("postgres.clock_skew", skew(now), "s").attribute("lag.measured_by", lag.by))
}

/// Adds whether replay is paused.
pub(crate) fn judge_pause(outcome: Outcome, now: &Sample, lag: &Lag) -> Outcome {
    outcome.should(
        Finding::new("replay", !now.paused, "not paused", if now.paused { "paused" } else { "not paused" }),
        "postgres.replay_paused",
        || format!("replay is paused, {}; resume it with: SELECT pg_wal_replay_resume()", lag.text()),
    )
}

impl Sample {
    /// An error where the receiver's columns are hidden from the role that asked.
    pub(crate) fn readable(&self, role: &str) -> Result<(), Stop> {
        match &self.receiver {
            Some(receiver) if receiver.status.is_none() => Err(refusal::hidden("pg_stat_wal_receiver", role)),
            _ => Ok(()),
        }
    }

    /// Seconds since the primary was heard; a message of the future is a clock that goes wrong.
    pub(crate) fn silence(&self) -> Option<f64> {
        self.receiver.as_ref()?.silence.map(|silence| silence.max(0.0))
    }
}

/// How far replay is behind what was received.
fn lag(samples: &[Sample]) -> Lag {
    let (Some(first), Some(now)) = (samples.first(), samples.last()) else {
        return Lag { seconds: None, bytes: None, by: pace::BY_COMMIT };
    };
    // Without a receiver, what was received last may be long ago, so that its distance to what is replayed says nothing.
    let streams = now.receiver.is_some();
    let goal = Goal {
        position: first.received.filter(|_| streams),
        at: first.at,
        behind: behind(now.received, now.replayed).filter(|_| streams),
        commit_age: now.commit_age,
    };
    let looks: Vec<Look> =
        samples.iter().map(|sample| Look { at: sample.at, replayed: sample.replayed }).collect();
    pace::lag(goal, &looks)
}

/// Whether the primary is heard; a word about how, or why not.
pub(crate) fn stream(config: &Config, samples: &[Sample]) -> Result<String, String> {
    let Some(now) = samples.last() else { return Err("nothing is known".into()) };
    let Some(receiver) = &now.receiver else {
        let text = "no receiver runs";
        return if config.allow_no_receiver { Ok(format!("{text}, as allowed")) } else { Err(text.into()) };
    };
    let status = receiver.status.as_deref().unwrap_or_default();
    if status != "streaming" {
        return Err(format!("the receiver is in state {status}"));
    }
    // After lost WAL each retry looks like a stream that has just begun; a true one is still the same a moment later.
    let begun = samples.first().and_then(|first| first.receiver.as_ref());
    let lasting = samples.len() > 1 && begun.is_some_and(|first| first.pid == receiver.pid);
    if receiver.is_fresh && !lasting {
        return Err("the receiver starts again and again without receiving anything".into());
    }
    let bound = config.silence_bound(now.receiver_timeout);
    match receiver.silence {
        Some(silence) if silence > bound => {
            Err(format!("the primary has been silent for {silence:.0} s, at most {bound:.0} s are healthy"))
        }
        Some(silence) => Ok(format!("streams, last message {:.1} s ago", silence.max(0.0))),
        None => Err("the receiver has not heard the primary yet".into()),
    }
}

pub(crate) fn words(stream: &Result<String, String>) -> &str {
    match stream {
        Ok(text) | Err(text) => text,
    }
}

/// Bytes from `replayed` to `received`; a replay ahead of the receiver, fed from an archive, is not behind.
pub(crate) fn behind(received: Option<u64>, replayed: Option<u64>) -> Option<u64> {
    received.zip(replayed).map(|(received, replayed)| received.saturating_sub(replayed))
}

/// Seconds that the primary's clock is ahead, as far as it shows.
fn skew(now: &Sample) -> f64 {
    let by_commit = now.commit_age.map_or(0.0, |age| -age);
    let by_message = now.receiver.as_ref().and_then(|receiver| receiver.ahead).unwrap_or(0.0);
    by_commit.max(by_message).max(0.0)
}

/// Reads the answer to [`QUESTION`]; none when it has another shape.
fn sample(row: &Row) -> Option<Sample> {
    let row = Columns(row);
    let receiver = row.text(7).map(|pid| Receiver {
        pid: pid.into(),
        status: row.text(8).map(Into::into),
        silence: row.number(9),
        is_fresh: row.flag(10) == Some(true),
        ahead: row.number(11),
        timeline: row.count(12),
    });
    Some(Sample {
        at: row.number(0)?,
        in_recovery: row.flag(1)?,
        received: row.position(2),
        replayed: row.position(3),
        paused: row.flag(4) == Some(true),
        commit_age: row.number(5),
        receiver_timeout: row.timeout(6),
        receiver,
    })
}

/// One row. A primary answers NULL where only a standby knows; `pg_is_wal_replay_paused` would be an error there.
const QUESTION: &str = "\
SELECT extract(epoch FROM clock_timestamp()), pg_is_in_recovery(), \
pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0'), pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), \
CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END, \
extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), \
(SELECT setting FROM pg_settings WHERE name = 'wal_receiver_timeout'), \
r.pid, r.status, extract(epoch FROM clock_timestamp() - r.last_msg_receipt_time), \
r.last_msg_send_time = r.last_msg_receipt_time AND r.last_msg_receipt_time = r.latest_end_time, \
extract(epoch FROM r.last_msg_send_time - r.last_msg_receipt_time), r.received_tli \
FROM (SELECT 1) AS one LEFT JOIN pg_stat_wal_receiver AS r ON true";

/// Between two samples.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);
/// With the pauses between them, about a second.
pub(crate) const SAMPLES: usize = 5;

#[cfg(test)]
#[path = "replica_tests.rs"]
pub(crate) mod tests;
