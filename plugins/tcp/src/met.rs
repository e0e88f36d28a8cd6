//! Whether an answer holds what was expected, and how far into it that reaches. Talks to nobody: regular expressions are searched by
//! whoever asks.

use std::borrow::Cow;

use sdk::Stop;

use crate::config::Match;
use crate::expectation::{Expect, Expectations};
use crate::template::Captures;

/// Where an answer meets what was expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Met {
    /// How many bytes of the answer belong to what was expected: up to the end of the last line, or of the bytes.
    pub(crate) end: usize,
    /// Whether the last line is there to its end.
    pub(crate) ends_line: bool,
    /// Groups of the first regex that matched, if there was one.
    pub(crate) captures: Option<Captures>,
}

/// Where a regular expression matches.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hit {
    /// In bytes of the text.
    pub(crate) end: usize,
    pub(crate) captures: Captures,
}

/// Searches a text for the regular expression at that place of the expectations.
pub(crate) type Search<'a> = &'a dyn Fn(usize, &str) -> Result<Option<Hit>, Stop>;

impl Expectations {
    /// Whether they are met by what came so far.
    pub(crate) fn met(&self, heard: &[u8], matching: Match, search: Search<'_>) -> Result<Option<Met>, Stop> {
        let mut all: Option<Met> = None;
        for (place, expect) in self.each.iter().enumerate() {
            match (matching, expect.met(heard, place, search)?) {
                (Match::Any, Some(met)) => return Ok(Some(met)),
                (Match::Any, None) => {}
                (Match::All, Some(met)) => all = Some(all.map_or(met.clone(), |all| all.and(met))),
                (Match::All, None) => return Ok(None),
            }
        }
        Ok(all)
    }
}

impl Expect {
    fn met(&self, heard: &[u8], place: usize, search: Search<'_>) -> Result<Option<Met>, Stop> {
        Ok(match self {
            Self::Anything => (!heard.is_empty()).then_some(Met::to(heard.len())),
            Self::Text(text) => find(heard, text.as_bytes()).map(|end| to_line_end(heard, end)),
            Self::Bytes(bytes) => find(heard, bytes).map(Met::to),
            Self::Regex(_) => {
                let text = String::from_utf8_lossy(heard);
                search(place, &text)?.map(|hit| {
                    // Where bytes were replaced, the text is longer than they are.
                    let end = match &text {
                        Cow::Borrowed(_) => hit.end,
                        Cow::Owned(_) => heard.len(),
                    };
                    Met { captures: Some(hit.captures), ..to_line_end(heard, end) }
                })
            }
        })
    }
}

impl Met {
    /// Bytes, which know no lines.
    fn to(end: usize) -> Self {
        Self { end, ends_line: true, captures: None }
    }

    fn and(self, other: Self) -> Self {
        let ends_line = if other.end >= self.end { other.ends_line } else { self.ends_line };
        Self { end: self.end.max(other.end), ends_line, captures: self.captures.or(other.captures) }
    }
}

/// Protocols of text answer in lines: what follows on the same one belongs to the answer.
fn to_line_end(heard: &[u8], end: usize) -> Met {
    if end > 0 && heard[end - 1] == b'\n' {
        return Met { end, ends_line: true, captures: None };
    }
    match heard[end..].iter().position(|byte| *byte == b'\n') {
        Some(more) => Met { end: end + more + 1, ends_line: true, captures: None },
        None => Met { end: heard.len(), ends_line: false, captures: None },
    }
}

/// The end of the first place where it stands.
fn find(heard: &[u8], wanted: &[u8]) -> Option<usize> {
    match wanted.is_empty() {
        true => Some(0),
        false => heard.windows(wanted.len()).position(|part| part == wanted).map(|at| at + wanted.len()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Takes a regular expression for the characters that it consists of.
    fn met(written: Value, matching: Match, heard: &[u8]) -> Option<Met> {
        let expectations: Expectations = serde_json::from_value(written).unwrap();
        let search = |place: usize, text: &str| {
            let Expect::Regex(wanted) = &expectations.each[place] else { panic!("{place} is no regex") };
            let end = text.find(wanted.as_str()).map(|at| at + wanted.len());
            Ok(end.map(|end| Hit {
                end,
                captures: Captures { numbered: vec![wanted.clone()], ..Captures::default() },
            }))
        };
        expectations.met(heard, matching, &search).unwrap()
    }

    #[test]
    fn an_answer_is_compared_as_text_and_as_bytes() {
        let check = |written, heard, is_met| assert_eq!(met(written, Match::All, heard).is_some(), is_met);
        check(json!("220"), &b"x 220 y"[..], true);
        check(json!("220"), b"22", false);
        check(json!({"hex": "00 ff0d"}), b"a\x00\xff\x0d", true);
        check(json!({"hex": "00ff"}), b"\x00\xfe", false);
        check(json!({"regex": "220"}), b"\xff 220", true);
        check(json!({"regex": "220"}), b"22", false);
    }

    #[test]
    fn of_several_all_or_any_must_be_there() {
        let both = json!(["SMTP", {"regex": "220"}]);
        for (heard, all, any) in [
            (&b"220 SMTP"[..], true, true),
            (b"220 x", false, true),
            (b"x SMTP", false, true),
            (b"x", false, false),
        ] {
            assert_eq!(met(both.clone(), Match::All, heard).is_some(), all);
            assert_eq!(met(both.clone(), Match::Any, heard).is_some(), any);
        }
        let captures = met(both, Match::All, b"220 SMTP").unwrap().captures.unwrap();
        assert_eq!(captures.numbered, ["220"]);
    }

    #[test]
    fn an_answer_reaches_to_the_end_of_its_line_and_no_further() {
        let end = |written, heard| met(written, Match::All, heard).map(|met| (met.end, met.ends_line));
        assert_eq!(end(json!("220"), &b"220 hi\r\n250 x"[..]), Some((8, true)));
        assert_eq!(end(json!("220"), b"220 h"), Some((5, false)));
        assert_eq!(end(json!({"regex": "220 hi\r\n"}), b"220 hi\r\n250 x"), Some((8, true)));
        assert_eq!(end(json!({"hex": "01 02"}), b"\x01\x02\x0a\x03"), Some((2, true)));
        assert_eq!(end(json!(["220", "250"]), b"220 hi\r\n250 x"), Some((13, false)));
        assert_eq!(end(json!({"regex": "é"}), "\u{fffd}é\n.".as_bytes()), Some((6, true)));
        assert_eq!(end(json!({"regex": "b"}), b"\xffb\n."), Some((4, false)));
    }
}
