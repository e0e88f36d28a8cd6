//! One test per trap: what a primary says about its standbys, and the verdict.

use sdk::{Failure, State};

use super::*;
use crate::config::tests::config;

fn standby(name: &str) -> Sender {
    Sender {
        pid: "12".into(),
        name: name.into(),
        address: Some("10.0.0.7".into()),
        state: Some("streaming".into()),
        behind: Some(0.0),
        replay_lag: None,
        silence: Some(4.0),
        replied: false,
        is_logical: false,
    }
}

fn primary(senders: Vec<Sender>) -> Facts {
    Facts { role: "picket".into(), upstream: None, sender_timeout: 60.0, senders }
}

fn verdict(options: &str, facts: &Facts) -> Result<Outcome, Stop> {
    let mut object: serde_json::Value = serde_json::from_str(options).unwrap();
    object["mode"] = "primary".into();
    let config = config(&object.to_string());
    // As if the host had found these names.
    judge(&config, &config.exclude.iter().cloned().collect(), facts)
}

#[track_caller]
fn check(options: &str, facts: &Facts, state: State, code: &str) -> Outcome {
    let outcome = verdict(options, facts).or_else(Stop::verdict).unwrap();
    assert_eq!((outcome.state, outcome.code.as_str()), (state, code), "{}", outcome.summary);
    outcome
}

fn metric(outcome: &Outcome, name: &str) -> Option<f64> {
    outcome.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
}

#[test]
fn trap_1_no_lag_in_time_and_no_byte_on_the_way_is_no_lag() {
    let outcome = check("{}", &primary(vec![standby("a")]), State::Up, "ok");
    assert_eq!(outcome.summary, "a is 0.0 s and 0 B behind");
    // The last lag stays for a while after everything was replayed.
    let over = Sender { replay_lag: Some(90.0), ..standby("a") };
    check("{}", &primary(vec![over]), State::Up, "ok");
}

