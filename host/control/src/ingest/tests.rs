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
    Incoming::Gap(super::gap(epoch, from, to, "evicted"))
}

/// A history that ends at the cursor.
fn upto(cursor: Position, ahead: &Ahead) -> History<'_> {
    History { cursor, ahead, known: ahead.values().copied().collect() }
}

/// What the backlog lane makes of these.
fn follow(history: &History<'_>, records: Vec<Incoming>) -> Decision {
    decide(Lane::Backlog, history, Position::default(), |_| None, records)
}

/// The positions stored, the gaps as (epoch, from, to, reason), and the cursor.
fn check(
    cursor: Position,
    records: Vec<Incoming>,
    stored: &[(u64, u64)],
    gaps: &[(u64, u64, u64, &str)],
    then: Position,
) {
    let decision = follow(&upto(cursor, &Ahead::new()), records);
    let positions: Vec<_> = decision.results.iter().map(|n| (n.position.epoch, n.position.seq)).collect();
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
            let decision = follow(&upto(cursor, &Ahead::new()), records);
            decision
                .results
                .iter()
                .map(|n| n.position)
                .for_each(|p| *covered.entry((p.epoch, p.seq)).or_default() += 1);
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
fn the_live_lane_stores_at_once_without_moving_the_cursor_and_a_repeat_changes_nothing() {
    let ahead = Ahead::from([(at(2, 7), ResultId(Uuid::from_u128(2 << 64 | 7)))]);
    let live = |records| decide(Lane::Live, &upto(at(2, 3), &ahead), at(2, 4), |_| None, records);
    let batch = vec![result(2, 3), result(2, 4), gap(2, 5, 5), result(2, 7), result(2, 9), result(2, 9)];
    let decision = live(batch);
    let stored: Vec<_> = decision.results.iter().map(|n| (n.position, n.delivery)).collect();
    assert_eq!(stored, [(at(2, 4), Delivery::Buffered), (at(2, 9), Delivery::Live)]);
    assert_eq!((decision.cursor, decision.gaps, decision.passed), (at(2, 3), vec![], vec![]));
}

#[test]
fn the_backlog_passes_over_what_came_ahead_and_cuts_gaps_around_it() {
    let id = |seq: u64| ResultId(Uuid::from_u128(1 << 64 | u128::from(seq)));
    let ahead: Ahead = [5, 6, 9].map(|seq| (at(1, seq), id(seq))).into();
    let decision = follow(&upto(at(1, 2), &ahead), vec![result(1, 4), result(1, 5), gap(1, 6, 10)]);
    let stored: Vec<_> = decision.results.iter().map(|n| n.position.seq).collect();
    let gaps: Vec<_> = decision.gaps.iter().map(|g| (g.from, g.to, g.reason.as_str())).collect();
    assert_eq!(stored, [4]);
    assert_eq!(gaps, [(3, 3, "missing"), (7, 8, "evicted"), (10, 10, "evicted")]);
    assert_eq!((decision.cursor, decision.passed), (at(1, 10), vec![at(1, 5), at(1, 6), at(1, 9)]));
}

#[test]
fn a_result_that_got_another_position_is_stored_once_and_both_histories_stay_whole() {
    let id = |epoch: u64, seq: u64| ResultId(Uuid::from_u128(u128::from(epoch) << 64 | u128::from(seq)));
    let ahead = Ahead::from([(at(1, 9), id(1, 9))]);
    let mut history = upto(at(1, 5), &ahead);
    history.known.extend([id(1, 4), id(1, 5)]);
    let renumbered = |seq, id| match result(3, seq) {
        Incoming::Result { position, age_ms, result } => {
            Incoming::Result { position, age_ms, result: Box::new(RunResult { id, ..*result }) }
        }
        gap => gap,
    };
    let batch = vec![
        renumbered(1, id(1, 4)),
        renumbered(2, id(1, 5)),
        renumbered(3, id(1, 8)),
        renumbered(4, id(1, 9)),
        renumbered(5, id(1, 8)),
    ];
    let decision = follow(&history, batch);
    let gaps: Vec<_> = decision.gaps.iter().map(|g| (g.epoch, g.from, g.to, g.reason.as_str())).collect();
    assert_eq!(gaps, [(3, 1, 2, "repeated"), (3, 5, 5, "repeated")], "it stands where it was acknowledged");
    assert_eq!(decision.results.iter().map(|n| n.position).collect::<Vec<_>>(), [at(3, 3)]);
    assert_eq!(decision.moved, [(id(1, 9), at(3, 4))], "what only came ahead moves");
    assert_eq!((decision.passed, decision.cursor), (vec![at(1, 9)], at(3, 5)));
}

/// An agent that sends by both lanes, loses answers, repeats itself and evicts: afterwards nothing is missing and nothing stands twice.
#[test]
fn both_lanes_in_any_order_leave_no_hole_no_overlap_and_no_second_copy() {
    let mut random = 11_u64;
    let mut next = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % n
    };
    for _ in 0..500 {
        let recorded = 20 + next(40);
        let (mut cursor, mut ahead) = (at(0, 0), Ahead::new());
        let mut stored = std::collections::BTreeMap::<u64, ResultId>::new();
        let mut covered = std::collections::BTreeMap::<u64, u32>::new();
        while cursor < at(1, recorded) {
            let (lane, records) = if next(3) == 0 {
                let from = 1 + next(recorded);
                (Lane::Live, (from..=(from + next(6)).min(recorded)).map(|seq| result(1, seq)).collect())
            } else {
                // An answer may have been lost: it begins anywhere up to the cursor.
                let from = 1 + next(cursor.seq + 1);
                let to = (from + next(12)).min(recorded);
                let evicted = if next(5) == 0 { to.min(from + next(4)) } else { from - 1 };
                let first = (evicted >= from).then(|| gap(1, from, evicted));
                let rest = (evicted + 1..=to).map(|seq| result(1, seq));
                (Lane::Backlog, first.into_iter().chain(rest).collect())
            };
            let history = History { known: stored.values().copied().collect(), ..upto(cursor, &ahead) };
            let decision = decide(lane, &history, Position::default(), |_| None, records);
            assert!(decision.moved.is_empty());
            for New { position, result, .. } in &decision.results {
                assert_eq!(stored.insert(position.seq, result.id), None);
                *covered.entry(position.seq).or_default() += 1;
                if lane == Lane::Live {
                    ahead.insert(*position, result.id);
                }
            }
            for g in &decision.gaps {
                (g.from..=g.to).for_each(|seq| *covered.entry(seq).or_default() += 1);
            }
            assert!(decision.passed.iter().all(|position| ahead.remove(position).is_some()));
            cursor = decision.cursor;
        }
        assert!(ahead.is_empty());
        assert!(covered.values().all(|n| *n == 1) && covered.keys().copied().eq(1..=recorded), "{covered:?}");
    }
}

