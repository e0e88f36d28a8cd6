//! From what was found to a verdict. Pure: what was found, the configuration and the time are values.

use std::fmt::{self, Display};
use std::time::Duration;

use sdk::net::Timings;
use sdk::{Finding, Outcome, tls};

use crate::patterns::{Found, HeaderPattern};
use crate::{Config, OnBodyTooLarge, json};

/// What the exchange found.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) status: u16,
    /// "1.1", "2".
    pub(crate) version: String,
    /// URL and status, the last response included.
    pub(crate) hops: Vec<(String, u16)>,
    /// Of each hop; none where there was only one.
    pub(crate) hop_times: Vec<Hop>,
    /// Whether the body contains `keyword`; none when it is not set.
    pub(crate) keyword: Option<bool>,
    /// Whether the body contains `keyword_absent`; none when it is not set.
    pub(crate) keyword_absent: Option<bool>,
    pub(crate) patterns: Found,
    /// What each rule of `json` found, or why the body is no JSON.
    pub(crate) json: Result<Vec<json::Said>, String>,
    /// Whether the body was over the limit; false when that does not matter.
    pub(crate) too_large: bool,
    pub(crate) encrypted: bool,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) took: Duration,
}

/// How long one hop took, in microseconds: all of it, and the phases that happened.
#[derive(Clone)]
pub(crate) struct Hop {
    total: u64,
    phases: Vec<(&'static str, u64)>,
}

impl From<Timings> for Hop {
    fn from(timings: Timings) -> Self {
        let phases = [
            ("resolve", timings.resolve_us),
            ("connect", timings.connect_us),
            ("handshake", timings.handshake_us),
            ("send", timings.send_us),
            ("first byte", timings.first_byte_us),
            ("transfer", timings.transfer_us),
        ];
        let happened = phases.into_iter().filter_map(|(name, time)| Some((name, time?))).collect();
        Self { total: timings.total_us, phases: happened }
    }
}

impl Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: &u64| format!("{}.{:03}", us / 1000, us % 1000);
        let phases: Vec<String> =
            self.phases.iter().map(|(name, time)| format!("{name} {}", ms(time))).collect();
        write!(f, "{} ms ({})", ms(&self.total), phases.join(", "))
    }
}

/// The certificate that expires first.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub(crate) not_after: i64,
}

/// Of the verified chain without its root, which is trusted whatever it says.
pub(crate) fn first_to_expire(chain: &[tls::Certificate]) -> Option<Certificate> {
    let judged = &chain[..chain.len().saturating_sub(1).max(1).min(chain.len())];
    let first = judged.iter().min_by_key(|certificate| certificate.not_after())?;
    Some(Certificate { subject: first.subject(), not_after: first.not_after() })
}

/// The verdict at `now`, in seconds since 1970.
pub(crate) fn judge(config: &Config, facts: &Facts, now: i64) -> Outcome {
    let milliseconds = facts.took.as_millis();
    let mut outcome = Outcome::up(format!("status {} in {milliseconds} ms", facts.status));
    outcome = must_be_encrypted(config, facts, outcome);
    outcome = outcome.must(
        Finding::new(
            "valid_status_codes",
            config.valid_status_codes.contains(facts.status),
            config.valid_status_codes.to_string(),
            facts.status.to_string(),
        ),
        "http.status",
        || unexpected_status(config, facts),
    );
    if !config.http_versions.is_empty() {
        let wanted = config.http_versions.iter().map(|version| version.name()).collect::<Vec<_>>();
        let passed = wanted.contains(&facts.version.as_str());
        let wanted = wanted.join(" or ");
        outcome = outcome.must(
            Finding::new("http_versions", passed, wanted.clone(), facts.version.clone()),
            "http.version",
            || format!("the response came over HTTP/{}, expected {wanted}", facts.version),
        );
    }
    for (patterns, found, id, wanted) in [
        (&config.header_matches, &facts.patterns.header, "header_matches", true),
        (&config.header_not_matches, &facts.patterns.header_not, "header_not_matches", false),
    ] {
        for (index, (pattern, (values, matched))) in patterns.iter().zip(found).enumerate() {
            outcome = header(id, index, pattern, values, *matched == wanted, outcome);
        }
    }
    if config.on_body_too_large == OnBodyTooLarge::Fail {
        let limit = config.body_size_limit;
        let actual = if facts.too_large { "more" } else { "not more" };
        outcome = outcome.must(
            Finding::new("body_size_limit", !facts.too_large, format!("at most {limit} bytes"), actual),
            "http.body_too_large",
            || format!("the body is longer than {limit} bytes"),
        );
    }
    if let (Some(found), Some(keyword)) = (facts.keyword, &config.keyword) {
        outcome = outcome.must(
            Finding::new("keyword", found, format!("contains {keyword:?}"), presence(found)),
            "http.keyword",
            || format!("the body does not contain {keyword:?}"),
        );
    }
    if let (Some(found), Some(keyword)) = (facts.keyword_absent, &config.keyword_absent) {
        outcome = outcome.must(
            Finding::new("keyword_absent", !found, format!("does not contain {keyword:?}"), presence(found)),
            "http.keyword_absent",
            || format!("the body contains {keyword:?}"),
        );
    }
    outcome = body_patterns(config, &facts.patterns, outcome);
    outcome = json::judge(&facts.json, outcome);
    if let Some(certificate) = &facts.certificate {
        outcome = expiry(config, certificate, now, outcome);
    }
    outcome = outcome
        .metric("http.status", facts.status.into(), "1")
        .metric("http.redirects", facts.hops.len().saturating_sub(1) as f64, "1")
        .attribute("http.version", facts.version.clone());
    if let [_, .., (url, _)] = facts.hops.as_slice() {
        let hops: Vec<String> = facts.hops.iter().map(|(url, status)| format!("{status} {url}")).collect();
        outcome = outcome.attribute("http.url", url.clone()).attribute("http.hops", hops.join(" → "));
        for (number, hop) in (1..).zip(&facts.hop_times) {
            outcome = outcome.attribute(&format!("http.hop.{number}"), hop.to_string());
        }
    }
    outcome
}

