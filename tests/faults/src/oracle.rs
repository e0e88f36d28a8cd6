//! Compares three accounts of one run: what the target served, what the agent recorded, what the control plane stored and told.
//!
//! I1: what is recorded is stored or lies in a gap. I2: each id and each position is stored once. I3: positions of an epoch are dense,
//! and no gap lies over a result or over another gap. I5: of each monitor that was told to be down, a live result says so, and it is
//! told again only after it recovered. And nothing is invented: of no page are more checks stored as *up* than were served. That the
//! agent authenticates (I4) and listens on nothing (I7) is asked by `rows::process`; I6 has a row of its own, D10.
//!
//! The agent's account is its log: `recorded … epoch= seq=` after the fsync of that result. Where its spool moved what was unsent to
//! another epoch, `renumbered from= to= count=` says so, and the account follows.

use std::collections::{BTreeMap, BTreeSet};

use picket_e2e::oracle::recorded;
use serde_json::Value;

use crate::target::Target;

/// What the control plane answers when it is asked about an agent.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Events about its monitors, in whatever order; asked for before the results.
    pub events: Vec<Value>,
    /// Results, in the order of storing.
    pub stored: Vec<Value>,
    /// Gaps.
    pub gaps: Vec<Value>,
}

/// What the oracle found.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    /// Positions that the agent's log says are recorded.
    pub recorded: usize,
    /// Results stored.
    pub stored: usize,
    /// Positions that lie in gaps.
    pub missing: u64,
    /// Results that were recorded and lie in a gap: lost, and said to be.
    pub lost: Vec<(u64, u64)>,
    /// What contradicts an invariant; empty when all hold.
    pub wrong: Vec<String>,
}

/// Judges one agent.
pub fn judge(log: &str, account: &Account, target: &Target) -> Whole {
    let Account { events, stored, gaps } = account;
    let recorded = followed(log);
    let mut wrong = picket_e2e::oracle::judge(&recorded, stored, gaps);
    let at: BTreeSet<_> = stored.iter().map(|r| (number(r, "epoch"), number(r, "seq"))).collect();
    wrong.extend(overlaps(&at, gaps));
    wrong.extend(old_news(events, stored));
    wrong.extend(invented(stored, target));
    let missing = gaps.iter().map(|gap| 1 + number(gap, "to") - number(gap, "from")).sum();
    let lost = recorded.difference(&at).copied().collect();
    Whole { recorded: recorded.len(), stored: stored.len(), missing, lost, wrong }
}

/// Gaps that lie over what is stored, or over each other.
fn overlaps(stored: &BTreeSet<(u64, u64)>, gaps: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut spans: Vec<_> =
        gaps.iter().map(|gap| (number(gap, "epoch"), number(gap, "from"), number(gap, "to"))).collect();
    spans.sort_unstable();
    for (epoch, from, to) in &spans {
        if let Some(at) = stored.range((*epoch, *from)..=(*epoch, *to)).next() {
            wrong.push(format!("{at:?} is stored and lies in a gap of {epoch}, {from} to {to}"));
        }
    }
    let over = |two: &&[(u64, u64, u64)]| two[0].0 == two[1].0 && two[0].2 >= two[1].1;
    wrong.extend(spans.windows(2).filter(over).map(|two| format!("gaps overlap: {two:?}")));
    wrong
}

/// Alerts without a live result that says the same, and alerts about what was told and has not recovered.
fn old_news(events: &[Value], stored: &[Value]) -> Vec<String> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let mut told: Vec<_> = events.iter().filter(|event| event["monitor"].is_string()).collect();
    told.sort_by_key(|event| text(event, "at"));
    let (mut wrong, mut open) = (Vec::new(), BTreeSet::new());
    for event in told {
        let monitor = text(event, "monitor");
        match event["event"].as_str() {
            Some("recovered") => drop(open.remove(&monitor)),
            Some("down") => {
                let says_so = |result: &&Value| {
                    result["monitor"] == event["monitor"]
                        && result["state"] == "down"
                        && result["delivery"] == "live"
                };
                if !stored.iter().any(|result| says_so(&result)) {
                    wrong.push(format!("{monitor} was told to be down, and no live result says so: {event}"));
                }
                if !open.insert(monitor.clone()) {
                    wrong.push(format!("{monitor} was told to be down twice: {event}"));
                }
            }
            _ => {}
        }
    }
    wrong
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or(0)
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
    // A monitor that was deleted goes by its id, and nobody knows its page any more.
    for result in stored.iter().filter(|r| r["state"] == "up" && r["monitor"] != r["monitor_id"]) {
        *up.entry(result["monitor"].as_str().unwrap_or_default()).or_default() += 1;
    }
    up.into_iter()
        .filter(|(monitor, up)| *up > target.served_of(monitor))
        .map(|(monitor, up)| {
            format!("{monitor}: {up} are stored as up, {} were served", target.served_of(monitor))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_account_follows_what_was_renumbered_also_when_it_was_said_twice() {
        let log = "x recorded monitor=a epoch=1 seq=1\nx recorded epoch=1 seq=2\nx recorded epoch=1 seq=3\n\
                   INFO renumbered from=1/2 to=7/1 count=2\nINFO renumbered from=1/2 to=7/1 count=2\n\
                   x recorded epoch=7 seq=3";
        assert_eq!(followed(log), BTreeSet::from([(1, 1), (7, 1), (7, 2), (7, 3)]));
    }

    #[test]
    fn a_gap_over_a_result_or_a_gap_is_wrong_and_one_over_a_recorded_result_is_a_loss() {
        let target = Target::start();
        target.credit("m", 3);
        let result =
            |seq: u64| json!({"id": seq.to_string(), "monitor": "m", "state": "up", "epoch": 1, "seq": seq});
        let gap = |from: u64, to: u64| json!({"epoch": 1, "from": from, "to": to});
        let log = "recorded epoch=1 seq=1\nrecorded epoch=1 seq=2\nrecorded epoch=1 seq=4";
        let judged = |gaps: &[Value]| {
            let account = Account { stored: vec![result(1), result(4)], gaps: gaps.to_vec(), events: vec![] };
            judge(log, &account, &target)
        };
        let whole = judged(&[gap(2, 3)]);
        assert_eq!((whole.wrong, whole.lost, whole.missing), (vec![], vec![(1, 2)], 2));
        assert!(judged(&[gap(2, 4)]).wrong[0].starts_with("(1, 4) is stored and lies in a gap"));
        assert!(judged(&[gap(2, 3), gap(3, 3)]).wrong[0].starts_with("gaps overlap"));
    }

    #[test]
    fn an_alert_needs_a_live_result_and_a_second_one_a_recovery_between() {
        let event = |kind: &str, at: u64| json!({"event": kind, "monitor": "m", "at": at.to_string()});
        let result = |delivery: &str| json!({"monitor": "m", "state": "down", "delivery": delivery});
        assert_eq!(old_news(&[event("down", 1)], &[result("buffered")]).len(), 1);
        assert_eq!(old_news(&[event("down", 1)], &[result("live")]), Vec::<String>::new());
        assert_eq!(old_news(&[event("down", 3), event("down", 1)], &[result("live")]).len(), 1);
        let recovered = [event("down", 3), event("recovered", 2), event("down", 1)];
        assert_eq!(old_news(&recovered, &[result("live")]), Vec::<String>::new());
    }

    #[test]
    fn what_no_target_served_is_invented() {
        let up = json!({"monitor": "m", "state": "up"});
        assert_eq!(invented(&[up], &Target::start()).len(), 1);
    }
}