#[test]
fn trap_3_a_primary_that_became_a_standby_is_down_unless_it_cascades_on_purpose() {
    let cascading = Facts { upstream: Some(vec![replica::tests::idle()]), ..primary(vec![standby("a")]) };
    check("{}", &cascading, State::Down, "postgres.role");
    check(r#"{"expect_role": "standby"}"#, &cascading, State::Up, "ok");
    check(r#"{"expect_role": "any"}"#, &cascading, State::Up, "ok");
}

#[test]
fn trap_5_bytes_on_the_way_without_a_lag_in_time_leave_the_time_unknown() {
    let outcome =
        check("{}", &primary(vec![Sender { behind: Some(100.0), ..standby("a") }]), State::Up, "ok");
    assert_eq!(
        (metric(&outcome, "postgres.lag"), metric(&outcome, "postgres.lag_bytes")),
        (None, Some(100.0))
    );
    let far = Sender { behind: Some(2e7), ..standby("a") };
    check("{}", &primary(vec![far]), State::Degraded, "postgres.lag");
}

#[test]
fn trap_5_who_is_excluded_is_not_judged() {
    let slow = Sender { behind: Some(2e7), replay_lag: Some(900.0), ..standby("report-1") };
    let facts = primary(vec![standby("a"), slow]);
    check("{}", &facts, State::Down, "postgres.lag");
    let outcome = check(r#"{"exclude": ["report-1"]}"#, &facts, State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.standbys"), Some(1.0));
}

#[test]
fn trap_6_a_reply_from_the_future_is_a_clock_that_differs() {
    let outcome =
        check("{}", &primary(vec![Sender { silence: Some(-7.0), ..standby("a") }]), State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.clock_skew"), Some(7.0));
    assert_eq!(metric(&outcome, "postgres.receiver_silence"), Some(0.0));
}

#[test]
fn trap_8_standbys_that_must_be_there_are_counted_and_named() {
    check("{}", &primary(vec![]), State::Down, "postgres.min_standbys");
    check(r#"{"min_standbys": 0}"#, &primary(vec![]), State::Up, "ok");
    check(r#"{"min_standbys": 2}"#, &primary(vec![standby("a")]), State::Down, "postgres.min_standbys");
    let both = primary(vec![standby("a"), standby("b")]);
    check(r#"{"min_standbys": 2, "expected_standbys": ["a", "b"]}"#, &both, State::Up, "ok");
    let outcome =
        check(r#"{"expected_standbys": ["a", "c"]}"#, &both, State::Down, "postgres.standby_missing");
    assert_eq!(outcome.summary, "the standby c is missing");
    let outcome = check(r#"{"min_standbys": 0}"#, &both, State::Up, "ok");
    assert_eq!(outcome.summary, "2 standbys, at most 0.0 s and 0 B behind");
}

#[test]
fn trap_12_behind_a_black_hole_only_the_last_reply_ages() {
    let hole = |name: &str| Sender {
        silence: Some(36.0),
        replay_lag: Some(0.1),
        behind: Some(500.0),
        ..standby(name)
    };
    check("{}", &primary(vec![hole("a")]), State::Down, "postgres.min_standbys");
    check("{}", &primary(vec![standby("a"), hole("b")]), State::Degraded, "postgres.standby_not_streaming");
    check(
        r#"{"expected_standbys": ["b"]}"#,
        &primary(vec![standby("a"), hole("b")]),
        State::Down,
        "postgres.standby_missing",
    );
    check(
        r#"{"max_receiver_silence": "3s"}"#,
        &primary(vec![standby("a")]),
        State::Down,
        "postgres.min_standbys",
    );
    check("{}", &Facts { sender_timeout: 0.0, ..primary(vec![standby("a")]) }, State::Up, "ok");
}

#[test]
fn trap_6_a_standby_that_replies_while_we_look_is_heard_whatever_its_clock_says() {
    let before = primary(vec![Sender { silence: Some(90.0), ..standby("a") }]);
    let seen = |silence| {
        let mut later = primary(vec![Sender { silence: Some(silence), ..standby("a") }]);
        later.note_replies(&before, 0.25);
        later
    };
    check("{}", &seen(90.25), State::Down, "postgres.min_standbys");
    let outcome = check("{}", &seen(90.01), State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.clock_skew"), Some(90.01));
    assert_eq!(metric(&outcome, "postgres.receiver_silence"), None);
    // Once heard, it stays heard.
    let mut last = primary(vec![Sender { silence: Some(90.26), ..standby("a") }]);
    last.note_replies(&seen(90.01), 0.25);
    check("{}", &last, State::Up, "ok");
}

#[test]
fn trap_14_a_standby_that_only_starts_does_not_stream() {
    let starting = Sender { state: Some("startup".into()), behind: None, silence: None, ..standby("a") };
    check("{}", &primary(vec![starting.clone()]), State::Down, "postgres.min_standbys");
    check("{}", &primary(vec![standby("b"), starting]), State::Degraded, "postgres.standby_not_streaming");
    let behind =
        Sender { state: Some("catchup".into()), behind: Some(2e7), replay_lag: Some(20.0), ..standby("a") };
    check("{}", &primary(vec![behind]), State::Degraded, "postgres.lag");
}

#[test]
fn trap_15_a_standby_that_feeds_others_is_down_when_it_receives_nothing_itself() {
    let cut = replica::Sample { receiver: None, ..replica::tests::idle() };
    let facts = Facts { upstream: Some(vec![cut]), ..primary(vec![standby("a")]) };
    let outcome = check(r#"{"expect_role": "standby"}"#, &facts, State::Down, "postgres.not_streaming");
    assert_eq!(outcome.summary, "feeds others, but does not stream itself: no receiver runs");
    check(r#"{"expect_role": "standby", "allow_no_receiver": true}"#, &facts, State::Up, "ok");
}

#[test]
fn trap_16_a_logical_subscriber_is_no_standby() {
    let subscriber = Sender { is_logical: true, ..standby("orders") };
    check("{}", &primary(vec![subscriber.clone()]), State::Down, "postgres.min_standbys");
    let outcome = check("{}", &primary(vec![standby("a"), subscriber]), State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.standbys"), Some(1.0));
}

#[test]
fn standbys_of_one_name_are_told_apart_by_their_addresses() {
    let late = Sender {
        replay_lag: Some(31.0),
        behind: Some(9.0),
        address: Some("10.0.0.8".into()),
        ..standby("a")
    };
    let outcome = check("{}", &primary(vec![standby("a"), late]), State::Degraded, "postgres.lag");
    assert_eq!(outcome.summary, "a (10.0.0.8) is 31.0 s and 9 B behind");
}

#[test]
fn trap_16_base_backups_and_archivers_are_no_standbys() {
    let backup = Sender { state: Some("backup".into()), behind: None, ..standby("pg_basebackup") };
    let archiver = Sender { behind: None, replay_lag: Some(0.001), ..standby("pg_receivewal") };
    let late = Sender { state: Some("catchup".into()), ..archiver.clone() };
    let facts = primary(vec![backup.clone(), archiver.clone(), late]);
    check("{}", &facts, State::Down, "postgres.min_standbys");
    let outcome = check("{}", &primary(vec![standby("a"), backup, archiver]), State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.standbys"), Some(1.0));
}

#[test]
fn trap_18_hidden_columns_are_missing_rights() {
    let hidden = Sender { state: None, behind: None, replay_lag: None, silence: None, ..standby("a") };
    let Err(Stop::Failure(Failure::Permission(text))) = verdict("{}", &primary(vec![hidden])) else {
        panic!()
    };
    assert!(text.contains("pg_stat_replication"), "{text}");
}

#[test]
fn a_lag_by_the_primary_s_own_clock_is_held_against_the_bounds() {
    let late =
        |seconds| primary(vec![Sender { behind: Some(10.0), replay_lag: Some(seconds), ..standby("a") }]);
    check("{}", &late(29.0), State::Up, "ok");
    check("{}", &late(31.0), State::Degraded, "postgres.lag");
    check("{}", &late(61.0), State::Down, "postgres.lag");
    check(r#"{"combine": "all"}"#, &late(31.0), State::Up, "ok");
}

#[test]
fn an_answer_is_read_row_by_row() {
    let row = |text: &str| -> Row {
        text.split('|').map(|field| (!field.is_empty()).then(|| field.to_owned())).collect()
    };
    let found = facts(&[row("f|60000|12|a|streaming|0||4|f|10.0.0.7")], "picket").unwrap();
    assert_eq!(found, primary(vec![standby("a")]));
    assert_eq!(facts(&[row("f|60000||||||||")], "picket").unwrap(), primary(vec![]));
    assert_eq!(facts(&[], "picket"), None);
}
