//! One line per rule: what the handshake showed, and the verdict.

use sdk::State;

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
        signature: "ecdsa-with-SHA256".into(),
        key: ("EC".into(), 256),
        is_ca: false,
    }
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
        verified: Ok(vec![leaf, intermediate, root(1000)]),
        revoked: false,
        handshake: Some(0.01),
    }
}

/// The same chain with defects.
fn bad(served: Vec<Certificate>, defects: &[&str]) -> Facts {
    let verified = defects
        .iter()
        .map(|code| Defect { code: (*code).into(), message: format!("it is {code}") })
        .collect();
    Facts { served, verified: Err(verified), ..good(leaf(90), intermediate(1000)) }
}

#[track_caller]
fn check(options: &str, facts: &Facts, state: State, code: &str) -> Outcome {
    let outcome = judge(&config(options), facts, NOW);
    assert_eq!((outcome.state, outcome.code.as_str()), (state, code), "{}", outcome.summary);
    outcome
}

#[test]
fn a_good_chain_is_up_and_says_how_long() {
    let outcome = check("{}", &good(leaf(90), intermediate(1000)), State::Up, "ok");
    assert_eq!(outcome.summary, "shop.test is valid for 90 days, TLS 1.3");
    assert!(outcome.findings.iter().all(|finding| finding.passed), "{:?}", outcome.findings);
}

#[test]
fn the_first_expiry_of_the_chain_counts_but_not_the_root_s() {
    let outcome = check("{}", &good(leaf(90), intermediate(10)), State::Degraded, "tls.expiring");
    assert!(
        outcome.summary.starts_with("the certificate of the intermediate intermediate expires in 10 days")
    );
    let days: Vec<i64> = outcome.metrics.iter().take(2).map(|metric| metric.value.floor() as i64).collect();
    assert_eq!(days, [10, 90]);
    let mut facts = good(leaf(90), intermediate(1000));
    facts.verified = Ok(vec![leaf(90), intermediate(1000), root(-5)]);
    check("{}", &facts, State::Up, "ok");
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
    let mut revoked = good(leaf(90), intermediate(90));
    revoked.revoked = true;
    check("{}", &revoked, State::Down, "tls.revoked");
}

#[test]
fn several_defects_are_all_named_and_the_gravest_gives_the_code() {
    let outcome = check(
        "{}",
        &bad(vec![leaf(-2)], &["wrong-name", "untrusted", "incomplete-chain", "expired"]),
        State::Down,
        "tls.expired",
    );
    let failed: Vec<&str> = outcome
        .findings
        .iter()
        .filter(|finding| !finding.passed)
        .map(|finding| finding.id.as_str())
        .collect();
    assert_eq!(
        failed,
        ["not_after", "verify_hostname", "verify_chain", "verify_chain", "critical_days", "warn_days"]
    );
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
    check(r#"{"verify_chain": false}"#, &bad(chain(), &["untrusted"]), State::Up, "ok");
    check(r#"{"verify_chain": false}"#, &bad(chain(), &["incomplete-chain"]), State::Up, "ok");
    check(r#"{"verify_chain": false}"#, &bad(chain(), &["bad-signature"]), State::Down, "tls.bad_signature");
    check(r#"{"verify_chain": false}"#, &bad(chain(), &["wrong-name"]), State::Down, "tls.wrong_name");
    check(r#"{"verify_chain": false}"#, &bad(vec![leaf(-1)], &["untrusted"]), State::Down, "tls.expired");
}

#[test]
fn a_self_signed_certificate_may_be_allowed_but_not_expired() {
    let own = |days| vec![Certificate { is_ca: true, ..certificate("shop.test", "shop.test", days) }];
    let allowed = r#"{"allow_self_signed": true}"#;
    check(allowed, &bad(own(90), &["self-signed"]), State::Up, "ok");
    check(allowed, &bad(own(10), &["self-signed"]), State::Degraded, "tls.expiring");
    check(allowed, &bad(own(-1), &["self-signed"]), State::Down, "tls.expired");
    check(allowed, &bad(own(90), &["self-signed", "wrong-name"]), State::Down, "tls.wrong_name");
    check(allowed, &bad(vec![leaf(90)], &["untrusted"]), State::Down, "tls.untrusted");
}

#[test]
fn a_chain_that_verifies_only_because_we_hold_the_rest_is_degraded() {
    let mut facts = good(leaf(90), intermediate(1000));
    facts.served.pop();
    check("{}", &facts, State::Degraded, "tls.incomplete_chain");
}

#[test]
fn old_versions_and_weak_keys_are_down() {
    let mut facts = good(leaf(90), intermediate(1000));
    facts.version = "1.2".into();
    check("{}", &facts, State::Up, "ok");
    check(r#"{"min_tls_version": "1.3"}"#, &facts, State::Down, "tls.version");
    let sha1 = Certificate { signature: "sha1WithRSAEncryption".into(), ..leaf(90) };
    check("{}", &good(sha1, intermediate(90)), State::Down, "tls.weak_signature");
    let short = Certificate { key: ("RSA".into(), 1024), ..leaf(90) };
    check("{}", &good(short, intermediate(90)), State::Down, "tls.weak_key");
}

#[test]
fn a_common_name_is_found_and_unescaped() {
    for (subject, name) in [
        ("CN=shop.test", Some("shop.test")),
        (r"O=Acme\, Inc.,CN=Acme\, short+OU=x,C=DE", Some("Acme, short")),
        ("O=Acme", None),
        ("", None),
    ] {
        assert_eq!(common_name(subject).as_deref(), name);
    }
}

#[test]
fn dates_are_printed_as_rfc_3339() {
    for (at, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (NOW, "2027-01-15T08:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
    ] {
        assert_eq!(date(at), text);
    }
}
