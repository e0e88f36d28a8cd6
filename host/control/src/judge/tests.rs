use uuid::Uuid;
use wire::results::State;
use wire::{AgentId, Position};

use super::*;
use crate::monitors::tests::monitor;
use crate::store::tests::row;

/// Interval 60 s, timeout 10 s: a result speaks for 140 s.
fn subject() -> Monitor {
    monitor(1, "shop", &["dc1"])
}

fn at(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1000)
}

fn latest(state: State, delivery: Delivery, started_s: i64, received_s: i64) -> Row {
    let mut row = row(1, 1, 1, at(started_s));
    row.result.state = state;
    Row { delivery, received_at: at(received_s), ..row }
}

#[test]
fn a_window_is_shown_while_it_holds_and_its_results_until_the_next_one() {
    let mut maintained = subject();
    maintained.spec.maintenance = serde_json::from_value(
        serde_json::json!([{"from": "2026-12-01 22:00", "to": "2026-12-01 23:00", "time_zone": "UTC"}]),
    )
    .unwrap();
    let begins = "2026-12-01T22:00:00Z".parse::<Timestamp>().unwrap();
    let check = |state, s: i64, expected| {
        let mut row = Row { received_at: begins.plus_millis(-1), ..latest(state, Delivery::Live, 0, 0) };
        row.received_at = row.received_at.plus_millis(s * 1_000);
        let now = begins.plus_millis(s * 1_000);
        assert_eq!(shown(&maintained, Some(&row), true, now), expected, "{s}");
        assert_eq!(shown(&maintained, Some(&row), false, now) == Shown::Maintenance, (0..3_600).contains(&s));
    };
    check(State::Down, -1, Shown::Down);
    check(State::Down, 0, Shown::Maintenance);
    check(State::Maintenance, 3_599, Shown::Maintenance);
    check(State::Maintenance, 3_601, Shown::Maintenance);
    check(State::Up, 3_601, Shown::Up);
    maintained.spec.enabled = false;
    assert_eq!(shown(&maintained, None, true, begins), Shown::Disabled);
}

#[test]
fn a_result_speaks_for_two_intervals_and_the_timeout_and_the_grace() {
    let check = |row: &Row, now, expected| assert_eq!(shown(&subject(), Some(row), true, at(now)), expected);
    let live = latest(State::Down, Delivery::Live, 0, 1000);
    check(&live, 1140, Shown::Down);
    check(&live, 1141, Shown::Unknown);
    let buffered = latest(State::Up, Delivery::Buffered, 900, 1000);
    check(&buffered, 1040, Shown::Up);
    check(&buffered, 1041, Shown::Unknown);
    let from_the_future = latest(State::Up, Delivery::Late, 99_999, 1000);
    check(&from_the_future, 1141, Shown::Unknown);
}

#[test]
fn without_a_result_a_monitor_is_pending_and_without_an_agent_unknown() {
    let live = latest(State::Up, Delivery::Live, 0, 1000);
    assert_eq!(shown(&subject(), None, false, at(0)), Shown::Pending);
    assert_eq!(shown(&subject(), Some(&live), false, at(1001)), Shown::Unknown);
    let mut disabled = subject();
    disabled.spec.enabled = false;
    assert_eq!(shown(&disabled, Some(&live), true, at(1001)), Shown::Disabled);
}

#[test]
fn the_worst_speaks_about_the_target_first() {
    use Shown::*;
    assert_eq!(worst([Up, Down, Error]), Down);
    assert_eq!(worst([Up, Error, Degraded]), Degraded);
    assert_eq!(worst([Up, Unknown, Error]), Error);
    assert_eq!(worst([Up, Unknown, Pending]), Unknown);
    assert_eq!(worst([Up, Pending]), Up);
    assert_eq!(worst([]), Pending);
}

