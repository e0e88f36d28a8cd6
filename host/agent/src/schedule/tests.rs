//! The schedule with injected times: nothing sleeps, hours pass in milliseconds.

use std::collections::HashSet;

use uuid::Uuid;

use super::*;

fn monitor(n: u128) -> MonitorId {
    MonitorId(Uuid::from_u128(n))
}

fn wanted(n: u128, interval: Millis) -> Wanted {
    Wanted { monitor: monitor(n), interval, digest: 0 }
}

fn schedule(now: Millis, wanted: impl IntoIterator<Item = Wanted>) -> Schedule {
    let mut schedule = Schedule::new(AgentId(Uuid::from_u128(7)), 64);
    schedule.replace(now, wanted);
    schedule
}

/// Lets every run end at once and gives what was due until `until`.
fn play(schedule: &mut Schedule, until: Millis) -> Vec<Due> {
    let mut runs = Vec::new();
    while let Some(at) = schedule.next_at().filter(|at| *at <= until) {
        while let Some(due) = schedule.take(at) {
            schedule.finished(due.monitor, 0);
            runs.push(due);
        }
    }
    runs
}

#[test]
fn the_first_run_comes_within_five_seconds_or_the_interval() {
    for (interval, bound) in [(1_000, 1_000), (4_000, 4_000), (60_000, 5_000), (86_400_000, 5_000)] {
        let now = 1_234_567;
        let mut schedule = schedule(now, (0..500).map(|n| wanted(n, interval)));
        let first: Vec<_> =
            (0..500).filter_map(|_| schedule.take(now + bound)).map(|due| due.planned - now).collect();
        assert_eq!(first.len(), 500, "interval {interval}");
        assert!(first.iter().all(|wait| *wait < bound), "interval {interval}");
        assert!(first.iter().collect::<HashSet<_>>().len() > 300, "first runs of {interval} are spread");
    }
}

#[test]
fn first_runs_of_many_come_at_two_hundred_a_second_and_within_the_interval_and_one_new_one_among_them_quickly()
 {
    let mut schedule = schedule(0, (0..10_000).map(|n| wanted(n, [60_000, 20_000][(n % 2) as usize])));
    let mut first = HashSet::new();
    let mut runs = play(&mut schedule, 60_000);
    runs.retain(|due| first.insert(due.monitor));
    assert_eq!(runs.len(), 10_000);
    // Half of them have to come within 20 seconds, the others within 50.
    let busiest = runs.chunk_by(|a, b| a.planned / 1_000 == b.planned / 1_000).map(<[_]>::len).max();
    assert!(busiest.is_some_and(|busiest| busiest < 450), "{busiest:?} in one second");
    assert!(
        runs.iter().all(|due| due.planned < if due.monitor.0.as_u128() % 2 == 0 { 50_000 } else { 20_000 })
    );

    let now = 100_000;
    play(&mut schedule, now);
    schedule.replace(now, (0..10_001).map(|n| wanted(n, [60_000, 20_000][(n % 2) as usize])));
    assert!(play(&mut schedule, now + 5_000).iter().any(|due| due.monitor == monitor(10_000)));
}

#[test]
fn later_runs_settle_on_a_stable_grid_that_does_not_depend_on_the_start() {
    for interval in [1_000, 7_000, 60_000, 3_600_000] {
        let phase = |start: Millis| {
            let mut schedule = schedule(start, [wanted(1, interval)]);
            let runs = play(&mut schedule, start + 6 * interval);
            let gaps: Vec<_> = runs.windows(2).map(|w| w[1].planned - w[0].planned).collect();
            assert!(gaps[0] > interval / 2 && gaps[0] <= interval * 3 / 2 + 1, "{interval}: {gaps:?}");
            assert!(gaps[1..].iter().all(|gap| *gap == interval), "{interval}: {gaps:?}");
            runs[1].planned % interval
        };
        assert_eq!(phase(0), phase(987_654_321), "interval {interval}");
    }
}

#[test]
fn phases_spread_over_the_interval_or_two_minutes_and_differ_between_agents() {
    let phases = |agent: u128, interval: Millis| {
        let schedule = Schedule::new(AgentId(Uuid::from_u128(agent)), 64);
        (0..1_000).map(|n| schedule.phase(monitor(n)).after(0, interval) % interval).collect::<Vec<_>>()
    };
    for (interval, bound) in [(60_000, 60_000), (3_600_000, 120_000)] {
        let spread = phases(1, interval);
        assert!(spread.iter().all(|phase| *phase < bound));
        for tenth in 0..10 {
            let here = spread.iter().filter(|phase| **phase * 10 / bound == tenth).count();
            assert!((60..140).contains(&here), "tenth {tenth} of {interval} holds {here} of 1,000");
        }
    }
    assert_ne!(phases(1, 60_000), phases(2, 60_000));
}

