//! The subscriptions of one database: whether each follows its publisher, and the verdict.
//!
//! A subscriber does not know how far it is behind; it knows whether its worker runs, when the publisher was heard last, and which
//! tables are still copied. A worker that fails on a row is started again every few seconds, so one that is young is watched for
//! a second.

use sdk::{Finding, Outcome, Stop};

use crate::config::Config;
use crate::replica::{PAUSE, SAMPLES};
use crate::session::Session;
use crate::wire::{Columns, Row};

/// A subscription of the database.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subscription {
    pub name: String,
    pub is_enabled: bool,
    /// The worker that applies; none when there is none.
    pub pid: Option<String>,
    /// Seconds since the worker was started; none where that is hidden.
    pub age: Option<f64>,
    /// Seconds since the last message of the publisher.
    pub silence: Option<f64>,
    /// Tables, and those of them whose first copy is not done.
    pub tables: u32,
    pub copying: u32,
    /// Since the statistics began (PostgreSQL 15): of rows, and of first copies.
    pub apply_errors: Option<f64>,
    pub copy_errors: Option<f64>,
    /// The worker that there was at first was not there later.
    pub is_restarting: bool,
}

/// Asks; again for about a second where a worker is young.
pub(crate) fn observe(session: &mut Session) -> Result<Vec<Subscription>, Stop> {
    let question = question(session);
    let mut now = ask(session, &question)?;
    for _ in 1..SAMPLES {
        if !now.iter().any(Subscription::is_young) || !session.may_wait(PAUSE) {
            break;
        }
        session.pause(PAUSE);
        now = later(&now, ask(session, &question)?);
    }
    Ok(now)
}

fn ask(session: &mut Session, question: &str) -> Result<Vec<Subscription>, Stop> {
    Ok(session.query(question)?.iter().filter_map(subscription).collect())
}

/// The later look, which remembers whose worker was not the same before.
pub(crate) fn later(before: &[Subscription], mut now: Vec<Subscription>) -> Vec<Subscription> {
    for subscription in &mut now {
        let earlier = before.iter().find(|earlier| earlier.name == subscription.name);
        subscription.is_restarting = earlier.is_some_and(|earlier| {
            earlier.is_restarting || earlier.pid.is_some() && earlier.pid != subscription.pid
        });
    }
    now
}

/// Adds the verdict; `timeout` is `wal_receiver_timeout` in seconds, which holds for subscriptions too.
pub(crate) fn judge(
    mut outcome: Outcome,
    config: &Config,
    timeout: f64,
    subscriptions: &[&Subscription],
) -> Outcome {
    let bound = config.silence_bound(timeout);
    for name in &config.expected_subscriptions {
        let there = subscriptions.iter().any(|subscription| subscription.name == *name);
        outcome = outcome.must(
            Finding::new(
                "expected_subscriptions",
                there,
                name.clone(),
                if there { "there" } else { "missing" },
            ),
            "postgres.subscription_missing",
            || format!("the subscription {name} is missing"),
        );
    }
    let mut running = 0;
    for subscription in subscriptions {
        let name = &subscription.name;
        outcome = outcome.must(
            Finding::new(
                "enabled",
                subscription.is_enabled,
                format!("{name} enabled"),
                if subscription.is_enabled { "enabled" } else { "disabled" },
            ),
            "postgres.subscription_disabled",
            || {
                format!(
                    "{name} is disabled and follows nothing, by hand or after an error; ALTER SUBSCRIPTION {name} ENABLE"
                )
            },
        );
        if !subscription.is_enabled {
            continue;
        }
        let stream = subscription.stream(bound);
        let words = match &stream {
            Ok(text) | Err(text) => text,
        };
        running += u32::from(stream.is_ok());
        outcome = outcome.must(
            Finding::new("receiver", stream.is_ok(), format!("{name} follows"), words.clone()),
            "postgres.not_streaming",
            || format!("{name} does not follow: {words}"),
        );
        let (tables, copying) = (subscription.tables, subscription.copying);
        outcome = outcome.should(
            Finding::new(
                "tables",
                copying == 0,
                format!("all of {name} copied"),
                format!("{copying} of {tables} not yet"),
            ),
            "postgres.tables_copying",
            || format!("{name} is still copying {copying} of {tables} tables"),
        );
    }
    if subscriptions.is_empty() {
        return outcome;
    }
    let sum = |number: &dyn Fn(&Subscription) -> Option<f64>| {
        subscriptions.iter().filter_map(|subscription| number(subscription)).reduce(|one, other| one + other)
    };
    outcome = outcome
        .metric("postgres.subscriptions", subscriptions.len() as f64, "1")
        .metric("postgres.subscriptions_running", f64::from(running), "1")
        .metric("postgres.tables_copying", sum(&|s| Some(f64::from(s.copying))).unwrap_or(0.0), "1");
    for (metric, sum) in [
        ("postgres.apply_errors", sum(&|subscription| subscription.apply_errors)),
        ("postgres.copy_errors", sum(&|subscription| subscription.copy_errors)),
    ] {
        if let Some(sum) = sum {
            outcome = outcome.metric(metric, sum, "1");
        }
    }
    outcome
}

