//! One test per trap: what the two ends say, and the verdict.

use sdk::State;

use super::*;
use crate::config::tests::config;
use crate::replica::Receiver;
use crate::replica::tests::idle;

/// Idle, asked at our second 10. The primary's clock says 5000 then, the standby's 3 s more.
fn pair() -> Facts {
    let server = |in_recovery| Server { in_recovery, system: "7".into(), timeline: 1 };
    Facts {
        role: "picket".into(),
        primary: server(false),
        standby: server(true),
        are_swapped: false,
        goal: Some(Position { written: 9000, at: 10.0, clock: 5000.0 }),
        looks: vec![(10.1, standby(9000, 3600.0))],
        written: None,
    }
}

/// What the standby says at our second 10.1; its last commit is that old by the primary's clock.
fn standby(replayed: u64, commit_age: f64) -> Sample {
    let at = 5003.1;
    Sample {
        at,
        received: Some(replayed),
        replayed: Some(replayed),
        commit_age: Some(commit_age + 3.0),
        ..idle()
    }
}

#[track_caller]
fn check(options: &str, facts: &Facts, state: State, code: &str) -> Outcome {
    let mut object: serde_json::Value = serde_json::from_str(options).unwrap();
    object["mode"] = "pair".into();
    object["primary"] = serde_json::json!({"host": "a"});
    object["standby"] = serde_json::json!({"host": "b"});
    let outcome = judge(&config(&object.to_string()), facts).unwrap();
    assert_eq!((outcome.state, outcome.code.as_str()), (state, code), "{}", outcome.summary);
    outcome
}

fn metric(outcome: &Outcome, name: &str) -> Option<f64> {
    outcome.metrics.iter().find(|metric| metric.name == name).map(|metric| (metric.value * 1e3).round() / 1e3)
}

#[test]
fn trap_1_an_idle_pair_has_no_lag() {
    let outcome = check("{}", &pair(), State::Up, "ok");
    assert_eq!(
        (metric(&outcome, "postgres.lag"), metric(&outcome, "postgres.lag_bytes")),
        (Some(0.0), Some(0.0))
    );
}