#[test]
fn times_that_passed_are_counted_and_not_replayed() {
    let mut schedule = schedule(0, [wanted(1, 10_000)]);
    let settled = play(&mut schedule, 30_000).last().unwrap().planned;
    let asleep_until = settled + 3_600_000;
    let due = schedule.take(asleep_until + 1).unwrap();
    assert_eq!(
        due,
        Due { monitor: monitor(1), planned: asleep_until, missed: 359, request: None, asked: false }
    );
    schedule.finished(monitor(1), 0);
    assert_eq!(schedule.take(asleep_until + 1), None);
    let due = schedule.take(asleep_until + 10_000).unwrap();
    assert_eq!((due.planned, due.missed), (asleep_until + 10_000, 0));
}

#[test]
fn a_monitor_that_still_runs_does_not_start_again_and_the_time_counts_as_missed() {
    let mut schedule = schedule(0, [wanted(1, 1_000)]);
    let first = schedule.take(1_000).unwrap();
    assert_eq!((schedule.take(3_000), schedule.take(4_000)), (None, None));
    schedule.finished(first.monitor, 0);
    let second = schedule.take(5_000).unwrap();
    let slots = (second.planned - first.planned) / 1_000;
    assert!(second.missed >= 3 && second.missed < slots + 1, "{second:?} after {first:?}");
}

#[test]
fn a_new_configuration_keeps_the_plans_of_what_did_not_change() {
    let now = 500_000;
    let mut schedule = schedule(now, (0..4).map(|n| wanted(n, 60_000)));
    play(&mut schedule, now + 200_000);
    let later = now + 200_000;
    let before = |s: &Schedule, n: u128| s.plans.get(&monitor(n)).map(|plan| plan.next);
    let kept = before(&schedule, 0);
    schedule.replace(
        later,
        [wanted(0, 60_000), wanted(1, 30_000), Wanted { digest: 9, ..wanted(2, 60_000) }, wanted(9, 60_000)],
    );
    assert_eq!(before(&schedule, 0), kept);
    for n in [1, 2, 9] {
        assert!(
            before(&schedule, n).unwrap() < later + 5_000,
            "monitor {n} is new or changed and comes quickly"
        );
    }
    assert_eq!((before(&schedule, 3), schedule.len()), (None, 4));
}

#[test]
fn a_change_while_a_monitor_runs_does_not_start_it_twice() {
    let mut schedule = schedule(0, [wanted(1, 10_000)]);
    schedule.take(10_000).unwrap();
    schedule.replace(10_000, [Wanted { digest: 1, ..wanted(1, 10_000) }]);
    assert_eq!(schedule.take(20_000), None);
    schedule.finished(monitor(1), 0);
    assert!(schedule.take(40_000).is_some());
}

#[test]
fn a_monitor_that_leaves_and_returns_during_its_run_does_not_start_twice() {
    let mut schedule = schedule(0, [wanted(1, 10_000)]);
    schedule.take(10_000).unwrap();
    schedule.replace(10_000, []);
    schedule.replace(10_000, [wanted(1, 10_000)]);
    assert_eq!(schedule.take(20_000), None);
    schedule.finished(monitor(1), 0);
    assert!(schedule.take(40_000).is_some());
}

#[test]
fn an_interval_below_the_bound_is_the_bound() {
    for interval in [0, 1, 999] {
        let runs = play(&mut schedule(0, [wanted(1, interval)]), 10_000);
        assert!((10..=11).contains(&runs.len()), "{interval}: {} runs in 10 s", runs.len());
    }
}

#[test]
fn a_hundred_thousand_monitors_run_once_each_a_minute() {
    let mut schedule = schedule(0, (0..100_000).map(|n| wanted(n, 60_000)));
    play(&mut schedule, 200_000);
    let minute = play(&mut schedule, 260_000);
    assert_eq!(minute.len(), 100_000);
    assert!(minute.iter().all(|due| due.missed == 0));
    let busiest =
        minute.chunk_by(|a, b| a.planned / 1_000 == b.planned / 1_000).map(<[_]>::len).max().unwrap();
    assert!(busiest < 2_000, "{busiest} in one second");
}

