//! From an answer to a verdict. Pure.

use sdk::dns::Security;
use sdk::{Finding, Outcome};

use crate::config::{Config, Dnssec, QueryType, Transport};
use crate::expected::{self, Expectations};
use crate::{rcode, records, sections};

/// What came back.
pub(crate) struct Facts {
    /// RFC 6895.
    pub(crate) rcode: u16,
    pub(crate) authoritative: bool,
    /// AD.
    pub(crate) authenticated: bool,
    /// What validation says, and why; none where it was not asked for.
    pub(crate) security: Option<(Security, String)>,
    /// Data and time to live in seconds of the records of the asked type.
    pub(crate) records: Vec<(String, u32)>,
    pub(crate) sections: sections::Found,
    /// Of each of `serial_servers`.
    pub(crate) serials: Vec<Serial>,
    /// "address:port".
    pub(crate) server: String,
    /// How the answer came.
    pub(crate) transport: Transport,
    pub(crate) elapsed_us: u64,
}

/// The serial of the zone on one server; none where it said none.
#[derive(Clone)]
pub(crate) struct Serial {
    pub(crate) server: String,
    pub(crate) number: Option<u32>,
}

/// The verdict.
pub(crate) fn judge(config: &Config, expectations: &Expectations, facts: &Facts) -> Outcome {
    let count = facts.records.len();
    let code = rcode::name(facts.rcode);
    let asked = format!("{} {}", config.query_name, config.query_type.name());
    let mut outcome = Outcome::up(match facts.rcode {
        0 => format!("{asked}: {}", listed(facts)),
        _ => format!("{asked}: {code}"),
    });
    outcome = outcome.must(
        Finding::new(
            "valid_rcodes",
            config.valid_rcodes.iter().any(|valid| valid.number() == facts.rcode),
            config
                .valid_rcodes
                .iter()
                .map(|valid| rcode::name(valid.number()))
                .collect::<Vec<_>>()
                .join(" or "),
            code.clone(),
        ),
        &format!("dns.{}", code.to_ascii_lowercase()),
        || format!("{asked}: {code} from {}", facts.server),
    );
    if config.authoritative {
        let actual = if facts.authoritative { "AA is set" } else { "AA is not set" };
        outcome = outcome.must(
            Finding::new("authoritative", facts.authoritative, "AA is set", actual),
            "dns.authoritative",
            || format!("{asked}: {} is not an authority for it", facts.server),
        );
    }
    outcome = signatures(config, facts, &asked, outcome);
    if facts.rcode == 0 {
        outcome = answers(config, facts, &asked, outcome);
        outcome = expected::judge(config, expectations, facts, &asked, outcome);
        outcome = times_to_live(config, facts, &asked, outcome);
    }
    for matched in &facts.sections {
        outcome = section(matched, &asked, outcome);
    }
    outcome = serials(config, facts, &asked, outcome);
    if let Some(ttl) = facts.records.iter().map(|(_, ttl)| *ttl).min() {
        outcome = outcome.metric("dns.ttl", ttl.into(), "s");
    }
    outcome
        .metric("dns.lookup_time", facts.elapsed_us as f64 / 1e6, "s")
        .metric("dns.answers", count as f64, "1")
        .attribute("dns.rcode", code)
        .attribute("dns.server", facts.server.clone())
        .attribute("dns.transport", facts.transport.name())
}

/// An answer without signatures is no forged one: each has its code.
fn signatures(config: &Config, facts: &Facts, asked: &str, outcome: Outcome) -> Outcome {
    let server = &facts.server;
    if config.dnssec == Dnssec::RequireAd {
        let actual = if facts.authenticated { "AD is set" } else { "AD is not set" };
        return outcome.must(
            Finding::new("dnssec", facts.authenticated, "AD is set", actual),
            "dns.not_authenticated",
            || format!("{asked}: {server} has not validated the answer"),
        );
    }
    let Some((security, why)) = &facts.security else { return outcome };
    let (code, word) = match security {
        Security::Secure => ("ok", "secure"),
        Security::Insecure => ("dns.insecure", "insecure"),
        Security::Bogus => ("dns.bogus", "bogus"),
        Security::Indeterminate => ("dns.indeterminate", "indeterminate"),
    };
    let passed = *security == Security::Secure;
    outcome
        .must(Finding::new("dnssec", passed, "secure", format!("{word}: {why}")), code, || {
            format!("{asked}: the answer is {word}: {why}")
        })
        .attribute("dns.security", word)
}

