//! A primary and its standbys, one row of `pg_stat_replication` each: the facts and the verdict.
//!
//! Not every row is a standby: a base backup is in state `backup`, and an archiver receives without ever replaying. A standby
//! behind a black hole keeps its row, its state and its last lag until the sender gives up; only the age of its last reply shows
//! it.

use regex_lite::Regex;
use sdk::{Finding, Outcome, Stop};

use crate::config::{Config, Role};
use crate::lag::Lag;
use crate::session::Session;
use crate::wire::Row;

/// What the server says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// True: it is a standby itself, and feeds others.
    pub in_recovery: bool,
    /// Seconds, 0 for none: `wal_sender_timeout`.
    pub sender_timeout: f64,
    pub senders: Vec<Sender>,
}

/// One row: somebody who receives WAL.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sender {
    /// `application_name`.
    pub name: String,
    /// None: hidden from a role without `pg_monitor`.
    pub state: Option<String>,
    /// Bytes from what the standby replayed to what the server has; none for who never replays.
    pub behind: Option<f64>,
    /// Seconds by the primary's own clock; none while nothing is on the way.
    pub replay_lag: Option<f64>,
    /// Seconds since the last reply: this server's clock against the standby's.
    pub silence: Option<f64>,
}

/// Asks once.
pub(crate) fn observe(session: &mut Session) -> Result<Facts, Stop> {
    facts(&session.query(QUESTION)?).ok_or_else(|| {
        Outcome::down("postgres.protocol", "the server answers with columns that were not asked for").into()
    })
}

/// Judges the facts; who matches `exclude` is passed over.
pub(crate) fn judge(config: &Config, exclude: &[Regex], facts: &Facts) -> Result<Outcome, Stop> {
    if facts.senders.iter().any(|sender| sender.state.is_none()) {
        return Err(Session::lacks_rights(&config.user, "pg_stat_replication"));
    }
    let (expected, found) =
        (config.expected_role(), if facts.in_recovery { Role::Standby } else { Role::Primary });
    let role = Finding::new(
        "expect_role",
        expected == Role::Any || expected == found,
        expected.text(),
        found.text(),
    );
    if !role.passed {
        let summary = || format!("the server is a {}, a {} was expected", found.text(), expected.text());
        return Ok(Outcome::up("").must(role, "postgres.role", summary));
    }

    let bound = config.silence_bound(facts.sender_timeout);
    let judged =
        |sender: &&Sender| sender.is_standby() && !exclude.iter().any(|regex| regex.is_match(&sender.name));
    let standbys: Vec<&Sender> = facts.senders.iter().filter(judged).collect();
    let attached: Vec<&Sender> =
        standbys.iter().copied().filter(|sender| sender.trouble(bound).is_none()).collect();
    let worst = worst(&attached);

    let mut outcome = Outcome::up(match attached.len() {
        0 => "no standby, as allowed".to_owned(),
        1 => format!("{} is {}", attached[0].name, attached[0].lag().text()),
        many => format!("{many} standbys, at most {}", worst.text()),
    });
    outcome = outcome.finding(role);
    outcome = presence(outcome, config, &attached, &standbys, bound);
    for sender in &attached {
        outcome = sender.lag().judge(outcome, config, &sender.name);
    }
    for sender in standbys.iter().take(REPORTED) {
        let text = match sender.trouble(bound) {
            Some(trouble) => trouble,
            None => format!("{}, {}", sender.state.as_deref().unwrap_or_default(), sender.lag().text()),
        };
        outcome = outcome.attribute(&format!("standby.{}", sender.name), text);
    }
    if let Some(seconds) = worst.seconds {
        outcome = outcome.metric("postgres.lag", seconds, "s");
    }
    if let Some(bytes) = worst.bytes {
        outcome = outcome.metric("postgres.lag_bytes", bytes as f64, "By");
    }
    let ages = standbys.iter().filter_map(|sender| sender.silence);
    if let Some(silence) = ages.clone().reduce(f64::max) {
        outcome = outcome.metric("postgres.receiver_silence", silence.max(0.0), "s");
    }
    let skew = ages.map(|age| -age).fold(0.0, f64::max);
    Ok(outcome.metric("postgres.standbys", attached.len() as f64, "1").metric(
        "postgres.clock_skew",
        skew,
        "s",
    ))
}