#[test]
fn a_run_that_is_asked_for_comes_at_once_and_leaves_the_plan_as_it_is() {
    let mut asked = schedule(0, [wanted(1, 60_000)]);
    let mut plain = schedule(0, [wanted(1, 60_000)]);
    let request = Some(Uuid::from_u128(9));
    assert_eq!((play(&mut asked, 70_000).len(), play(&mut plain, 70_000).len()), (2, 2));
    asked.ask(70_001, monitor(1), request);
    assert_eq!(asked.next_at(), Some(70_001));
    let due = asked.take(70_001);
    assert_eq!(due, Some(Due { monitor: monitor(1), planned: 70_001, missed: 0, request, asked: true }));
    asked.finished(monitor(1), 0);
    assert_eq!(play(&mut asked, 400_000), play(&mut plain, 400_000));
}

#[test]
fn two_runs_of_one_monitor_never_overlap_when_one_is_asked_for() {
    let mut schedule = schedule(0, [wanted(1, 60_000)]);
    let planned = schedule.take(5_000).expect("the first run");
    schedule.ask(5_001, monitor(1), None);
    schedule.ask(5_002, monitor(1), None);
    assert_eq!(schedule.take(5_003), None);
    assert!(schedule.next_at() > Some(5_003), "it waits for the end of the run, not for a time");
    schedule.finished(planned.monitor, 0);
    assert_eq!(schedule.take(5_004).map(|due| due.planned), Some(5_001));
    schedule.finished(monitor(1), 0);
    assert_eq!(schedule.take(5_100), None, "twice without a request is once");
}

#[test]
fn a_planned_run_that_comes_first_takes_the_place_of_one_that_was_asked_for() {
    // A thousand that run every ten seconds and a hundred that run every hour, asked for after an outage.
    let (often, rarely) = (0..1_000, 1_000..1_100);
    let plans = often.clone().map(|n| wanted(n, 10_000)).chain(rarely.clone().map(|n| wanted(n, 3_600_000)));
    let mut schedule = schedule(0, plans);
    let now = 200_000;
    play(&mut schedule, now);
    rarely.chain(often).for_each(|n| schedule.ask(now, monitor(n), None));
    let runs = play(&mut schedule, now + 12_000);
    let ran: HashSet<_> = runs.iter().map(|due| due.monitor).collect();
    assert_eq!(ran.len(), 1_100, "each ran once at least");
    let next = play(&mut schedule, now + 24_000);
    assert!(next.len() <= 1_250, "{} runs: nothing is asked for any more", next.len());

    schedule.ask(now + 24_000, monitor(1), Some(Uuid::from_u128(7)));
    schedule.ask(now + 24_000, monitor(1), None);
    let asked = play(&mut schedule, now + 24_000);
    assert_eq!(asked.iter().filter(|due| due.request.is_some()).count(), 1, "somebody waits for this one");
}

#[test]
fn runs_that_are_asked_for_come_at_most_twenty_a_second() {
    let mut schedule = schedule(0, (0..100).map(|n| wanted(n, 3_600_000)));
    play(&mut schedule, 5_000);
    let now = 200_000;
    play(&mut schedule, now);
    (0..200).for_each(|n| schedule.ask(now, monitor(n), None));
    let runs = play(&mut schedule, now + 60_000);
    assert_eq!(runs.len(), 100, "those that are not here are passed over");
    let mut schedule = self::schedule(0, (0..100).map(|n| wanted(n, 3_600_000)));
    play(&mut schedule, now);
    (0..100).for_each(|n| schedule.ask(now, monitor(n), None));
    assert_eq!(play(&mut schedule, now + 999).len(), 20);
    schedule.replace(now + 999, []);
    assert_eq!(schedule.next_at(), None, "what is not planned any more is not asked for either");
}

