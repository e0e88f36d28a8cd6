//! A server and its standbys, one row of `pg_stat_replication` each: the facts and the verdict.
//!
//! Not every row is a standby: a base backup is in state `backup`, an archiver receives without ever replaying, and a logical
//! subscriber is no copy. A standby behind a black hole keeps its row, its state and its last lag until the sender gives up;
//! only the age of its last reply shows it. And a server that feeds others from what it receives itself is no fresher than that.

use std::collections::BTreeSet;

use sdk::{Finding, Outcome, Stop};

use crate::config::Config;
use crate::inbox::broken;
use crate::lag::Lag;
use crate::refusal;
use crate::replica::{self, PAUSE, SAMPLES, Sample};
use crate::role;
use crate::session::Session;
use crate::wire::{Columns, Row};

/// What the server says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// Who asked.
    pub role: String,
    /// What the server says about itself as a standby, where it is one: it feeds others.
    pub upstream: Option<Vec<Sample>>,
    /// Seconds, 0 for none: `wal_sender_timeout`.
    pub sender_timeout: f64,
    pub senders: Vec<Sender>,
}

/// One row: somebody who receives WAL.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sender {
    pub pid: String,
    /// `application_name`, with the address behind it where others have the same.
    pub name: String,
    /// `client_addr`; none over a Unix socket.
    pub address: Option<String>,
    /// None: hidden from a role without `pg_monitor`.
    pub state: Option<String>,
    /// Bytes from what the standby replayed to what the server has; none for who never replays.
    pub behind: Option<f64>,
    /// Seconds by the primary's own clock; none while nothing is on the way.
    pub replay_lag: Option<f64>,
    /// Seconds since the last reply: this server's clock against the standby's.
    pub silence: Option<f64>,
    /// A reply came while we looked: it is heard, whatever its clock says.
    pub replied: bool,
    /// It holds a logical slot.
    pub is_logical: bool,
}

/// Asks; again for about a second where somebody seems silent, for it may be that only its clock is wrong.
pub(crate) fn observe(config: &Config, session: &mut Session) -> Result<Facts, Stop> {
    let first = ask(session)?;
    let bound = config.silence_bound(first.sender_timeout);
    let quiet = |sender: &Sender| !sender.replied && sender.silence.is_some_and(|silence| silence > bound);
    let mut begun = session.elapsed();
    let mut now = first;
    for _ in 1..SAMPLES {
        if !now.senders.iter().any(quiet) || !session.may_wait(PAUSE) {
            break;
        }
        session.pause(PAUSE);
        let mut later = ask(session)?;
        let passed = session.elapsed() - begun;
        begun += passed;
        later.note_replies(&now, passed);
        now = later;
    }
    if now.upstream.is_some() {
        now.upstream = Some(replica::observe(session)?.samples);
    }
    Ok(now)
}

fn ask(session: &mut Session) -> Result<Facts, Stop> {
    let rows = session.query(QUESTION)?;
    facts(&rows, session.role())
        .ok_or_else(|| broken("the server answers with columns that were not asked for"))
}

/// Judges the facts; who has one of these names is passed over.
pub(crate) fn judge(config: &Config, excluded: &BTreeSet<String>, facts: &Facts) -> Result<Outcome, Stop> {
    if facts.senders.iter().any(|sender| sender.state.is_none()) {
        return Err(refusal::hidden("pg_stat_replication", &facts.role));
    }
    let role = role::judge(config, facts.upstream.is_some())?;

    let bound = config.silence_bound(facts.sender_timeout);
    let judged = |sender: &&Sender| sender.is_standby() && !excluded.contains(&sender.name);
    let standbys: Vec<&Sender> = facts.senders.iter().filter(judged).collect();
    let attached: Vec<&Sender> =
        standbys.iter().copied().filter(|sender| sender.trouble(bound).is_none()).collect();
    let worst = worst(&attached);

    let mut outcome = Outcome::up(match attached.len() {
        0 => "no standby, as allowed".to_owned(),
        1 => format!("{} is {}", attached[0].label(&standbys), attached[0].lag().text()),
        many => format!("{many} standbys, at most {}", worst.text()),
    });
    outcome = outcome.finding(role);
    if let Some(samples) = &facts.upstream {
        samples.last().map_or(Ok(()), |now| now.readable(&facts.role))?;
        let stream = replica::stream(config, samples);
        outcome = outcome.must(
            Finding::new("receiver", stream.is_ok(), "streams itself", replica::words(&stream)),
            "postgres.not_streaming",
            || format!("feeds others, but does not stream itself: {}", replica::words(&stream)),
        );
    }
    outcome = presence(outcome, config, &attached, &standbys, bound);
    for sender in &attached {
        outcome = sender.lag().judge(outcome, config, &sender.label(&standbys));
    }
    for sender in standbys.iter().take(REPORTED) {
        let text = match sender.trouble(bound) {
            Some(trouble) => trouble,
            None => format!("{}, {}", sender.state.as_deref().unwrap_or_default(), sender.lag().text()),
        };
        outcome = outcome.attribute(&format!("standby.{}", sender.label(&standbys)), text);
    }
    outcome = worst.metrics(outcome);
    let ages = standbys.iter().filter(|sender| !sender.replied).filter_map(|sender| sender.silence);
    if let Some(silence) = ages.reduce(f64::max) {
        outcome = outcome.metric("postgres.receiver_silence", silence.max(0.0), "s");
    }
    let skew = standbys.iter().filter_map(|sender| sender.skew()).fold(0.0, f64::max);
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
        .filter_map(|sender| {
            sender.trouble(bound).map(|trouble| format!("{} {trouble}", sender.label(standbys)))
        })
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

impl Facts {
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.senders.iter().map(|sender| sender.name.as_str())
    }

    /// Marks who has replied since `before`, so many seconds ago.
    fn note_replies(&mut self, before: &Facts, passed: f64) {
        for sender in &mut self.senders {
            let Some(earlier) = before.senders.iter().find(|earlier| earlier.pid == sender.pid) else {
                continue;
            };
            let aged = earlier.silence.zip(sender.silence).map(|(then, now)| now - then);
            // Without a reply the silence has grown by what has passed.
            sender.replied = earlier.replied || aged.is_some_and(|aged| aged < passed / 2.0);
        }
    }
}