fn times_to_live(config: &Config, facts: &Facts, asked: &str, mut outcome: Outcome) -> Outcome {
    let ttls = || facts.records.iter().map(|(_, ttl)| *ttl);
    if let (Some(least), Some(ttl)) = (config.min_ttl, ttls().min()) {
        outcome = outcome.must(
            Finding::new("min_ttl", ttl >= least, format!("at least {least} s"), format!("{ttl} s")),
            "dns.ttl",
            || format!("{asked}: a time to live of {ttl} s, expected at least {least} s"),
        );
    }
    if let (Some(most), Some(ttl)) = (config.max_ttl, ttls().max()) {
        outcome = outcome.must(
            Finding::new("max_ttl", ttl <= most, format!("at most {most} s"), format!("{ttl} s")),
            "dns.ttl",
            || format!("{asked}: a time to live of {ttl} s, expected at most {most} s"),
        );
    }
    outcome
}

fn section(matched: &sections::Matched, asked: &str, outcome: Outcome) -> Outcome {
    let patterns = matched.texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
    let (expected, wrong) = match matched.wanted {
        true => (format!("one of {patterns}"), format!("no record matches one of {patterns}")),
        false => {
            let record = matched.record.as_deref().unwrap_or_default();
            (format!("none of {patterns}"), format!("{record} matches one of {patterns}"))
        }
    };
    let actual = matched.record.as_deref().unwrap_or("none matches");
    let passed = matched.record.is_some() == matched.wanted;
    outcome.must(
        Finding::new(matched.option, passed, expected, actual),
        &format!("dns.{}", matched.option),
        || format!("{asked}: {wrong}"),
    )
}

fn serials(config: &Config, facts: &Facts, asked: &str, mut outcome: Outcome) -> Outcome {
    let own = facts.records.first().filter(|_| config.query_type == QueryType::Soa);
    let own = own.and_then(|(data, _)| records::serial(data));
    let told: Vec<String> = facts
        .serials
        .iter()
        .map(|Serial { server, number }| match number {
            Some(number) => format!("{number} on {server}"),
            None => format!("none on {server}"),
        })
        .collect();
    if let Some(first) = facts.serials.first() {
        let wanted = own.or(first.number);
        let equal = wanted.is_some() && facts.serials.iter().all(|serial| serial.number == wanted);
        let actual = match own {
            Some(own) => format!("{own} on {}, {}", facts.server, told.join(", ")),
            None => told.join(", "),
        };
        outcome = outcome.must(
            Finding::new("serial_servers", equal, "the same serial on all", actual.clone()),
            "dns.serial",
            || format!("{asked}: serials differ: {actual}"),
        );
    }
    match own.or_else(|| facts.serials.first().and_then(|serial| serial.number)) {
        Some(serial) => outcome.metric("dns.serial", serial.into(), "1"),
        None => outcome,
    }
}

fn answers(config: &Config, facts: &Facts, asked: &str, outcome: Outcome) -> Outcome {
    let (count, least) = (facts.records.len(), config.min_answers);
    outcome.must(
        Finding::new(
            "min_answers",
            count as u64 >= u64::from(least),
            format!("at least {least} of type {}", config.query_type.name()),
            count.to_string(),
        ),
        "dns.min_answers",
        || format!("{asked}: {count} records, expected at least {least}"),
    )
}

/// The first four records.
pub(crate) fn listed(facts: &Facts) -> String {
    let shown: Vec<&str> = facts.records.iter().take(4).map(|(data, _)| data.as_str()).collect();
    match facts.records.len() {
        0 => "no records".into(),
        1..=4 => shown.join(", "),
        count => format!("{} and {} more", shown.join(", "), count - 4),
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
