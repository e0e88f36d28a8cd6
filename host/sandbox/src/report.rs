//! From what a component hands over to what may leave the sandbox: redacted, within its bounds, in our own types.

use std::collections::BTreeSet;

use crate::host::bindings::exports::picket::check::checker as wit;
use crate::host::bindings::picket::check::verdict as wit_verdict;
use crate::limits::Limits;
use crate::redact::Redactor;
use crate::verdict::{Failure, Fault, Finding, Metric, Mistake, Outcome, State, Verdict};

/// Bytes of the summary and of a failure's text: one line for a person.
const SUMMARY: usize = 512;
/// Bytes of what a finding expected, and of what it found.
const FINDING: usize = 1024;
/// Bytes of names: metrics, findings, attributes, units.
const NAME: usize = 128;
/// Bytes of a code.
const CODE: usize = 64;
/// Metrics, findings and mistakes at most.
const ITEMS: usize = 256;
/// Names of undescribed metrics at most.
const UNDESCRIBED: usize = 16;
/// Attributes at most, and bytes of all of them.
const PAIRS: usize = 64;
const PAIR_BYTES: usize = 16 << 10;
/// Bytes of the evidence.
const EVIDENCE: usize = 4 << 10;

/// Makes a verdict of what `run` returned, and names the metrics that it lost because the plugin does not describe them.
pub(crate) fn verdict(
    returned: Result<wit::Outcome, wit::Failure>,
    redactor: &Redactor,
    metrics: &BTreeSet<String>,
    limits: &Limits,
) -> (Verdict, Vec<String>) {
    let mut writer = Writer { redactor, left: limits.result, cut: false };
    match returned {
        Ok(outcome) => {
            let undescribed = writer.undescribed(&outcome.metrics, metrics);
            match writer.outcome(outcome, metrics) {
                Ok(outcome) => (Verdict::Outcome(outcome), undescribed),
                Err(fault) => (Verdict::Fault(fault), Vec::new()),
            }
        }
        Err(failure) => (Verdict::Failure(writer.failure(failure)), Vec::new()),
    }
}

/// The mistakes that `validate` returned. No secret is known to a component that validates.
pub(crate) fn mistakes(returned: Vec<wit_verdict::Mistake>, limits: &Limits) -> Vec<Mistake> {
    let redactor = Redactor::new(&crate::redact::Secrets::new());
    Writer { redactor: &redactor, left: limits.result, cut: false }.mistakes(returned)
}

/// Takes texts over as long as there is room.
struct Writer<'a> {
    redactor: &'a Redactor,
    left: usize,
    cut: bool,
}

impl Writer<'_> {
    fn text(&mut self, text: &str, max: usize) -> String {
        let (text, cut) = self.redactor.start(text, max.min(self.left), false);
        self.left -= text.len();
        self.cut |= cut;
        text
    }

    fn outcome(&mut self, outcome: wit::Outcome, known: &BTreeSet<String>) -> Result<Outcome, Fault> {
        if !is_code(&outcome.code) {
            let (found, _) = self.redactor.start(&outcome.code, CODE, false);
            return Err(Fault::Output(format!(
                "found the code {found:?}, expected lower case letters, digits, dots, hyphens and underscores, at most {CODE}"
            )));
        }
        let state = match outcome.state {
            wit_verdict::State::Up => State::Up,
            wit_verdict::State::Degraded => State::Degraded,
            wit_verdict::State::Down => State::Down,
        };
        let code = self.text(&outcome.code, CODE);
        let summary = self.text(&outcome.summary, SUMMARY);
        let metrics = self.metrics(outcome.metrics, known);
        let findings = self.findings(outcome.findings);
        let attributes = self.attributes(outcome.attributes);
        let evidence = outcome.evidence.map(|evidence| self.text(&evidence, EVIDENCE));
        Ok(Outcome { state, code, summary, metrics, findings, attributes, evidence, cut: self.cut })
    }

    /// Not a part of the result: for the author.
    fn undescribed(&self, metrics: &[wit_verdict::Metric], known: &BTreeSet<String>) -> Vec<String> {
        let unknown = metrics.iter().filter(|metric| !known.contains(&metric.name));
        unknown.take(UNDESCRIBED).map(|metric| self.redactor.start(&metric.name, NAME, false).0).collect()
    }

    fn metrics(&mut self, metrics: Vec<wit_verdict::Metric>, known: &BTreeSet<String>) -> Vec<Metric> {
        let mut kept = Vec::new();
        for metric in metrics {
            let fits = metric.value.is_finite() && known.contains(&metric.name);
            if !fits || kept.len() == ITEMS || self.left == 0 {
                self.cut = true;
                continue;
            }
            let (name, unit) = (self.text(&metric.name, NAME), self.text(&metric.unit, NAME));
            kept.push(Metric { name, value: metric.value, unit });
        }
        kept
    }

    fn findings(&mut self, findings: Vec<wit_verdict::Finding>) -> Vec<Finding> {
        let mut kept = Vec::new();
        for finding in findings {
            if kept.len() == ITEMS || self.left == 0 {
                self.cut = true;
                break;
            }
            kept.push(Finding {
                id: self.text(&finding.id, NAME),
                passed: finding.passed,
                expected: self.text(&finding.expected, FINDING),
                actual: self.text(&finding.actual, FINDING),
            });
        }
        kept
    }

    fn attributes(&mut self, attributes: Vec<(String, String)>) -> Vec<(String, String)> {
        let mut kept = Vec::new();
        let mut room = PAIR_BYTES;
        for (name, value) in attributes {
            if kept.len() == PAIRS || room == 0 || self.left == 0 {
                self.cut = true;
                break;
            }
            let name = self.text(&name, NAME.min(room));
            room -= name.len();
            let value = self.text(&value, room);
            room -= value.len();
            kept.push((name, value));
        }
        kept
    }

    fn mistakes(&mut self, mistakes: Vec<wit_verdict::Mistake>) -> Vec<Mistake> {
        let list = mistakes.into_iter().take(ITEMS);
        list.map(|mistake| Mistake {
            at: self.text(&mistake.at, SUMMARY),
            message: self.text(&mistake.message, SUMMARY),
        })
        .collect()
    }

    fn failure(&mut self, failure: wit::Failure) -> Failure {
        match failure {
            wit_verdict::Failure::InvalidConfig(mistakes) => Failure::InvalidConfig(self.mistakes(mistakes)),
            wit_verdict::Failure::Denied(text) => Failure::Denied(self.text(&text, SUMMARY)),
            wit_verdict::Failure::Permission(text) => Failure::Permission(self.text(&text, SUMMARY)),
            wit_verdict::Failure::Unsupported(text) => Failure::Unsupported(self.text(&text, SUMMARY)),
            wit_verdict::Failure::Internal(text) => Failure::Internal(self.text(&text, SUMMARY)),
        }
    }
}

