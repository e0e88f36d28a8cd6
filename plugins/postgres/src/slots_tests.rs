//! What a server says about its slots, and the verdict.

use sdk::State;

use super::*;
use crate::config::tests::config;

pub(crate) fn used(name: &str) -> Slot {
    Slot {
        name: name.into(),
        is_temporary: false,
        is_active: true,
        kept: Some(2048.0),
        status: Some("reserved".into()),
        safe: None,
        invalid: None,
        is_synced: false,
        unused: None,
    }
}

#[track_caller]
fn check(options: &str, slots: &[Slot], state: State, code: &str) -> Outcome {
    let mut object: serde_json::Value = serde_json::from_str(options).unwrap();
    object["mode"] = "slots".into();
    let config = config(&object.to_string());
    let facts = Facts { in_recovery: false, slots: slots.to_vec() };
    // As if the host had found these names.
    let excluded = config.exclude.iter().cloned().collect();
    let outcome = judge(&config, &excluded, &facts).or_else(Stop::verdict).unwrap();
    assert_eq!((outcome.state, outcome.code.as_str()), (state, code), "{}", outcome.summary);
    outcome
}

fn metric(outcome: &Outcome, name: &str) -> Option<f64> {
    outcome.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
}

#[test]
fn slots_in_use_are_up_and_no_slot_is_too() {
    let outcome = check("{}", &[used("a"), used("b")], State::Up, "ok");
    assert_eq!(outcome.summary, "2 slots, all in use, keep at most 2.0 KiB");
    assert_eq!(metric(&outcome, "postgres.slot_kept"), Some(2048.0));
    check("{}", &[], State::Up, "ok");
}

#[test]
fn a_slot_that_nobody_uses_is_degraded_and_down_where_it_is_expected() {
    let left = Slot { is_active: false, unused: Some(90.0), ..used("b") };
    let outcome = check("{}", &[used("a"), left.clone()], State::Degraded, "postgres.slot_inactive");
    assert_eq!(outcome.summary, "not in use: b (inactive for 90 s, keeps 2.0 KiB, reserved)");
    assert_eq!(metric(&outcome, "postgres.slots_inactive"), Some(1.0));
    let b = r#"{"expected_slots": ["b"]}"#;
    check(b, std::slice::from_ref(&left), State::Down, "postgres.slot_missing");
    check(b, &[], State::Down, "postgres.slot_missing");
    check(b, &[used("b")], State::Up, "ok");
    check(r#"{"exclude": ["b"]}"#, &[used("a"), left], State::Up, "ok");
}

#[test]
fn a_slot_about_to_be_lost_is_degraded_and_a_lost_one_down() {
    let unreserved = Slot { status: Some("unreserved".into()), safe: Some(-1.0), ..used("a") };
    let outcome = check("{}", &[unreserved], State::Degraded, "postgres.slot_unreserved");
    assert_eq!(metric(&outcome, "postgres.slot_safe"), Some(-1.0));
    let lost = Slot { status: Some("lost".into()), kept: None, is_active: false, ..used("a") };
    let outcome = check("{}", std::slice::from_ref(&lost), State::Down, "postgres.slot_lost");
    assert_eq!(metric(&outcome, "postgres.slots_lost"), Some(1.0));
    assert_eq!(metric(&outcome, "postgres.slots_inactive"), Some(0.0));
    let invalid = Slot { status: Some("reserved".into()), invalid: Some("rows_removed".into()), ..lost };
    check("{}", &[invalid], State::Down, "postgres.slot_lost");
    check("{}", &[Slot { status: Some("extended".into()), ..used("a") }], State::Up, "ok");
}

#[test]
fn trap_17_a_slot_that_was_never_used_has_no_numbers_and_keeps_nothing() {
    let never = Slot { is_active: false, kept: None, status: None, ..used("a") };
    let outcome = check("{}", &[never], State::Degraded, "postgres.slot_inactive");
    assert!(outcome.summary.contains("was never used"), "{}", outcome.summary);
    assert_eq!(metric(&outcome, "postgres.slot_kept"), None);
}

#[test]
fn what_a_slot_keeps_has_bounds_where_they_are_set() {
    check("{}", &[Slot { kept: Some(1e12), ..used("a") }], State::Up, "ok");
    check(r#"{"warn_bytes": 2047}"#, &[used("a")], State::Degraded, "postgres.slot_kept");
    check(r#"{"warn_bytes": 10, "critical_bytes": 2047}"#, &[used("a")], State::Down, "postgres.slot_kept");
    check(r#"{"critical_bytes": 2048}"#, &[used("a")], State::Up, "ok");
}

#[test]
fn temporary_slots_are_passed_over_and_synced_ones_may_wait() {
    check("{}", &[Slot { is_temporary: true, is_active: false, ..used("pg_basebackup_1") }], State::Up, "ok");
    check("{}", &[Slot { is_synced: true, is_active: false, ..used("a") }], State::Up, "ok");
}

#[test]
fn a_role_is_judged_only_where_one_is_expected() {
    check(r#"{"expect_role": "primary"}"#, &[], State::Up, "ok");
    check(r#"{"expect_role": "standby"}"#, &[], State::Down, "postgres.role");
}

#[test]
fn an_answer_is_read_row_by_row_and_a_question_asks_for_what_the_version_has() {
    let row = |text: &str| -> Row {
        text.split('|').map(|field| (!field.is_empty()).then(|| field.to_owned())).collect()
    };
    let found = facts(&[row("f|a|f|t|2048|reserved||||")]).unwrap();
    assert_eq!(found, Facts { in_recovery: false, slots: vec![used("a")] });
    assert_eq!(facts(&[row("t|||||||||")]).unwrap(), Facts { in_recovery: true, slots: vec![] });
    assert_eq!(slot(&row("never|f|f|||-15728856|||")).unwrap().safe, None);
    assert_eq!(slot(&row("a|f|f|7|unreserved|-15728856|||")).unwrap().safe, Some(-15_728_856.0));
    assert_eq!(facts(&[]), None);

    let asks = |major| columns(Some(major));
    assert!(!asks(12).contains("wal_status") && asks(13).contains("wal_status"));
    assert!(!asks(15).contains("conflicting") && asks(16).contains("conflicting"));
    assert!(!asks(16).contains("inactive_since") && asks(17).contains("invalidation_reason"));
    assert!(!columns(None).contains("wal_status"));
}
