//! Names that `exclude` passes over: its patterns are compiled and searched by the host, before anything is judged.

use std::collections::BTreeSet;

use sdk::regex::Pattern;
use sdk::{Failure, Patterns, Stop};

use crate::config::Config;

/// The patterns of a configuration.
pub(crate) struct Exclude(Vec<Pattern>);

impl Exclude {
    /// Compiles them; every mistake at once.
    pub(crate) fn read(config: &Config) -> Result<Self, Stop> {
        let mut patterns = Patterns::default();
        let read = patterns.list("exclude", &config.exclude);
        patterns.all(Self(read))
    }

    /// Those of the names that one of them matches.
    pub(crate) fn among<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<BTreeSet<String>, Stop> {
        let mut excluded = BTreeSet::new();
        for name in names {
            for pattern in &self.0 {
                if pattern.matches(name.as_bytes()).map_err(Failure::Unsupported)? {
                    excluded.insert(name.to_owned());
                }
            }
        }
        Ok(excluded)
    }
}
