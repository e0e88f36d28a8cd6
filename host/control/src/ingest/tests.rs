use serde_json::json;
use uuid::Uuid;
use wire::results::{Phases, State};
use wire::{ResultId, Timestamp};

use super::*;

fn at(epoch: u64, seq: u64) -> Position {
    Position { epoch, seq }
}

fn run(n: u128) -> RunResult {
    RunResult {
        id: ResultId(Uuid::from_u128(n)),
        monitor_id: MonitorId(Uuid::from_u128(1)),
        planned_at: Timestamp::default(),
        started_at: Timestamp::default(),
        duration_ms: 1,
        attempt: 1,
        request: None,
        missed: 0,
        state: State::Up,
        code: "ok".into(),
        summary: "fine".into(),
        phases: Phases::default(),
        remote_address: None,
        metrics: vec![],
        findings: vec![],
        attributes: Default::default(),
        evidence: None,
        plugin_digest: None,
        config_digest: String::new(),
        agent_version: "0.1.0".into(),
    }
}

fn result(epoch: u64, seq: u64) -> Incoming {
    let id = u128::from(epoch) << 64 | u128::from(seq);
    Incoming::Result { position: at(epoch, seq), age_ms: Some(0), result: Box::new(run(id)) }
}

fn gap(epoch: u64, from: u64, to: u64) -> Incoming {
    Incoming::Gap(Gap { reason: "evicted".into(), ..missing(epoch, from, to) })
}

/// The positions stored, the gaps as (epoch, from, to, reason), and the cursor.
fn check(
    cursor: Position,
    records: Vec<Incoming>,
    stored: &[(u64, u64)],
    gaps: &[(u64, u64, u64, &str)],
    then: Position,
) {
    let decision = decide(cursor, Position::default(), |_| None, records);
    let positions: Vec<_> = decision.results.iter().map(|(p, ..)| (p.epoch, p.seq)).collect();
    let found: Vec<_> = decision.gaps.iter().map(|g| (g.epoch, g.from, g.to, g.reason.as_str())).collect();
    assert_eq!((&positions[..], &found[..], decision.cursor), (stored, gaps, then));
}

#[test]
fn records_in_order_move_the_cursor_and_a_repeat_changes_nothing() {
    let batch = || vec![result(1, 1), result(1, 2), result(2, 1)];
    check(at(0, 0), batch(), &[(1, 1), (1, 2), (2, 1)], &[], at(2, 1));
    check(at(2, 1), batch(), &[], &[], at(2, 1));
    check(at(1, 1), batch(), &[(1, 2), (2, 1)], &[], at(2, 1));
}

#[test]
fn a_hole_within_an_epoch_or_at_its_start_becomes_a_gap_and_blocks_nothing() {
    check(at(1, 4), vec![result(1, 8)], &[(1, 8)], &[(1, 5, 7, "missing")], at(1, 8));
    check(at(1, 4), vec![result(2, 3)], &[(2, 3)], &[(2, 1, 2, "missing")], at(2, 3));
    check(at(1, 4), vec![gap(1, 7, 9)], &[], &[(1, 5, 6, "missing"), (1, 7, 9, "evicted")], at(1, 9));
}

#[test]
fn a_gap_that_overlaps_what_is_stored_is_cut_to_what_is_new() {
    check(at(1, 4), vec![gap(1, 2, 6)], &[], &[(1, 5, 6, "evicted")], at(1, 6));
    check(at(1, 4), vec![gap(1, 2, 4)], &[], &[], at(1, 4));
}

#[test]
fn an_empty_batch_is_a_heartbeat() {
    check(at(3, 9), vec![], &[], &[], at(3, 9));
}

#[test]
fn results_and_gaps_together_leave_no_hole_and_no_overlap() {
    let mut random = 7_u64;
    let mut next = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % n
    };
    for _ in 0..500 {
        let (mut cursor, mut covered) = (at(0, 0), std::collections::BTreeMap::<(u64, u64), u32>::new());
        for _ in 0..10 {
            let records = (0..next(8))
                .map(|_| match (1 + next(3), 1 + next(20)) {
                    (epoch, from) if next(3) == 0 => gap(epoch, from, from + next(4)),
                    (epoch, seq) => result(epoch, seq),
                })
                .collect();
            let decision = decide(cursor, Position::default(), |_| None, records);
            decision.results.iter().for_each(|(p, ..)| *covered.entry((p.epoch, p.seq)).or_default() += 1);
            for g in &decision.gaps {
                (g.from..=g.to).for_each(|seq| *covered.entry((g.epoch, seq)).or_default() += 1);
            }
            cursor = decision.cursor;
        }
        for epoch in 1..=3 {
            let seqs: Vec<_> = covered.iter().filter(|((e, _), _)| *e == epoch).collect();
            assert!(seqs.iter().all(|(_, n)| **n == 1), "no overlap");
            assert!(seqs.iter().zip(1..).all(|(((_, seq), _), n)| *seq == n), "no hole");
        }
    }
}

#[test]
fn how_a_result_came_is_decided_without_wall_clocks() {
    let check = |position, age_ms, interval_ms, expected| {
        assert_eq!(delivery(position, at(2, 10), age_ms, interval_ms), expected);
    };
    check(at(1, 99), Some(0), None, Delivery::Buffered);
    check(at(2, 10), Some(0), None, Delivery::Buffered);
    check(at(2, 11), Some(0), None, Delivery::Live);
    check(at(3, 1), Some(0), None, Delivery::Live);
    check(at(2, 11), None, None, Delivery::Late);
    check(at(2, 11), Some(30_000), Some(5_000), Delivery::Live);
    check(at(2, 11), Some(30_001), Some(5_000), Delivery::Late);
    check(at(2, 11), Some(60_000), Some(60_000), Delivery::Live);
    check(at(2, 11), Some(60_001), Some(60_000), Delivery::Late);
    check(at(2, 11), Some(120_001), Some(3_600_000), Delivery::Late);
    check(at(2, 11), Some(120_000), None, Delivery::Live);
}

#[test]
fn a_record_that_cannot_be_read_is_named_and_replaced_by_a_gap() {
    let good =
        serde_json::to_value(Record::Result { epoch: 1, seq: 1, age_ms: None, result: Box::new(run(1)) })
            .unwrap();
    let bad = json!({"kind": "result", "epoch": 1, "seq": 2, "result": {"state": "purple"}});
    let (read, mistakes) = super::read(vec![good.clone(), bad.clone()]).unwrap();
    assert_eq!(mistakes[0].at, "/records/1");
    assert!(
        matches!(&read[1], Incoming::Gap(g) if (g.epoch, g.from, g.to) == (1, 2, 2) && g.reason == "rejected")
    );
    let nowhere = json!({"kind": "result", "result": {}});
    assert_eq!(super::read(vec![good, nowhere]).unwrap_err()[0].at, "/records/1");
    let backwards = json!({"kind": "gap", "epoch": 1, "from": 5, "to": 4, "reason": "evicted"});
    assert_eq!(super::read(vec![backwards]).unwrap_err().len(), 1);
}
