//! The records that must be in an answer, and those that must not.

use sdk::{Failure, Finding, Mistake, Outcome, Stop};

use crate::config::{Config, Match, QueryType};
use crate::judge::{Facts, listed};
use crate::records::Expected;

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

/// Only of an answer with NOERROR.
pub(crate) fn judge(
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
