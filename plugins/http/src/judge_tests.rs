//! From facts and options to state, code and words.

use std::time::Duration;

use sdk::State;
use serde_json::{Value, json};

use super::*;
use crate::facts::Hop;

const DAY: i64 = 86_400;

fn facts() -> Facts {
    Facts {
        status: 200,
        version: "1.1".into(),
        hops: vec![("http://shop/".into(), 200)],
        hop_times: Vec::new(),
        keyword: None,
        keyword_absent: None,
        patterns: Found::default(),
        json: Ok(Vec::new()),
        too_large: false,
        encrypted: false,
        certificate: None,
        took: Duration::from_millis(120),
    }
}

fn check(options: Value, facts: Facts, state: State, code: &str, summary: &str) -> Outcome {
    let mut config = json!({"url": "http://shop/"});
    config.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let outcome = judge(&serde_json::from_value(config).unwrap(), &facts);
    assert_eq!((outcome.state, outcome.code.as_str(), outcome.summary.as_str()), (state, code, summary));
    outcome
}

#[test]
fn the_status_must_be_a_valid_one() {
    let outcome = check(json!({}), facts(), State::Up, "ok", "status 200 in 120 ms");
    assert_eq!(outcome.findings.len(), 1);
    let wrong = || Facts { status: 503, ..facts() };
    check(json!({}), wrong(), State::Down, "http.status", "status 503, expected 200-299");
    check(json!({"valid_status_codes": [200, "500-599"]}), wrong(), State::Up, "ok", "status 503 in 120 ms");
}

#[test]
fn a_redirect_too_many_says_how_many_were_followed() {
    let hops = vec![("http://shop/".into(), 302), ("http://shop/".into(), 302)];
    let hop = Hop { total: 12_034, phases: vec![("connect", 1_005), ("first byte", 11_000)] };
    let endless = Facts { status: 302, hops, hop_times: vec![hop.clone(), hop], ..facts() };
    let summary = "status 302 at hop 2, expected 200-299: more redirects than max_redirects allows";
    let outcome = check(json!({}), endless, State::Down, "http.status", summary);
    assert_eq!(outcome.attributes[2].1, "302 http://shop/ → 302 http://shop/");
    let second = ("http.hop.2".to_owned(), "12.034 ms (connect 1.005, first byte 11.000)".to_owned());
    assert_eq!(outcome.attributes[4], second);
}

#[test]
fn the_version_must_be_a_wanted_one() {
    let options = json!({"http_versions": ["1.1"]});
    check(options.clone(), facts(), State::Up, "ok", "status 200 in 120 ms");
    let two = Facts { version: "2".into(), ..facts() };
    let summary = "the response came over HTTP/2, expected 1.1";
    check(options, two, State::Down, "http.version", summary);
}

#[test]
fn the_body_must_match_one_pattern_and_none_of_others() {
    let with = |body, body_not: Option<&str>| Facts {
        patterns: Found { body: Some(body), body_not: Some(body_not.map(Into::into)), ..Found::default() },
        ..facts()
    };
    let options = json!({"body_matches": ["a+", "b"], "body_not_matches": ["c", "d"]});
    let outcome = check(options.clone(), with(true, None), State::Up, "ok", "status 200 in 120 ms");
    assert_eq!(outcome.findings.len(), 3);
    let summary = "the body matches none of `a+`, `b`";
    check(options.clone(), with(false, None), State::Down, "http.body_matches", summary);
    let summary = "`d` matches in the body";
    check(options, with(true, Some("d")), State::Down, "http.body_not_matches", summary);
}

