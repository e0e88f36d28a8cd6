use uuid::Uuid;
use wire::MonitorId;
use wire::results::Delivery;

use super::*;
use crate::monitors::tests::monitor;

const NOW_S: i64 = 1_000_000;
const H: i64 = 3_600;

/// Interval 60 s, timeout 10 s: a result speaks for 130 s. Made a hundred hours ago, at dc1.
fn subject() -> Monitor {
    Monitor { created_at: at(-100 * H), ..monitor(1, "shop", &["dc1"]) }
}

/// So many seconds from now.
fn at(s: i64) -> Timestamp {
    Timestamp::from_millis((NOW_S + s) * 1_000)
}

fn point(s: i64, state: State) -> Point {
    heard(s, state, 1, "dc1")
}

fn heard(s: i64, state: State, agent: u128, location: &str) -> Point {
    let agent = AgentId(Uuid::from_u128(agent));
    Point { at: at(s), state, delivery: Delivery::Live, agent, location: location.into() }
}

fn agent(n: u128) -> AgentId {
    AgentId(Uuid::from_u128(n))
}

fn lost(agent: u128, from: i64, to: i64) -> Lost {
    Lost { agent: AgentId(Uuid::from_u128(agent)), from: at(from), to: at(to) }
}

/// One result a minute from hour to hour, both counted from now.
fn minutes(from: i64, to: i64, state: State) -> Vec<Point> {
    (from * H..to * H).step_by(60).map(|s| point(s, state)).collect()
}

/// The last 24 hours as (up percent, known, unknown, down, degraded, error), in seconds.
type Figures = (Option<f64>, u64, u64, u64, u64, u64);

fn figures(uptime: &Uptime) -> Figures {
    (uptime.up_percent, uptime.known_s, uptime.unknown_s, uptime.down_s, uptime.degraded_s, uptime.error_s)
}

fn uptimes(monitor: &Monitor, points: &[Point], lost: &[Lost]) -> Uptimes {
    let mut memo = Memo::default();
    memo.learn(&paces(monitor), points, lost, at(0));
    memo.uptimes(monitor, at(0))
}

fn day(monitor: &Monitor, points: &[Point], lost: &[Lost]) -> Figures {
    figures(&uptimes(monitor, points, lost).all[0])
}

const DAY: u64 = 86_400;

#[test]
fn a_target_that_was_always_up_was_up_for_all_that_is_known() {
    assert_eq!(day(&subject(), &minutes(-25, 0, State::Up), &[]), (Some(100.0), DAY, 0, 0, 0, 0));
}

#[test]
fn down_is_down_time_degraded_is_up_time_and_an_error_is_unknown() {
    let points = [
        minutes(-25, -6, State::Up),
        minutes(-6, -4, State::Degraded),
        minutes(-4, -3, State::Error),
        minutes(-3, 0, State::Down),
    ];
    let known = DAY - 3_600;
    let share = 20.0 / 23.0 * 100.0;
    let found = day(&subject(), &points.concat(), &[]);
    let percent = found.0.unwrap();
    assert!(percent <= share && share - percent < 0.001, "{percent}");
    assert_eq!(found, (Some(percent), known, 3_600, 3 * 3_600, 2 * 3_600, 3_600));
}

#[test]
fn maintenance_does_not_count_whatever_was_found() {
    let points =
        [minutes(-25, -6, State::Up), minutes(-6, -2, State::Maintenance), minutes(-2, 0, State::Down)];
    let known = DAY - 4 * 3_600;
    let found = day(&subject(), &points.concat(), &[]);
    assert_eq!(found, (Some(90.0), known, 0, 2 * 3_600, 0, 0));
    assert_eq!(uptimes(&subject(), &points.concat(), &[]).all[0].maintenance_s, 4 * 3_600);
}

#[test]
fn a_result_speaks_for_two_intervals_and_what_follows_is_unknown() {
    assert_eq!(day(&subject(), &[point(-1_000, State::Down)], &[]), (Some(0.0), 130, DAY - 130, 130, 0, 0));
    assert_eq!(day(&subject(), &[], &[]), (None, 0, DAY, 0, 0, 0));
    let before = point(-24 * H - 100, State::Up);
    assert_eq!(day(&subject(), &[before], &[]).1, 30, "it began before the day and still speaks in it");
}

#[test]
fn one_millisecond_of_down_time_is_never_hidden() {
    let mut points = minutes(-25, 0, State::Up);
    let mut blink = points[100].clone();
    blink.state = State::Down;
    points[101].at = blink.at.plus_millis(1);
    points[100] = blink;
    assert_eq!(day(&subject(), &points, &[]), (Some(99.999), DAY, 0, 1, 0, 0));
}

