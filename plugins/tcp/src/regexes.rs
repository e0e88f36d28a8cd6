//! The regular expressions of a dialogue, compiled and searched by the host.

use std::collections::BTreeMap;

use sdk::regex::Pattern;
use sdk::{Failure, Patterns, Stop};

use crate::config::{Config, Groups, Step};
use crate::expectation::Expectations;
use crate::met::Hit;
use crate::template::Captures;

/// Those of every step, by its place and that among what the step expects.
pub(crate) struct Regexes(BTreeMap<(usize, usize), Compiled>);

struct Compiled {
    pattern: Pattern,
    /// The names of its groups, the whole match first.
    names: Vec<Option<String>>,
}

impl Regexes {
    /// Compiles everything; the mistakes of all of it at once.
    pub(crate) fn read(config: &Config) -> Result<Self, Stop> {
        let mut patterns = Patterns::default();
        let mut read = BTreeMap::new();
        for (step, Step { expect, .. }) in config.steps().iter().enumerate() {
            for (place, within, text) in expect.iter().flat_map(Expectations::regexes) {
                let at = format!("{}{within}", config.pointer(step));
                // `^` and `$` at the ends of lines, whichever way they end.
                if let Some(pattern) = patterns.with_flags("(?mR)", at, text) {
                    let names = pattern.groups();
                    read.insert((step, place), Compiled { pattern, names });
                }
            }
        }
        patterns.all(Self(read))
    }

    /// The groups of what a step expects; none where that is no regular expression.
    pub(crate) fn groups(&self, step: usize) -> Option<Groups> {
        let of_step = self.0.range((step, 0)..(step + 1, 0)).map(|(_, compiled)| compiled);
        of_step.fold(None, |groups: Option<Groups>, compiled| {
            let mut groups = groups.unwrap_or_default();
            groups.most = groups.most.max(compiled.names.len().saturating_sub(1));
            groups.names.extend(compiled.names.iter().flatten().cloned());
            Some(groups)
        })
    }

    /// Where the one at that place matches.
    pub(crate) fn search(&self, step: usize, place: usize, text: &str) -> Result<Option<Hit>, Stop> {
        let Some(Compiled { pattern, names }) = self.0.get(&(step, place)) else { return Ok(None) };
        let spans = pattern.captures(text.as_bytes()).map_err(Failure::Unsupported)?;
        Ok(spans.map(|spans| hit(text, &spans, names)))
    }
}

/// The texts that groups took; empty for one that took no part.
fn hit(text: &str, spans: &[Option<(u32, u32)>], names: &[Option<String>]) -> Hit {
    let taken = |span: &Option<(u32, u32)>| {
        let taken = span.and_then(|(begin, end)| text.as_bytes().get(begin as usize..end as usize));
        String::from_utf8_lossy(taken.unwrap_or_default()).into_owned()
    };
    let named = names.iter().zip(spans).filter_map(|(name, span)| Some((name.clone()?, taken(span))));
    Hit {
        end: spans.first().copied().flatten().map_or(0, |(_, end)| end as usize),
        captures: Captures { numbered: spans.iter().map(taken).collect(), named: named.collect() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_captured_by_number_and_by_name() {
        let names = [None, Some("code".to_owned()), None, Some("rest".to_owned())];
        let spans = [Some((0, 8)), Some((0, 3)), None, Some((4, 8))];
        let Hit { end, captures } = hit("220 bc x\r\n", &spans, &names);
        assert_eq!(end, 8);
        assert_eq!(captures.numbered, ["220 bc x", "220", "", "bc x"]);
        assert_eq!((captures.named["code"].as_str(), captures.named["rest"].as_str()), ("220", "bc x"));
    }
}
