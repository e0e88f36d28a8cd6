//! How a command fails: an exit status, a chain of causes for a person, and what to do about it.

use std::fmt::Write as _;

/// Exit statuses, as in sysexits(3). `picket check` has its own: those of a Nagios plugin.
pub(crate) mod exit {
    /// Anything without a status of its own.
    pub(crate) const GENERAL: u8 = 1;
    /// The command line is wrong.
    pub(crate) const USAGE: u8 = 64;
    /// The input has mistakes.
    pub(crate) const DATA: u8 = 65;
    /// A file cannot be read.
    pub(crate) const NO_INPUT: u8 = 66;
    /// The control plane cannot be reached, or is not one.
    pub(crate) const UNAVAILABLE: u8 = 69;
    /// The system refused something ordinary.
    pub(crate) const OS: u8 = 71;
    /// The control plane refuses the token.
    pub(crate) const NO_PERMISSION: u8 = 77;
}

/// Why a command ended early.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) status: u8,
    error: anyhow::Error,
    advice: Option<String>,
}

impl Failure {
    /// A failure with this exit status.
    pub(crate) fn new(status: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { status, error: error.into(), advice: None }
    }

    /// A failure that is a sentence.
    pub(crate) fn text(status: u8, sentence: impl Into<String>) -> Self {
        Self::new(status, anyhow::Error::msg(sentence.into()))
    }

    /// What was being done.
    pub(crate) fn context(self, what: impl Into<String>) -> Self {
        Self { error: self.error.context(what.into()), ..self }
    }

    /// What to do about it, printed on a line of its own.
    pub(crate) fn advice(self, what: impl Into<String>) -> Self {
        Self { advice: Some(what.into()), ..self }
    }

    /// The same with another text, when it is the control plane's refusal of some input.
    pub(crate) fn map_problem(self, explain: impl FnOnce(wire::Problem) -> wire::Problem) -> Self {
        match self.error.downcast::<wire::Problem>() {
            Ok(problem) => Self { error: explain(problem).into(), ..self },
            Err(error) => Self { error, ..self },
        }
    }

    /// Prints it to stderr and gives the exit status. A reader who went away is not worth a word.
    pub(crate) fn print(&self) -> u8 {
        if self.reader_left() {
            return 0;
        }
        anstream::eprintln!("picket: {}", self.message());
        self.status
    }

    /// The chain of causes on one line, the advice on the next.
    pub(crate) fn message(&self) -> String {
        let mut text = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            // Many libraries print their source within their own message.
            if !text.contains(&cause) {
                let _ = write!(text, "{}{cause}", if text.is_empty() { "" } else { ": " });
            }
        }
        if let Some(advice) = &self.advice {
            let _ = write!(text, "\n  {advice}");
        }
        text
    }

    fn reader_left(&self) -> bool {
        self.error.chain().any(|cause| {
            cause
                .downcast_ref::<crate::output::WriteError>()
                .is_some_and(|e| e.0.kind() == std::io::ErrorKind::BrokenPipe)
        })
    }
}

impl From<crate::output::WriteError> for Failure {
    fn from(e: crate::output::WriteError) -> Self {
        Self::new(exit::GENERAL, e)
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, exit};

    #[test]
    fn prints_each_cause_once_and_the_advice_below() {
        let inner = std::io::Error::other("disk on fire");
        let failure = Failure::new(exit::GENERAL, inner)
            .context("cannot write /x: disk on fire")
            .context("cannot save")
            .advice("call the fire brigade");
        assert_eq!(failure.message(), "cannot save: cannot write /x: disk on fire\n  call the fire brigade");
    }
}
