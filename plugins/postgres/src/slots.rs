//! Replication slots: what a server keeps back for those who follow it, and the verdict.
//!
//! A slot that nobody uses keeps WAL until the disk is full, or until the server gives it up (`max_slot_wal_keep_size`,
//! PostgreSQL 13) and whoever needed it can never follow again. A slot that was never used keeps nothing: its columns are NULL.

use std::collections::BTreeSet;

use sdk::{Finding, Outcome, Stop};

use crate::config::Config;
use crate::inbox::broken;
use crate::lag::size;
use crate::role;
use crate::session::Session;
use crate::wire::{Columns, Row};

/// What the server says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    pub in_recovery: bool,
    pub slots: Vec<Slot>,
}

/// One slot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slot {
    pub name: String,
    /// Dropped with the session that made it; a base backup has one.
    pub is_temporary: bool,
    pub is_active: bool,
    /// Bytes from the oldest WAL that it keeps to what the server has; none when it keeps nothing.
    pub kept: Option<f64>,
    /// `wal_status`; none before PostgreSQL 13, and for a slot that was never used.
    pub status: Option<String>,
    /// Bytes that may still be written before it is in danger; none without a limit.
    pub safe: Option<f64>,
    /// Why it was given up (PostgreSQL 16).
    pub invalid: Option<String>,
    /// A copy of a primary's slot on a standby, which waits there unused (PostgreSQL 17).
    pub is_synced: bool,
    /// Seconds since it was used last (PostgreSQL 17).
    pub unused: Option<f64>,
}

impl Facts {
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.name.as_str())
    }
}

/// Asks once.
pub(crate) fn observe(session: &mut Session) -> Result<Facts, Stop> {
    let rows = session.query(&question(session.major()))?;
    facts(&rows).ok_or_else(|| broken("the server answers with columns that were not asked for"))
}

/// Judges the facts; slots with these names are passed over.
pub(crate) fn judge(config: &Config, excluded: &BTreeSet<String>, facts: &Facts) -> Result<Outcome, Stop> {
    let role = role::judge(config, facts.in_recovery)?;
    let judged = |slot: &&Slot| !slot.is_temporary && !excluded.contains(&slot.name);
    let slots: Vec<&Slot> = facts.slots.iter().filter(judged).collect();
    let most = slots.iter().filter_map(|slot| slot.kept()).max();
    let mut outcome = Outcome::up(match (slots.len(), most) {
        (0, _) => "no slot".to_owned(),
        (1, most) => format!("{} is in use and keeps {}", slots[0].name, size(most.unwrap_or(0))),
        (many, most) => format!("{many} slots, all in use, keep at most {}", size(most.unwrap_or(0))),
    });
    outcome = judge_use(outcome.finding(role), config, &slots);
    for slot in &slots {
        outcome = slot.judge_kept(outcome, config);
    }
    for slot in slots.iter().take(REPORTED) {
        outcome = outcome.attribute(&format!("slot.{}", slot.name), slot.text());
    }
    let count = |is: &dyn Fn(&Slot) -> bool| slots.iter().filter(|slot| is(slot)).count() as f64;
    outcome = outcome
        .metric("postgres.slots", slots.len() as f64, "1")
        .metric("postgres.slots_inactive", count(&|slot| !slot.is_lost() && !slot.is_used()), "1")
        .metric("postgres.slots_lost", count(&Slot::is_lost), "1");
    if let Some(most) = most {
        outcome = outcome.metric("postgres.slot_kept", most as f64, "By");
    }
    Ok(match slots.iter().filter_map(|slot| slot.safe).reduce(f64::min) {
        Some(least) => outcome.metric("postgres.slot_safe", least, "By"),
        None => outcome,
    })
}

/// Whether slots are there, in use, and still keep what they should: these rules hold for logical slots too.
pub(crate) fn judge_use(mut outcome: Outcome, config: &Config, slots: &[&Slot]) -> Outcome {
    for name in &config.expected_slots {
        let slot = slots.iter().find(|slot| slot.name == *name);
        let good = slot.is_some_and(|slot| slot.is_used() && !slot.is_lost());
        let actual = slot.map_or_else(|| "there is none of this name".into(), |slot| slot.text());
        outcome = outcome.must(
            Finding::new("expected_slots", good, format!("{name} in use"), actual.clone()),
            "postgres.slot_missing",
            || format!("the slot {name} is not in use: {actual}"),
        );
    }
    let lost = named(slots, Slot::is_lost);
    let unreserved = named(slots, |slot| slot.status.as_deref() == Some("unreserved"));
    let unused = named(slots, |slot| !slot.is_lost() && !slot.is_used());
    outcome
        .must(
            Finding::new("lost", lost.is_none(), "none lost", lost.clone().unwrap_or("none".into())),
            "postgres.slot_lost",
            || format!("lost: {}; who used it must be built anew", lost.unwrap_or_default()),
        )
        .should(
            Finding::new(
                "unreserved",
                unreserved.is_none(),
                "none about to be lost",
                unreserved.clone().unwrap_or("none".into()),
            ),
            "postgres.slot_unreserved",
            || format!("about to be lost at the next checkpoint: {}", unreserved.unwrap_or_default()),
        )
        .should(
            Finding::new("active", unused.is_none(), "all in use", unused.clone().unwrap_or("all".into())),
            "postgres.slot_inactive",
            || format!("not in use: {}", unused.unwrap_or_default()),
        )
}

