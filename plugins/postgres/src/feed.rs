//! The logical slots of one database: whether somebody reads from each, how far behind, and the verdict. What holds for every slot
//! is in `slots`.

use sdk::{Finding, Outcome, Stop};

use crate::config::Config;
use crate::lag::Lag;
use crate::session::Session;
use crate::slots::{self, HERE, Slot};
use crate::wire::{Columns, Row};

/// A logical slot of the database, and who reads from it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Feed {
    pub slot: Slot,
    /// Bytes from what the reader has confirmed to what the server has.
    pub behind: Option<f64>,
    /// The reader's row in `pg_stat_replication`.
    pub reader: Option<Reader>,
}

/// Who reads from a slot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reader {
    /// None: hidden from a role without `pg_monitor`.
    pub state: Option<String>,
    /// Seconds by this server's own clock; none while nothing is on the way.
    pub replay_lag: Option<f64>,
    /// Seconds since the last reply: this server's clock against the reader's.
    pub silence: Option<f64>,
}

/// Asks once.
pub(crate) fn observe(session: &mut Session) -> Result<Vec<Feed>, Stop> {
    let columns = slots::columns(session.major());
    let rows = session.query(&format!("{HERE}SELECT {columns}, {READERS}"))?;
    Ok(rows.iter().filter_map(feed).collect())
}

/// Adds the verdict; `timeout` is `wal_sender_timeout` in seconds.
pub(crate) fn judge(mut outcome: Outcome, config: &Config, timeout: f64, feeds: &[&Feed]) -> Outcome {
    let bound = config.silence_bound(timeout);
    let slots: Vec<&Slot> = feeds.iter().map(|feed| &feed.slot).collect();
    if !feeds.is_empty() || !config.expected_slots.is_empty() {
        outcome = slots::judge_use(outcome, config, &slots);
    }
    for feed in feeds {
        let name = &feed.slot.name;
        if let Some(silence) = feed.reader.as_ref().and_then(|reader| reader.silence) {
            outcome = outcome.must(
                Finding::new(
                    "reply",
                    silence <= bound,
                    format!("{name} replied within {bound:.0} s"),
                    format!("{silence:.0} s ago"),
                ),
                "postgres.not_streaming",
                || format!("the reader of {name} has not replied for {silence:.0} s, or its clock is behind"),
            );
        }
        if !feed.slot.is_lost() {
            outcome = feed.lag().judge(outcome, config, name);
        }
        let said = format!("{}, {}", feed.slot.text(), feed.lag().text());
        outcome = outcome.attribute(&format!("slot.{name}"), said);
    }
    if feeds.is_empty() {
        return outcome;
    }
    let lags: Vec<Lag> = feeds.iter().map(|feed| feed.lag()).collect();
    let worst = Lag {
        seconds: lags.iter().filter_map(|lag| lag.seconds).reduce(f64::max),
        bytes: lags.iter().filter_map(|lag| lag.bytes).max(),
        by: "the largest of all",
    };
    worst
        .metrics(outcome)
        .metric("postgres.slots", feeds.len() as f64, "1")
        .metric("postgres.slots_inactive", slots.iter().filter(|slot| !slot.is_used()).count() as f64, "1")
        .metric("postgres.slots_lost", slots.iter().filter(|slot| slot.is_lost()).count() as f64, "1")
}

impl Feed {
    /// A slot for the first copy of a table comes and goes by itself.
    pub(crate) fn is_judged(&self) -> bool {
        !self.slot.is_temporary && !is_first_copy(&self.slot.name)
    }

    fn lag(&self) -> Lag {
        let bytes = self.behind.map(|bytes| bytes.max(0.0) as u64);
        if bytes == Some(0) {
            return Lag { seconds: Some(0.0), bytes, by: "none, for nothing is on the way" };
        }
        let seconds = self.reader.as_ref().and_then(|reader| reader.replay_lag).map(|lag| lag.max(0.0));
        Lag { seconds, bytes, by: "replay_lag by the publisher's clock" }
    }
}

/// `pg_16394_sync_16385_7264123456`.
pub(crate) fn is_first_copy(name: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts[..], ["pg", of, "sync", table, system] if [of, table, system].into_iter().all(number))
}

/// Reads a row of what [`observe`] asks.
pub(crate) fn feed(row: &Row) -> Option<Feed> {
    let slot = slots::slot(row)?;
    let row = Columns(row.get(SLOT_COLUMNS..)?);
    let reader = row.text(1).map(|_| Reader {
        state: row.text(2).map(Into::into),
        replay_lag: row.number(3),
        silence: row.number(4),
    });
    Some(Feed { slot, behind: row.number(0), reader })
}

/// Behind the columns of a slot: how far its reader has confirmed, and what is known about the reader.
const READERS: &str = "\
pg_wal_lsn_diff(here.lsn, s.confirmed_flush_lsn), r.pid, r.state, extract(epoch FROM r.replay_lag), \
extract(epoch FROM clock_timestamp() - r.reply_time) \
FROM here CROSS JOIN pg_replication_slots AS s LEFT JOIN pg_stat_replication AS r ON r.pid = s.active_pid \
WHERE s.slot_type = 'logical' AND s.database = current_database() ORDER BY 1";

/// How many columns [`slots::columns`] has.
const SLOT_COLUMNS: usize = 9;
