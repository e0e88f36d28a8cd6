//! One test per trap: what a standby says, and the verdict.

use sdk::{Failure, State};

use super::*;
use crate::config::tests::config;

/// A standby of an idle primary: streaming, everything replayed, the last commit an hour old.
pub(crate) fn idle() -> Sample {
    Sample {
        at: 1000.0,
        in_recovery: true,
        received: Some(5000),
        replayed: Some(5000),
        paused: false,
        commit_age: Some(3600.0),
        receiver_timeout: 60.0,
        receiver: Some(receiver()),
    }
}

fn receiver() -> Receiver {
    Receiver {
        pid: "77".into(),
        status: Some("streaming".into()),
        silence: Some(3.0),
        is_fresh: false,
        ahead: Some(-0.001),
        timeline: Some(1),
    }
}

fn facts(samples: &[Sample]) -> Facts {
    Facts { role: "picket".into(), samples: samples.to_vec() }
}

/// The same sample, a quarter of a second later each time, with these positions replayed.
fn replaying(received: u64, replayed: &[u64], commit_age: Option<f64>) -> Vec<Sample> {
    let at = |index: usize| 1000.0 + 0.25 * index as f64;
    let each = replayed.iter().enumerate();
    each.map(|(index, replayed)| Sample {
        at: at(index),
        received: Some(received),
        replayed: Some(*replayed),
        commit_age,
        ..idle()
    })
    .collect()
}

#[track_caller]
fn check(options: &str, samples: &[Sample], state: State, code: &str) -> Outcome {
    let outcome = judge(&config(options), &facts(samples)).unwrap();
    assert_eq!((outcome.state, outcome.code.as_str()), (state, code), "{}", outcome.summary);
    outcome
}

fn metric(outcome: &Outcome, name: &str) -> Option<f64> {
    outcome.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
}

#[test]
fn trap_1_an_idle_primary_makes_no_lag() {
    let outcome = check("{}", &[idle()], State::Up, "ok");
    assert_eq!(outcome.summary, "the standby is 0.0 s and 0 B behind");
    assert_eq!(metric(&outcome, "postgres.lag"), Some(0.0));
}

#[test]
fn trap_2_a_cut_link_is_down_though_everything_received_is_replayed() {
    let outcome = check("{}", &[Sample { receiver: None, ..idle() }], State::Down, "postgres.not_streaming");
    assert_eq!(outcome.summary, "not streaming: no receiver runs");
    let waiting = Receiver { status: Some("waiting".into()), ..receiver() };
    check("{}", &[Sample { receiver: Some(waiting), ..idle() }], State::Down, "postgres.not_streaming");
    let silent = Receiver { silence: Some(36.0), ..receiver() };
    check("{}", &[Sample { receiver: Some(silent), ..idle() }], State::Down, "postgres.not_streaming");
    let unheard = Receiver { silence: None, ..receiver() };
    check("{}", &[Sample { receiver: Some(unheard), ..idle() }], State::Down, "postgres.not_streaming");
}