impl Subscription {
    /// Its worker may be one of many that end at the same row.
    pub(crate) fn is_young(&self) -> bool {
        self.pid.is_some() && self.age.is_none_or(|age| age < YOUNG)
    }

    /// Whether it follows; a word about how, or why not.
    fn stream(&self, bound: f64) -> Result<String, String> {
        let errors = match self.apply_errors {
            Some(errors) if errors > 0.0 => {
                format!("; {errors:.0} errors were counted, the server's log has them")
            }
            _ => String::new(),
        };
        if self.is_restarting {
            return Err(format!("its worker ends and is started again and again{errors}"));
        }
        match (&self.pid, self.silence) {
            (None, _) => Err(format!("no worker runs{errors}")),
            (_, Some(silence)) if silence > bound => Err(format!(
                "the publisher has been silent for {silence:.0} s, at most {bound:.0} s are healthy"
            )),
            (_, Some(silence)) => Ok(format!("follows, last message {:.1} s ago", silence.max(0.0))),
            (_, None) => Err("its worker has not heard the publisher yet".into()),
        }
    }
}

/// Reads a row of [`question`].
pub(crate) fn subscription(row: &Row) -> Option<Subscription> {
    let row = Columns(row);
    Some(Subscription {
        name: row.text(0)?.into(),
        is_enabled: row.flag(1) == Some(true),
        pid: row.text(2).map(Into::into),
        age: row.number(3),
        silence: row.number(4),
        tables: row.count(5).unwrap_or(0),
        copying: row.count(6).unwrap_or(0),
        apply_errors: row.number(7),
        copy_errors: row.number(8),
        is_restarting: false,
    })
}

/// A row for each subscription of the database, with its main worker: those that copy tables have a `relid`, those that apply
/// beside it (PostgreSQL 16) a `leader_pid`.
fn question(session: &Session) -> String {
    // Before 14 nobody but a superuser may read the id; the view tells it beside the name, which another database may have too.
    let id = match session.is_at_least(14) {
        true => "p.oid",
        false => {
            "(SELECT v.subid FROM pg_stat_subscription AS v WHERE v.subname = p.subname \
             ORDER BY v.subid IN (SELECT srsubid FROM pg_subscription_rel) DESC LIMIT 1)"
        }
    };
    let main = if session.is_at_least(16) { "AND w.leader_pid IS NULL " } else { "" };
    let (errors, statistics) = match session.is_at_least(15) {
        true => (
            "e.apply_error_count, e.sync_error_count",
            "LEFT JOIN pg_stat_subscription_stats AS e ON e.subid = s.id ",
        ),
        false => ("NULL, NULL", ""),
    };
    format!(
        "SELECT s.subname, s.subenabled, w.pid, extract(epoch FROM clock_timestamp() - a.backend_start), \
         extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time), \
         (SELECT count(*) FROM pg_subscription_rel AS t WHERE t.srsubid = s.id), \
         (SELECT count(*) FROM pg_subscription_rel AS t WHERE t.srsubid = s.id AND t.srsubstate <> 'r'), {errors} \
         FROM (SELECT p.subname, p.subenabled, {id} AS id FROM pg_subscription AS p \
         WHERE p.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())) AS s \
         LEFT JOIN pg_stat_subscription AS w ON w.subid = s.id AND w.pid IS NOT NULL AND w.relid IS NULL {main}\
         LEFT JOIN pg_stat_activity AS a ON a.pid = w.pid \
         {statistics}\
         ORDER BY 1"
    )
}

/// Seconds: two turns of `wal_retrieve_retry_interval`, after which a worker that ended is started again.
const YOUNG: f64 = 10.0;
