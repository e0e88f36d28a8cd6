//! From what was found to a verdict. Pure: what was found and the configuration are values.

use sdk::{Finding, Outcome};

use crate::facts::{Certificate, Facts};
use crate::patterns::{Found, HeaderPattern};
use crate::{Config, OnBodyTooLarge, json};

/// The verdict.
pub(crate) fn judge(config: &Config, facts: &Facts) -> Outcome {
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
        outcome = expiry(config, certificate, outcome);
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

fn expiry(config: &Config, certificate: &Certificate, outcome: Outcome) -> Outcome {
    let left = certificate.left as f64 / 86_400.0;
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
#[path = "judge_tests.rs"]
mod tests;
