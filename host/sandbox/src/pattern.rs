//! Regular expressions that components have searched: compiled once per process, within bounds, and searched in steps, so that
//! neither a pattern nor a text of theirs holds up a thread for long. What a component is told stands in `host/regex`.

mod classes;
mod other;
mod search;
mod shelf;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;

use self::search::{Found, Search};
use crate::limits::Exceeded;
use crate::state::Meter;

/// Bytes of a pattern's text.
const TEXT: usize = 64 << 10;
/// Bytes of its automaton. A Unicode class such as `\w` takes some thousands.
const COMPILED: usize = 1 << 20;
/// Bytes of the states that a search makes on its way, before it begins anew.
const STATES: usize = 1 << 20;
/// Bytes of text between two looks at the clock, but fewer where the automaton has so many states that these are more steps than
/// [`STEPS`]: each byte may cost as many as there are states.
const STRETCH: usize = 1024;
const STEPS: usize = 1 << 19;

/// What a group took: beginning and end in bytes; none where it took no part.
pub(crate) type Group = Option<(u32, u32)>;

/// A compiled pattern.
pub(crate) struct Pattern {
    text: String,
    automaton: DFA,
    /// States of an earlier search.
    states: Mutex<Option<Cache>>,
    /// The other engine, once somebody needed it; what is wrong with the pattern where it can have none.
    other: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    /// Compiles a pattern, or takes it from the shelf. An error says what is wrong and where.
    pub(crate) fn compile(text: &str) -> Result<Arc<Pattern>, String> {
        if text.len() > TEXT {
            return Err(format!("the pattern has {} bytes, at most {TEXT} are allowed", text.len()));
        }
        if let Some(pattern) = shelf::taken(text) {
            return Ok(pattern);
        }
        if classes::are_too_many(text) {
            let wanted = "write fewer of them, or none of them with (?i)";
            return Err(format!("the pattern has too many Unicode classes to be compiled; {wanted}"));
        }
        let automaton = DFA::builder()
            .configure(
                DFA::config()
                    // Without this a Unicode word boundary is refused at once, and not only where the text is not ASCII.
                    .unicode_word_boundary(true)
                    .cache_capacity(STATES)
                    .skip_cache_capacity_check(true),
            )
            .syntax(syntax::Config::new().utf8(false))
            .thompson(thompson::Config::new().nfa_size_limit(Some(COMPILED)))
            .build(text)
            .map_err(|error| words(&error))?;
        let (states, other) = (Mutex::default(), OnceLock::new());
        let pattern = Arc::new(Pattern { text: text.to_owned(), automaton, states, other });
        shelf::put(&pattern);
        Ok(pattern)
    }

    /// Whether the pattern matches anywhere. The time counts as the component's own and is given away in slices. The error inside
    /// says in words that pattern and text are too large for each other.
    pub(crate) async fn matches(
        &self,
        text: &[u8],
        meter: &mut Meter,
    ) -> Result<Result<bool, String>, Exceeded> {
        let mut search = Search::new(self);
        let mut found = search.begin(text);
        let states = self.automaton.get_nfa().states().len();
        for stretch in text.chunks((STEPS / states.max(1)).clamp(16, STRETCH)) {
            if found.is_some() {
                break;
            }
            found = search.step(stretch);
            meter.worked(Instant::now());
            meter.within()?;
            if meter.gives_way() {
                tokio::task::yield_now().await;
                meter.waited(Instant::now());
            }
        }
        let found = found.unwrap_or_else(|| search.end());
        search.keep();
        let found = match found {
            Found::Yes => Ok(true),
            Found::No => Ok(false),
            Found::Quit => self.at_once(text),
        };
        meter.worked(Instant::now());
        meter.within()?;
        Ok(found)
    }

    /// Where the pattern matches first, and what its groups took. Only a text that matches meets the other engine.
    pub(crate) async fn captures(
        &self,
        text: &[u8],
        meter: &mut Meter,
    ) -> Result<Result<Option<Vec<Group>>, String>, Exceeded> {
        let found = match self.matches(text, meter).await? {
            Ok(true) => self.groups_in(text).map(Some),
            Ok(false) => Ok(None),
            Err(words) => Err(words),
        };
        meter.worked(Instant::now());
        meter.within()?;
        Ok(found)
    }

    fn size(&self) -> usize {
        let other = self.other.get().and_then(|made| made.as_ref().ok()).map_or(0, Regex::memory_usage);
        self.text.len() * 2 + self.automaton.memory_usage() + self.automaton.get_nfa().memory_usage() + other
    }
}

