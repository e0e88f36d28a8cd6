//! The verdict over a handshake: pure, `now` is a value.
//!
//! Every defect becomes a finding; the gravest names the outcome. Expiry counts the leaf and the intermediates of the verified
//! chain, or of the served one where none verifies, and never a root: an expired root is still trusted.

use sdk::{Finding, Outcome};

use crate::config::Config;
use crate::facts::{Certificate, Defect, Facts};

/// Judges the facts at `now`, in seconds since 1970.
pub(crate) fn judge(config: &Config, facts: &Facts, now: i64) -> Outcome {
    let Some(leaf) = facts.served.first() else {
        return Outcome::down("tls.protocol", "the server sent no certificate");
    };
    let counted = counted(facts);
    let first = counted.iter().copied().min_by_key(|certificate| certificate.not_after).unwrap_or(leaf);
    let left = days(first.not_after, now);

    let mut outcome =
        Outcome::up(format!("{} is valid for {}, TLS {}", name_of(leaf), in_words(left), facts.version));
    outcome = validity(outcome, first, leaf, &counted, now);
    outcome = names(outcome, config, facts, leaf);
    outcome = trust(outcome, config, facts, leaf);
    outcome = strength(outcome, config, facts, &counted);
    outcome = expiry(outcome, config, first, leaf, now);
    outcome = completeness(outcome, facts);
    outcome = outcome
        .metric("tls.days_left", left, "d")
        .metric("tls.leaf_days_left", days(leaf.not_after, now), "d")
        .metric("tls.certificates", facts.served.len() as f64, "1");
    if let Some(seconds) = facts.handshake {
        outcome = outcome.metric("tls.handshake", seconds, "s");
    }
    attributes(outcome, facts)
}

/// The certificates whose expiry counts, leaf first.
fn counted(facts: &Facts) -> Vec<&Certificate> {
    let chain = facts.verified.as_ref().unwrap_or(&facts.served);
    chain
        .iter()
        .enumerate()
        .filter(|(index, certificate)| *index == 0 || !certificate.is_self_issued())
        .map(|(_, certificate)| certificate)
        .collect()
}

fn validity(
    outcome: Outcome,
    first: &Certificate,
    leaf: &Certificate,
    counted: &[&Certificate],
    now: i64,
) -> Outcome {
    let whose = whose(first, leaf);
    let outcome = outcome.must(
        Finding::new("not_after", first.not_after > now, "in the future", date(first.not_after)),
        "tls.expired",
        || format!("the certificate of {whose} expired on {}", date(first.not_after)),
    );
    let last = counted.iter().copied().max_by_key(|certificate| certificate.not_before).unwrap_or(leaf);
    let whose = self::whose(last, leaf);
    outcome.must(
        Finding::new("not_before", last.not_before <= now, "in the past", date(last.not_before)),
        "tls.not_yet_valid",
        || format!("the certificate of {whose} is not valid before {}", date(last.not_before)),
    )
}

fn names(outcome: Outcome, config: &Config, facts: &Facts, leaf: &Certificate) -> Outcome {
    let expected = config.expected_name();
    let wrong = defects(facts).iter().any(|defect| defect.code == "wrong-name");
    let found = if leaf.names.is_empty() { "no name at all".to_owned() } else { leaf.names.join(", ") };
    let finding = Finding::new("verify_hostname", !wrong, expected, found.clone());
    if !config.verify_hostname {
        return outcome.finding(finding);
    }
    outcome.must(finding, "tls.wrong_name", || format!("the certificate is for {found}, not for {expected}"))
}

