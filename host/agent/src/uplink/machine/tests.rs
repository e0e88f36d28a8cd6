//! The state machine against every kind of answer, without a network and without waiting.

mod herd;

use super::*;

fn at(seq: u64) -> Position {
    Position { epoch: 1, seq }
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn seqs(range: std::ops::RangeInclusive<u64>) -> Vec<Position> {
    range.map(at).collect()
}

/// Beyond everything in these tests.
const RECORDED: Position = Position { epoch: 2, seq: 1_000 };

/// A machine with a session since second 0 and nothing acknowledged.
fn greeted() -> Machine {
    let mut machine = Machine::new(Position::default());
    welcome(&mut machine, s(0), Position::default(), RECORDED);
    machine
}

/// A welcome with this cursor, when everything up to `recorded` is on the disk and nothing waits.
fn welcome(machine: &mut Machine, now: Duration, cursor: Position, recorded: Position) -> Verdict {
    let mark = machine.declared(now, recorded);
    machine.welcomed(now, Greeting { mark, recorded, cursor, ..Greeting::default() }, 0.0)
}

/// The next batch of the only lane begins after this position.
fn after(machine: &Machine) -> Position {
    let Wanted { lane: Lane::Backlog, after, limit: 1.. } = machine.wanted(RECORDED) else {
        panic!("one lane")
    };
    after
}

fn send(machine: &mut Machine, last: Position) {
    machine.sending(Lane::Backlog, Some(last));
}

#[test]
fn says_hello_first_then_sends_then_rests_until_the_heartbeat() {
    let mut machine = Machine::new(Position::default());
    assert_eq!(machine.next(s(0), true), Step::Hello);
    welcome(&mut machine, s(0), Position::default(), RECORDED);
    assert_eq!(machine.next(s(0), true), Step::Send);
    send(&mut machine, at(3));
    assert_eq!(machine.answered(s(1), &seqs(1..=3), at(3), 0.0).release, Some(at(3)));
    assert_eq!(machine.wanted(RECORDED), Wanted { lane: Lane::Backlog, after: at(3), limit: 500 });
    assert_eq!(machine.next(s(1), false), Step::Wait(s(11)));
    assert_eq!(machine.next(s(2), true), Step::Send);
    assert_eq!(machine.next(s(11), false), Step::Send);
}

#[test]
fn releases_the_lower_of_cursor_and_sent() {
    for (sent, cursor, released) in [(5, 5, Some(5)), (5, 3, Some(3)), (5, 9, Some(5)), (5, 0, None)] {
        let mut machine = Machine::new(at(0));
        welcome(&mut machine, s(0), at(0), RECORDED);
        send(&mut machine, at(sent));
        let verdict = machine.answered(s(1), &seqs(1..=sent), at(cursor), 0.0);
        assert_eq!(verdict.release, released.map(at), "sent {sent}, cursor {cursor}");
        assert_eq!(verdict.odd, released.is_none(), "sent {sent}, cursor {cursor}");
    }
}

#[test]
fn an_acknowledgement_beyond_all_that_was_recorded_releases_nothing_and_waits() {
    let mut machine = greeted();
    send(&mut machine, at(2));
    let verdict = machine.answered(s(1), &seqs(1..=2), Position { epoch: 9, seq: 9 }, 0.0);
    assert_eq!(verdict, Verdict { later_life: true, ..Verdict::default() });
    assert_eq!((machine.next(s(1), true), machine.next(s(2), true)), (Step::Wait(s(2)), Step::Hello));
}

#[test]
fn a_data_directory_that_was_restored_gets_new_positions_and_says_hello_again_at_once() {
    let mut machine = Machine::new(at(2));
    let greeting = Greeting { mark: at(8), recorded: at(8), cursor: at(4), ..Greeting::default() };
    for greeting in [
        Greeting { cursor: at(9), ..greeting },
        Greeting { seen: at(9), ..greeting },
        Greeting { renumber: true, seen: at(3), ..greeting },
    ] {
        let mut machine = Machine::new(at(2));
        let verdict = machine.welcomed(s(0), greeting, 0.0);
        assert_eq!(verdict, Verdict { renumber: verdict.renumber, ..Verdict::default() });
        assert!(verdict.renumber >= Some(greeting.cursor.max(greeting.seen)) && !machine.connected());
        assert_eq!(machine.next(s(0), true), Step::Hello);
    }
    machine.welcomed(s(0), Greeting { cursor: at(9), ..greeting }, 0.0);
    let fresh = |seq| Position { epoch: 2, seq };
    machine.renumbered(fresh(0));
    assert_eq!(machine.declared(s(0), fresh(6)), fresh(6), "all of it is buffered");
    assert_eq!(welcome(&mut machine, s(0), at(9), fresh(6)), Verdict::default(), "nothing is taken back");
    assert_eq!((machine.next(s(0), true), machine.wanted(fresh(6)).after), (Step::Send, fresh(0)));
    machine.sending(Lane::Backlog, None);
    assert_eq!(machine.answered(s(1), &[], at(9), 0.0), Verdict::default(), "nor by a heartbeat");
}

#[test]
fn positions_that_never_suit_the_control_plane_are_not_changed_in_a_hurry() {
    let mut machine = Machine::new(at(2));
    for waits in [false, true, true] {
        assert!(welcome(&mut machine, s(0), at(9), at(8)).renumber.is_some());
        let step = machine.next(s(0), true);
        assert_eq!(matches!(step, Step::Wait(_)), waits, "{step:?}");
        machine.until = s(0);
    }
}

#[test]
fn a_cursor_that_does_not_move_waits_instead_of_sending_for_ever() {
    let mut machine = greeted();
    send(&mut machine, at(2));
    machine.answered(s(1), &seqs(1..=2), Position::default(), 0.0);
    assert_eq!(machine.next(s(1), true), Step::Wait(s(2)));
}

#[test]
fn an_answer_that_was_lost_is_made_good_by_the_next_hello() {
    let mut machine = greeted();
    send(&mut machine, at(7));
    machine.failed(s(1), Failure::Network, &seqs(1..=7), 0.0);
    assert_eq!(welcome(&mut machine, s(20), at(7), RECORDED).release, Some(at(7)));
}

#[test]
fn a_link_too_slow_for_a_batch_gets_smaller_ones_until_one_passes() {
    let mut machine = greeted();
    for length in [500, 250, 125, 62] {
        assert_eq!(machine.wanted(RECORDED).limit, length);
        send(&mut machine, at(length as u64));
        machine.failed(s(1), Failure::Network, &seqs(1..=length as u64), 0.0);
    }
    send(&mut machine, at(31));
    machine.failed(s(1), Failure::Network, &seqs(1..=31), 0.0);
    assert_eq!(machine.wanted(RECORDED).limit, 31, "that was not its size");
    send(&mut machine, at(31));
    machine.answered(s(2), &seqs(1..=31), at(31), 0.0);
    assert_eq!(machine.wanted(RECORDED).limit, 62, "and they grow again");
}

#[test]
fn after_a_restart_a_hello_alone_releases_nothing() {
    let mut machine = Machine::new(at(2));
    assert_eq!(welcome(&mut machine, s(0), at(9), RECORDED), Verdict::default());
    assert_eq!(after(&machine), at(2));
}

#[test]
fn a_control_plane_restored_from_a_backup_is_offered_again_what_is_held() {
    let mut machine = Machine::new(at(9));
    assert_eq!(welcome(&mut machine, s(0), at(4), RECORDED).rewind, Some(at(4)));
    machine.rewound(at(4));
    assert_eq!((after(&machine), machine.next(s(0), true)), (at(4), Step::Send));
}

#[test]
fn until_the_spool_took_back_what_it_released_nothing_is_sent_and_a_hello_asks_for_it_again() {
    let mut machine = Machine::new(at(9));
    welcome(&mut machine, s(0), at(4), RECORDED);
    // The process was told to stop just then, or the disk refused.
    assert_eq!((machine.next(s(0), true), machine.connected()), (Step::Hello, false));
    machine.failed(s(0), Failure::Network, &[], 0.0);
    assert_eq!((machine.next(s(0), true), machine.next(s(1), true)), (Step::Wait(s(1)), Step::Hello));
    assert_eq!(welcome(&mut machine, s(1), at(4), RECORDED).rewind, Some(at(4)));
}

#[test]
fn only_a_hello_takes_back_what_was_released() {
    let mut machine = greeted();
    send(&mut machine, at(5));
    machine.answered(s(1), &seqs(1..=5), at(5), 0.0);
    send(&mut machine, at(6));
    let verdict = machine.answered(s(2), &[at(6)], at(3), 0.0);
    assert_eq!(verdict, Verdict { odd: true, ..Verdict::default() });
    assert_eq!(machine.next(s(3), true), Step::Hello);
}

#[test]
fn a_short_silence_resumes_the_lease_and_a_long_one_says_hello() {
    for (silence, step) in [(15, Step::Send), (16, Step::Hello)] {
        let mut machine = greeted();
        machine.failed(s(1), Failure::Network, &[], 0.0);
        assert_eq!(machine.next(s(silence), true), step, "{silence} s");
    }
}

#[test]
fn a_hello_after_a_short_silence_declares_nothing_new() {
    for (silence, declared) in [(15, at(7)), (16, at(9))] {
        let mut machine = Machine::new(at(7));
        welcome(&mut machine, s(0), at(7), at(7));
        machine.failed(s(1), Failure::LeaseUnknown, &[], 0.0);
        assert_eq!(machine.declared(s(silence), at(9)), declared, "{silence} s");
    }
    assert_eq!(Machine::new(at(7)).declared(s(1), at(9)), at(9), "another process knows of no session");
}

#[test]
fn with_a_backlog_new_results_go_ahead_and_release_nothing() {
    let mut machine = Machine::new(at(0));
    let greeting = Greeting { mark: at(1_000), recorded: at(1_000), backlog: true, ..Greeting::default() };
    machine.welcomed(s(0), greeting, 0.0);
    let wanted = |machine: &Machine, recorded| {
        let Wanted { lane, after, limit } = machine.wanted(at(recorded));
        (lane, after.seq, limit)
    };
    assert_eq!(wanted(&machine, 1_000), (Lane::Backlog, 0, 500));
    assert_eq!(wanted(&machine, 1_003), (Lane::Live, 1_000, 500));
    machine.sending(Lane::Live, Some(at(1_003)));
    let verdict = machine.answered(s(0), &seqs(1_001..=1_003), at(0), 0.0);
    assert_eq!(verdict, Verdict::default(), "the cursor does not move, and that is not odd");
    assert_eq!(wanted(&machine, 1_004), (Lane::Backlog, 0, 500));
    machine.sending(Lane::Backlog, Some(at(500)));
    assert_eq!(machine.answered(s(0), &seqs(1..=500), at(500), 0.0).release, Some(at(500)));
    assert_eq!(wanted(&machine, 1_004), (Lane::Live, 1_003, 500));
    machine.sending(Lane::Live, Some(at(1_004)));
    let verdict = machine.answered(s(0), &[at(1_004)], at(1_000), 0.0);
    assert_eq!(verdict.release, None, "nothing beyond what was sent in order");
}

#[test]
fn after_a_renumbering_what_goes_ahead_is_answered_with_the_old_cursor_and_that_is_no_contradiction() {
    let mut machine = Machine::new(at(1));
    let fresh = |seq| Position { epoch: 4, seq };
    machine.renumbered(fresh(0));
    let greeting =
        Greeting { mark: fresh(9), recorded: fresh(9), backlog: true, cursor: at(1), ..Greeting::default() };
    assert_eq!(machine.welcomed(s(0), greeting, 0.0), Verdict::default());
    machine.sending(Lane::Live, Some(fresh(10)));
    assert_eq!(machine.answered(s(0), &[fresh(10)], at(1), 0.0), Verdict::default());
    assert_eq!(machine.next(s(0), true), Step::Send, "no second hello");
    machine.sending(Lane::Backlog, Some(fresh(9)));
    let batch: Vec<_> = (1..=9).map(fresh).collect();
    assert_eq!(machine.answered(s(1), &batch, fresh(9), 0.0).release, Some(fresh(9)));
}

#[test]
fn what_is_refused_ahead_is_left_to_the_backlog_which_finds_the_poison() {
    let mut machine = Machine::new(at(0));
    let greeting = Greeting { mark: at(9), recorded: at(9), backlog: true, ..Greeting::default() };
    machine.welcomed(s(0), greeting, 0.0);
    machine.sending(Lane::Live, Some(at(12)));
    machine.failed(s(0), Failure::Rejected, &seqs(10..=12), 0.0);
    assert_eq!(machine.next(s(0), true), Step::Send);
    let wanted = Wanted { lane: Lane::Backlog, after: at(0), limit: 500 };
    assert_eq!((machine.wanted(at(12)), machine.rejected().len()), (wanted, 0));
}

#[test]
fn a_control_plane_that_is_busy_is_asked_again_when_it_said_and_a_proxy_only_lengthens_the_wait() {
    for (failure, until_ms) in [
        (Failure::Busy(s(100)), 80_000),
        (Failure::Busy(s(1_000_000)), 2_880_000),
        (Failure::Later(s(100)), 80_000),
        (Failure::Later(s(1_000_000)), 240_000),
        (Failure::Later(s(0)), 1_000),
    ] {
        let mut machine = greeted();
        machine.failed(s(0), failure, &[], 0.0);
        let until = Step::Wait(Duration::from_millis(until_ms));
        assert_eq!(machine.next(s(0), true), until, "{failure:?}");
    }
}

#[test]
fn what_the_control_plane_refuses_for_now_leaves_the_session_as_it_is() {
    for (failure, connected) in [
        (Failure::Busy(s(1)), true),
        (Failure::Rejected, true),
        (Failure::Later(s(1)), false),
        (Failure::Network, false),
        (Failure::LeaseUnknown, false),
    ] {
        let mut machine = greeted();
        machine.failed(s(0), failure, &[], 0.0);
        assert_eq!(machine.connected(), connected, "{failure:?}");
    }
}

#[test]
fn an_unknown_lease_says_hello_at_once_only_when_it_had_lasted() {
    for (lasted, step) in [(14, Step::Wait(s(15))), (16, Step::Hello)] {
        let mut machine = greeted();
        send(&mut machine, at(1));
        machine.answered(s(10), &[at(1)], at(1), 0.0);
        machine.failed(s(lasted), Failure::LeaseUnknown, &[], 0.0);
        assert_eq!(machine.next(s(lasted), true), step, "{lasted} s");
    }
}

#[test]
fn a_refused_hello_waits() {
    let mut machine = greeted();
    send(&mut machine, at(1));
    machine.answered(s(20), &[at(1)], at(1), 0.0);
    machine.failed(s(21), Failure::LeaseUnknown, &[], 0.0);
    assert_eq!(machine.next(s(21), true), Step::Hello);
    machine.failed(s(21), Failure::LeaseUnknown, &[], 0.0);
    assert_eq!(machine.next(s(21), true), Step::Wait(s(22)));
}

#[test]
fn one_poison_result_among_ten_thousand_is_found_within_seconds_and_the_others_flow() {
    const ALL: u64 = 10_000;
    for poison in [1, 2, 250, 499, 500, 501, 750, 1_000, 3_333, 5_001, 9_500, 9_999, ALL] {
        let mut machine = greeted();
        let (mut requests, mut blocked, mut gaps) = (0, 0, Vec::new());
        while after(&machine) < at(ALL) {
            assert_eq!(machine.next(s(0), true), Step::Send);
            let Wanted { after, limit, .. } = machine.wanted(RECORDED);
            let batch = seqs(after.seq + 1..=(after.seq + limit as u64).min(ALL));
            requests += 1;
            send(&mut machine, *batch.last().unwrap());
            let bad = |p: &&Position| p.seq == poison && !machine.rejected().contains(p);
            if batch.iter().any(|p| bad(&p)) {
                blocked += 1;
                machine.failed(s(0), Failure::Rejected, &batch, 0.0);
                continue;
            }
            gaps.extend(batch.iter().filter(|p| machine.rejected().contains(p)).copied());
            machine.answered(s(0), &batch, *batch.last().unwrap(), 0.0);
        }
        assert_eq!(gaps, [at(poison)]);
        // At 200 ms each that is below 5 s until everything flows again.
        assert!(blocked <= 20 && requests <= 60, "{blocked} of {requests} requests for poison at {poison}");
        assert_eq!(machine.next(s(0), false), Step::Wait(s(10)));
    }
}

#[test]
fn a_control_plane_that_takes_nothing_does_not_turn_the_spool_into_gaps() {
    let mut machine = greeted();
    let mut now = s(0);
    for _ in 0..500 {
        match machine.next(now, true) {
            Step::Wait(until) => now = until,
            Step::Hello => drop(welcome(&mut machine, now, Position::default(), RECORDED)),
            Step::Send => {
                let batch = seqs(1..=machine.wanted(RECORDED).limit as u64);
                send(&mut machine, *batch.last().unwrap());
                machine.failed(now, Failure::Rejected, &batch, 0.5);
            }
        }
    }
    assert_eq!(machine.rejected().len(), 1);
}

/// What a spool holds: positions in order, acknowledged up to one of them.
struct Held {
    positions: Vec<Position>,
    released: Position,
}

impl Held {
    fn last(&self) -> Position {
        self.positions.last().copied().unwrap_or_default()
    }

    fn record(&mut self, epoch: u64, count: u64) {
        let Position { epoch: last, seq } = self.last();
        let seq = if last == epoch { seq } else { 0 };
        self.positions.extend((seq + 1..=seq + count).map(|seq| Position { epoch, seq }));
    }

    fn peek(&self, Wanted { after, limit, .. }: Wanted) -> Vec<Position> {
        let after = after.max(self.released);
        self.positions.iter().filter(|p| **p > after).take(limit).copied().collect()
    }
}

/// Whatever cursors and failures come, in whatever order: nothing is released that was not both sent and acknowledged, what is
/// released is released in order, and whoever is answered well in the end sends everything.
fn survives(seed: u64) {
    let mut random = seed | 1;
    let mut next = move |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    let mut machine = Machine::new(Position::default());
    let mut held = Held { positions: Vec::new(), released: Position::default() };
    let mut sent = BTreeSet::new();
    let (mut now, mut epoch) = (Duration::ZERO, 1);
    held.record(epoch, next(16));
    machine.limit = 1 + next(6) as usize;
    for turn in 0..24 {
        let honest = turn >= 14;
        if next(3) == 0 && !honest {
            held.record(epoch, next(4));
        }
        // An honest control plane has what it was sent; another one has anything: nothing, too much, another epoch.
        let stored = sent.iter().copied().max().unwrap_or_default();
        let wild = Position { epoch: next(4), seq: next(20) };
        let cursor = if honest {
            held.released
        } else if next(2) == 0 {
            stored
        } else {
            wild
        };
        let chance = next(100) as f64 / 100.0;
        let release = |held: &mut Held, sent: &BTreeSet<Position>, cursor: Position, verdict: Verdict| {
            let Some(upto) = verdict.release else { return };
            assert!(upto <= cursor, "seed {seed}: released {upto}, acknowledged {cursor}");
            assert!(upto > held.released, "seed {seed}: released {upto} after {}", held.released);
            let gone = held.positions.iter().filter(|p| **p > held.released && **p <= upto);
            gone.for_each(|p| assert!(sent.contains(p), "seed {seed}: {p} was released and never sent"));
            held.released = upto;
        };
        let recorded = held.last();
        match machine.next(now, recorded > held.released) {
            Step::Wait(until) => now = until,
            Step::Hello if !honest && next(3) == 0 => machine.failed(now, Failure::Network, &[], chance),
            Step::Hello => {
                let mark = machine.declared(now, recorded);
                let backlog = recorded > held.released;
                let renumber = !honest && next(9) == 0;
                let greeting = Greeting { mark, recorded, backlog, cursor, seen: cursor, renumber };
                let verdict = machine.welcomed(now, greeting, chance);
                release(&mut held, &sent, cursor, verdict);
                match verdict.rewind {
                    Some(_) if next(4) == 0 => machine.failed(now, Failure::Network, &[], chance),
                    Some(to) => {
                        held.released = held.released.min(to);
                        machine.rewound(to);
                    }
                    None => {}
                }
                if let Some(above) = verdict.renumber {
                    let count = held.positions.iter().filter(|p| **p > held.released).count() as u64;
                    epoch = epoch.max(above.epoch) + 1;
                    held = Held { positions: Vec::new(), released: Position { epoch, seq: 0 } };
                    held.record(epoch, count);
                    machine.renumbered(held.released);
                }
            }
            Step::Send => {
                let wanted = machine.wanted(recorded);
                assert!(wanted.limit >= 1);
                let batch = held.peek(wanted);
                machine.sending(wanted.lane, batch.last().copied());
                sent.extend(batch.iter().copied());
                let ends = batch.last().copied().unwrap_or_default();
                let answer = if honest { 0 } else { next(9) };
                let cursor = match (answer, wanted.lane) {
                    (0, Lane::Live) => held.released,
                    (0, Lane::Backlog) => ends.max(held.released),
                    _ => cursor,
                };
                match answer {
                    0..4 => {
                        let verdict = machine.answered(now, &batch, cursor, chance);
                        release(&mut held, &sent, cursor, verdict);
                        assert!(verdict.rewind.or(verdict.renumber).is_none(), "seed {seed}");
                    }
                    4 => machine.failed(now, Failure::LeaseUnknown, &batch, chance),
                    5 => machine.failed(now, Failure::Rejected, &batch, chance),
                    6 => machine.failed(now, Failure::Busy(s(next(20))), &batch, chance),
                    7 => machine.failed(now, Failure::Later(s(next(20))), &batch, chance),
                    _ => machine.failed(now, Failure::Refused, &batch, chance),
                }
            }
        }
    }
}

#[test]
fn never_releases_beyond_what_was_sent_and_acknowledged() {
    (1..=100_000).for_each(|n: u64| survives(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
}