impl Sender {
    /// A standby replays, or is about to: neither a base backup, nor an archiver, nor a subscriber.
    fn is_standby(&self) -> bool {
        match self.state.as_deref() {
            _ if self.is_logical => false,
            Some("backup") => false,
            Some("streaming" | "catchup") => self.behind.is_some(),
            _ => true,
        }
    }

    /// The name, or with the address where others have it too: all that name none are "walreceiver".
    fn label(&self, standbys: &[&Sender]) -> String {
        let alone = standbys.iter().filter(|other| other.name == self.name).count() < 2;
        match &self.address {
            Some(address) if !alone => format!("{} ({address})", self.name),
            _ => self.name.clone(),
        }
    }

    /// Why it does not follow; none when it does.
    fn trouble(&self, bound: f64) -> Option<String> {
        let state = self.state.as_deref().unwrap_or_default();
        if !matches!(state, "streaming" | "catchup") {
            return Some(format!("is in state {state}"));
        }
        match self.silence {
            _ if self.replied => None,
            Some(silence) if silence > bound => Some(format!(
                "has not replied for {silence:.0} s, or its clock is behind; at most {bound:.0} s are healthy"
            )),
            _ => None,
        }
    }

    /// Without a byte on the way there is no lag; with bytes on the way and no lag in time that is not known.
    fn lag(&self) -> Lag {
        let bytes = self.behind.map(|bytes| bytes.max(0.0) as u64);
        if bytes == Some(0) {
            return Lag { seconds: Some(0.0), bytes, by: "none, for nothing is on the way" };
        }
        Lag {
            seconds: self.replay_lag.map(|lag| lag.max(0.0)),
            bytes,
            by: "replay_lag by the primary's clock",
        }
    }

    /// Seconds between the clocks, as far as they show: a reply from the future, or one that just came and is old.
    fn skew(&self) -> Option<f64> {
        let silence = self.silence?;
        if self.replied { Some(silence.abs()) } else { Some(-silence) }
    }
}

/// The largest of each measure.
fn worst(attached: &[&Sender]) -> Lag {
    let lags: Vec<Lag> = attached.iter().map(|sender| sender.lag()).collect();
    Lag {
        seconds: lags.iter().filter_map(|lag| lag.seconds).reduce(f64::max),
        bytes: lags.iter().filter_map(|lag| lag.bytes).max(),
        by: "the largest of all standbys",
    }
}

/// Reads the answer to [`QUESTION`]; none when it has another shape.
fn facts(rows: &[Row], role: &str) -> Option<Facts> {
    let first = Columns(rows.first()?);
    let sender = |row: &Row| {
        let row = Columns(row);
        Some(Sender {
            pid: row.text(2)?.into(),
            name: row.text(3).unwrap_or_default().into(),
            address: row.text(9).map(Into::into),
            state: row.text(4).map(Into::into),
            behind: row.number(5),
            replay_lag: row.number(6),
            silence: row.number(7),
            replied: false,
            is_logical: row.flag(8) == Some(true),
        })
    };
    Some(Facts {
        role: role.into(),
        upstream: first.flag(0)?.then(Vec::new),
        sender_timeout: first.timeout(1),
        senders: rows.iter().filter_map(sender).collect(),
    })
}

/// A row for each sender, or one without. A cascading standby has no current position; it measures against the better of what
/// it received and what it replayed, which is what it sends.
const QUESTION: &str = "\
WITH here AS (SELECT CASE WHEN pg_is_in_recovery() \
THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_lsn() END AS lsn) \
SELECT pg_is_in_recovery(), (SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'), \
r.pid, r.application_name, r.state, pg_wal_lsn_diff(here.lsn, r.replay_lsn), \
extract(epoch FROM r.replay_lag), extract(epoch FROM clock_timestamp() - r.reply_time), \
EXISTS (SELECT FROM pg_replication_slots AS s WHERE s.active_pid = r.pid AND s.slot_type = 'logical'), \
host(r.client_addr) \
FROM here LEFT JOIN pg_stat_replication AS r ON true";

/// Standbys that get an attribute; the host keeps 64.
const REPORTED: usize = 32;

#[cfg(test)]
#[path = "primary_tests.rs"]
mod tests;
