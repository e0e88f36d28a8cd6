//! From an answer to a verdict. Pure.

use sdk::dns::Security;
use sdk::{Failure, Finding, Mistake, Outcome, Stop};

use crate::records::{self, Expected};
use crate::{Config, Dnssec, Match, QueryType, Rcode, Transport, sections};

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

/// `expected` and `not_expected`, read.
pub(crate) struct Expectations {
    wanted: Vec<Expected>,
    unwanted: Vec<Expected>,
}

impl Expectations {
    /// A mistake names the item.
    pub(crate) fn read(config: &Config) -> Result<Self, Stop> {
        let mut mistakes = Vec::new();
        let mut list = |key: &str, written: &[String]| {
            let mut read = Vec::new();
            for (index, text) in written.iter().enumerate() {
                match Expected::read(text, config.query_type) {
                    Ok(expected) => read.push(expected),
                    Err(message) => mistakes.push(Mistake { at: format!("/{key}/{index}"), message }),
                }
            }
            read
        };
        let wanted = list("expected", &config.expected);
        let unwanted = list("not_expected", &config.not_expected);
        match mistakes.is_empty() {
            true => Ok(Self { wanted, unwanted }),
            false => Err(Failure::InvalidConfig(mistakes).into()),
        }
    }
}

/// The verdict.
pub(crate) fn judge(config: &Config, expectations: &Expectations, facts: &Facts) -> Outcome {
    let count = facts.records.len();
    let rcode = rcode_name(facts.rcode);
    let asked = format!("{} {}", config.query_name, config.query_type.name());
    let mut outcome = Outcome::up(match facts.rcode {
        0 => format!("{asked}: {}", listed(facts)),
        _ => format!("{asked}: {rcode}"),
    });
    outcome = outcome.must(
        Finding::new(
            "valid_rcodes",
            config.valid_rcodes.iter().any(|valid| number(*valid) == facts.rcode),
            config
                .valid_rcodes
                .iter()
                .map(|valid| rcode_name(number(*valid)))
                .collect::<Vec<_>>()
                .join(" or "),
            rcode.clone(),
        ),
        &format!("dns.{}", rcode.to_ascii_lowercase()),
        || format!("{asked}: {rcode} from {}", facts.server),
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
        outcome = expected(config, expectations, facts, &asked, outcome);
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
        .attribute("dns.rcode", rcode)
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

fn expected(
    config: &Config,
    expectations: &Expectations,
    facts: &Facts,
    asked: &str,
    mut outcome: Outcome,
) -> Outcome {
    let kind = config.query_type;
    if !expectations.wanted.is_empty() {
        let passed = compare(config.compare, &expectations.wanted, facts, kind);
        let how = match config.compare {
            Match::Any => "any of",
            Match::All => "all of",
            Match::ExactSet => "exactly",
        };
        let wanted = config.expected.join(", ");
        outcome = outcome.must(
            Finding::new("expected", passed, format!("{how} {wanted}"), listed(facts)),
            "dns.expected",
            || format!("{asked}: {}, expected {how} {wanted}", listed(facts)),
        );
    }
    if !expectations.unwanted.is_empty() {
        let found = facts.records.iter().find(|(data, _)| covered(&expectations.unwanted, data, kind));
        let unwanted = config.not_expected.join(", ");
        outcome = outcome.must(
            Finding::new("not_expected", found.is_none(), format!("none of {unwanted}"), listed(facts)),
            "dns.not_expected",
            || format!("{asked}: {} is there", found.map_or("", |(data, _)| data)),
        );
    }
    outcome
}

fn compare(how: Match, wanted: &[Expected], facts: &Facts, kind: QueryType) -> bool {
    let there = |expected: &Expected| facts.records.iter().any(|(data, _)| expected.covers(data, kind));
    match how {
        Match::Any => wanted.iter().any(there),
        Match::All => wanted.iter().all(there),
        Match::ExactSet => {
            wanted.iter().all(there) && facts.records.iter().all(|(data, _)| covered(wanted, data, kind))
        }
    }
}

fn covered(by: &[Expected], data: &str, kind: QueryType) -> bool {
    by.iter().any(|expected| expected.covers(data, kind))
}

/// The first four records.
fn listed(facts: &Facts) -> String {
    let shown: Vec<&str> = facts.records.iter().take(4).map(|(data, _)| data.as_str()).collect();
    match facts.records.len() {
        0 => "no records".into(),
        1..=4 => shown.join(", "),
        count => format!("{} and {} more", shown.join(", "), count - 4),
    }
}

/// RFC 1035, RFC 2136.
fn rcode_name(rcode: u16) -> String {
    RCODES.get(usize::from(rcode)).map_or_else(|| format!("RCODE_{rcode}"), ToString::to_string)
}

fn number(rcode: Rcode) -> u16 {
    match rcode {
        Rcode::NoError => 0,
        Rcode::FormErr => 1,
        Rcode::ServFail => 2,
        Rcode::NxDomain => 3,
        Rcode::NotImp => 4,
        Rcode::Refused => 5,
        Rcode::YxDomain => 6,
        Rcode::YxRrSet => 7,
        Rcode::NxRrSet => 8,
        Rcode::NotAuth => 9,
        Rcode::NotZone => 10,
    }
}

const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
    "NOTAUTH", "NOTZONE",
];

#[cfg(test)]
mod tests {
    use sdk::State;
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
        let metrics: Vec<_> =
            outcome.metrics.iter().map(|metric| (metric.name.as_str(), metric.value)).collect();
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
        check(
            json!({}),
            &facts(2, &[]),
            State::Down,
            "dns.servfail",
            "shop.test A: SERVFAIL from 192.0.2.53:53",
        );
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
        let Err(Stop::Failure(Failure::InvalidConfig(mistakes))) = Expectations::read(&config) else {
            panic!()
        };
        assert_eq!(mistakes[0].at, "/expected/1");
    }
}