/// Whether the chain leads to an authority that is trusted.
fn trust(mut outcome: Outcome, config: &Config, facts: &Facts, leaf: &Certificate) -> Outcome {
    outcome = outcome.must(
        Finding::new(
            "revocation",
            !facts.revoked,
            "not revoked",
            if facts.revoked { "revoked" } else { "not revoked, as far as the server says" },
        ),
        "tls.revoked",
        || format!("the certificate of {} is revoked", name_of(leaf)),
    );
    let self_signed = leaf.is_self_issued() && facts.verified.is_err();
    let tolerated = self_signed && config.allow_self_signed;
    if !leaf.is_self_issued() {
        outcome = outcome.must(
            Finding::new("basic_constraints", !leaf.is_ca, "a server's certificate", kind(leaf)),
            "tls.authority_as_leaf",
            || format!("{} serves an authority's certificate as its own", name_of(leaf)),
        );
    }
    let mut failures: Vec<&Defect> =
        defects(facts).iter().filter(|defect| is_about_trust(&defect.code)).collect();
    // The most telling first: a chain without its intermediate is also untrusted.
    failures
        .sort_by_key(|defect| TELLING.iter().position(|code| *code == defect.code).unwrap_or(TELLING.len()));
    if failures.is_empty() {
        let anchor = facts.verified.as_ref().ok().and_then(|chain| chain.last());
        let anchor = anchor.map_or("only dates or names are wrong", |root| &root.subject);
        return outcome.finding(Finding::new("verify_chain", true, "leads to a trusted authority", anchor));
    }
    for defect in failures {
        // What is broken is broken, whoever signed it; the rest is only about whom to trust.
        let forgiven =
            defect.code != "bad-signature" && defect.code != "revoked" && (!config.verify_chain || tolerated);
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

fn strength(outcome: Outcome, config: &Config, facts: &Facts, counted: &[&Certificate]) -> Outcome {
    let lowest = config.min_tls_version.text();
    let mut outcome = outcome.must(
        Finding::new(
            "min_tls_version",
            facts.version.as_str() >= lowest,
            format!("at least {lowest}"),
            facts.version.clone(),
        ),
        "tls.version",
        || format!("the server speaks TLS {}, at least {lowest} is expected", facts.version),
    );
    for certificate in counted {
        let algorithm = certificate.signature.to_ascii_lowercase();
        if algorithm.contains("md5") || algorithm.contains("sha1") {
            let finding =
                Finding::new("signature", false, "SHA-256 or better", certificate.signature.clone());
            outcome = outcome.must(finding, "tls.weak_signature", || {
                format!(
                    "the certificate of {} is signed with {}",
                    name_of(certificate),
                    certificate.signature
                )
            });
        }
        let (kind, bits) = &certificate.key;
        if kind == "RSA" && *bits < 2048 {
            let finding =
                Finding::new("key", false, "RSA of 2048 bits or more", format!("RSA of {bits} bits"));
            outcome = outcome.must(finding, "tls.weak_key", || {
                format!("the key of {} has only {bits} bits", name_of(certificate))
            });
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
    let Ok(verified) = &facts.verified else { return outcome };
    let missing: Vec<&str> = verified
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

fn attributes(mut outcome: Outcome, facts: &Facts) -> Outcome {
    outcome = outcome.attribute("version", facts.version.clone()).attribute("cipher", facts.cipher.clone());
    if let Some(leaf) = facts.served.first() {
        outcome = outcome
            .attribute("names", leaf.names.join(", "))
            .attribute("signature", leaf.signature.clone())
            .attribute("key", format!("{} {}", leaf.key.0, leaf.key.1))
            .attribute("not_before", date(leaf.not_before));
    }
    for (index, certificate) in facts.served.iter().take(REPORTED).enumerate() {
        let mut add = |name: &str, value: String| {
            outcome.attributes.push((format!("chain.{index}.{name}"), value));
        };
        add("subject", certificate.subject.clone());
        add("issuer", certificate.issuer.clone());
        add("serial", certificate.serial.clone());
        add("sha256", certificate.sha256.clone());
        add("not_after", date(certificate.not_after));
    }
    outcome
}

fn defects(facts: &Facts) -> &[Defect] {
    facts.verified.as_ref().err().map_or(&[], Vec::as_slice)
}

/// Dates and names are judged on their own.
fn is_about_trust(code: &str) -> bool {
    !matches!(code, "expired" | "not-yet-valid" | "wrong-name")
}

/// "not-yet-valid" as a code of an outcome.
fn code(defect: &str) -> String {
    format!("tls.{}", defect.replace('-', "_"))
}

fn kind(certificate: &Certificate) -> &'static str {
    if certificate.is_ca { "an authority's certificate" } else { "a server's certificate" }
}

/// The common name where there is one, the whole subject otherwise.
fn name_of(certificate: &Certificate) -> String {
    common_name(&certificate.subject).or_else(|| certificate.names.first().cloned()).unwrap_or_else(|| {
        match certificate.subject.as_str() {
            "" => "the server".to_owned(),
            subject => subject.to_owned(),
        }
    })
}

/// The CN of a distinguished name (RFC 4514), where a backslash takes a comma's meaning.
fn common_name(subject: &str) -> Option<String> {
    let start = match subject.starts_with("CN=") {
        true => 3,
        false => subject.find(",CN=")? + 4,
    };
    let mut name = String::new();
    let mut chars = subject[start..].chars();
    while let Some(next) = chars.next() {
        match next {
            '\\' => name.extend(chars.next()),
            ',' | '+' => break,
            other => name.push(other),
        }
    }
    Some(name)
}

fn whose(certificate: &Certificate, leaf: &Certificate) -> String {
    if certificate.sha256 == leaf.sha256 {
        name_of(leaf)
    } else {
        format!("the intermediate {}", name_of(certificate))
    }
}

fn days(at: i64, now: i64) -> f64 {
    (at.saturating_sub(now)) as f64 / 86_400.0
}

/// Whole days, rounded down: what is left for a person to act.
fn in_words(days: f64) -> String {
    match days.floor() {
        1.0 => "1 day".to_owned(),
        whole => format!("{whole} days"),
    }
}

/// RFC 3339, UTC. The days of the civil calendar follow Howard Hinnant's algorithm, where a year begins in March.
fn date(at: i64) -> String {
    let (days, seconds) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Defects of trust, the one that names the cause first.
const TELLING: [&str; 5] = ["revoked", "bad-signature", "self-signed", "incomplete-chain", "untrusted"];
/// Certificates of the served chain that are reported; the host keeps 64 attributes.
const REPORTED: usize = 8;

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