/// What an agent holds, in order: results, and seqs that were evicted.
struct Held {
    epoch: u64,
    last: u64,
    ids: u128,
    entries: Vec<(Position, Option<ResultId>)>,
}

impl Held {
    fn record(&mut self) {
        self.last += 1;
        self.ids += 1;
        self.entries.push((at(self.epoch, self.last), Some(ResultId(Uuid::from_u128(self.ids)))));
    }

    fn renumber(&mut self) {
        self.epoch += 1;
        self.last = self.entries.len() as u64;
        self.entries.iter_mut().zip(1..).for_each(|((position, _), seq)| *position = at(self.epoch, seq));
    }

    /// Loses the oldest result, unless it is stored. Gives how many.
    fn evict(&mut self, stored: impl Fn(&ResultId) -> bool) -> u128 {
        let oldest = self.entries.iter_mut().map(|(_, id)| id).find(|id| id.is_some());
        let lost = oldest.filter(|id| !id.as_ref().is_some_and(&stored)).and_then(Option::take);
        u128::from(lost.is_some())
    }

    fn records(&self, range: std::ops::Range<usize>) -> Vec<Incoming> {
        let record = |(position, id): &(Position, Option<ResultId>)| match *id {
            None => gap(position.epoch, position.seq, position.seq),
            Some(id) => Incoming::Result {
                position: *position,
                age_ms: Some(0),
                result: Box::new(RunResult { id, ..run(0) }),
            },
        };
        self.entries[range].iter().map(record).collect()
    }
}

