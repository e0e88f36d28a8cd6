//! One search of an automaton, a byte at a time: so that whoever searches can stop in between.

use std::sync::PoisonError;

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::Cache;
use regex_automata::{Input, MatchError};

use super::Pattern;

/// States that are kept between two searches; a search that needs more makes them again.
const STATES_KEPT: usize = 64 << 10;

/// What is known of a search.
pub(super) enum Found {
    Yes,
    No,
    /// The automaton cannot go on.
    Quit,
}

/// One search, a byte at a time.
pub(super) struct Search<'a> {
    pattern: &'a Pattern,
    states: Cache,
    at: LazyStateID,
}

impl<'a> Search<'a> {
    pub(super) fn new(pattern: &'a Pattern) -> Self {
        let kept = pattern.states.lock().unwrap_or_else(PoisonError::into_inner).take();
        let states = kept.unwrap_or_else(|| pattern.automaton.create_cache());
        Self { pattern, states, at: LazyStateID::default() }
    }

    pub(super) fn begin(&mut self, text: &[u8]) -> Option<Found> {
        match self.pattern.automaton.start_state_forward(&mut self.states, &Input::new(text)) {
            Ok(at) => {
                self.at = at;
                self.told()
            }
            Err(MatchError { .. }) => Some(Found::Quit),
        }
    }

    pub(super) fn step(&mut self, stretch: &[u8]) -> Option<Found> {
        for &byte in stretch {
            match self.pattern.automaton.next_state(&mut self.states, self.at, byte) {
                Ok(at) => self.at = at,
                Err(_) => return Some(Found::Quit),
            }
            if self.at.is_tagged()
                && let Some(found) = self.told()
            {
                return Some(found);
            }
        }
        None
    }

    pub(super) fn end(&mut self) -> Found {
        match self.pattern.automaton.next_eoi_state(&mut self.states, self.at) {
            Ok(at) if at.is_match() => Found::Yes,
            Ok(at) if at.is_quit() => Found::Quit,
            Ok(_) => Found::No,
            Err(_) => Found::Quit,
        }
    }

    fn told(&self) -> Option<Found> {
        match (self.at.is_match(), self.at.is_dead(), self.at.is_quit()) {
            (true, _, _) => Some(Found::Yes),
            (_, true, _) => Some(Found::No),
            (_, _, true) => Some(Found::Quit),
            _ => None,
        }
    }

    pub(super) fn keep(self) {
        if self.states.memory_usage() <= STATES_KEPT {
            *self.pattern.states.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.states);
        }
    }
}
