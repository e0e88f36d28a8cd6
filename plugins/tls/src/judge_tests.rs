//! One line per rule: what the handshake showed, and the verdict.

use sdk::State;
use sdk::tls::Revocation as Known;

use crate::facts::Heard;

use super::*;

const DAY: i64 = 86_400;
const NOW: i64 = 1_800_000_000;

fn config(json: &str) -> Config {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
    object.entry("host").or_insert("shop.test".into());
    serde_json::from_value(object.into()).unwrap()
}

fn certificate(subject: &str, issuer: &str, days: i64) -> Certificate {
    Certificate {
        subject: format!("CN={subject}"),
        issuer: format!("CN={issuer}"),
        serial: "01".into(),
        sha256: format!("{subject}/{issuer}"),
        not_before: NOW - 30 * DAY,
        not_after: NOW + days * DAY + 60,
        names: vec![subject.into()],
        spki_sha256: hash(subject),
        signature: "ecdsa-with-SHA256".into(),
        key: ("EC".into(), 256),
        is_ca: false,
    }
}

/// Of the key of a certificate with that subject.
fn hash(subject: &str) -> String {
    subject.bytes().cycle().take(32).map(|byte| format!("{byte:02x}")).collect()
}

fn leaf(days: i64) -> Certificate {
    certificate("shop.test", "intermediate", days)
}

fn intermediate(days: i64) -> Certificate {
    Certificate { is_ca: true, ..certificate("intermediate", "root", days) }
}

fn root(days: i64) -> Certificate {
    Certificate { is_ca: true, ..certificate("root", "root", days) }
}

/// A chain that verifies.
fn good(leaf: Certificate, intermediate: Certificate) -> Facts {
    Facts {
        version: "1.3".into(),
        cipher: "TLS13_AES_128_GCM_SHA256".into(),
        served: vec![leaf.clone(), intermediate.clone()],
        path: vec![leaf, intermediate, root(1000)],
        defects: Vec::new(),
        wants_client_certificate: false,
        heard: Vec::new(),
        handshake: Some(0.01),
    }
}

/// The same chain with defects.
fn bad(served: Vec<Certificate>, defects: &[&str]) -> Facts {
    let defects = defects
        .iter()
        .map(|code| Defect { code: (*code).into(), message: format!("it is {code}") })
        .collect();
    let path = served.clone();
    Facts { served, path, defects, ..good(leaf(90), intermediate(1000)) }
}

fn heard(place: usize, from: &'static str, revocation: Known, named: bool) -> Heard {
    Heard { place, from, revocation, named, denied: false, message: "said".into() }
}

fn check(options: &str, facts: &Facts, state: State, code: &str) -> Outcome {
    let outcome = judge(&config(options), facts, NOW).unwrap();
    assert_eq!((outcome.state, outcome.code.as_str()), (state, code), "{options}: {}", outcome.summary);
    outcome
}

/// The ids of the findings that failed.
fn failed(outcome: &Outcome) -> Vec<&str> {
    outcome.findings.iter().filter(|found| !found.passed).map(|found| found.id.as_str()).collect()
}

#[test]
fn a_good_chain_is_up() {
    let outcome = check("{}", &good(leaf(90), intermediate(1000)), State::Up, "ok");
    assert_eq!(outcome.summary, "shop.test is valid for 90 days, TLS 1.3");
    assert!(failed(&outcome).is_empty(), "{:?}", outcome.findings);
}

#[test]
fn the_first_certificate_to_expire_counts_and_a_root_does_not() {
    let outcome = check("{}", &good(leaf(90), intermediate(10)), State::Degraded, "tls.expiring");
    assert!(
        outcome.summary.starts_with("the certificate of the intermediate intermediate expires in 10 days")
    );
    let days: Vec<i64> = outcome.metrics.iter().take(2).map(|metric| metric.value.floor() as i64).collect();
    assert_eq!(days, [10, 90]);
    let mut facts = good(leaf(90), intermediate(1000));
    facts.path[2] = root(-5);
    check("{}", &facts, State::Up, "ok");
}

