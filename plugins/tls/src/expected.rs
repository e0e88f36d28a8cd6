//! The verdict over what a monitor's owner expects of a certificate that is valid anyway: keys, issuer, names.

use std::net::IpAddr;

use sdk::{Finding, Outcome};

use crate::config::Config;
use crate::facts::{Certificate, Facts};
use crate::words::common_name;

/// Adds a finding for each that is set.
pub(crate) fn judge(mut outcome: Outcome, config: &Config, facts: &Facts, leaf: &Certificate) -> Outcome {
    outcome = pins(outcome, config, facts);
    outcome = issuer(outcome, config, leaf);
    names(outcome, config, leaf)
}

/// One pin is enough, on whichever key from leaf to root: a spare is for the next one.
fn pins(outcome: Outcome, config: &Config, facts: &Facts) -> Outcome {
    let pins = config.pins();
    if pins.is_empty() {
        return outcome;
    }
    let found = facts.path.iter().find(|certificate| pins.contains(&certificate.spki_sha256));
    let actual = match found {
        Some(certificate) => format!("{} of {}", certificate.spki_sha256, certificate.subject),
        None => facts.path.iter().map(|own| own.spki_sha256.as_str()).collect::<Vec<_>>().join(", "),
    };
    outcome.must(Finding::new("pin_sha256", found.is_some(), pins.join(" or "), actual), "tls.pin", || {
        "no key of the chain is one of those in pin_sha256".to_owned()
    })
}

fn issuer(outcome: Outcome, config: &Config, leaf: &Certificate) -> Outcome {
    let Some(expected) = &config.expected_issuer else { return outcome };
    let by_name =
        common_name(&leaf.issuer).is_some_and(|name| name.to_lowercase() == expected.to_lowercase());
    let is_same = by_name || plain(&leaf.issuer) == plain(expected);
    let finding = Finding::new("expected_issuer", is_same, expected.clone(), leaf.issuer.clone());
    outcome.must(finding, "tls.issuer", || {
        format!("the certificate was issued by {}, not by {expected}", leaf.issuer)
    })
}

/// Every one literally: a wildcard stands for itself. An address is the same in all of its spellings.
fn names(outcome: Outcome, config: &Config, leaf: &Certificate) -> Outcome {
    if config.expected_san.is_empty() {
        return outcome;
    }
    let has = |expected: &String| leaf.names.iter().any(|own| same_name(own, expected));
    let missing: Vec<&str> =
        config.expected_san.iter().filter(|name| !has(name)).map(String::as_str).collect();
    let finding = Finding::new(
        "expected_san",
        missing.is_empty(),
        config.expected_san.join(", "),
        leaf.names.join(", "),
    );
    outcome.must(finding, "tls.san", || format!("the certificate lacks {}", missing.join(", ")))
}

fn same_name(own: &str, expected: &str) -> bool {
    match (own.parse::<IpAddr>(), expected.parse::<IpAddr>()) {
        (Ok(own), Ok(expected)) => own == expected,
        _ => own.eq_ignore_ascii_case(expected.trim_end_matches('.')),
    }
}

/// In lower case, without the spaces that some write behind a comma that separates (RFC 4514 has none).
fn plain(name: &str) -> String {
    let mut plain = String::new();
    let mut chars = name.chars().peekable();
    while let Some(next) = chars.next() {
        plain.extend(next.to_lowercase());
        match next {
            '\\' => plain.extend(chars.next().into_iter().flat_map(char::to_lowercase)),
            ',' | '+' => while chars.next_if_eq(&' ').is_some() {},
            _ => {}
        }
    }
    plain
}