/// The innermost cause in one line: what stands in the pattern, without a drawing of it.
fn words(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let text = inner.to_string();
    let told = text.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or(&text);
    match told.contains("exceeded limit") {
        true => format!("the pattern takes more than {COMPILED} bytes when it is compiled"),
        false => told.lines().next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn found(pattern: &str, text: &str) -> Result<bool, String> {
        let mut meter = Meter::new(10, Duration::from_secs(60));
        Pattern::compile(pattern)?.matches(text.as_bytes(), &mut meter).await.unwrap()
    }

    #[tokio::test]
    async fn a_pattern_is_searched_as_the_regex_crate_does() {
        let long = format!("{}needle", "hay ".repeat(5000));
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "x", true),
            ("^$", "", true),
            ("^$", "x", false),
            ("Welcome", "You are Welcome.", true),
            ("(?i)welcome", "WELCOME", true),
            (r"^\d{3}$", "404", true),
            (r"^\d{3}$", "4040", false),
            (r"\p{Greek}+", "das ist Ω", true),
            (r"^\w+$", "größe", true),
            (r"(?-u)^\w+$", "größe", false),
            (r"\bwort\b", "das wort", true),
            (r"\bwort\b", "das größte wort", true),
            (r"\bgroß\b", "größer groß", true),
            ("needle$", &long, true),
            ("needle.", &long, false),
            ("a.b", "a\nb", false),
            ("(?s)a.b", "a\nb", true),
        ] {
            assert_eq!(found(pattern, text).await, Ok(expected), "{pattern} in {text:.20}");
        }
    }

    #[tokio::test]
    async fn groups_take_what_is_theirs_and_have_their_names() {
        let mut meter = Meter::new(10, Duration::from_secs(60));
        let pattern = Pattern::compile(r"(?mR)^(?P<code>\d+) (a)?(?P<rest>.*)$").unwrap();
        assert_eq!(pattern.groups(), [None, Some("code".into()), None, Some("rest".into())]);
        let captures = pattern.captures("gr\u{fc}n\r\n220 bc\r\n".as_bytes(), &mut meter).await.unwrap();
        assert_eq!(captures, Ok(Some(vec![Some((7, 13)), Some((7, 10)), None, Some((11, 13))])));
        assert_eq!(pattern.captures(b"220", &mut meter).await.unwrap(), Ok(None));
        let wide = Pattern::compile(r"\w{20}x").unwrap();
        let text = format!("{}x", "a".repeat(1 << 20));
        let words = wide.captures(text.as_bytes(), &mut meter).await.unwrap().unwrap_err();
        assert!(words.contains("too many for the groups"), "{words}");
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_match_only_what_asks_for_bytes() {
        let mut meter = Meter::new(10, Duration::from_secs(60));
        for (pattern, expected) in [("^.$", false), (r"(?-u)^\xff$", true)] {
            let compiled = Pattern::compile(pattern).unwrap();
            assert_eq!(compiled.matches(b"\xff", &mut meter).await.unwrap(), Ok(expected), "{pattern}");
        }
    }

    #[test]
    fn a_bad_pattern_says_what_is_wrong() {
        for (pattern, expected) in [
            ("(", "unclosed group"),
            ("a{2,1}", "invalid repetition count range"),
            (r"(?=a)", "look-around"),
            (r"(a)\1", "backreferences are not supported"),
            (r"\w{500}", "more than 1048576 bytes"),
        ] {
            let error = Pattern::compile(pattern).map(drop).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{pattern}: {error}");
        }
        let long = Pattern::compile(&"a".repeat(TEXT + 1)).map(drop).unwrap_err();
        assert!(long.contains("at most 65536 are allowed"), "{long}");
    }

    #[tokio::test]
    async fn a_search_that_thrashes_ends_with_the_processor_time() {
        let pattern = Pattern::compile("[01]*1[01]{3000}2").unwrap();
        // Noise, so that no two states on the way are the same (Knuth's generator).
        let mut seed = 1_u64;
        let noise = |_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if seed >> 63 == 0 { b'0' } else { b'1' }
        };
        let text: Vec<u8> = (0..4 << 20).map(noise).collect();
        let mut meter = Meter::new(10, Duration::from_millis(50));
        let begun = Instant::now();
        let ended = pattern.matches(&text, &mut meter).await;
        assert_eq!(ended, Err(Exceeded::Cpu));
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn the_other_engine_is_compiled_once_too() {
        let mut meter = Meter::new(10, Duration::from_secs(60));
        let pattern = Pattern::compile(r"(?P<once>\w+) other").unwrap();
        assert!(pattern.other.get().is_none());
        let before = pattern.size();
        assert_eq!(pattern.groups().len(), 2);
        let made = || std::ptr::from_ref(pattern.other.get().unwrap());
        let first = made();
        assert!(pattern.captures(b"any other", &mut meter).await.unwrap().unwrap().is_some());
        assert!(std::ptr::eq(first, made()));
        assert!(pattern.size() > before, "it counts as what is kept");
    }

    #[test]
    fn a_pattern_is_compiled_once() {
        let first = Pattern::compile("compiled once").unwrap();
        assert!(Arc::ptr_eq(&first, &Pattern::compile("compiled once").unwrap()));
    }
}
