//! Regular expressions of a configuration, compiled by the host. What they are searched in is a check's own.

use crate::regex::{self, Pattern};
use crate::{Failure, Mistake, Stop};

/// Compiles patterns, and keeps what is wrong with them until all are read. Only inside the sandbox.
#[derive(Debug, Default)]
pub struct Patterns {
    mistakes: Vec<Mistake>,
}

impl Patterns {
    /// One pattern; `at` is its JSON pointer (RFC 6901). None for a mistake.
    pub fn compile(&mut self, at: String, text: &str) -> Option<Pattern> {
        self.with_flags("", at, text)
    }

    /// The same with flags in front, as in "(?m)", that nobody wrote.
    pub fn with_flags(&mut self, flags: &str, at: String, text: &str) -> Option<Pattern> {
        match regex::compile(&format!("{flags}{text}")) {
            Ok(pattern) => Some(pattern),
            Err(reason) => {
                self.mistakes.push(Mistake { at, message: mistake(text, &reason) });
                None
            }
        }
    }

    /// All patterns of the option of that name.
    pub fn list(&mut self, option: &str, texts: &[String]) -> Vec<Pattern> {
        let each = texts.iter().enumerate();
        each.filter_map(|(index, text)| self.compile(format!("/{option}/{index}"), text)).collect()
    }

    /// What was read, or every mistake.
    pub fn all<T>(self, read: T) -> Result<T, Stop> {
        match self.mistakes.is_empty() {
            true => Ok(read),
            false => Err(Failure::InvalidConfig(self.mistakes).into()),
        }
    }
}

/// What is said of a pattern that the host cannot compile.
pub fn mistake(text: &str, reason: &str) -> String {
    format!("`{text}` is not a regular expression of Rust's regex crate: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_given_back_unless_there_was_a_mistake() {
        assert_eq!(Patterns::default().all(7), Ok(7));
        let mistake = Mistake { at: "/a/0".into(), message: mistake("(", "unclosed group") };
        let message = "`(` is not a regular expression of Rust's regex crate: unclosed group";
        assert_eq!(Patterns { mistakes: vec![mistake] }.all(7), Err(Stop::mistake("/a/0", message)));
    }
}
