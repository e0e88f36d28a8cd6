//! What a configuration cannot mean, and what it means.

use super::*;

/// A configuration of these options, host and user filled in.
pub(crate) fn config(json: &str) -> Config {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
    if !["host", "dsn", "primary", "standby"].iter().any(|key| object.contains_key(*key)) {
        object.insert("host".into(), "db.test".into());
    }
    object.entry("user").or_insert("picket".into());
    serde_json::from_value(object.into()).unwrap()
}

#[track_caller]
fn check_mistake(json: &str, at: &str, message: &str) {
    let Err(Stop::Failure(Failure::InvalidConfig(mistakes))) = config(json).ends() else { panic!() };
    assert_eq!(mistakes[0].at, at, "{}", mistakes[0].message);
    assert!(mistakes[0].message.contains(message), "{}", mistakes[0].message);
}

#[test]
fn what_cannot_be_meant_is_a_mistake_that_says_what_to_write() {
    check_mistake(
        r#"{"critical_seconds": 10}"#,
        "/critical_seconds",
        "10 is below warn_seconds, which is 30",
    );
    check_mistake(r#"{"critical_bytes": 10}"#, "/critical_bytes", "10 is below warn_bytes");
    check_mistake(
        r#"{"mode": "pair", "primary": {"host": "a"}, "standby": {"host": "b"}, "expect_role": "standby"}"#,
        "/expect_role",
        "write any",
    );
}

#[test]
fn bytes_that_a_slot_keeps_back_have_no_bound_unless_one_is_set() {
    assert_eq!(config("{}").warn_bytes(), Some(16 << 20));
    assert_eq!(config(r#"{"mode": "slots"}"#).warn_bytes(), None);
    assert!(config(r#"{"mode": "slots", "critical_bytes": 10}"#).ends().is_ok());
}

#[test]
fn a_password_in_the_open_is_refused() {
    let object = serde_json::json!({"host": "db.test", "user": "picket", "password": "hunter2"});
    assert!(serde_json::from_value::<Config>(object).is_err());
}

#[test]
fn silence_is_measured_against_half_of_the_server_s_own_timeout() {
    assert_eq!(config("{}").silence_bound(60.0), 35.0);
    assert_eq!(config("{}").silence_bound(10.0), 10.0);
    assert_eq!(config("{}").silence_bound(0.0), 35.0);
    assert_eq!(config(r#"{"max_receiver_silence": "2s"}"#).silence_bound(60.0), 2.0);
}