/// Who must be there, and who is there but not well.
fn presence(
    mut outcome: Outcome,
    config: &Config,
    attached: &[&Sender],
    standbys: &[&Sender],
    bound: f64,
) -> Outcome {
    let troubles: Vec<String> = standbys
        .iter()
        .filter_map(|sender| sender.trouble(bound).map(|trouble| format!("{} {trouble}", sender.name)))
        .collect();
    let because = if troubles.is_empty() { String::new() } else { format!(": {}", troubles.join("; ")) };
    for name in &config.expected_standbys {
        let there = attached.iter().any(|sender| sender.name == *name);
        let actual = if there { "streams".to_owned() } else { format!("missing{because}") };
        outcome = outcome.must(
            Finding::new("expected_standbys", there, format!("{name} streams"), actual),
            "postgres.standby_missing",
            || format!("the standby {name} is missing{because}"),
        );
    }
    let count = attached.len();
    let enough = u32::try_from(count).unwrap_or(u32::MAX) >= config.min_standbys;
    outcome = outcome.must(
        Finding::new("min_standbys", enough, format!("at least {}", config.min_standbys), count.to_string()),
        "postgres.min_standbys",
        || format!("{count} standbys stream, {} are expected{because}", config.min_standbys),
    );
    let well = troubles.is_empty();
    outcome.should(
        Finding::new(
            "standbys",
            well,
            "all stream",
            if well { "all stream".to_owned() } else { troubles.join("; ") },
        ),
        "postgres.standby_not_streaming",
        || troubles.join("; "),
    )
}

impl Sender {
    /// A standby replays, or is about to: neither a base backup nor an archiver.
    fn is_standby(&self) -> bool {
        match self.state.as_deref() {
            Some("backup") => false,
            Some("streaming") => self.behind.is_some(),
            _ => true,
        }
    }

    /// Why it does not follow; none when it does.
    fn trouble(&self, bound: f64) -> Option<String> {
        let state = self.state.as_deref().unwrap_or_default();
        if !matches!(state, "streaming" | "catchup") {
            return Some(format!("is in state {state}"));
        }
        match self.silence {
            Some(silence) if silence > bound => Some(format!(
                "has not replied for {silence:.0} s, or its clock is behind; at most {bound:.0} s are healthy"
            )),
            _ => None,
        }
    }

    /// Without a lag in time and without a byte on the way there is none; with bytes on the way it is not known.
    fn lag(&self) -> Lag {
        let bytes = self.behind.map(|bytes| bytes.max(0.0) as u64);
        let seconds = if bytes == Some(0) { Some(0.0) } else { self.replay_lag.map(|lag| lag.max(0.0)) };
        Lag { seconds, bytes }
    }
}

/// The largest of each measure.
fn worst(attached: &[&Sender]) -> Lag {
    let lags: Vec<Lag> = attached.iter().map(|sender| sender.lag()).collect();
    Lag {
        seconds: lags.iter().filter_map(|lag| lag.seconds).reduce(f64::max),
        bytes: lags.iter().filter_map(|lag| lag.bytes).max(),
    }
}

/// Reads the answer to [`QUESTION`]; none when it has another shape.
fn facts(rows: &[Row]) -> Option<Facts> {
    let first = rows.first()?;
    let text = |row: &Row, index: usize| row.get(index).cloned().flatten();
    let number = |row: &Row, index: usize| text(row, index).and_then(|text| text.parse::<f64>().ok());
    let senders = rows.iter().filter(|row| text(row, 2).is_some()).map(|row| Sender {
        name: text(row, 3).unwrap_or_default(),
        state: text(row, 4),
        behind: number(row, 5),
        replay_lag: number(row, 6),
        silence: number(row, 7),
    });
    Some(Facts {
        in_recovery: text(first, 0)? == "t",
        sender_timeout: number(first, 1).unwrap_or(0.0) / 1000.0,
        senders: senders.collect(),
    })
}

/// A row for each sender, or one without. A cascading standby has no current position; it measures against what it received.
const QUESTION: &str = "\
WITH here AS (SELECT CASE WHEN pg_is_in_recovery() \
THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_lsn() END AS lsn) \
SELECT pg_is_in_recovery(), (SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'), \
r.pid, r.application_name, r.state, pg_wal_lsn_diff(here.lsn, r.replay_lsn), \
extract(epoch FROM r.replay_lag), extract(epoch FROM clock_timestamp() - r.reply_time) \
FROM here LEFT JOIN pg_stat_replication AS r ON true";

/// Standbys that get an attribute; the host keeps 64.
const REPORTED: usize = 32;

#[cfg(test)]
#[path = "primary_tests.rs"]
mod tests;
