//! A standby: what it knows about itself, and the verdict.
//!
//! A standby knows two positions in the WAL, received and replayed, and the time of the last commit that it replayed. Neither
//! is a lag by itself. Where both positions are equal nothing waits, however old the last commit is: an idle primary. But they
//! are also equal behind a cut link, so that this counts only while a receiver streams. Where they differ, the age of the last
//! commit grows with a long transaction on the primary, though each byte is replayed at once; so it is watched for a second
//! whether replay reaches what was received at first, and only if it does not, the age of the last commit is the lag.

use std::time::{Duration, Instant};

use sdk::{Finding, Outcome, Stop};

use crate::config::{Config, Role};
use crate::lag::Lag;
use crate::session::Session;
use crate::wire::Row;

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
}

/// Asks until what was received at first is replayed, for about a second or half of the budget.
pub(crate) fn observe(session: &mut Session, budget: Duration) -> Result<Vec<Sample>, Stop> {
    let begun = Instant::now();
    let mut samples = Vec::new();
    loop {
        let rows = session.query(QUESTION)?;
        let sample = rows.first().and_then(sample);
        samples.push(sample.ok_or_else(|| {
            Stop::Outcome(Outcome::down(
                "postgres.protocol",
                "the server answers with columns that were not asked for",
            ))
        })?);
        if is_settled(&samples) || samples.len() == SAMPLES || begun.elapsed() + PAUSE > budget / 2 {
            return Ok(samples);
        }
        session.query(&format!("SELECT pg_sleep({})", PAUSE.as_secs_f64()))?;
    }
}

/// Whether another sample would tell nothing more.
fn is_settled(samples: &[Sample]) -> bool {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return false };
    let waits = last.in_recovery && !last.paused && behind(first.received, last.replayed) > Some(0);
    let unsure = samples.len() == 1 && last.receiver.as_ref().is_some_and(|receiver| receiver.is_fresh);
    !waits && !unsure
}

/// Judges the samples, oldest first.
pub(crate) fn judge(config: &Config, samples: &[Sample]) -> Result<Outcome, Stop> {
    let Some(now) = samples.last() else {
        return Err(Outcome::down("postgres.protocol", "the server says nothing about itself").into());
    };
    if now.receiver.as_ref().is_some_and(|receiver| receiver.status.is_none()) {
        return Err(Session::lacks_rights(&config.user, "pg_stat_wal_receiver"));
    }
    let (expected, found) =
        (config.expected_role(), if now.in_recovery { Role::Standby } else { Role::Primary });
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

    let (lag, measured) = lag(samples);
    let mut outcome = Outcome::up(format!("the standby is {}", lag.text())).finding(role);
    let stream = stream(config, samples);
    outcome = outcome.must(
        Finding::new("receiver", stream.is_ok(), "streams from the primary", words(&stream)),
        "postgres.not_streaming",
        || format!("not streaming: {}", words(&stream)),
    );
    outcome = outcome.should(
        Finding::new("replay", !now.paused, "not paused", if now.paused { "paused" } else { "not paused" }),
        "postgres.replay_paused",
        || format!("replay is paused, {}; resume it with: SELECT pg_wal_replay_resume()", lag.text()),
    );
    outcome = lag.judge(outcome, config, "the standby");
    if let Some(seconds) = lag.seconds {
        outcome = outcome.metric("postgres.lag", seconds, "s");
    }
    if let Some(bytes) = lag.bytes {
        outcome = outcome.metric("postgres.lag_bytes", bytes as f64, "By");
    }
    if let Some(silence) = now.receiver.as_ref().and_then(|receiver| receiver.silence) {
        outcome = outcome.metric("postgres.receiver_silence", silence.max(0.0), "s");
    }
    Ok(outcome.metric("postgres.clock_skew", skew(now), "s").attribute("lag.measured_by", measured))
}

/// How far replay is behind, and by what that was found out.
fn lag(samples: &[Sample]) -> (Lag, &'static str) {
    let (Some(first), Some(now)) = (samples.first(), samples.last()) else {
        return (Lag::default(), "nothing");
    };
    // A commit of the future is a clock that goes wrong, not a negative lag.
    let age = now.commit_age.map(|age| age.max(0.0));
    if now.receiver.is_none() {
        // What was received last may be long ago, so that its distance to what is replayed says nothing.
        return (Lag { seconds: age, bytes: None }, "age of the last replayed commit");
    }
    let bytes = behind(now.received, now.replayed);
    if bytes == Some(0) {
        return (Lag { seconds: Some(0.0), bytes }, "everything received is replayed");
    }
    let reached = samples.iter().skip(1).find(|later| behind(first.received, later.replayed) == Some(0));
    match reached {
        Some(later) => (
            Lag { seconds: Some((later.at - first.at).max(0.0)), bytes },
            "time until replay reached what was received",
        ),
        None => (Lag { seconds: age, bytes }, "age of the last replayed commit"),
    }
}

/// Whether the primary is heard; a word about how, or why not.
fn stream(config: &Config, samples: &[Sample]) -> Result<String, String> {
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

fn words(stream: &Result<String, String>) -> &str {
    match stream {
        Ok(text) | Err(text) => text,
    }
}

/// Bytes from `replayed` to `received`; a replay ahead of the receiver, fed from an archive, is not behind.
fn behind(received: Option<u64>, replayed: Option<u64>) -> Option<u64> {
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
    let text = |index: usize| row.get(index).and_then(Option::as_deref);
    let number = |index: usize| text(index).and_then(|text| text.parse::<f64>().ok());
    let position = |index: usize| text(index).and_then(|text| text.parse::<u64>().ok());
    let flag = |index: usize| text(index).map(|text| text == "t");
    let receiver = text(7).map(|pid| Receiver {
        pid: pid.into(),
        status: text(8).map(Into::into),
        silence: number(9),
        is_fresh: flag(10) == Some(true),
        ahead: number(11),
    });
    Some(Sample {
        at: number(0)?,
        in_recovery: flag(1)?,
        received: position(2),
        replayed: position(3),
        paused: flag(4) == Some(true),
        commit_age: number(5),
        receiver_timeout: number(6).unwrap_or(0.0) / 1000.0,
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
extract(epoch FROM r.last_msg_send_time - r.last_msg_receipt_time) \
FROM (SELECT 1) AS one LEFT JOIN pg_stat_wal_receiver AS r ON true";

/// Between two samples.
const PAUSE: Duration = Duration::from_millis(250);
/// With the pauses between them, about a second.
const SAMPLES: usize = 5;

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