#[test]
fn time_in_a_gap_is_unknown_from_the_first_result_that_is_missing() {
    // The results of 60 minutes are lost; the one before them was due to be followed after its 60 s.
    let points = [minutes(-25, -3, State::Up), minutes(-2, 0, State::Up)].concat();
    let gap = lost(1, -3 * H, -2 * H - 50);
    assert_eq!(day(&subject(), &points, &[gap]), (Some(100.0), DAY - 3_600, 3_600, 0, 0, 0));
    assert_eq!(day(&subject(), &points, &[]).2, 3_600 - 70, "without it, the last result speaks for 130 s");
}

#[test]
fn one_lost_result_is_unknown_for_its_monitor_and_for_no_other() {
    let mut points = minutes(-25, 0, State::Up);
    points.remove(60);
    let due = -24 * H;
    let gap = lost(1, due + 1, due + 1);
    assert_eq!(day(&subject(), &points, &[gap]), (Some(100.0), DAY - 60, 60, 0, 0, 0));
    let whole = minutes(-25, 0, State::Up);
    assert_eq!(day(&subject(), &whole, &[lost(1, due + 30, due + 30)]).2, 0, "another monitor's");
    assert_eq!(day(&subject(), &points, &[lost(2, due, due + 5)]).2, 0, "another agent's");
}

#[test]
fn time_before_the_monitor_was_made_or_while_it_was_off_does_not_count() {
    let mut young = Monitor { created_at: at(-2 * H), ..subject() };
    let points = minutes(-2, 0, State::Up);
    assert_eq!(day(&young, &points, &[]), (Some(100.0), 2 * 3_600, 0, 0, 0, 0));
    let on = young.pace(young.created_at);
    let off = Pace { since: at(-H - 30), locations: vec![], ..on.clone() };
    let again = Pace { since: at(-H / 2), ..on.clone() };
    young.paces = vec![on, off, again];
    let points: Vec<_> = points.into_iter().filter(|p| p.at < at(-H) || p.at >= at(-H / 2)).collect();
    // The last result before it was switched off speaks until then, not for its whole 130 s.
    assert_eq!(day(&young, &points, &[]), (Some(100.0), 3_600 - 30 + 1_800, 0, 0, 0, 0));
}

#[test]
fn a_result_of_last_week_speaks_by_the_interval_of_last_week() {
    let mut monitor = subject();
    let hourly = Pace { interval_ms: 3_600_000, ..monitor.pace(monitor.created_at) };
    monitor.paces = vec![hourly, monitor.pace(at(-2 * H))];
    let points: Vec<_> =
        (-25..-2).map(|h| point(h * H, State::Up)).chain(minutes(-2, 0, State::Up)).collect();
    assert_eq!(day(&monitor, &points, &[]).2, 0);
}

#[test]
fn several_locations_are_told_each_and_as_their_mean() {
    let monitor = Monitor { created_at: at(-100 * H), ..monitor(1, "shop", &["dc1", "dc2"]) };
    let mut points = minutes(-25, 0, State::Up);
    points.extend((-12 * H..-6 * H).step_by(60).map(|s| heard(s, State::Down, 2, "dc2")));
    points.extend((-6 * H..0).step_by(60).map(|s| heard(s, State::Up, 2, "dc2")));
    points.sort_by_key(|p| p.at);
    let told = uptimes(&monitor, &points, &[]);
    assert_eq!(figures(&told.by_location["dc1"][0]), (Some(100.0), DAY, 0, 0, 0, 0));
    assert_eq!(figures(&told.by_location["dc2"][0]), (Some(50.0), DAY / 2, DAY / 2, DAY / 4, 0, 0));
    let mean = (Some(83.333), DAY * 3 / 4, DAY / 4, DAY / 8, 0, 0);
    assert_eq!(figures(&told.all[0]), mean, "30 of 36 known hours");
}

#[test]
fn the_longer_windows_hold_the_shorter_ones() {
    let monitor = Monitor { created_at: at(-40 * 24 * H), ..subject() };
    let points = [minutes(-31 * 24, -3 * 24, State::Up), minutes(-3 * 24, 0, State::Down)].concat();
    let told: Vec<_> = uptimes(&monitor, &points, &[])
        .all
        .iter()
        .map(|u| (u.window.clone(), u.up_percent, u.down_s))
        .collect();
    let three_days = 3 * DAY;
    let expected = [("24h", 0.0, DAY), ("7d", 57.142, three_days), ("30d", 90.0, three_days)];
    assert_eq!(told, expected.map(|(window, percent, down)| (window.to_owned(), Some(percent), down)));
}

