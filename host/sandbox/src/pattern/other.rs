//! The other engine, for what the automaton cannot do: groups, and a Unicode word boundary beside what is not ASCII. Nobody can
//! interrupt it, so it is asked only where it cannot take long.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Input, PatternID};

use super::{COMPILED, Group, Pattern, shelf, words};

impl Pattern {
    /// Where the groups are in a text that matches, the whole match first.
    pub(super) fn groups_in(&self, text: &[u8]) -> Result<Vec<Group>, String> {
        if self.is_too_large_for(text) {
            return Err(format!(
                "{} bytes are too many for the groups of `{}`; expect less text, or a shorter pattern",
                text.len(),
                self.text
            ));
        }
        let regex = self.other_engine()?;
        let mut found = regex.create_captures();
        regex.search_captures_with(&mut regex.create_cache(), &Input::new(text), &mut found);
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Ok(found.iter().map(|group| group.map(|span| (place(span.start), place(span.end)))).collect())
    }

    /// The names of the groups, the whole match first.
    pub(crate) fn groups(&self) -> Vec<Option<String>> {
        let Ok(regex) = self.other_engine() else { return Vec::new() };
        regex.group_info().pattern_names(PatternID::ZERO).map(|name| name.map(str::to_owned)).collect()
    }

    /// Whether a text matches that the automaton gave up: it has a Unicode word boundary beside what is not ASCII.
    pub(super) fn at_once(&self, text: &[u8]) -> Result<bool, String> {
        if self.is_too_large_for(text) {
            return Err(format!(
                "{} bytes that are not all ASCII are too many for the word boundary in `{}`; write (?-u:\\b)",
                text.len(),
                self.text
            ));
        }
        let regex = self.other_engine()?;
        // Of its own: what the engine keeps for the next search may be larger than itself.
        Ok(regex.search_half_with(&mut regex.create_cache(), &Input::new(text).earliest(true)).is_some())
    }

    /// Whether that engine, which nobody can interrupt, would be at it for too long.
    fn is_too_large_for(&self, text: &[u8]) -> bool {
        self.automaton.get_nfa().states().len().saturating_mul(text.len()) > MOST_STEPS
    }

    /// Compiled once, as long as the pattern is kept: whoever asks again and again shall not have it compiled again and again.
    fn other_engine(&self) -> Result<&Regex, String> {
        let mut grown = None;
        let made = self.other.get_or_init(|| {
            let made = Regex::builder()
                .syntax(syntax::Config::new().utf8(false))
                .configure(Regex::config().utf8_empty(false).nfa_size_limit(Some(COMPILED)))
                .build(&self.text)
                .map_err(|error| words(&error));
            grown = made.as_ref().ok().map(Regex::memory_usage);
            made
        });
        grown.into_iter().for_each(|bytes| shelf::grown(self, bytes));
        made.as_ref().map_err(String::clone)
    }
}

/// Steps of this engine: a tenth of a second or two.
const MOST_STEPS: usize = 100_000_000;
