//! The verdict over a handshake: pure, `now` is a value.
//!
//! Every defect becomes a finding; the gravest names the outcome. Expiry counts the leaf and the intermediates of the path to the
//! root, never a root: an expired root is still trusted. What a server sends beside that path is nobody's concern. Revocation is
//! judged in [`revocation`], what a monitor's owner expects beside validity in [`expected`].

use sdk::{Failure, Finding, Outcome};

use crate::choice::Revocation;
use crate::config::Config;
use crate::facts::{Certificate, Defect, Facts, is_about_trust};
use crate::words::{date, days, in_words, name_of, whose};
use crate::{expected, revocation};

/// Judges the facts at `now`, in seconds since 1970. A failure says that the grant refused what the verdict needs.
pub(crate) fn judge(config: &Config, facts: &Facts, now: i64) -> Result<Outcome, Failure> {
    let Some(leaf) = facts.served.first() else {
        return Ok(Outcome::down("tls.protocol", "the server sent no certificate"));
    };
    let counted = counted(facts);
    let first = counted.iter().copied().min_by_key(|certificate| certificate.not_after).unwrap_or(leaf);
    let left = days(first.not_after, now);

    let mut outcome =
        Outcome::up(format!("{} is valid for {}, TLS {}", name_of(leaf), in_words(left), facts.version));
    outcome = revocation::revoked(outcome, config, facts);
    outcome = validity(outcome, first, leaf, &counted, now);
    outcome = names(outcome, config, facts, leaf);
    outcome = trust(outcome, config, facts, leaf);
    outcome = strength(outcome, config, facts, leaf);
    outcome = expected::judge(outcome, config, facts, leaf);
    outcome = revocation::unknown(outcome, config, facts)?;
    outcome = expiry(outcome, config, first, leaf, now);
    outcome = completeness(outcome, facts);
    outcome = client_certificate(outcome, facts);
    outcome = outcome
        .metric("tls.days_left", left, "d")
        .metric("tls.leaf_days_left", days(leaf.not_after, now), "d")
        .metric("tls.certificates", facts.served.len() as f64, "1");
    if let Some(seconds) = facts.handshake {
        outcome = outcome.metric("tls.handshake", seconds, "s");
    }
    Ok(attributes(outcome, config, facts))
}

/// The certificates whose dates count, leaf first.
fn counted(facts: &Facts) -> Vec<&Certificate> {
    let chain = if facts.path.is_empty() { &facts.served } else { &facts.path };
    chain
        .iter()
        .enumerate()
        .filter(|(index, certificate)| *index == 0 || !certificate.is_self_issued())
        .map(|(_, certificate)| certificate)
        .collect()
}

/// A finding for each certificate whose time has not come or has gone; one for all where all is well.
fn validity(
    mut outcome: Outcome,
    first: &Certificate,
    leaf: &Certificate,
    counted: &[&Certificate],
    now: i64,
) -> Outcome {
    let expired = || counted.iter().filter(|certificate| certificate.not_after <= now);
    if expired().next().is_none() {
        outcome = outcome.finding(Finding::new("not_after", true, "in the future", date(first.not_after)));
    }
    for certificate in expired() {
        let finding = Finding::new("not_after", false, "in the future", date(certificate.not_after));
        outcome = outcome.must(finding, "tls.expired", || {
            format!(
                "the certificate of {} expired on {}",
                whose(certificate, leaf),
                date(certificate.not_after)
            )
        });
    }
    let early = || counted.iter().filter(|certificate| certificate.not_before > now);
    if early().next().is_none() {
        let last = counted.iter().map(|certificate| certificate.not_before).max().unwrap_or(leaf.not_before);
        outcome = outcome.finding(Finding::new("not_before", true, "in the past", date(last)));
    }
    for certificate in early() {
        let begins = date(certificate.not_before);
        let finding = Finding::new("not_before", false, "in the past", begins.clone());
        outcome = outcome.must(finding, "tls.not_yet_valid", || {
            format!("the certificate of {} is not valid before {begins}", whose(certificate, leaf))
        });
    }
    outcome
}

fn names(outcome: Outcome, config: &Config, facts: &Facts, leaf: &Certificate) -> Outcome {
    let expected = config.expected_name();
    let wrong = facts.defects.iter().any(|defect| defect.code == "wrong-name");
    let found = if leaf.names.is_empty() { "no name at all".to_owned() } else { leaf.names.join(", ") };
    let finding = Finding::new("verify_hostname", !wrong, expected, found.clone());
    if !config.verify_hostname {
        return outcome.finding(finding);
    }
    outcome.must(finding, "tls.wrong_name", || format!("the certificate is for {found}, not for {expected}"))
}

/// Whether the chain leads to an authority that is trusted.
fn trust(mut outcome: Outcome, config: &Config, facts: &Facts, leaf: &Certificate) -> Outcome {
    if !leaf.is_self_issued() {
        outcome = outcome.must(
            Finding::new("basic_constraints", !leaf.is_ca, "a server's certificate", kind(leaf)),
            "tls.authority_as_leaf",
            || format!("{} serves an authority's certificate as its own", name_of(leaf)),
        );
    }
    let mut failures: Vec<&Defect> =
        facts.defects.iter().filter(|defect| is_about_trust(&defect.code)).collect();
    // The most telling first: what leads nowhere may be misused besides.
    failures
        .sort_by_key(|defect| TELLING.iter().position(|code| *code == defect.code).unwrap_or(TELLING.len()));
    if failures.is_empty() {
        let root = facts.path.last().map_or("nobody", |root| &root.subject);
        return outcome.finding(Finding::new("verify_chain", true, "leads to a trusted authority", root));
    }
    for defect in failures {
        // What is broken is broken, whoever signed it; the rest is only about whom to trust.
        let forgiven = match defect.code.as_str() {
            "bad-signature" => false,
            "self-signed" => !config.verify_chain || config.allow_self_signed,
            _ => !config.verify_chain,
        };
        let finding =
            Finding::new("verify_chain", false, "leads to a trusted authority", defect.message.clone());
        outcome = if forgiven {
            outcome.finding(finding)
        } else {
            outcome.must(finding, &code(&defect.code), || defect.message.clone())
        };
    }
    outcome
}