fn is_code(code: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=CODE).contains(&code.len()) && code.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Secrets;

    fn outcome() -> wit::Outcome {
        wit::Outcome {
            state: wit_verdict::State::Up,
            code: "ok".into(),
            summary: "fine".into(),
            metrics: Vec::new(),
            findings: Vec::new(),
            attributes: Vec::new(),
            evidence: None,
        }
    }

    fn check(outcome: wit::Outcome) -> Outcome {
        let mut secrets = Secrets::new();
        secrets.insert("token", b"hunter22".to_vec());
        let known = BTreeSet::from(["dns.answers".to_owned()]);
        match verdict(Ok(outcome), &Redactor::new(&secrets), &known, &Limits::default()).0 {
            Verdict::Outcome(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_text_is_redacted() {
        let text = || "a hunter22 b".to_owned();
        let found = check(wit::Outcome {
            summary: text(),
            findings: vec![wit_verdict::Finding {
                id: text(),
                passed: true,
                expected: text(),
                actual: text(),
            }],
            attributes: vec![(text(), text())],
            evidence: Some(text()),
            ..outcome()
        });
        assert!(!format!("{found:?}").contains("hunter22"), "{found:?}");
        assert!(!found.cut);
    }

    #[test]
    fn every_text_is_cut_to_its_bound() {
        let long = || "x".repeat(100_000);
        let found = check(wit::Outcome {
            summary: long(),
            attributes: vec![("a".into(), long()), ("b".into(), long())],
            evidence: Some(long()),
            ..outcome()
        });
        assert_eq!(found.summary.len(), SUMMARY);
        assert_eq!(found.attributes.len(), 1);
        assert_eq!(found.attributes[0].1.len(), PAIR_BYTES - 1);
        assert_eq!(found.evidence.map(|text| text.len()), Some(EVIDENCE));
        assert!(found.cut);
    }

    #[test]
    fn a_result_stays_within_its_bound_as_a_whole() {
        let finding = || wit_verdict::Finding {
            id: "i".into(),
            passed: false,
            expected: "e".repeat(5000),
            actual: "a".repeat(5000),
        };
        let found = check(wit::Outcome { findings: (0..300).map(|_| finding()).collect(), ..outcome() });
        let size: usize = found.findings.iter().map(|f| f.id.len() + f.expected.len() + f.actual.len()).sum();
        assert!(size <= Limits::default().result && size > 60_000, "{size}");
        assert!(found.cut);
    }

    #[test]
    fn only_described_finite_metrics_are_kept() {
        let metric = |name: &str, value| wit_verdict::Metric { name: name.into(), value, unit: "1".into() };
        let metrics = vec![metric("dns.answers", 2.0), metric("dns.answers", f64::NAN), metric("other", 1.0)];
        let found = check(wit::Outcome { metrics, ..outcome() });
        assert_eq!(found.metrics, [Metric { name: "dns.answers".into(), value: 2.0, unit: "1".into() }]);
        assert!(found.cut);
    }

    #[test]
    fn metrics_that_nobody_described_are_named_for_the_author() {
        let metric = |name: &str| wit_verdict::Metric { name: name.into(), value: 1.0, unit: "1".into() };
        let outcome = wit::Outcome { metrics: vec![metric("dns.answers"), metric("other")], ..outcome() };
        let known = BTreeSet::from(["dns.answers".to_owned()]);
        let (_, lost) = verdict(Ok(outcome), &Redactor::new(&Secrets::new()), &known, &Limits::default());
        assert_eq!(lost, ["other"]);
    }

    #[test]
    fn a_code_that_no_machine_can_rely_on_is_a_fault() {
        for code in ["", "Not Found", "a\nb", &"x".repeat(65)] {
            let wrong = wit::Outcome { code: code.to_owned(), ..outcome() };
            let redactor = Redactor::new(&Secrets::new());
            let (found, _) = verdict(Ok(wrong), &redactor, &BTreeSet::new(), &Limits::default());
            assert!(matches!(found, Verdict::Fault(Fault::Output(_))), "{code:?}: {found:?}");
        }
    }
}
