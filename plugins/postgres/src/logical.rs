//! Logical replication as one database sees it: the subscriptions that it follows, the logical slots that others follow it by, and
//! the verdict.

use std::collections::BTreeSet;

use sdk::{Finding, Outcome, Stop};

use crate::config::Config;
use crate::feed::{self, Feed};
use crate::inbox::broken;
use crate::refusal;
use crate::role;
use crate::session::Session;
use crate::subscriber::{self, Subscription};
use crate::wire::{Columns, Row};

/// What the server says about one database.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// Who asked.
    pub role: String,
    pub database: String,
    pub in_recovery: bool,
    /// Seconds, 0 for none: `wal_receiver_timeout`, which holds for subscriptions too.
    pub receiver_timeout: f64,
    /// Seconds, 0 for none: `wal_sender_timeout`.
    pub sender_timeout: f64,
    pub subscriptions: Vec<Subscription>,
    pub feeds: Vec<Feed>,
}

impl Facts {
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let subscriptions = self.subscriptions.iter().map(|subscription| subscription.name.as_str());
        subscriptions.chain(self.feeds.iter().map(|feed| feed.slot.name.as_str()))
    }
}

/// Asks for both.
pub(crate) fn observe(session: &mut Session, database: &str) -> Result<Facts, Stop> {
    let rows = session.query(SERVER)?;
    let server = rows.first().and_then(|row| server(row, session.role(), database));
    let mut facts =
        server.ok_or_else(|| broken("the server answers with columns that were not asked for"))?;
    facts.subscriptions = subscriber::observe(session)?;
    facts.feeds = feed::observe(session)?;
    Ok(facts)
}

/// Judges the facts; what has one of these names is passed over.
pub(crate) fn judge(config: &Config, excluded: &BTreeSet<String>, facts: &Facts) -> Result<Outcome, Stop> {
    let hidden = |feed: &Feed| feed.reader.as_ref().is_some_and(|reader| reader.state.is_none());
    if facts.feeds.iter().any(hidden) {
        return Err(refusal::hidden("pg_stat_replication", &facts.role));
    }
    let role = role::judge(config, facts.in_recovery)?;
    let subscriptions: Vec<&Subscription> =
        facts.subscriptions.iter().filter(|subscription| !excluded.contains(&subscription.name)).collect();
    let feeds: Vec<&Feed> =
        facts.feeds.iter().filter(|feed| feed.is_judged() && !excluded.contains(&feed.slot.name)).collect();

    let mut outcome = Outcome::up(summary(&subscriptions, &feeds)).finding(role);
    let any = !subscriptions.is_empty() || !feeds.is_empty();
    outcome = outcome.must(
        Finding::new(
            "logical",
            any,
            "a subscription or a logical slot",
            format!("{} and {}", subscriptions.len(), feeds.len()),
        ),
        "postgres.no_subscription",
        || {
            let database = &facts.database;
            format!("the database {database} has neither a subscription nor a logical slot; name another one with dbname")
        },
    );
    outcome = subscriber::judge(outcome, config, facts.receiver_timeout, &subscriptions);
    outcome = feed::judge(outcome, config, facts.sender_timeout, &feeds);
    let silences = subscriptions.iter().filter_map(|subscription| subscription.silence);
    let silences = silences.chain(feeds.iter().filter_map(|feed| feed.reader.as_ref()?.silence));
    if let Some(silence) = silences.reduce(f64::max) {
        outcome = outcome.metric("postgres.receiver_silence", silence.max(0.0), "s");
    }
    Ok(outcome)
}

fn summary(subscriptions: &[&Subscription], feeds: &[&Feed]) -> String {
    let follow = match subscriptions.len() {
        0 => None,
        1 => Some("1 subscription follows".to_owned()),
        many => Some(format!("{many} subscriptions follow")),
    };
    let used = match feeds.len() {
        0 => None,
        1 => Some("1 logical slot is in use".to_owned()),
        many => Some(format!("{many} logical slots are in use")),
    };
    follow.into_iter().chain(used).collect::<Vec<_>>().join(", ")
}

fn server(row: &Row, role: &str, database: &str) -> Option<Facts> {
    let row = Columns(row);
    Some(Facts {
        role: role.into(),
        database: database.into(),
        in_recovery: row.flag(0)?,
        receiver_timeout: row.timeout(1),
        sender_timeout: row.timeout(2),
        subscriptions: Vec::new(),
        feeds: Vec::new(),
    })
}

const SERVER: &str = "\
SELECT pg_is_in_recovery(), (SELECT setting FROM pg_settings WHERE name = 'wal_receiver_timeout'), \
(SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout')";

#[cfg(test)]
#[path = "logical_tests.rs"]
mod tests;