/// A thousand monitors a minute, of which `slow` never answer within their ten seconds, on eight places: what
/// started in ten minutes.
fn play_slow(slow: u128) -> Vec<(u128, Millis, Due)> {
    let mut schedule = Schedule::new(AgentId(Uuid::from_u128(7)), 8);
    schedule.replace(0, (0..1_000).map(|n| wanted(n, 60_000)));
    let (mut runs, mut under_way) = (Vec::new(), Vec::<(Millis, MonitorId, Millis)>::new());
    for now in (0..600_000).step_by(10) {
        for (_, monitor, took) in under_way.extract_if(.., |(ends, ..)| *ends <= now) {
            schedule.finished(monitor, took);
        }
        while under_way.len() < 8
            && let Some(due) = schedule.take(now)
        {
            let n = due.monitor.0.as_u128();
            let took = if n < slow { 10_000 } else { 10 };
            under_way.push((now + took, due.monitor, took));
            runs.push((n, now - due.planned, due));
        }
    }
    runs
}

#[test]
fn those_that_never_answer_wait_for_each_other_and_nobody_for_them() {
    let runs = play_slow(100);
    // From the fifth minute on: they were found out before.
    let settled = |(_, late, due): &&(u128, Millis, Due)| due.planned + late > 240_000;
    let quick: Vec<_> = runs.iter().filter(settled).filter(|(n, ..)| *n >= 100).collect();
    assert!(quick.len() > 5_300, "{}", quick.len());
    assert!(quick.iter().all(|(_, late, due)| *late < 100 && due.missed == 0));
    let slow: Vec<_> = runs.iter().filter(settled).filter(|(n, ..)| *n < 100).collect();
    assert!((205..=216).contains(&slow.len()), "six places for six minutes are 216 runs: {}", slow.len());
    assert!(slow.iter().any(|(.., due)| due.missed > 0), "what they miss is counted");
}

#[test]
fn a_few_that_are_slow_are_in_time_like_everybody() {
    let runs = play_slow(10);
    assert!(
        runs.iter().filter(|(_, late, due)| due.planned + late > 120_000).all(|(_, late, _)| *late < 100)
    );
}

#[test]
fn a_slow_one_that_waits_is_dropped_with_its_monitor_and_kept_over_a_change_of_others() {
    let mut schedule = Schedule::new(AgentId(Uuid::from_u128(7)), 1);
    schedule.replace(0, [wanted(1, 1_000), wanted(2, 1_000)]);
    for due in [schedule.take(1_000), schedule.take(1_000)] {
        schedule.finished(due.unwrap().monitor, 5_000);
    }
    let first = schedule.take(5_000).unwrap();
    assert_eq!(schedule.take(5_000), None, "one place for slow ones");
    let other = if first.monitor == monitor(1) { 2 } else { 1 };
    schedule.replace(5_000, [wanted(1, 1_000), wanted(2, 1_000), wanted(3, 60_000)]);
    schedule.finished(first.monitor, 10);
    assert_eq!(schedule.take(5_001).map(|due| due.monitor), Some(monitor(other)));

    let mut schedule = Schedule::new(AgentId(Uuid::from_u128(7)), 1);
    schedule.replace(0, [wanted(1, 1_000), wanted(2, 1_000)]);
    for due in [schedule.take(1_000), schedule.take(1_000)] {
        schedule.finished(due.unwrap().monitor, 5_000);
    }
    let running = schedule.take(5_000).unwrap();
    assert_eq!(schedule.take(5_000), None);
    schedule.replace(5_000, []);
    schedule.finished(running.monitor, 5_000);
    assert_eq!((schedule.take(20_000), schedule.next_at()), (None, None));
}

#[test]
fn those_that_wait_are_not_forgotten_when_one_of_them_is_quick_again() {
    let mut schedule = Schedule::new(AgentId(Uuid::from_u128(7)), 1);
    schedule.replace(0, (1..=3).map(|n| wanted(n, 1_000)));
    for due in [schedule.take(1_000), schedule.take(1_000), schedule.take(1_000)] {
        schedule.finished(due.unwrap().monitor, 5_000);
    }
    let first = schedule.take(5_000).unwrap().monitor;
    assert_eq!(schedule.take(5_000), None, "one place for slow ones");
    // Somebody asks for those that wait, and they answer at once.
    for n in (1..=3).filter(|n| monitor(*n) != first) {
        schedule.ask(5_000, monitor(n), Some(Uuid::from_u128(n)));
    }
    for now in [5_001, 5_051] {
        let asked = schedule.take(now).unwrap();
        assert!(asked.asked);
        schedule.finished(asked.monitor, 1);
    }
    schedule.finished(first, 5_000);
    let both: HashSet<_> =
        [schedule.take(5_100), schedule.take(5_100)].map(|due| due.unwrap().monitor).into();
    assert!(both.len() == 2 && !both.contains(&first));
}