#[test]
fn the_latest_result_is_the_last_of_its_agent_and_the_newest_among_agents() {
    let old = latest(State::Up, Delivery::Live, 100, 100);
    let next =
        Row { position: Position { epoch: 1, seq: 2 }, ..latest(State::Up, Delivery::Buffered, 50, 200) };
    assert!(replaces(&next, &old) && !replaces(&old, &next));
    let other = Row { agent: AgentId(Uuid::from_u128(9)), ..latest(State::Up, Delivery::Buffered, 99, 200) };
    assert!(!replaces(&other, &old), "made before, though it came later");
}

/// A live result of that agent, which stands alone in its location.
fn point(s: i64, state: State, agent: u128) -> Point {
    let (agent, location) = (AgentId(Uuid::from_u128(agent)), format!("dc{agent}").into());
    Point { at: at(s), state, delivery: Delivery::Live, agent, location }
}

fn bar_text(points: &[(i64, State, u128)], lost: &[(Timestamp, Timestamp)]) -> String {
    let points: Vec<_> = points.iter().map(|(s, state, agent)| point(*s, *state, *agent)).collect();
    let bar = bar(&subject(), &points, lost, at(3600));
    bar.states
        .iter()
        .map(|s| match s {
            Shown::Up => 'u',
            Shown::Down => 'D',
            Shown::Unknown => '?',
            Shown::Pending => '.',
            Shown::Degraded | Shown::Error | Shown::Disabled | Shown::Maintenance => 'x',
        })
        .collect()
}

#[test]
fn the_bar_shows_the_worst_of_each_minute_and_unknown_where_nothing_was_heard() {
    let points = [(600, State::Up, 1), (610, State::Down, 1), (660, State::Up, 1), (3560, State::Up, 1)];
    let expected = format!("{}Duuu{}u", ".".repeat(10), "?".repeat(45));
    assert_eq!(bar_text(&points, &[]), expected);
}

#[test]
fn a_location_that_joins_later_does_not_hide_what_was_known_before() {
    let points: Vec<_> = (0..60).map(|m| (m * 60, State::Up, 1)).chain([(3000, State::Down, 2)]).collect();
    let mut points = points;
    points.sort_by_key(|p| p.0);
    let bar = bar_text(&points, &[]);
    assert_eq!(bar, format!("{}DDD{}", "u".repeat(50), "?".repeat(7)), "down, and it speaks for 140 s");
}

#[test]
fn a_gap_is_unknown_even_where_the_result_before_would_still_speak() {
    let points = [(0, State::Up, 1), (180, State::Up, 1)];
    let bar = bar_text(&points, &[(at(60), at(130))]);
    assert_eq!(&bar[..6], "u??uuu");
}

#[test]
fn a_minute_that_was_silent_for_longer_than_not_is_unknown_unless_it_was_worse() {
    let often = Monitor { interval_ms: 1_000, timeout_ms: 1_000, ..subject() };
    let shown = |seconds: &[i64], state| {
        let points: Vec<_> = seconds.iter().map(|s| point(*s, state, 1)).collect();
        bar(&often, &points, &[], at(3_600)).states[0]
    };
    // A result speaks for 13 s.
    assert_eq!(shown(&[0, 13, 26], State::Up), Shown::Up);
    assert_eq!(shown(&[0, 13], State::Up), Shown::Unknown);
    assert_eq!(shown(&[0, 13], State::Down), Shown::Down);
    assert_eq!(shown(&[50], State::Up), Shown::Up, "it was made ten seconds before the minute ended");
}

#[test]
fn the_bar_says_which_minutes_were_heard_of_later() {
    let buffered = Point { delivery: Delivery::Buffered, ..point(660, State::Up, 1) };
    let late = Point { delivery: Delivery::Late, ..point(725, State::Up, 2) };
    let points = [point(600, State::Up, 1), buffered, point(661, State::Up, 1), late];
    let bar = bar(&subject(), &points, &[], at(3600));
    let told: Vec<_> = (0..SLOTS).filter(|slot| bar.buffered[*slot]).collect();
    assert_eq!(told, [11, 12]);
}
