//! Regular expressions on the records of a section: compiled and searched by the host. What they mean for the verdict is in `judge`.

use sdk::dns::{Answer, Entry};
use sdk::regex::Pattern;
use sdk::{Failure, Patterns, Stop};

use crate::config::Config;

/// The options that have patterns, compiled.
pub(crate) struct Sections(Vec<Demand>);

struct Demand {
    option: &'static str,
    section: fn(&Answer) -> Vec<Entry>,
    /// Whether one of them must match, or none may.
    wanted: bool,
    texts: Vec<String>,
    patterns: Vec<Pattern>,
}

/// What became of each option that has patterns.
pub(crate) type Found = Vec<Matched>;

/// What became of an option.
#[derive(Clone)]
pub(crate) struct Matched {
    pub(crate) option: &'static str,
    /// Whether one of the patterns must match, or none may.
    pub(crate) wanted: bool,
    pub(crate) texts: Vec<String>,
    /// The first record that one matches.
    pub(crate) record: Option<String>,
}

impl Sections {
    /// Compiles everything; the mistakes of all of it at once.
    pub(crate) fn read(config: &Config) -> Result<Self, Stop> {
        let mut patterns = Patterns::default();
        let mut demands = Vec::new();
        for (option, texts, wanted, section) in [
            ("answer_matches", &config.answer_matches, true, Answer::answers as fn(&Answer) -> Vec<Entry>),
            ("answer_not_matches", &config.answer_not_matches, false, Answer::answers),
            ("authority_matches", &config.authority_matches, true, Answer::authority),
            ("authority_not_matches", &config.authority_not_matches, false, Answer::authority),
            ("additional_matches", &config.additional_matches, true, Answer::additional),
            ("additional_not_matches", &config.additional_not_matches, false, Answer::additional),
        ] {
            if !texts.is_empty() {
                let (patterns, texts) = (patterns.list(option, texts), texts.clone());
                demands.push(Demand { option, section, wanted, texts, patterns });
            }
        }
        patterns.all(Self(demands))
    }

    /// Searches the records of the answer.
    pub(crate) fn ask(&self, answer: &Answer) -> Result<Found, Stop> {
        let mut found = Vec::new();
        for demand in &self.0 {
            let Demand { option, wanted, texts, .. } = demand;
            let record = demand.record(answer)?;
            found.push(Matched { option, wanted: *wanted, texts: texts.clone(), record });
        }
        Ok(found)
    }
}

impl Demand {
    fn record(&self, answer: &Answer) -> Result<Option<String>, Failure> {
        for record in (self.section)(answer).iter().map(line) {
            for pattern in &self.patterns {
                if pattern.matches(record.as_bytes()).map_err(Failure::Unsupported)? {
                    return Ok(Some(record));
                }
            }
        }
        Ok(None)
    }
}

/// As a zone file has it (RFC 1035, section 5.1), with one space between.
fn line(entry: &Entry) -> String {
    format!("{} {} IN {} {}", entry.name, entry.ttl, entry.kind, entry.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_written_as_in_a_zone_file() {
        let entry = Entry {
            name: "shop.test.".into(),
            kind: "MX".into(),
            ttl: 300,
            data: "10 mail.shop.test.".into(),
            rdata: Vec::new(),
        };
        assert_eq!(line(&entry), "shop.test. 300 IN MX 10 mail.shop.test.");
    }
}
