//! Compares three accounts of one run: what the target served, what the agent recorded, what the control plane stored.
//!
//! I1: what is recorded is stored or lies in a gap. I2: each id and each position is stored once. I3: positions of an epoch are dense.
//! And nothing is invented: of no page are more checks stored as *up* than were served.
//!
//! The agent's account is its log: `recorded … epoch= seq=` after the fsync of that result. Where its spool moved what was unsent to
//! another epoch, `renumbered from= to= count=` says so, and the account follows.

use std::collections::{BTreeMap, BTreeSet};

use picket_e2e::oracle::recorded;
use serde_json::Value;

use crate::target::Target;

/// What the oracle found.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    /// Positions that the agent's log says are recorded.
    pub recorded: usize,
    /// Results stored.
    pub stored: usize,
    /// Results that lie in gaps.
    pub missing: u64,
    /// What contradicts an invariant; empty when all hold.
    pub wrong: Vec<String>,
}

/// Judges one agent.
pub fn judge(log: &str, stored: &[Value], gaps: &[Value], target: &Target) -> Whole {
    let recorded = followed(log);
    let mut wrong = picket_e2e::oracle::judge(&recorded, stored, gaps);
    wrong.extend(invented(stored, target));
    let missing =
        gaps.iter().map(|g| 1 + g["to"].as_u64().unwrap_or(0) - g["from"].as_u64().unwrap_or(0)).sum();
    Whole { recorded: recorded.len(), stored: stored.len(), missing, wrong }
}

/// What was recorded, at the positions where it stands now.
fn followed(log: &str) -> BTreeSet<(u64, u64)> {
    let mut all = BTreeSet::new();
    for line in log.lines() {
        let Some((from, to, count)) = renumbered(line) else {
            all.extend(recorded(line));
            continue;
        };
        // Those of a stretch move together, and their order and distances stay.
        for n in 0..count {
            if all.remove(&(from.0, from.1 + n)) {
                all.insert((to.0, to.1 + n));
            }
        }
    }
    all
}

/// From where, to where, how many.
type Renumbered = ((u64, u64), (u64, u64), u64);

fn renumbered(line: &str) -> Option<Renumbered> {
    let rest = &line[line.find("renumbered")?..];
    let value = |key: &str| {
        let rest = &rest[rest.find(key)? + key.len()..];
        rest.split_whitespace().next().map(|v| v.trim_matches('"'))
    };
    let position = |text: &str| {
        let (epoch, seq) = text.split_once('/')?;
        Some((epoch.parse().ok()?, seq.parse().ok()?))
    };
    Some((position(value("from=")?)?, position(value("to=")?)?, value("count=")?.parse().ok()?))
}

fn invented(stored: &[Value], target: &Target) -> Vec<String> {
    let mut up = BTreeMap::<&str, u64>::new();
    for result in stored.iter().filter(|r| r["state"] == "up") {
        *up.entry(result["monitor"].as_str().unwrap_or_default()).or_default() += 1;
    }
    up.into_iter()
        .filter(|(monitor, _)| target.served_of(monitor) > 0)
        .filter(|(monitor, up)| *up > target.served_of(monitor))
        .map(|(monitor, up)| {
            format!("{monitor}: {up} are stored as up, {} were served", target.served_of(monitor))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_follows_what_was_renumbered_also_when_it_was_said_twice() {
        let log = "x recorded monitor=a epoch=1 seq=1\nx recorded epoch=1 seq=2\nx recorded epoch=1 seq=3\n\
                   INFO renumbered from=1/2 to=7/1 count=2\nINFO renumbered from=1/2 to=7/1 count=2\n\
                   x recorded epoch=7 seq=3";
        assert_eq!(followed(log), BTreeSet::from([(1, 1), (7, 1), (7, 2), (7, 3)]));
    }
}
