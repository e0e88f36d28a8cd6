//! The state machine against every kind of answer, without a network and without waiting.

use proptest::prelude::*;

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
    machine.welcomed(s(0), Position::default(), RECORDED, 0.0);
    machine
}

#[test]
fn says_hello_first_then_sends_then_rests_until_the_heartbeat() {
    let mut machine = Machine::new(Position::default());
    assert_eq!(machine.next(s(0), true), Step::Hello);
    machine.welcomed(s(0), Position::default(), RECORDED, 0.0);
    assert_eq!(machine.next(s(0), true), Step::Send);
    machine.sending(Some(at(3)));
    assert_eq!(machine.answered(s(1), &seqs(1..=3), at(3), 0.0).release, Some(at(3)));
    assert_eq!((machine.after(), machine.limit()), (at(3), 500));
    assert_eq!(machine.next(s(1), false), Step::Wait(s(11)));
    assert_eq!(machine.next(s(2), true), Step::Send);
    assert_eq!(machine.next(s(11), false), Step::Send);
}

#[test]
fn releases_the_lower_of_cursor_and_sent() {
    for (sent, cursor, released) in [(5, 5, Some(5)), (5, 3, Some(3)), (5, 9, Some(5)), (5, 0, None)] {
        let mut machine = Machine::new(at(0));
        machine.welcomed(s(0), at(0), RECORDED, 0.0);
        machine.sending(Some(at(sent)));
        let verdict = machine.answered(s(1), &seqs(1..=sent), at(cursor), 0.0);
        assert_eq!(verdict.release, released.map(at), "sent {sent}, cursor {cursor}");
        assert_eq!(verdict.odd, released.is_none(), "sent {sent}, cursor {cursor}");
    }
}

#[test]
fn an_acknowledgement_beyond_all_that_was_recorded_releases_nothing_and_waits() {
    let mut machine = greeted();
    machine.sending(Some(at(2)));
    let verdict = machine.answered(s(1), &seqs(1..=2), Position { epoch: 9, seq: 9 }, 0.0);
    assert_eq!(verdict, Verdict { later_life: true, ..Verdict::default() });
    assert_eq!((machine.next(s(1), true), machine.next(s(2), true)), (Step::Wait(s(2)), Step::Hello));
}

#[test]
fn a_data_directory_that_was_restored_holds_back_what_would_be_skipped_as_old() {
    let mut machine = Machine::new(at(2));
    let verdict = machine.welcomed(s(0), at(9), at(8), 0.0);
    assert_eq!(verdict, Verdict { later_life: true, ..Verdict::default() });
    assert!(!machine.connected());
    assert_eq!((machine.next(s(0), true), machine.next(s(1), true)), (Step::Wait(s(1)), Step::Hello));
    assert_eq!(machine.welcomed(s(1), at(9), at(9), 0.0), Verdict::default());
    assert_eq!(machine.next(s(1), true), Step::Send);
}

#[test]
fn a_cursor_that_does_not_move_waits_instead_of_sending_for_ever() {
    let mut machine = greeted();
    machine.sending(Some(at(2)));
    machine.answered(s(1), &seqs(1..=2), Position::default(), 0.0);
    assert_eq!(machine.next(s(1), true), Step::Wait(s(2)));
}

#[test]
fn an_answer_that_was_lost_is_made_good_by_the_next_hello() {
    let mut machine = greeted();
    machine.sending(Some(at(7)));
    machine.failed(s(1), Failure::Network, &seqs(1..=7), 0.0);
    assert_eq!(machine.welcomed(s(20), at(7), RECORDED, 0.0).release, Some(at(7)));
}

#[test]
fn after_a_restart_a_hello_alone_releases_nothing() {
    let mut machine = Machine::new(at(2));
    assert_eq!(machine.welcomed(s(0), at(9), RECORDED, 0.0), Verdict::default());
    assert_eq!(machine.after(), at(2));
}

#[test]
fn a_control_plane_restored_from_a_backup_is_offered_again_what_is_held() {
    let mut machine = Machine::new(at(9));
    assert_eq!(machine.welcomed(s(0), at(4), RECORDED, 0.0).rewind, Some(at(4)));
    assert_eq!(machine.after(), at(4));
}