#[test]
fn what_is_served_beside_the_path_is_nobodys_concern() {
    let mut facts = good(leaf(90), intermediate(1000));
    facts.served.push(Certificate { is_ca: true, ..certificate("crossed", "old root", -400) });
    check("{}", &facts, State::Up, "ok");
    facts.defects.push(Defect { code: "wrong-name".into(), message: "it is".into() });
    check(r#"{"verify_hostname": false}"#, &facts, State::Up, "ok");
}

#[test]
fn days_left_are_held_against_both_bounds() {
    for (days, options, state) in [
        (14, "{}", State::Up),
        (13, "{}", State::Degraded),
        (7, "{}", State::Degraded),
        (6, "{}", State::Down),
        (13, r#"{"warn_days": 10}"#, State::Up),
        (1, r#"{"warn_days": 10, "critical_days": 0}"#, State::Degraded),
    ] {
        let code = if state == State::Up { "ok" } else { "tls.expiring" };
        check(options, &good(leaf(days), intermediate(1000)), state, code);
    }
}

#[test]
fn every_defect_is_down_with_its_own_code() {
    let chain = || vec![leaf(90), intermediate(1000)];
    for (defect, code) in [
        ("wrong-name", "tls.wrong_name"),
        ("untrusted", "tls.untrusted"),
        ("incomplete-chain", "tls.incomplete_chain"),
        ("bad-signature", "tls.bad_signature"),
        ("revoked", "tls.revoked"),
        ("must-staple", "tls.must_staple"),
        ("weak-key", "tls.weak_key"),
        ("weak-signature", "tls.weak_signature"),
        ("wrong-usage", "tls.wrong_usage"),
        ("not-an-authority", "tls.not_an_authority"),
        ("path-length", "tls.path_length"),
        ("name-constraints", "tls.name_constraints"),
        ("critical-extension", "tls.critical_extension"),
    ] {
        check("{}", &bad(chain(), &[defect]), State::Down, code);
    }
    check("{}", &bad(vec![leaf(-2), intermediate(1000)], &["expired"]), State::Down, "tls.expired");
    let early = Certificate { not_before: NOW + DAY, ..leaf(90) };
    check("{}", &bad(vec![early], &["not-yet-valid"]), State::Down, "tls.not_yet_valid");
    check(
        "{}",
        &bad(vec![certificate("shop.test", "shop.test", 90)], &["self-signed"]),
        State::Down,
        "tls.self_signed",
    );
    check("{}", &bad(Vec::new(), &[]), State::Down, "tls.protocol");
    let authority = Certificate { is_ca: true, ..leaf(90) };
    check("{}", &good(authority, intermediate(90)), State::Down, "tls.authority_as_leaf");
}

#[test]
fn several_defects_are_all_named_and_the_gravest_gives_the_code() {
    let outcome = check(
        "{}",
        &bad(
            vec![leaf(-2), intermediate(-3)],
            &["wrong-name", "untrusted", "wrong-usage", "weak-key", "expired"],
        ),
        State::Down,
        "tls.expired",
    );
    assert_eq!(
        failed(&outcome),
        [
            "not_after",
            "not_after",
            "verify_hostname",
            "verify_chain",
            "verify_chain",
            "key",
            "critical_days",
            "warn_days"
        ]
    );
    let outcome = check("{}", &bad(vec![leaf(-2)], &["expired", "revoked"]), State::Down, "tls.revoked");
    assert_eq!(failed(&outcome)[..2], ["revocation", "not_after"]);
    check(
        "{}",
        &bad(vec![leaf(90)], &["untrusted", "incomplete-chain"]),
        State::Down,
        "tls.incomplete_chain",
    );
}

#[test]
fn what_is_not_to_be_verified_is_reported_and_forgiven() {
    let chain = || vec![leaf(90), intermediate(1000)];
    check(r#"{"verify_hostname": false}"#, &bad(chain(), &["wrong-name"]), State::Up, "ok");
    for forgiven in ["untrusted", "incomplete-chain", "self-signed", "wrong-usage", "path-length"] {
        check(r#"{"verify_chain": false}"#, &bad(chain(), &[forgiven]), State::Up, "ok");
    }
    for (defect, code) in [
        ("bad-signature", "tls.bad_signature"),
        ("wrong-name", "tls.wrong_name"),
        ("weak-key", "tls.weak_key"),
        ("weak-signature", "tls.weak_signature"),
        ("revoked", "tls.revoked"),
    ] {
        check(r#"{"verify_chain": false}"#, &bad(chain(), &[defect, "untrusted"]), State::Down, code);
    }
    check(r#"{"verify_chain": false}"#, &bad(vec![leaf(-1)], &["untrusted"]), State::Down, "tls.expired");
    let pinned = format!(r#"{{"verify_chain": false, "pin_sha256": ["{}"]}}"#, hash("other"));
    check(&pinned, &bad(chain(), &["untrusted"]), State::Down, "tls.pin");
}

#[test]
fn a_self_signed_certificate_may_be_allowed_but_not_expired() {
    let own = |days| vec![Certificate { is_ca: true, ..certificate("shop.test", "shop.test", days) }];
    let allowed = r#"{"allow_self_signed": true}"#;
    check(allowed, &bad(own(90), &["self-signed"]), State::Up, "ok");
    check(allowed, &bad(own(10), &["self-signed"]), State::Degraded, "tls.expiring");
    check(allowed, &bad(own(-1), &["self-signed"]), State::Down, "tls.expired");
    check(allowed, &bad(own(90), &["self-signed", "wrong-name"]), State::Down, "tls.wrong_name");
    check(allowed, &bad(own(90), &["self-signed", "weak-signature"]), State::Down, "tls.weak_signature");
    check(allowed, &bad(vec![leaf(90)], &["untrusted"]), State::Down, "tls.untrusted");
}

#[test]
fn a_chain_that_verifies_only_because_we_hold_the_rest_is_degraded() {
    let mut facts = good(leaf(90), intermediate(1000));
    facts.served.pop();
    check("{}", &facts, State::Degraded, "tls.incomplete_chain");
}

#[test]
fn an_old_version_is_down() {
    let mut facts = good(leaf(90), intermediate(1000));
    facts.version = "1.2".into();
    check("{}", &facts, State::Up, "ok");
    check(r#"{"min_tls_version": "1.3"}"#, &facts, State::Down, "tls.version");
}

#[test]
fn a_server_that_asks_for_a_client_certificate_is_up_with_a_finding() {
    for cipher in ["TLS13_AES_128_GCM_SHA256", ""] {
        let facts = Facts {
            wants_client_certificate: true,
            cipher: cipher.into(),
            ..good(leaf(90), intermediate(1000))
        };
        let outcome = check("{}", &facts, State::Up, "ok");
        assert!(outcome.findings.iter().any(|found| found.id == "client_certificate"));
        assert_eq!(outcome.attributes.iter().any(|(name, _)| name == "cipher"), !cipher.is_empty());
    }
}

#[test]
fn one_of_the_pins_is_enough_on_any_key_of_the_chain() {
    let facts = good(leaf(90), intermediate(1000));
    for (subject, state, code) in [
        ("shop.test", State::Up, "ok"),
        ("intermediate", State::Up, "ok"),
        ("root", State::Up, "ok"),
        ("other", State::Down, "tls.pin"),
    ] {
        let options = format!(r#"{{"pin_sha256": ["{}", "{}"]}}"#, hash("spare"), hash(subject));
        check(&options, &facts, state, code);
    }
}

#[test]
fn an_issuer_is_expected_by_its_name_or_its_common_name() {
    let issued = Certificate { issuer: r"CN=R11,O=Let's Encrypt\, Inc,C=US".into(), ..leaf(90) };
    for (expected, state) in [
        ("R11", State::Up),
        ("r11", State::Up),
        (r"CN=R11,O=Let's Encrypt\\, Inc,C=US", State::Up),
        (r"cn=R11, o=Let's Encrypt\\, Inc, c=US", State::Up),
        ("R1", State::Down),
        ("CN=R11", State::Down),
    ] {
        let code = if state == State::Up { "ok" } else { "tls.issuer" };
        let options = format!(r#"{{"expected_issuer": "{expected}"}}"#);
        check(&options, &good(issued.clone(), intermediate(1000)), state, code);
    }
}

#[test]
fn every_expected_name_must_stand_in_the_certificate_literally() {
    let names = vec!["shop.test".into(), "*.shop.test".into(), "2001:db8::1".into()];
    let named = Certificate { names, ..leaf(90) };
    for (expected, state) in [
        (r#"["shop.test"]"#, State::Up),
        (r#"["SHOP.test.", "*.shop.test", "2001:db8:0:0::1"]"#, State::Up),
        (r#"["shop.test", "www.shop.test"]"#, State::Down),
    ] {
        let code = if state == State::Up { "ok" } else { "tls.san" };
        let options = format!(r#"{{"expected_san": {expected}}}"#);
        check(&options, &good(named.clone(), intermediate(1000)), state, code);
    }
}

#[test]
fn what_is_not_known_of_revocation_is_a_finding_or_down_as_the_mode_says() {
    use Known::{Good, Revoked, Unknown};
    let (soft, hard) = ("{}", r#"{"revocation_mode": "hard"}"#);
    for (heard, soft_code, hard_code) in [
        (vec![heard(0, "stapled", Good, true)], "ok", "ok"),
        (vec![heard(0, "stapled", Unknown, false)], "ok", "tls.revocation_unknown"),
        (vec![heard(0, "stapled", Unknown, true)], "ok", "tls.revocation_unknown"),
        (vec![heard(0, "stapled", Revoked, true)], "tls.revoked", "tls.revoked"),
        (vec![heard(0, "stapled", Unknown, false), heard(0, "ocsp", Good, true)], "ok", "ok"),
        (vec![heard(0, "ocsp", Good, true), heard(1, "ocsp", Unknown, false)], "ok", "ok"),
        (vec![heard(0, "ocsp", Good, true), heard(1, "ocsp", Unknown, true)], "ok", "tls.revocation_unknown"),
        (vec![heard(0, "ocsp", Good, true), heard(1, "crl", Revoked, true)], "tls.revoked", "tls.revoked"),
    ] {
        for (options, code) in [(soft, soft_code), (hard, hard_code)] {
            let facts = Facts { heard: heard.clone(), ..good(leaf(90), intermediate(1000)) };
            let state = if code == "ok" { State::Up } else { State::Down };
            let outcome = check(options, &facts, state, code);
            assert!(outcome.findings.iter().any(|found| found.id == "revocation"), "{heard:?}");
        }
    }
}

#[test]
fn revocation_that_is_off_is_not_looked_at() {
    let off = r#"{"revocation": "off"}"#;
    let outcome = check(off, &bad(vec![leaf(90), intermediate(90)], &["revoked"]), State::Up, "ok");
    assert!(outcome.findings.iter().all(|found| found.id != "revocation"));
    check(off, &bad(vec![leaf(90), intermediate(90)], &["must-staple"]), State::Up, "ok");
}

#[test]
fn a_refusal_by_our_own_grant_is_no_verdict_unless_the_server_is_down_anyway() {
    let refused = Heard { denied: true, ..heard(0, "ocsp", Known::Unknown, true) };
    let facts = Facts { heard: vec![refused.clone()], ..good(leaf(90), intermediate(1000)) };
    let outcome = check("{}", &facts, State::Up, "ok");
    assert_eq!(failed(&outcome), ["revocation"]);
    let hard = config(r#"{"revocation_mode": "hard"}"#);
    assert_eq!(judge(&hard, &facts, NOW), Err(Failure::Denied("said".into())));
    let expired = Facts { heard: vec![refused], ..bad(vec![leaf(-1), intermediate(90)], &["expired"]) };
    check(r#"{"revocation_mode": "hard"}"#, &expired, State::Down, "tls.expired");
}
