//! The bounded log of a run: notes of the check and what it prints. Redacts before it keeps.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::redact::Redactor;

/// How loud a note is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For the check's author.
    Debug,
    /// Also what the component prints to its standard output.
    Info,
    /// Also what the component prints to its standard error.
    Warn,
}

/// Says that the log is longer than what was kept.
const CUT: &str = "the log was cut here";

/// What one of the two standard streams has printed since its last line feed.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    cut: bool,
}

struct Entries {
    list: Vec<(Level, String)>,
    left: usize,
    cut: bool,
    out: Line,
    err: Line,
}

/// A run's log, shared with its standard streams.
pub(crate) struct Log {
    max: usize,
    redactor: Arc<Redactor>,
    entries: Mutex<Entries>,
}

impl Log {
    pub(crate) fn new(max: usize, redactor: Arc<Redactor>) -> Log {
        let entries =
            Entries { list: Vec::new(), left: max, cut: false, out: Line::default(), err: Line::default() };
        Log { max, redactor, entries: Mutex::new(entries) }
    }

    /// Keeps a note.
    pub(crate) fn note(&self, level: Level, message: &str) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        self.keep(&mut entries, level, message, false);
    }

    /// Takes printed bytes: standard output as info, standard error as warnings, a note a line.
    pub(crate) fn print(&self, level: Level, bytes: &[u8]) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = std::mem::take(if level == Level::Warn { &mut entries.err } else { &mut entries.out });
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = (self.max + self.redactor.longest()).saturating_sub(line.bytes.len());
            line.cut |= part.len() > room;
            line.bytes.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.finish(&mut entries, level, std::mem::take(&mut line));
            }
        }
        *(if level == Level::Warn { &mut entries.err } else { &mut entries.out }) = line;
    }

    /// All notes, oldest first; the log is empty afterwards.
    pub(crate) fn take(&self) -> Vec<(Level, String)> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (out, err) = (std::mem::take(&mut entries.out), std::mem::take(&mut entries.err));
        self.finish(&mut entries, Level::Info, out);
        self.finish(&mut entries, Level::Warn, err);
        let mut list = std::mem::take(&mut entries.list);
        if entries.cut {
            list.push((Level::Warn, CUT.to_owned()));
        }
        list
    }

    fn finish(&self, entries: &mut Entries, level: Level, line: Line) {
        if !line.bytes.is_empty() {
            self.keep(entries, level, String::from_utf8_lossy(&line.bytes).trim_end(), line.cut);
        }
    }

    fn keep(&self, entries: &mut Entries, level: Level, message: &str, incomplete: bool) {
        if entries.left == 0 {
            entries.cut = true;
            return;
        }
        let (text, cut) = self.redactor.start(message, entries.left, incomplete);
        entries.left -= text.len().max(1).min(entries.left);
        entries.cut |= cut;
        entries.list.push((level, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Secrets;

    fn log(max: usize) -> Log {
        let mut secrets = Secrets::new();
        secrets.insert("token", b"hunter22".to_vec());
        Log::new(max, Arc::new(Redactor::new(&secrets)))
    }

    fn check(log: &Log, expected: &[(Level, &str)]) {
        let list = log.take();
        assert_eq!(list.iter().map(|(level, text)| (*level, text.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn printed_bytes_become_lines() {
        let log = log(100);
        log.print(Level::Info, b"one\ntw");
        log.print(Level::Warn, b"panicked\n");
        log.print(Level::Info, b"o\nthree");
        check(
            &log,
            &[(Level::Info, "one"), (Level::Warn, "panicked"), (Level::Info, "two"), (Level::Info, "three")],
        );
    }

    #[test]
    fn a_full_log_says_so() {
        let log = log(5);
        log.note(Level::Debug, "häuser");
        log.note(Level::Debug, "more");
        check(&log, &[(Level::Debug, "häus"), (Level::Warn, CUT)]);
    }

    #[test]
    fn empty_notes_do_not_pile_up() {
        let log = log(3);
        for _ in 0..9 {
            log.note(Level::Info, "");
        }
        assert_eq!(log.take().len(), 4);
    }

    #[test]
    fn no_part_of_a_secret_survives_a_cut() {
        for max in 0..24 {
            let log = log(max);
            log.note(Level::Info, "see hunter22 there");
            log.print(Level::Info, b"see hunter22 there and some more that does not fit any more");
            let text = format!("{:?}", log.take());
            assert!(!text.contains("hu") && !text.contains("er22"), "{max}: {text}");
        }
    }
}
