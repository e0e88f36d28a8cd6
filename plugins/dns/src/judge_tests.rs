//! The verdict over answers that were made up.

use sdk::{Failure, State, Stop};
use serde_json::{Value, json};

use super::*;

fn facts(rcode: u16, records: &[&str]) -> Facts {
    Facts {
        rcode,
        authoritative: false,
        authenticated: false,
        security: None,
        records: records.iter().zip(100..).map(|(data, ttl)| ((*data).to_owned(), ttl)).collect(),
        sections: Vec::new(),
        serials: Vec::new(),
        server: "192.0.2.53:53".into(),
        transport: Transport::Udp,
        elapsed_us: 2500,
    }
}

fn read(options: Value) -> Config {
    let mut config = json!({"query_name": "shop.test"});
    config.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

fn check(options: Value, facts: &Facts, state: State, code: &str, summary: &str) -> Outcome {
    let config = read(options);
    let expectations = Expectations::read(&config).unwrap_or_else(|stop| panic!("{stop:?}"));
    let outcome = judge(&config, &expectations, facts);
    assert_eq!((outcome.state, outcome.code.as_str(), outcome.summary.as_str()), (state, code, summary));
    outcome
}

#[test]
fn an_answer_with_records_is_up_and_measured() {
    let two = facts(0, &["192.0.2.1", "192.0.2.2"]);
    let outcome = check(json!({}), &two, State::Up, "ok", "shop.test A: 192.0.2.1, 192.0.2.2");
    let metrics: Vec<_> = outcome.metrics.iter().map(|metric| (metric.name.as_str(), metric.value)).collect();
    assert_eq!(metrics, [("dns.ttl", 100.0), ("dns.lookup_time", 0.0025), ("dns.answers", 2.0)]);
}

#[test]
fn an_answer_without_records_is_down_unless_none_are_wanted() {
    let summary = "shop.test A: 0 records, expected at least 1";
    check(json!({}), &facts(0, &[]), State::Down, "dns.min_answers", summary);
    check(json!({"min_answers": 0}), &facts(0, &[]), State::Up, "ok", "shop.test A: no records");
}

#[test]
fn the_response_code_must_be_a_valid_one() {
    let summary = "shop.test A: NXDOMAIN from 192.0.2.53:53";
    check(json!({}), &facts(3, &[]), State::Down, "dns.nxdomain", summary);
    let gone = json!({"valid_rcodes": ["NXDOMAIN"]});
    check(gone.clone(), &facts(3, &[]), State::Up, "ok", "shop.test A: NXDOMAIN");
    let summary = "shop.test A: NOERROR from 192.0.2.53:53";
    check(gone, &facts(0, &["192.0.2.1"]), State::Down, "dns.noerror", summary);
    check(json!({}), &facts(2, &[]), State::Down, "dns.servfail", "shop.test A: SERVFAIL from 192.0.2.53:53");
}

#[test]
fn expected_records_are_compared_in_three_ways() {
    let two = facts(0, &["192.0.2.1", "192.0.2.2"]);
    for (how, wanted, passed) in [
        ("any", json!(["192.0.2.1", "192.0.2.9"]), true),
        ("any", json!(["192.0.2.9"]), false),
        ("all", json!(["192.0.2.1"]), true),
        ("all", json!(["192.0.2.1", "192.0.2.9"]), false),
        ("exact_set", json!(["192.0.2.2", "192.0.2.1"]), true),
        ("exact_set", json!(["192.0.2.0/30"]), true),
        ("exact_set", json!(["192.0.2.1"]), false),
        ("exact_set", json!(["192.0.2.1", "192.0.2.2", "192.0.2.9"]), false),
    ] {
        let config = read(json!({"match": how, "expected": wanted}));
        let expectations = Expectations::read(&config).unwrap_or_else(|stop| panic!("{stop:?}"));
        let outcome = judge(&config, &expectations, &two);
        assert_eq!(outcome.state == State::Up, passed, "{how} {wanted}: {}", outcome.summary);
        assert_eq!(outcome.code, if passed { "ok" } else { "dns.expected" });
    }
}

#[test]
fn a_record_that_must_not_be_there_is_named() {
    let options = json!({"not_expected": ["192.0.2.0/24"]});
    let summary = "shop.test A: 192.0.2.1 is there";
    check(options.clone(), &facts(0, &["192.0.2.1"]), State::Down, "dns.not_expected", summary);
    check(options, &facts(0, &["198.51.100.1"]), State::Up, "ok", "shop.test A: 198.51.100.1");
}

#[test]
fn an_authority_can_be_demanded() {
    let mut answer = facts(0, &["192.0.2.1"]);
    let summary = "shop.test A: 192.0.2.53:53 is not an authority for it";
    check(json!({"authoritative": true}), &answer, State::Down, "dns.authoritative", summary);
    answer.authoritative = true;
    check(json!({"authoritative": true}), &answer, State::Up, "ok", "shop.test A: 192.0.2.1");
}

#[test]
fn signatures_are_told_apart() {
    let mut answer = facts(0, &["192.0.2.1"]);
    let summary = "shop.test A: 192.0.2.53:53 has not validated the answer";
    check(json!({"dnssec": "require_ad"}), &answer, State::Down, "dns.not_authenticated", summary);
    answer.authenticated = true;
    check(json!({"dnssec": "require_ad"}), &answer, State::Up, "ok", "shop.test A: 192.0.2.1");
    for (security, state, code, summary) in [
        (Security::Secure, State::Up, "ok", "shop.test A: 192.0.2.1"),
        (Security::Insecure, State::Down, "dns.insecure", "shop.test A: the answer is insecure: why"),
        (Security::Bogus, State::Down, "dns.bogus", "shop.test A: the answer is bogus: why"),
        (
            Security::Indeterminate,
            State::Down,
            "dns.indeterminate",
            "shop.test A: the answer is indeterminate: why",
        ),
    ] {
        answer.security = Some((security, "why".into()));
        check(json!({"dnssec": "validate"}), &answer, state, code, summary);
    }
}

#[test]
fn times_to_live_stay_within_their_bounds() {
    // 100 and 101 seconds.
    let two = facts(0, &["192.0.2.1", "192.0.2.2"]);
    let fine = "shop.test A: 192.0.2.1, 192.0.2.2";
    check(json!({"min_ttl": 100, "max_ttl": 101}), &two, State::Up, "ok", fine);
    let summary = "shop.test A: a time to live of 100 s, expected at least 101 s";
    check(json!({"min_ttl": 101}), &two, State::Down, "dns.ttl", summary);
    let summary = "shop.test A: a time to live of 101 s, expected at most 100 s";
    check(json!({"max_ttl": 100}), &two, State::Down, "dns.ttl", summary);
}

#[test]
fn a_section_must_match_or_must_not() {
    for (option, wanted, record, passed, wrong) in [
        ("answer_matches", true, Some("shop.test. 60 IN A 192.0.2.1"), true, ""),
        ("answer_matches", true, None, false, "no record matches one of `a`, `b`"),
        ("additional_not_matches", false, None, true, ""),
        (
            "additional_not_matches",
            false,
            Some("ns. 60 IN A 192.0.2.2"),
            false,
            "ns. 60 IN A 192.0.2.2 matches one of `a`, `b`",
        ),
    ] {
        let texts = vec!["a".into(), "b".into()];
        let matched = sections::Matched { option, wanted, texts, record: record.map(Into::into) };
        let answer = Facts { sections: vec![matched], ..facts(0, &["192.0.2.1"]) };
        let (state, code, summary) = match passed {
            true => (State::Up, "ok".to_owned(), "shop.test A: 192.0.2.1".to_owned()),
            false => (State::Down, format!("dns.{option}"), format!("shop.test A: {wrong}")),
        };
        check(json!({}), &answer, state, &code, &summary);
    }
}

#[test]
fn serials_must_be_equal_on_all_servers() {
    let serial = |server: &str, number| Serial { server: server.into(), number };
    let with = |serials| Facts { serials, ..facts(0, &["192.0.2.1"]) };
    let equal = with(vec![serial("ns1", Some(7)), serial("ns2", Some(7))]);
    let outcome = check(json!({}), &equal, State::Up, "ok", "shop.test A: 192.0.2.1");
    assert!(outcome.metrics.iter().any(|metric| metric.name == "dns.serial" && metric.value == 7.0));
    let differ = with(vec![serial("ns1", Some(7)), serial("ns2", Some(6))]);
    let summary = "shop.test A: serials differ: 7 on ns1, 6 on ns2";
    check(json!({}), &differ, State::Down, "dns.serial", summary);
    let mute = with(vec![serial("ns1", None)]);
    check(json!({}), &mute, State::Down, "dns.serial", "shop.test A: serials differ: none on ns1");
    let soa = Facts {
        serials: vec![serial("ns1", Some(8))],
        ..facts(0, &["ns1.shop.test. root.shop.test. 7 1 1 1 1"])
    };
    let summary = "shop.test SOA: serials differ: 7 on 192.0.2.53:53, 8 on ns1";
    check(json!({"query_type": "SOA"}), &soa, State::Down, "dns.serial", summary);
}

#[test]
fn a_mistake_in_a_list_names_the_item() {
    let config = read(json!({"expected": ["192.0.2.1", "shop"]}));
    let Err(Stop::Failure(Failure::InvalidConfig(mistakes))) = Expectations::read(&config) else { panic!() };
    assert_eq!(mistakes[0].at, "/expected/1");
}
