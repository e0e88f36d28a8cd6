//! Compares what an agent recorded with what the control plane stored.
//!
//! The agent's account is its log: `recorded` with epoch and seq, written after the fsync of that result. The control plane's is
//! `picket results --json`. Invariants: everything recorded is stored or lies in a gap; positions are dense; nothing is there twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Positions that the agent's log says are recorded.
pub fn recorded(log: &str) -> BTreeSet<(u64, u64)> {
    log.lines()
        .filter(|l| l.contains("recorded"))
        .filter_map(|l| Some((number(l, "epoch=")?, number(l, "seq=")?)))
        .collect()
}

fn number(line: &str, key: &str) -> Option<u64> {
    let plain = strip_colours(line);
    let rest = &plain[plain.find(key)? + key.len()..];
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn strip_colours(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(c);
        }
    }
    out
}

/// What is wrong, in words; empty when every invariant holds. `gaps` as `GET /v1/gaps` lists them.
pub fn judge(recorded: &BTreeSet<(u64, u64)>, stored: &[Value], gaps: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let position = |v: &Value| (v["epoch"].as_u64().unwrap_or(0), v["seq"].as_u64().unwrap_or(0));
    let mut seen = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for result in stored {
        *seen.entry(position(result)).or_insert(0_u32) += 1;
        if !ids.insert(result["id"].as_str().unwrap_or("").to_owned()) {
            wrong.push(format!("id {} is stored twice", result["id"]));
        }
    }
    wrong.extend(seen.iter().filter(|(_, n)| **n > 1).map(|(p, n)| format!("{p:?} is stored {n} times")));
    let in_gap = |(epoch, seq): (u64, u64)| {
        gaps.iter().any(|g| {
            g["epoch"].as_u64() == Some(epoch)
                && (g["from"].as_u64().unwrap_or(u64::MAX)..=g["to"].as_u64().unwrap_or(0)).contains(&seq)
        })
    };
    wrong.extend(
        recorded
            .iter()
            .filter(|p| !seen.contains_key(p) && !in_gap(**p))
            .map(|p| format!("{p:?} was recorded and is lost")),
    );
    let mut last = BTreeMap::<u64, u64>::new();
    for (epoch, seq) in seen.keys() {
        let top = last.entry(*epoch).or_default();
        *top = (*top).max(*seq);
    }
    for (epoch, top) in last {
        wrong.extend(
            (1..=top)
                .map(|seq| (epoch, seq))
                .filter(|p| !seen.contains_key(p) && !in_gap(*p))
                .map(|p| format!("{p:?} is a hole")),
        );
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_losses_holes_and_doubles_and_accepts_gaps() {
        let log = "2026 DEBUG agent::runner: recorded monitor=a epoch=1 seq=1\nx recorded epoch=1 seq=2\nother epoch=9 seq=9";
        let recorded = recorded(log);
        assert_eq!(recorded, BTreeSet::from([(1, 1), (1, 2)]));
        let one = json!({"id": "a", "epoch": 1, "seq": 1});
        let two = json!({"id": "b", "epoch": 1, "seq": 2});
        assert_eq!(judge(&recorded, &[one.clone(), two.clone()], &[]), Vec::<String>::new());
        assert_eq!(judge(&recorded, std::slice::from_ref(&one), &[]), ["(1, 2) was recorded and is lost"]);
        assert_eq!(
            judge(&recorded, std::slice::from_ref(&one), &[json!({"epoch": 1, "from": 2, "to": 2})]),
            Vec::<String>::new()
        );
        assert_eq!(judge(&BTreeSet::new(), std::slice::from_ref(&two), &[]), ["(1, 1) is a hole"]);
        assert_eq!(
            judge(&recorded, &[one, two.clone(), two], &[]),
            ["id \"b\" is stored twice", "(1, 2) is stored 2 times"]
        );
    }
}