#[test]
fn trap_2_a_cut_link_is_degraded_while_nothing_is_missing_and_down_once_something_is() {
    let cut = |replayed| Sample { receiver: None, received: Some(9000), ..standby(replayed, 90.0) };
    let idle = Facts { looks: vec![(10.1, cut(9000))], ..pair() };
    check("{}", &idle, State::Degraded, "postgres.not_streaming");
    check(r#"{"allow_no_receiver": true}"#, &idle, State::Up, "ok");
    let missing = Facts { looks: vec![(10.1, cut(8000)), (10.35, cut(8000))], ..pair() };
    let outcome = check("{}", &missing, State::Down, "postgres.lag");
    assert_eq!(metric(&outcome, "postgres.lag_bytes"), Some(1000.0));
}

#[test]
fn trap_6_the_standby_s_clock_has_no_say() {
    // The last commit is 20 s old by the primary's clock, whatever the standby's says.
    for ahead in [-100.0, 0.0, 100.0] {
        let sample = Sample { at: 5000.1 + ahead, commit_age: Some(20.0 + ahead), ..standby(8000, 0.0) };
        let outcome = check("{}", &Facts { looks: vec![(10.1, sample)], ..pair() }, State::Up, "ok");
        assert_eq!(metric(&outcome, "postgres.lag"), Some(20.0));
        assert_eq!(metric(&outcome, "postgres.clock_skew"), Some(ahead.abs()));
    }
}

#[test]
fn trap_9_there_is_exactly_one_primary() {
    let roles = |primary, standby| {
        let mut facts = Facts { goal: None, looks: Vec::new(), ..pair() };
        (facts.primary.in_recovery, facts.standby.in_recovery) = (primary, standby);
        facts
    };
    check("{}", &roles(true, true), State::Down, "postgres.no_primary");
    check("{}", &roles(false, false), State::Down, "postgres.two_primaries");
    check("{}", &roles(true, false), State::Down, "postgres.role");
    check(r#"{"expect_role": "any"}"#, &roles(true, true), State::Down, "postgres.no_primary");
    check(r#"{"expect_role": "any"}"#, &Facts { are_swapped: true, ..pair() }, State::Up, "ok");
}

#[test]
fn trap_13_what_is_reached_while_we_look_lags_by_our_own_clock() {
    let facts = Facts { looks: vec![(10.1, standby(8000, 7200.0)), (10.4, standby(9000, 7200.0))], ..pair() };
    let outcome = check("{}", &facts, State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.lag"), Some(0.4));
    let along = Facts { looks: vec![(10.0, standby(8000, 7200.0)), (11.0, standby(8100, 7200.0))], ..pair() };
    let outcome = check("{}", &along, State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.lag"), Some(10.0));
}

#[test]
fn trap_15_a_standby_on_another_timeline_follows_another_primary() {
    let on = |timeline| {
        let receiver = Receiver { timeline: Some(timeline), ..idle().receiver.unwrap() };
        Facts { looks: vec![(10.1, Sample { receiver: Some(receiver), ..standby(9000, 1.0) })], ..pair() }
    };
    check("{}", &on(1), State::Up, "ok");
    let outcome = check("{}", &on(2), State::Down, "postgres.timeline");
    assert!(outcome.summary.contains("follows another primary"), "{}", outcome.summary);
    let mut promoted = on(1);
    promoted.primary.timeline = 2;
    let outcome = check("{}", &promoted, State::Down, "postgres.timeline");
    assert!(outcome.summary.contains("has not followed"), "{}", outcome.summary);

    // Without a receiver what is noted may be old, but never from the future.
    let mut fed = Facts { looks: vec![(10.1, Sample { receiver: None, ..standby(9000, 1.0) })], ..pair() };
    fed.primary.timeline = 2;
    check(r#"{"allow_no_receiver": true}"#, &fed, State::Up, "ok");
    fed.standby.timeline = 3;
    check(r#"{"allow_no_receiver": true}"#, &fed, State::Down, "postgres.timeline");
}

#[test]
fn trap_15_a_standby_ahead_of_its_primary_has_followed_another() {
    let ahead = |written| Facts { looks: vec![(10.1, standby(9500, 1.0))], written: Some(written), ..pair() };
    check("{}", &ahead(9500), State::Up, "ok");
    check("{}", &ahead(9499), State::Down, "postgres.diverged");
}

#[test]
fn a_standby_of_another_cluster_is_no_standby() {
    let mut other = pair();
    other.standby.system = "8".into();
    check("{}", &other, State::Down, "postgres.other_cluster");
}

#[test]
fn bytes_are_counted_from_the_primary_s_position() {
    let facts = Facts { looks: vec![(10.1, standby(8000, 1.0))], ..pair() };
    let outcome = check(r#"{"warn_bytes": 999}"#, &facts, State::Degraded, "postgres.lag");
    assert_eq!(metric(&outcome, "postgres.lag_bytes"), Some(1000.0));
    check(r#"{"warn_bytes": 100, "critical_bytes": 999}"#, &facts, State::Down, "postgres.lag");
    check(r#"{"warn_bytes": 999, "combine": "all"}"#, &facts, State::Up, "ok");
}

#[test]
fn an_answer_is_read_column_by_column() {
    let row = |text: &str| -> Row {
        text.split('|').map(|field| (!field.is_empty()).then(|| field.to_owned())).collect()
    };
    let primary = Server { in_recovery: false, system: "71".into(), timeline: 26 };
    assert_eq!(server(&row("f|71|0000001A|3")), Some(primary));
    assert_eq!(server(&row("t|71||3")).unwrap().timeline, 3);
    assert_eq!(server(&row("t")), None);
}