#[test]
fn what_is_learned_bit_by_bit_and_out_of_order_comes_to_what_is_learned_at_once() {
    let monitor = subject();
    let mut all =
        [minutes(-25, -6, State::Up), minutes(-6, -5, State::Error), minutes(-5, 0, State::Down)].concat();
    all.retain(|p| p.at.as_millis() / 1_000 % 1_000 > 200);
    let gap = lost(1, -4 * H, -3 * H);
    let mut memo = Memo::default();
    let mut heard = Vec::<Point>::new();
    // Every third result comes only with the next hour, long after its neighbours.
    let mut late = Vec::new();
    for hour in -24..=0 {
        let now = at(hour * H);
        let (came, comes): (Vec<_>, Vec<_>) = all
            .iter()
            .filter(|p| p.at < now && p.at >= at((hour - 1) * H))
            .cloned()
            .enumerate()
            .partition(|(n, _)| n % 3 > 0);
        let arrived: Vec<_> = came.into_iter().map(|(_, p)| p).chain(std::mem::take(&mut late)).collect();
        late = comes.into_iter().map(|(_, p)| p).collect();
        arrived.iter().for_each(|p| memo.cut(p.at));
        heard.extend(arrived);
        heard.sort_by_key(|p| p.at);
        let gaps = if hour == 0 { std::slice::from_ref(&gap) } else { &[] };
        gaps.iter().for_each(|gap| memo.cut(gap.from.plus_millis(-millis(monitor.timeout_ms))));
        let from = memo.wants_from(&paces(&monitor), now);
        let wanted: Vec<_> = heard.iter().filter(|p| p.at >= from).cloned().collect();
        memo.learn(&paces(&monitor), &wanted, gaps, now);
    }
    let at_once = uptimes(&monitor, &heard, &[gap]);
    assert_eq!(memo.uptimes(&monitor, at(0)).all, at_once.all);
    assert!(at_once.all[0].unknown_s > 0 && at_once.all[0].down_s > 0);
}

#[test]
fn a_result_that_comes_while_the_history_is_read_is_not_missed() {
    let (id, mut memos) = (subject().id, Memos::default());
    memos.touch(id, agent(1), at(-10));
    let mut memo = memos.take(id);
    memo.learn(&paces(&subject()), &[], &[], at(0));
    memos.touch(id, agent(1), at(-60));
    memos.put(id, memo);
    assert_eq!(memos.take(id).upto, at(-60));
}

#[test]
fn of_two_who_read_a_history_the_one_that_missed_a_result_does_not_have_the_last_word() {
    let (id, mut memos) = (subject().id, Memos::default());
    let mut slow = memos.take(id);
    slow.learn(&paces(&subject()), &[], &[], at(0));
    memos.touch(id, agent(1), at(-60));
    let mut quick = memos.take(id);
    quick.learn(&paces(&subject()), &[point(-60, State::Down)], &[], at(0));
    memos.put(id, quick);
    memos.put(id, slow);
    assert_eq!(figures(&memos.take(id).uptimes(&subject(), at(0)).all[0]).3, 60, "seconds down");
}

#[test]
fn a_gap_of_one_agent_leaves_alone_what_is_known_of_monitors_that_ran_on_others() {
    let [mine, taken_over, other, unread] = [1, 2, 3, 4].map(|n| MonitorId(Uuid::from_u128(n)));
    let mut memos = Memos::default();
    for (id, by) in [(mine, 1), (taken_over, 2), (other, 2)] {
        let mut memo = memos.take(id);
        memo.learn(&paces(&subject()), &[heard(-700, State::Up, by, "dc1")], &[], at(0));
        memos.put(id, memo);
    }
    memos.touch(taken_over, agent(1), at(-10));
    // Somebody reads just now what nobody read before.
    let mut reading = memos.take(unread);
    reading.learn(&paces(&subject()), &[heard(-700, State::Up, 1, "dc1")], &[], at(0));
    [mine, taken_over, other, unread].iter().for_each(|id| memos.lose(*id, agent(1), at(-500)));
    memos.put(unread, reading);
    let known = [mine, taken_over, other, unread].map(|id| memos.take(id).upto);
    assert_eq!(known, [at(-500), at(-500), at(0), at(-500)]);
}

#[test]
fn what_is_learned_of_a_monitor_that_was_deleted_meanwhile_is_not_kept() {
    let (id, mut memos) = (subject().id, Memos::default());
    let mut memo = memos.take(id);
    memo.learn(&paces(&subject()), &[], &[], at(0));
    memos.forget(id);
    memos.put(id, memo);
    assert!(!memos.has(id));
}

#[test]
fn gaps_without_a_time_cannot_be_placed() {
    let mut kept = KeptGap {
        agent: AgentId(Uuid::from_u128(1)),
        agent_name: "edge-1".into(),
        received_at: at(0),
        gap: wire::results::Gap {
            epoch: 1,
            from: 1,
            to: 2,
            reason: "missing".into(),
            first_at: None,
            last_at: None,
            down: None,
        },
    };
    assert!(super::lost(vec![kept.clone()], at(-9)).is_empty());
    (kept.gap.first_at, kept.gap.last_at) = (Some(at(-8)), Some(at(-7)));
    assert_eq!(super::lost(vec![kept.clone()], at(-9)).len(), 1);
    assert!(super::lost(vec![kept], at(-6)).is_empty(), "it lies before all windows");
}
