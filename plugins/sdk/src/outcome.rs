//! Building what a check says about its target. Says nothing about why a run stopped early; that is `stop.rs`.

use crate::{Finding, Metric, Outcome, State};

impl Outcome {
    /// Every expectation holds; the code is "ok".
    pub fn up(summary: impl Into<String>) -> Self {
        Self::new(State::Up, "ok", summary.into())
    }

    /// The target serves, but something needs attention.
    pub fn degraded(code: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(State::Degraded, code, summary.into())
    }

    /// The target does not serve, or an expectation is false. `code` is "layer.reason", stable.
    pub fn down(code: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(State::Down, code, summary.into())
    }

    /// Records an expectation without which the target is down. The first failed one gives code and summary.
    #[must_use]
    pub fn must(self, finding: Finding, code: &str, summary: impl FnOnce() -> String) -> Self {
        self.judge(finding, State::Down, code, summary)
    }

    /// Records an expectation without which the target is degraded, unless it is down already.
    #[must_use]
    pub fn should(self, finding: Finding, code: &str, summary: impl FnOnce() -> String) -> Self {
        self.judge(finding, State::Degraded, code, summary)
    }

    /// Records an expectation without judging it.
    #[must_use]
    pub fn finding(mut self, finding: Finding) -> Self {
        self.findings.push(finding);
        self
    }

    /// Adds a number that `metrics` of [`crate::check!`] lists, in its UCUM unit. A number that is not finite is left out.
    #[must_use]
    pub fn metric(mut self, name: &str, value: f64, unit: &str) -> Self {
        if value.is_finite() {
            self.metrics.push(Metric { name: name.into(), value, unit: unit.into() });
        }
        self
    }

    /// Adds a fact beside the verdict.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Says what proves the verdict: the beginning of it, of which the host keeps 4 KiB; bytes that are not UTF-8 replaced.
    #[must_use]
    pub fn evidence(mut self, bytes: &[u8]) -> Self {
        let kept = &bytes[..bytes.len().min(EVIDENCE)];
        self.evidence = Some(String::from_utf8_lossy(kept).into_owned());
        self
    }

    fn new(state: State, code: impl Into<String>, summary: String) -> Self {
        Self {
            state,
            code: code.into(),
            summary,
            metrics: Vec::new(),
            findings: Vec::new(),
            attributes: Vec::new(),
            evidence: None,
        }
    }

    fn judge(
        mut self,
        finding: Finding,
        otherwise: State,
        code: &str,
        summary: impl FnOnce() -> String,
    ) -> Self {
        if !finding.passed && severity(self.state) < severity(otherwise) {
            self.state = otherwise;
            self.code = code.into();
            self.summary = summary();
        }
        self.finding(finding)
    }
}

impl Finding {
    /// What was expected and found for an option, in words.
    pub fn new(id: &str, passed: bool, expected: impl Into<String>, actual: impl Into<String>) -> Self {
        Self { id: id.into(), passed, expected: expected.into(), actual: actual.into() }
    }
}

fn severity(state: State) -> u8 {
    match state {
        State::Up => 0,
        State::Degraded => 1,
        State::Down => 2,
    }
}

/// Bytes of a target's answer that the host is handed. It keeps 4 KiB, and sees the whole of a secret that it cuts there.
pub const EVIDENCE: usize = 5 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(passed: bool) -> Finding {
        Finding::new("x", passed, "a", "b")
    }

    #[test]
    fn the_first_failed_expectation_of_the_worst_kind_names_the_outcome() {
        let outcome = Outcome::up("fine")
            .must(finding(true), "x.never", || "never".into())
            .should(finding(false), "x.slow", || "slow".into())
            .must(finding(false), "x.first", || "first".into())
            .must(finding(false), "x.second", || "second".into());
        assert_eq!(outcome.state, State::Down);
        assert_eq!((outcome.code.as_str(), outcome.summary.as_str()), ("x.first", "first"));
        assert_eq!(outcome.findings.len(), 4);
    }

    #[test]
    fn a_number_that_is_not_finite_is_left_out() {
        assert!(Outcome::up("").metric("x", f64::NAN, "1").metrics.is_empty());
    }
}