/// What is said of the slots that are so; none when there is none.
fn named(slots: &[&Slot], is: impl Fn(&Slot) -> bool) -> Option<String> {
    let texts: Vec<String> =
        slots.iter().filter(|slot| is(slot)).map(|slot| format!("{} ({})", slot.name, slot.text())).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

impl Slot {
    pub(crate) fn is_lost(&self) -> bool {
        self.invalid.is_some() || self.status.as_deref() == Some("lost")
    }

    /// A synced slot waits for a promotion.
    pub(crate) fn is_used(&self) -> bool {
        self.is_active || self.is_synced
    }

    fn kept(&self) -> Option<u64> {
        self.kept.map(|bytes| bytes.max(0.0) as u64)
    }

    /// "inactive, keeps 3.0 MiB, extended".
    pub(crate) fn text(&self) -> String {
        let mut parts = vec![match (self.is_active, self.is_synced, self.unused) {
            (true, ..) => "active".to_owned(),
            (false, true, _) => "synced".into(),
            (false, false, Some(seconds)) => format!("inactive for {:.0} s", seconds.max(0.0)),
            (false, false, None) => "inactive".into(),
        }];
        parts.push(match self.kept() {
            Some(bytes) => format!("keeps {}", size(bytes)),
            None if self.is_lost() => "keeps nothing any more".into(),
            None => "was never used and keeps nothing".into(),
        });
        parts.extend(self.status.clone());
        parts.extend(self.invalid.clone());
        if let Some(safe) = self.safe {
            parts.push(match safe {
                safe if safe > 0.0 => format!("safe for {} more", size(safe as u64)),
                _ => "no longer safe".into(),
            });
        }
        parts.join(", ")
    }

    /// Adds the verdict on what it keeps, where a bound is set.
    fn judge_kept(&self, mut outcome: Outcome, config: &Config) -> Outcome {
        let kept = self.kept().unwrap_or(0);
        let summary = || format!("{} keeps {} of WAL", self.name, size(kept));
        let within = |id: &str, bound: u64| {
            Finding::new(
                id,
                kept <= bound,
                format!("{} keeps at most {}", self.name, size(bound)),
                size(kept),
            )
        };
        if let Some(bound) = config.critical_bytes {
            outcome = outcome.must(within("critical", bound), "postgres.slot_kept", summary);
        }
        if let Some(bound) = config.warn_bytes() {
            outcome = outcome.should(within("warn", bound), "postgres.slot_kept", summary);
        }
        outcome
    }
}

/// Reads the answer to [`question`]; none when it has another shape.
fn facts(rows: &[Row]) -> Option<Facts> {
    let slots = rows.iter().filter_map(|row| slot(row.get(1..)?));
    Some(Facts { in_recovery: Columns(rows.first()?).flag(0)?, slots: slots.collect() })
}

/// Reads [`columns`]; none for a row without a slot.
pub(crate) fn slot(row: &[Option<String>]) -> Option<Slot> {
    let row = Columns(row);
    let flag = |index| row.flag(index) == Some(true);
    let kept = row.number(3);
    Some(Slot {
        name: row.text(0)?.into(),
        is_temporary: flag(1),
        is_active: flag(2),
        kept,
        status: row.text(4).map(Into::into),
        // Of a slot that keeps nothing the server works it out from position zero.
        safe: row.number(5).filter(|_| kept.is_some()),
        invalid: row.text(6).map(Into::into),
        is_synced: flag(7),
        unused: row.number(8),
    })
}

/// The columns of a slot `s`; what an older version lacks is NULL.
pub(crate) fn columns(major: Option<u32>) -> String {
    let since = |version: u32, column: &'static str| if major >= Some(version) { column } else { "NULL" };
    let invalid = match major {
        Some(16) => "CASE WHEN s.conflicting THEN 'conflicting' END",
        _ => since(17, "s.invalidation_reason"),
    };
    format!(
        "s.slot_name, s.temporary, s.active, pg_wal_lsn_diff(here.lsn, s.restart_lsn), {}, {}, {invalid}, {}, {}",
        since(13, "s.wal_status"),
        since(13, "s.safe_wal_size"),
        since(17, "s.synced"),
        since(17, "extract(epoch FROM clock_timestamp() - s.inactive_since)"),
    )
}

/// The position of the server: of a standby the better of what it received and what it replayed.
pub(crate) const HERE: &str = "\
WITH here AS (SELECT CASE WHEN pg_is_in_recovery() \
THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_lsn() END AS lsn) ";

/// A row for each slot, or one without.
fn question(major: Option<u32>) -> String {
    let columns = columns(major);
    format!(
        "{HERE}SELECT pg_is_in_recovery(), {columns} FROM here LEFT JOIN pg_replication_slots AS s ON true"
    )
}

/// Slots that get an attribute; the host keeps 64.
const REPORTED: usize = 32;

#[cfg(test)]
#[path = "slots_tests.rs"]
pub(crate) mod tests;