#[test]
fn only_a_hello_takes_back_what_was_released() {
    let mut machine = greeted();
    machine.sending(Some(at(5)));
    machine.answered(s(1), &seqs(1..=5), at(5), 0.0);
    machine.sending(Some(at(6)));
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
fn an_unknown_lease_says_hello_at_once_only_when_it_had_lasted() {
    for (lasted, step) in [(14, Step::Wait(s(15))), (16, Step::Hello)] {
        let mut machine = greeted();
        machine.sending(Some(at(1)));
        machine.answered(s(10), &[at(1)], at(1), 0.0);
        machine.failed(s(lasted), Failure::LeaseUnknown, &[], 0.0);
        assert_eq!(machine.next(s(lasted), true), step, "{lasted} s");
    }
}

#[test]
fn a_refused_hello_waits() {
    let mut machine = greeted();
    machine.sending(Some(at(1)));
    machine.answered(s(20), &[at(1)], at(1), 0.0);
    machine.failed(s(21), Failure::LeaseUnknown, &[], 0.0);
    assert_eq!(machine.next(s(21), true), Step::Hello);
    machine.failed(s(21), Failure::LeaseUnknown, &[], 0.0);
    assert_eq!(machine.next(s(21), true), Step::Wait(s(22)));
}

#[test]
fn one_poison_result_among_five_hundred_is_found_and_the_others_flow() {
    for poison in [1, 250, 333, 500] {
        let mut machine = greeted();
        let (mut requests, mut gaps) = (0, Vec::new());
        while machine.next(s(0), machine.after() < at(500)) == Step::Send {
            let first = machine.after().seq + 1;
            let batch = seqs(first..=(first + machine.limit() as u64 - 1).min(500));
            requests += 1;
            machine.sending(batch.last().copied());
            let bad = |p: &&Position| p.seq == poison && !machine.rejected().contains(p);
            if batch.iter().any(|p| bad(&p)) {
                machine.failed(s(0), Failure::Rejected, &batch, 0.0);
                continue;
            }
            gaps.extend(batch.iter().filter(|p| machine.rejected().contains(p)).copied());
            machine.answered(s(0), &batch, *batch.last().unwrap(), 0.0);
        }
        assert_eq!(gaps, [at(poison)]);
        assert!(requests < 40, "{requests} requests for poison at {poison}");
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
            Step::Hello => drop(machine.welcomed(now, Position::default(), RECORDED, 0.0)),
            Step::Send => {
                let batch = seqs(1..=machine.limit() as u64);
                machine.sending(batch.last().copied());
                machine.failed(now, Failure::Rejected, &batch, 0.5);
            }
        }
    }
    assert_eq!(machine.rejected().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever cursors and failures come: nothing is released that was not both sent and acknowledged.
    #[test]
    fn never_releases_beyond_what_was_sent_and_acknowledged(
        script in prop::collection::vec((0_u8..6, 0_u64..4, 0_u64..60, 0.0..1.0_f64), 1..60),
    ) {
        let mut machine = Machine::new(Position::default());
        let (mut now, mut sent) = (Duration::ZERO, Position::default());
        for (answer, epoch, seq, chance) in script {
            let cursor = Position { epoch, seq };
            let check = |released: Option<Position>, sent: Position| {
                released.is_none_or(|upto| upto <= sent && upto <= cursor)
            };
            match machine.next(now, true) {
                Step::Wait(until) => now = until,
                Step::Hello if answer < 4 => {
                    prop_assert!(check(machine.welcomed(now, cursor, RECORDED, 0.0).release, sent));
                }
                Step::Hello => machine.failed(now, Failure::Network, &[], chance),
                Step::Send => {
                    let (after, limit) = (machine.after(), machine.limit());
                    prop_assert!(limit >= 1);
                    let last = Position { epoch: after.epoch.max(1), seq: after.seq + 1 + seq % limit as u64 };
                    let batch = [Position { seq: after.seq + 1, ..last }, last];
                    machine.sending(Some(last));
                    sent = sent.max(last);
                    match answer {
                        0..=2 => {
                            let verdict = machine.answered(now, &batch, cursor, chance);
                            prop_assert!(check(verdict.release, sent));
                            prop_assert!(verdict.rewind.is_none());
                        }
                        3 => machine.failed(now, Failure::LeaseUnknown, &batch, chance),
                        4 => machine.failed(now, Failure::Rejected, &batch, chance),
                        _ => machine.failed(now, Failure::Network, &batch, chance),
                    }
                }
            }
        }
    }
}