/// The same when the agent's directory is restored or copied now and then, and what it holds gets other positions.
#[test]
fn other_positions_leave_every_history_whole_and_every_result_once() {
    let mut random = 5_u64;
    let mut next = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % n
    };
    for round in 0..1_000 {
        let mut held = Held { epoch: 1, last: 0, ids: 0, entries: vec![] };
        let (mut cursor, mut ahead, mut recorded) = (at(0, 0), Ahead::new(), at(0, 0));
        let mut stored = HashMap::<ResultId, Position>::new();
        let (mut gaps, mut lost) = (vec![], 0);
        for turn in 0.. {
            match next(8) {
                0..=2 if turn < 60 => (0..next(6)).for_each(|_| held.record()),
                3 if turn < 60 && next(3) == 0 => {
                    held.renumber();
                    recorded = at(held.epoch, held.last);
                }
                4 if turn < 60 => lost += held.evict(|id| stored.contains_key(id)),
                _ if held.entries.is_empty() && turn >= 60 => break,
                _ => {}
            }
            let all = held.entries.len();
            let lane = if next(3) == 0 { Lane::Live } else { Lane::Backlog };
            let records = match lane {
                Lane::Live => held.records(next(all + 1)..all),
                Lane::Backlog => held.records(0..next(all + 1)),
            };
            let end = records.len();
            let history = History { known: stored.keys().copied().collect(), cursor, ahead: &ahead };
            let decision = decide(lane, &history, recorded, |_| None, records);
            for New { position, result, .. } in decision.results {
                assert_eq!(stored.insert(result.id, position), None, "round {round}");
                if lane == Lane::Live {
                    ahead.insert(position, result.id);
                }
            }
            for (id, position) in decision.moved {
                assert!(stored.insert(id, position).is_some(), "round {round}");
            }
            decision.passed.iter().for_each(|position| assert!(ahead.remove(position).is_some()));
            gaps.extend(decision.gaps);
            cursor = decision.cursor;
            if lane == Lane::Backlog && next(4) > 0 {
                // The answer arrives; without it the same comes again.
                held.entries.drain(..end);
            }
        }
        assert!(ahead.range(..=cursor).next().is_none(), "round {round}: {ahead:?} is behind {cursor}");
        assert_eq!(stored.len() as u128 + lost, held.ids, "round {round}: every result once");
        let mut covered: Vec<_> = stored.values().copied().collect();
        covered.extend(gaps.iter().flat_map(|g| (g.from..=g.to).map(|seq| at(g.epoch, seq))));
        covered.sort_unstable();
        let whole = covered.iter().scan(at(0, 0), |last, p| {
            let expected = if p.epoch == last.epoch { last.seq + 1 } else { 1 };
            *last = *p;
            Some(p.seq == expected)
        });
        assert!(whole.into_iter().all(|dense| dense), "round {round}: {covered:?}");
    }
}

#[test]
fn what_stands_ahead_in_an_abandoned_epoch_is_passed_when_all_that_was_held_has_come() {
    let ahead =
        Ahead::from([(at(1, 7), ResultId(Uuid::from_u128(7))), (at(2, 9), ResultId(Uuid::from_u128(9)))]);
    let passed = |recorded| {
        let history = upto(at(2, 5), &ahead);
        decide(Lane::Backlog, &history, recorded, |_| None, vec![result(2, 6)]).passed
    };
    assert_eq!(passed(at(2, 8)), [], "it may still move");
    assert_eq!(passed(at(2, 6)), [at(1, 7)]);
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
    let mut claimed = good.clone();
    claimed["result"]["state"] = json!("maintenance");
    let (read, mistakes) = super::read(vec![claimed]).unwrap();
    assert!(mistakes[0].message.contains("not by agents"), "{mistakes:?}");
    assert!(matches!(&read[0], Incoming::Gap(g) if g.reason == "rejected"));
    let (read, mistakes) = super::read(vec![good.clone(), bad.clone()]).unwrap();
    assert_eq!(mistakes[0].at, "/records/1");
    assert!(
        matches!(&read[1], Incoming::Gap(g) if (g.epoch, g.from, g.to) == (1, 2, 2) && g.reason == "rejected")
    );
    let nowhere = json!({"kind": "result", "result": {}});
    assert_eq!(super::read(vec![good, nowhere]).unwrap_err()[0].at, "/records/1");
    for (epoch, seq) in [(1, LAST + 1), (u64::MAX, 1), (1, u64::MAX)] {
        let mut far = bad.clone();
        (far["epoch"], far["seq"]) = (epoch.into(), seq.into());
        assert_eq!(super::read(vec![far]).unwrap_err().len(), 1, "nothing could follow ({epoch}, {seq})");
    }
    let endless = json!({"kind": "gap", "epoch": 1, "from": 5, "to": u64::MAX, "reason": "evicted"});
    assert_eq!(super::read(vec![endless]).unwrap_err().len(), 1);
    let backwards = json!({"kind": "gap", "epoch": 1, "from": 5, "to": 4, "reason": "evicted"});
    assert_eq!(super::read(vec![backwards]).unwrap_err().len(), 1);
}
