//! What a database says about its subscriptions and logical slots, and the verdict.

use sdk::{Failure, State};

use super::*;
use crate::config::tests::config;
use crate::feed::{Reader, feed, is_first_copy};
use crate::slots::Slot;
use crate::slots::tests::used;

fn following(name: &str) -> Subscription {
    Subscription {
        name: name.into(),
        is_enabled: true,
        pid: Some("77".into()),
        age: Some(3600.0),
        silence: Some(3.0),
        tables: 4,
        copying: 0,
        apply_errors: Some(0.0),
        copy_errors: Some(0.0),
        is_restarting: false,
    }
}

fn feeding(name: &str) -> Feed {
    let reader = Reader { state: Some("streaming".into()), replay_lag: None, silence: Some(2.0) };
    Feed { slot: used(name), behind: Some(0.0), reader: Some(reader) }
}

fn database(subscriptions: Vec<Subscription>, feeds: Vec<Feed>) -> Facts {
    Facts {
        role: "picket".into(),
        database: "shop".into(),
        in_recovery: false,
        receiver_timeout: 60.0,
        sender_timeout: 60.0,
        subscriptions,
        feeds,
    }
}

fn verdict(options: &str, facts: &Facts) -> Result<Outcome, Stop> {
    let mut object: serde_json::Value = serde_json::from_str(options).unwrap();
    object["mode"] = "logical".into();
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

#[track_caller]
fn check_one(subscription: Subscription, state: State, code: &str) -> Outcome {
    check("{}", &database(vec![subscription], vec![]), state, code)
}

fn metric(outcome: &Outcome, name: &str) -> Option<f64> {
    outcome.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
}

#[test]
fn what_follows_and_is_followed_is_up() {
    let outcome = check_one(following("orders"), State::Up, "ok");
    assert_eq!(outcome.summary, "1 subscription follows");
    let outcome = check("{}", &database(vec![], vec![feeding("orders")]), State::Up, "ok");
    assert_eq!(outcome.summary, "1 logical slot is in use");
    assert_eq!(metric(&outcome, "postgres.lag"), Some(0.0));
}

#[test]
fn a_database_without_either_is_down() {
    let outcome = check("{}", &database(vec![], vec![]), State::Down, "postgres.no_subscription");
    assert!(outcome.summary.contains("the database shop") && outcome.summary.contains("dbname"));
    let all = database(vec![following("orders")], vec![]);
    check(r#"{"exclude": ["orders"]}"#, &all, State::Down, "postgres.no_subscription");
}

#[test]
fn a_subscription_that_does_not_follow_is_down() {
    let off = Subscription { is_enabled: false, pid: None, silence: None, ..following("orders") };
    check_one(off, State::Down, "postgres.subscription_disabled");
    let failing = Subscription { pid: None, silence: None, apply_errors: Some(3.0), ..following("orders") };
    let outcome = check_one(failing, State::Down, "postgres.not_streaming");
    assert!(outcome.summary.contains("no worker runs; 3 errors"), "{}", outcome.summary);
    check_one(
        Subscription { silence: Some(36.0), ..following("orders") },
        State::Down,
        "postgres.not_streaming",
    );
    check_one(Subscription { silence: None, ..following("orders") }, State::Down, "postgres.not_streaming");
}

#[test]
fn a_worker_that_ends_at_the_same_row_again_and_again_does_not_follow() {
    let young = |pid: Option<&str>| Subscription {
        pid: pid.map(Into::into),
        age: Some(0.1),
        silence: Some(0.1),
        ..following("orders")
    };
    let first = vec![young(Some("1"))];
    assert!(first[0].is_young());
    let same = subscriber::later(&first, vec![young(Some("1"))]);
    check_one(same[0].clone(), State::Up, "ok");
    let other = subscriber::later(&same, vec![young(Some("2"))]);
    check_one(other[0].clone(), State::Down, "postgres.not_streaming");
    let again = subscriber::later(&other, vec![young(Some("2"))]);
    check_one(again[0].clone(), State::Down, "postgres.not_streaming");
    let gone = subscriber::later(&first, vec![young(None)]);
    check_one(gone[0].clone(), State::Down, "postgres.not_streaming");
}

#[test]
fn a_table_that_is_still_copied_is_degraded() {
    let outcome = check_one(
        Subscription { copying: 1, ..following("orders") },
        State::Degraded,
        "postgres.tables_copying",
    );
    assert_eq!(outcome.summary, "orders is still copying 1 of 4 tables");
}

#[test]
fn what_is_expected_must_be_there() {
    let one = database(vec![following("orders")], vec![feeding("stock")]);
    check(r#"{"expected_subscriptions": ["orders"], "expected_slots": ["stock"]}"#, &one, State::Up, "ok");
    check(r#"{"expected_subscriptions": ["users"]}"#, &one, State::Down, "postgres.subscription_missing");
    check(r#"{"expected_slots": ["users"]}"#, &one, State::Down, "postgres.slot_missing");
    let unread = Feed { slot: Slot { is_active: false, ..used("stock") }, reader: None, ..feeding("stock") };
    check("{}", &database(vec![], vec![unread.clone()]), State::Degraded, "postgres.slot_inactive");
    check(
        r#"{"expected_slots": ["stock"]}"#,
        &database(vec![], vec![unread]),
        State::Down,
        "postgres.slot_missing",
    );
}

#[test]
fn a_reader_that_lags_or_is_silent_is_held_against_the_bounds() {
    let reading = |behind, replay_lag, silence| {
        let reader = Reader { state: Some("streaming".into()), replay_lag, silence: Some(silence) };
        database(vec![], vec![Feed { behind: Some(behind), reader: Some(reader), ..feeding("orders") }])
    };
    check("{}", &reading(100.0, None, 2.0), State::Up, "ok");
    check("{}", &reading(2e7, None, 2.0), State::Degraded, "postgres.lag");
    check("{}", &reading(100.0, Some(31.0), 2.0), State::Degraded, "postgres.lag");
    check("{}", &reading(100.0, Some(61.0), 2.0), State::Down, "postgres.lag");
    check("{}", &reading(0.0, None, 36.0), State::Down, "postgres.not_streaming");
}

#[test]
fn a_lost_slot_is_down_and_one_for_a_first_copy_is_passed_over() {
    let lost = Slot { status: Some("lost".into()), kept: None, is_active: false, ..used("orders") };
    let lost = Feed { slot: lost, behind: None, reader: None };
    check("{}", &database(vec![], vec![lost]), State::Down, "postgres.slot_lost");
    let copy =
        Feed { slot: Slot { is_active: false, ..used("pg_16394_sync_16385_7264123456") }, ..feeding("x") };
    check("{}", &database(vec![], vec![feeding("orders"), copy]), State::Up, "ok");
    assert!(!is_first_copy("pg_mine_sync_of_things") && !is_first_copy("orders"));
}

#[test]
fn trap_18_hidden_columns_are_missing_rights() {
    let reader = Some(Reader { state: None, replay_lag: None, silence: None });
    let facts = database(vec![], vec![Feed { reader, ..feeding("orders") }]);
    let Err(Stop::Failure(Failure::Permission(text))) = verdict("{}", &facts) else { panic!() };
    assert!(text.contains("pg_stat_replication"), "{text}");
}

#[test]
fn an_answer_is_read_row_by_row() {
    let row = |text: &str| -> Row {
        text.split('|').map(|field| (!field.is_empty()).then(|| field.to_owned())).collect()
    };
    assert_eq!(subscriber::subscription(&row("orders|t|77|3600|3|4|0|0|0")), Some(following("orders")));
    let off = subscriber::subscription(&row("orders|f|||||0||")).unwrap();
    assert!(!off.is_enabled && off.pid.is_none() && off.apply_errors.is_none());
    assert_eq!(feed(&row("orders|f|t|2048|reserved|||||0|12|streaming||2")), Some(feeding("orders")));
    assert_eq!(feed(&row("orders|f|f|||||||0|||||")).unwrap().reader, None);
    let found = server(&row("f|60000|60000"), "picket", "shop").unwrap();
    assert_eq!(found, database(vec![], vec![]));
}