#[test]
fn trap_3_a_promoted_standby_is_down() {
    let promoted = Sample { in_recovery: false, receiver: None, ..idle() };
    let outcome = check("{}", std::slice::from_ref(&promoted), State::Down, "postgres.role");
    assert!(outcome.summary.contains("promoted"));
    check(r#"{"expect_role": "any"}"#, std::slice::from_ref(&promoted), State::Up, "ok");
    check(r#"{"expect_role": "primary"}"#, &[promoted], State::Up, "ok");
    check(r#"{"expect_role": "primary"}"#, &[idle()], State::Down, "postgres.role");
}

#[test]
fn trap_4_paused_replay_is_degraded_and_down_once_it_lags() {
    let paused = Sample { paused: true, ..idle() };
    check("{}", std::slice::from_ref(&paused), State::Degraded, "postgres.replay_paused");
    let behind = Sample { received: Some(9000), commit_age: Some(40.0), ..paused.clone() };
    check("{}", &[behind], State::Degraded, "postgres.replay_paused");
    let late = Sample { received: Some(9000), commit_age: Some(61.0), ..paused };
    check("{}", &[late], State::Down, "postgres.lag");
}

#[test]
fn trap_5_hidden_columns_are_missing_rights_and_never_zero() {
    let hidden = Receiver { status: None, silence: None, ahead: None, is_fresh: false, ..receiver() };
    let Err(Stop::Failure(Failure::Permission(text))) =
        judge(&config("{}"), &facts(&[Sample { receiver: Some(hidden), ..idle() }]))
    else {
        panic!()
    };
    assert!(text.contains("GRANT pg_monitor TO \"picket\""), "{text}");
}

#[test]
fn trap_6_clocks_that_differ_are_clamped_and_reported() {
    let samples = replaying(9000, &[5000], Some(-4.0));
    let outcome = check("{}", &samples, State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.lag"), Some(0.0));
    assert_eq!(metric(&outcome, "postgres.clock_skew"), Some(4.0));
    let ahead = Receiver { ahead: Some(2.5), silence: Some(-0.1), ..receiver() };
    let outcome = check("{}", &[Sample { receiver: Some(ahead), ..idle() }], State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.clock_skew"), Some(2.5));
    assert_eq!(metric(&outcome, "postgres.receiver_silence"), Some(0.0));
}

#[test]
fn trap_7_a_replay_that_does_not_come_along_lags_by_the_age_of_its_last_commit() {
    let stuck = |age| replaying(9000, &[5000, 5000, 5001, 5001, 5002], Some(age));
    check("{}", &stuck(5.0), State::Up, "ok");
    check("{}", &stuck(31.0), State::Degraded, "postgres.lag");
    let outcome = check("{}", &stuck(61.0), State::Down, "postgres.lag");
    assert!(outcome.attributes.contains(&("lag.measured_by".into(), pace::BY_COMMIT.into())));
    let warn = outcome.findings.iter().find(|finding| finding.id == "warn").unwrap();
    assert!(warn.actual.ends_with("the time is the age of the last replayed commit"), "{}", warn.actual);
    check("{}", &replaying(40 << 20, &[0; 5], Some(1.0)), State::Degraded, "postgres.lag");
}

#[test]
fn trap_10_a_standby_that_an_archive_feeds_must_be_allowed() {
    let fed = Sample { receiver: None, received: None, commit_age: Some(20.0), ..idle() };
    check("{}", std::slice::from_ref(&fed), State::Down, "postgres.not_streaming");
    let outcome = check(r#"{"allow_no_receiver": true}"#, std::slice::from_ref(&fed), State::Up, "ok");
    assert_eq!(
        (metric(&outcome, "postgres.lag"), metric(&outcome, "postgres.lag_bytes")),
        (Some(20.0), None)
    );
    let late = Sample { commit_age: Some(90.0), ..fed };
    check(r#"{"allow_no_receiver": true}"#, &[late], State::Down, "postgres.lag");
}

#[test]
fn trap_11_an_idle_receiver_may_be_silent_for_half_of_its_timeout() {
    let quiet =
        |silence| Sample { receiver: Some(Receiver { silence: Some(silence), ..receiver() }), ..idle() };
    check("{}", &[quiet(34.0)], State::Up, "ok");
    check("{}", &[Sample { receiver_timeout: 10.0, ..quiet(11.0) }], State::Down, "postgres.not_streaming");
    check("{}", &[Sample { receiver_timeout: 0.0, ..quiet(34.0) }], State::Up, "ok");
    check(r#"{"max_receiver_silence": "2s"}"#, &[quiet(2.5)], State::Down, "postgres.not_streaming");
}

#[test]
fn trap_13_a_long_transaction_on_the_primary_is_no_lag() {
    let mut samples = replaying(9000, &[5000, 9000], Some(7200.0));
    samples[1].received = Some(9500);
    let outcome = check("{}", &samples, State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.lag"), Some(0.25));
    assert!(outcome.attributes.contains(&("lag.measured_by".into(), pace::REACHED.into())));
    assert!(!is_settled(&samples[..1]));
    assert!(is_settled(&samples));
    // Some seconds behind, and coming along.
    let behind = replaying(9000, &[5000, 5250, 5500, 5750, 6000], Some(7200.0));
    let outcome = check("{}", &behind, State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.lag"), Some(4.0));
    assert!(outcome.attributes.contains(&("lag.measured_by".into(), pace::BY_PACE.into())));
}

#[test]
fn trap_14_a_receiver_that_starts_again_and_again_is_not_streaming() {
    let fresh = |pid: &str| Sample {
        receiver: Some(Receiver { pid: pid.into(), is_fresh: true, silence: Some(0.01), ..receiver() }),
        ..idle()
    };
    assert!(!is_settled(&[fresh("1")]));
    check("{}", &[fresh("1")], State::Down, "postgres.not_streaming");
    check("{}", &[fresh("1"), fresh("2")], State::Down, "postgres.not_streaming");
    check("{}", &[fresh("1"), Sample { receiver: None, ..idle() }], State::Down, "postgres.not_streaming");
    check("{}", &[fresh("1"), fresh("1")], State::Up, "ok");
    assert!(is_settled(&[fresh("1"), fresh("1")]));
}

#[test]
fn trap_17_what_was_never_replayed_or_received_is_unknown() {
    let outcome = check("{}", &replaying(9000, &[5000; 5], None), State::Up, "ok");
    assert_eq!(metric(&outcome, "postgres.lag"), None);
    assert_eq!(metric(&outcome, "postgres.lag_bytes"), Some(4000.0));
    check("{}", &[Sample { commit_age: None, ..idle() }], State::Up, "ok");
    let nothing = Sample { receiver: None, received: None, commit_age: None, ..idle() };
    check(r#"{"allow_no_receiver": true}"#, &[nothing], State::Degraded, "postgres.lag_unknown");
    // Fed from an archive beyond what was ever streamed.
    check("{}", &[Sample { received: Some(10), ..idle() }], State::Up, "ok");
}

#[test]
fn an_answer_is_read_column_by_column() {
    let row = |text: &str| -> Row {
        text.split('|').map(|field| (!field.is_empty()).then(|| field.to_owned())).collect()
    };
    let found = sample(&row("1000|t|5000|5000|f|3600|60000|77|streaming|3|f|-0.001|1")).unwrap();
    assert_eq!(found, idle());
    let primary = sample(&row("1000|f|||||||||||")).unwrap();
    assert!(!primary.in_recovery && primary.receiver.is_none() && primary.received.is_none());
    assert_eq!(sample(&row("1000")), None);
}