/// The version that was agreed on, and what of the chain can be forged.
fn strength(mut outcome: Outcome, config: &Config, facts: &Facts, leaf: &Certificate) -> Outcome {
    let lowest = config.min_tls_version.text();
    outcome = outcome.must(
        Finding::new(
            "min_tls_version",
            facts.version.as_str() >= lowest,
            format!("at least {lowest}"),
            facts.version.clone(),
        ),
        "tls.version",
        || format!("the server speaks TLS {}, at least {lowest} is expected", facts.version),
    );
    for (id, defect, expected, found) in [
        ("signature", "weak-signature", "SHA-256 or better", leaf.signature.clone()),
        ("key", "weak-key", "RSA of 2048 bits or more, or a curve", format!("{} {}", leaf.key.0, leaf.key.1)),
    ] {
        let weak: Vec<&Defect> = facts.defects.iter().filter(|found| found.code == defect).collect();
        if weak.is_empty() {
            outcome = outcome.finding(Finding::new(id, true, expected, found));
        }
        for defect in weak {
            let finding = Finding::new(id, false, expected, defect.message.clone());
            outcome = outcome.must(finding, &code(&defect.code), || defect.message.clone());
        }
    }
    outcome
}

fn expiry(outcome: Outcome, config: &Config, first: &Certificate, leaf: &Certificate, now: i64) -> Outcome {
    let left = days(first.not_after, now);
    let finding = |id: &str, bound: u16| {
        Finding::new(
            id,
            left >= f64::from(bound),
            format!("at least {bound} days"),
            format!("{left:.1} days"),
        )
    };
    let summary = || {
        format!(
            "the certificate of {} expires in {}, on {}",
            whose(first, leaf),
            in_words(left),
            date(first.not_after)
        )
    };
    outcome.must(finding("critical_days", config.critical_days), "tls.expiring", summary).should(
        finding("warn_days", config.warn_days),
        "tls.expiring",
        summary,
    )
}

/// A chain that verifies here, because the trusted authorities hold what the server left out, fails elsewhere.
fn completeness(outcome: Outcome, facts: &Facts) -> Outcome {
    if !facts.leads_to_a_root() {
        return outcome;
    }
    let missing: Vec<&str> = facts
        .path
        .iter()
        .filter(|certificate| !certificate.is_self_issued())
        .filter(|certificate| facts.served.iter().all(|served| served.sha256 != certificate.sha256))
        .map(|certificate| certificate.subject.as_str())
        .collect();
    let actual =
        if missing.is_empty() { "complete".to_owned() } else { format!("without {}", missing.join(", ")) };
    outcome.should(
        Finding::new("served_chain", missing.is_empty(), "complete", actual),
        "tls.incomplete_chain",
        || format!("the server leaves out {}: it verifies only here", missing.join(", ")),
    )
}

/// A server that wants one is up all the same: its own certificate is what is looked at.
fn client_certificate(outcome: Outcome, facts: &Facts) -> Outcome {
    if !facts.wants_client_certificate {
        return outcome;
    }
    let actual = match facts.cipher.as_str() {
        "" => "asks for a client certificate and ends the handshake without one",
        _ => "asks for a client certificate",
    };
    outcome.finding(Finding::new(
        "client_certificate",
        true,
        "its own certificate, whatever it asks for",
        actual,
    ))
}

fn attributes(mut outcome: Outcome, config: &Config, facts: &Facts) -> Outcome {
    outcome = outcome.attribute("version", facts.version.clone());
    if !facts.cipher.is_empty() {
        outcome = outcome.attribute("cipher", facts.cipher.clone());
    }
    if config.revocation != Revocation::Off {
        outcome = outcome.attribute("revocation", revocation::in_words(facts));
    }
    if let Some(leaf) = facts.served.first() {
        outcome = outcome
            .attribute("names", leaf.names.join(", "))
            .attribute("signature", leaf.signature.clone())
            .attribute("spki_sha256", leaf.spki_sha256.clone());
    }
    for (index, certificate) in facts.served.iter().take(REPORTED).enumerate() {
        let mut add = |name: &str, value: String| {
            outcome.attributes.push((format!("chain.{index}.{name}"), value));
        };
        add("subject", certificate.subject.clone());
        add("issuer", certificate.issuer.clone());
        add("serial", certificate.serial.clone());
        add("sha256", certificate.sha256.clone());
        add("key", format!("{} {}", certificate.key.0, certificate.key.1));
        add("not_before", date(certificate.not_before));
        add("not_after", date(certificate.not_after));
    }
    outcome
}

/// "not-yet-valid" as a code of an outcome.
fn code(defect: &str) -> String {
    format!("tls.{}", defect.replace('-', "_"))
}

fn kind(certificate: &Certificate) -> &'static str {
    if certificate.is_ca { "an authority's certificate" } else { "a server's certificate" }
}

/// Defects of trust, the one that names the cause first.
const TELLING: [&str; 4] = ["bad-signature", "self-signed", "incomplete-chain", "untrusted"];
/// Certificates of the served chain that are reported; the host keeps 64 attributes.
const REPORTED: usize = 8;

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