#[test]
fn headers_must_match_and_others_must_not() {
    for (option, allow_missing, values, matched, state) in [
        ("header_matches", false, vec!["nginx"], true, State::Up),
        ("header_matches", false, vec!["apache"], false, State::Down),
        ("header_matches", false, vec![], false, State::Down),
        ("header_matches", true, vec![], false, State::Up),
        ("header_not_matches", false, vec!["nginx"], true, State::Down),
        ("header_not_matches", false, vec!["apache"], false, State::Up),
        ("header_not_matches", false, vec![], false, State::Down),
        ("header_not_matches", true, vec![], false, State::Up),
    ] {
        let pattern = json!({"name": "Server", "regex": "nginx", "allow_missing": allow_missing});
        let seen = vec![(values.iter().map(ToString::to_string).collect(), matched)];
        let patterns = match option {
            "header_matches" => Found { header: seen, ..Found::default() },
            _ => Found { header_not: seen, ..Found::default() },
        };
        let how = if option == "header_matches" { "matches" } else { "does not match" };
        let actual = values.first().copied().unwrap_or("missing");
        let wrong = format!("the header Server is {actual}, expected one that {how} `nginx`");
        let (code, summary) = match state {
            State::Up => ("ok".to_owned(), "status 200 in 120 ms".to_owned()),
            _ => (format!("http.{option}"), wrong),
        };
        let facts = Facts { patterns, ..facts() };
        let outcome = check(json!({option: [pattern]}), facts, state, &code, &summary);
        assert_eq!(outcome.findings[1].id, format!("{option}/0"));
    }
}

#[test]
fn what_json_says_is_judged_rule_by_rule() {
    let said =
        |passed, actual: &str| json::Said { passed, expected: "$.length lt 5".into(), actual: actual.into() };
    let with = |json| Facts { json, ..facts() };
    check(json!({}), with(Ok(vec![said(true, "3")])), State::Up, "ok", "status 200 in 120 ms");
    let summary = "the body has 9, expected $.length lt 5";
    let outcome = check(
        json!({}),
        with(Ok(vec![said(true, "3"), said(false, "9")])),
        State::Down,
        "http.json",
        summary,
    );
    assert_eq!((outcome.findings[2].id.as_str(), outcome.findings[2].passed), ("json/1", false));
    let summary = "the body is not JSON: expected value";
    check(json!({}), with(Err("expected value".into())), State::Down, "http.json", summary);
}

#[test]
fn the_body_must_contain_one_keyword_and_lack_the_other() {
    let with = |keyword, keyword_absent| Facts { keyword, keyword_absent, ..facts() };
    let both = json!({"keyword": "Welcome", "keyword_absent": "Error"});
    check(both.clone(), with(Some(true), Some(false)), State::Up, "ok", "status 200 in 120 ms");
    let summary = "the body does not contain \"Welcome\"";
    let outcome = check(both.clone(), with(Some(false), Some(true)), State::Down, "http.keyword", summary);
    assert!(outcome.findings.iter().filter(|finding| !finding.passed).count() == 2);
    let summary = "the body contains \"Error\"";
    check(both, with(Some(true), Some(true)), State::Down, "http.keyword_absent", summary);
}

#[test]
fn a_body_over_the_limit_is_down_only_when_asked() {
    let large = || Facts { too_large: true, ..facts() };
    let options = json!({"body_size_limit": 10, "on_body_too_large": "fail"});
    check(options, large(), State::Down, "http.body_too_large", "the body is longer than 10 bytes");
    check(json!({}), large(), State::Up, "ok", "status 200 in 120 ms");
}

#[test]
fn a_certificate_about_to_expire_is_degraded() {
    let left = |days| Facts {
        certificate: Some(Certificate { subject: "CN=shop".into(), left: days * DAY }),
        encrypted: true,
        ..facts()
    };
    let summary = "the certificate of CN=shop expires in 13 days";
    let outcome = check(json!({}), left(13), State::Degraded, "http.cert_expiring", summary);
    assert_eq!(outcome.metrics[0].value, 13.0);
    check(json!({}), left(14), State::Up, "ok", "status 200 in 120 ms");
    check(json!({"cert_expiry_days": 0}), left(1), State::Up, "ok", "status 200 in 120 ms");
}

#[test]
fn tls_can_be_demanded_and_forbidden() {
    let over = |encrypted| Facts { encrypted, ..facts() };
    check(json!({"fail_if_ssl": true}), over(true), State::Down, "http.ssl", "the response came over TLS");
    let summary = "the response came without TLS";
    check(json!({"fail_if_not_ssl": true}), over(false), State::Down, "http.not_ssl", summary);
    check(json!({"fail_if_not_ssl": true}), over(true), State::Up, "ok", "status 200 in 120 ms");
}