/// `header_matches` and `header_not_matches`; `good` says that the values are as the option wants them.
fn header(
    id: &str,
    index: usize,
    pattern: &HeaderPattern,
    values: &[String],
    good: bool,
    outcome: Outcome,
) -> Outcome {
    let HeaderPattern { name, regex, allow_missing } = pattern;
    let (passed, actual) = match values {
        [] => (*allow_missing, "missing".to_owned()),
        values => (good, values.join(", ")),
    };
    let how = if id == "header_matches" { "matches" } else { "does not match" };
    outcome.must(
        Finding::new(&format!("{id}/{index}"), passed, format!("{name} {how} `{regex}`"), actual.clone()),
        &format!("http.{id}"),
        || format!("the header {name} is {actual}, expected one that {how} `{regex}`"),
    )
}

fn body_patterns(config: &Config, found: &Found, mut outcome: Outcome) -> Outcome {
    if let Some(matched) = found.body {
        let wanted = quoted(&config.body_matches);
        let actual = if matched { "one matches" } else { "none matches" };
        outcome = outcome.must(
            Finding::new("body_matches", matched, format!("one of {wanted}"), actual),
            "http.body_matches",
            || format!("the body matches none of {wanted}"),
        );
    }
    if let Some(matched) = &found.body_not {
        let actual = matched.as_ref().map_or("none matches".to_owned(), |regex| format!("`{regex}` matches"));
        outcome = outcome.must(
            Finding::new(
                "body_not_matches",
                matched.is_none(),
                format!("none of {}", quoted(&config.body_not_matches)),
                actual.clone(),
            ),
            "http.body_not_matches",
            || format!("{actual} in the body"),
        );
    }
    outcome
}

fn quoted(patterns: &[String]) -> String {
    patterns.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", ")
}

fn must_be_encrypted(config: &Config, facts: &Facts, mut outcome: Outcome) -> Outcome {
    let actual = if facts.encrypted { "TLS" } else { "no TLS" };
    if config.fail_if_ssl {
        let finding = Finding::new("fail_if_ssl", !facts.encrypted, "no TLS", actual);
        outcome = outcome.must(finding, "http.ssl", || "the response came over TLS".into());
    }
    if config.fail_if_not_ssl {
        let finding = Finding::new("fail_if_not_ssl", facts.encrypted, "TLS", actual);
        outcome = outcome.must(finding, "http.not_ssl", || "the response came without TLS".into());
    }
    outcome
}

fn expiry(config: &Config, certificate: &Certificate, now: i64, outcome: Outcome) -> Outcome {
    let left = (certificate.not_after - now) as f64 / 86_400.0;
    let days = left.floor();
    let outcome = outcome.metric("http.certificate_days", left, "d");
    if config.cert_expiry_days == 0 {
        return outcome;
    }
    let wanted = config.cert_expiry_days;
    outcome.should(
        Finding::new(
            "cert_expiry_days",
            left >= f64::from(wanted),
            format!("at least {wanted} days"),
            format!("{days} days"),
        ),
        "http.cert_expiring",
        || format!("the certificate of {} expires in {days} days", certificate.subject),
    )
}

fn unexpected_status(config: &Config, facts: &Facts) -> String {
    let status = facts.status;
    let expected = &config.valid_status_codes;
    match facts.hops.len() {
        hops if (300..400).contains(&status) && hops > 1 => {
            format!(
                "status {status} at hop {hops}, expected {expected}: more redirects than max_redirects allows"
            )
        }
        _ => format!("status {status}, expected {expected}"),
    }
}

fn presence(found: bool) -> &'static str {
    if found { "found" } else { "not found" }
}

#[cfg(test)]
mod tests {
    use sdk::State;
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000;
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
        let outcome = judge(&serde_json::from_value(config).unwrap(), &facts, NOW);
        assert_eq!((outcome.state, outcome.code.as_str(), outcome.summary.as_str()), (state, code, summary));
        outcome
    }

    #[test]
    fn the_status_must_be_a_valid_one() {
        let outcome = check(json!({}), facts(), State::Up, "ok", "status 200 in 120 ms");
        assert_eq!(outcome.findings.len(), 1);
        let wrong = || Facts { status: 503, ..facts() };
        check(json!({}), wrong(), State::Down, "http.status", "status 503, expected 200-299");
        check(
            json!({"valid_status_codes": [200, "500-599"]}),
            wrong(),
            State::Up,
            "ok",
            "status 503 in 120 ms",
        );
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
            patterns: Found {
                body: Some(body),
                body_not: Some(body_not.map(Into::into)),
                ..Found::default()
            },
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
        let said = |passed, actual: &str| json::Said {
            passed,
            expected: "$.length lt 5".into(),
            actual: actual.into(),
        };
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
        let outcome =
            check(both.clone(), with(Some(false), Some(true)), State::Down, "http.keyword", summary);
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
            certificate: Some(Certificate { subject: "CN=shop".into(), not_after: NOW + days * DAY }),
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
        check(
            json!({"fail_if_ssl": true}),
            over(true),
            State::Down,
            "http.ssl",
            "the response came over TLS",
        );
        let summary = "the response came without TLS";
        check(json!({"fail_if_not_ssl": true}), over(false), State::Down, "http.not_ssl", summary);
        check(json!({"fail_if_not_ssl": true}), over(true), State::Up, "ok", "status 200 in 120 ms");
    }
}
