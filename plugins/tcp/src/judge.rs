//! The verdict: pure functions from what was heard to an outcome.

use sdk::{Finding, Outcome};

use crate::config::{Config, Otherwise};
use crate::dialogue::{End, Facts, Mismatch};

/// Every step heard what it expected, or nothing was expected.
pub(crate) fn met(config: &Config, remote: &str, facts: Facts) -> Outcome {
    let summary = match (config.query_response.len(), &config.expect, facts.met.last()) {
        (0, None, None) => format!("connected to {remote}"),
        (0, None, Some((_, heard))) => format!("{} bytes in reply", heard.len()),
        (0, Some(expect), _) => format!("the answer contains {}", expect.words(config.matching)),
        (steps, ..) => format!("all {steps} steps of the dialogue went as expected"),
    };
    with_facts(Outcome::up(summary), config, facts)
}

/// A step heard something else.
pub(crate) fn mismatch(config: &Config, mismatch: Mismatch, facts: Facts) -> Outcome {
    let count = mismatch.heard.len();
    let outcome = with_facts(Outcome::up(""), config, facts);
    if mismatch.is_any_reply {
        return Outcome { findings: outcome.findings, attributes: outcome.attributes, ..closed() };
    }
    let Mismatch { step, expected, heard, end, .. } = mismatch;
    let why = match end {
        End::Closed => "and then the end of the stream",
        End::Silent => "and then silence until the timeout",
        End::Full => "which is all that max_bytes allows",
    };
    let whose = match config.query_response.is_empty() {
        true => String::new(),
        false => format!("step {} of the dialogue: ", step + 1),
    };
    let summary = format!("{whose}expected {expected}, heard {count} bytes {why}");
    let finding = Finding::new(&id(config, step), false, expected, printable(&heard));
    otherwise(outcome, config.on_mismatch, finding, "tcp.expect", summary).evidence(&heard)
}

/// Nobody listens.
pub(crate) fn refused(config: &Config, message: String) -> Outcome {
    let finding = Finding::new("on_refused", false, "a connection", "refused");
    otherwise(Outcome::up(""), config.on_refused, finding, "tcp.refused", message)
}

fn closed() -> Outcome {
    Outcome::down("tcp.closed", "the peer closed the connection without a reply")
}

/// What the monitor's owner makes of a failed expectation. Where that is "up", the finding still says what was found.
fn otherwise(outcome: Outcome, wanted: Otherwise, finding: Finding, code: &str, summary: String) -> Outcome {
    match wanted {
        Otherwise::Down => outcome.must(finding, code, || summary),
        Otherwise::Degraded => outcome.should(finding, code, || summary),
        Otherwise::Up => Outcome { summary, ..outcome.finding(finding) },
    }
}

fn with_facts(mut outcome: Outcome, config: &Config, facts: Facts) -> Outcome {
    let steps = config.steps();
    for (place, heard) in &facts.met {
        let expected = steps.get(*place).and_then(|step| step.expect.as_ref());
        // Any reply is no expectation that anybody wrote.
        let Some(expected) = expected.filter(|expected| !expected.is_any_reply()) else { continue };
        let words = expected.words(config.matching);
        outcome = outcome.finding(Finding::new(&id(config, *place), true, words, printable(heard)));
    }
    match facts.tls_version {
        Some(version) => outcome.attribute("tls.version", version),
        None => outcome,
    }
}

/// "expect", or the step of a dialogue that expects.
fn id(config: &Config, step: usize) -> String {
    match config.query_response.is_empty() {
        true => "expect".to_owned(),
        false => format!("query_response.{step}.expect"),
    }
}

/// At most 64 bytes of an answer, quoted.
pub(crate) fn printable(bytes: &[u8]) -> String {
    match bytes.len() {
        0 => "nothing".into(),
        1..=64 => format!("{:?}", String::from_utf8_lossy(bytes)),
        _ => format!("{:?}…", String::from_utf8_lossy(&bytes[..64])),
    }
}

#[cfg(test)]
mod tests {
    use sdk::State;
    use serde_json::{Value, json};

    use super::*;

    fn config(written: Value) -> Config {
        let mut written = written;
        let object = written.as_object_mut().unwrap();
        object.insert("host".into(), "a.test".into());
        object.insert("port".into(), 1.into());
        serde_json::from_value(written).unwrap()
    }

    fn other(written: Value, step: usize, heard: &[u8], end: End, state: State, code: &str) -> Outcome {
        let config = config(written);
        let expected = config.steps()[step].expect.clone().unwrap();
        let mismatch = Mismatch {
            step,
            expected: expected.words(config.matching),
            is_any_reply: expected.is_any_reply(),
            heard: heard.to_vec(),
            end,
        };
        let outcome = super::mismatch(&config, mismatch, Facts::default());
        assert_eq!((outcome.state, outcome.code.as_str()), (state, code), "{}", outcome.summary);
        outcome
    }

    #[test]
    fn an_answer_with_the_text_is_up_and_one_without_is_down() {
        let facts = Facts { met: vec![(1, b"220 ready".to_vec())], tls_version: Some("1.3".into()) };
        let up = met(&config(json!({"expect": "220"})), "127.0.0.1:1", facts);
        assert_eq!((up.state, up.code.as_str(), up.evidence), (State::Up, "ok", None));
        assert_eq!((up.findings[0].id.as_str(), up.findings[0].passed), ("expect", true));
        assert_eq!(up.attributes, [("tls.version".to_owned(), "1.3".to_owned())]);
        let down = other(json!({"expect": "220"}), 1, b"421 busy", End::Silent, State::Down, "tcp.expect");
        assert_eq!(down.summary, "expected \"220\", heard 8 bytes and then silence until the timeout");
        assert_eq!(down.evidence.as_deref(), Some("421 busy"));
        assert_eq!(down.findings[0].actual, "\"421 busy\"");
        other(json!({"expect": "220"}), 1, b"", End::Closed, State::Down, "tcp.expect");
    }

    #[test]
    fn any_reply_passes_when_nothing_is_expected() {
        let facts = Facts { met: vec![(1, b"x".to_vec())], ..Facts::default() };
        let up = met(&config(json!({"send": "x"})), "127.0.0.1:1", facts);
        assert_eq!((up.summary.as_str(), up.findings.len()), ("1 bytes in reply", 0));
        other(json!({"send": "x"}), 1, b"", End::Closed, State::Down, "tcp.closed");
    }

    #[test]
    fn the_step_that_failed_is_named() {
        let steps = json!({"query_response": [{"send": "a"}, {"expect": ["b", "c"]}], "match": "any"});
        let down = other(steps, 1, b"x", End::Full, State::Down, "tcp.expect");
        assert_eq!(
            down.summary,
            "step 2 of the dialogue: expected \"b\" or \"c\", heard 1 bytes which is all that max_bytes allows"
        );
        assert_eq!(down.findings[0].id, "query_response.1.expect");
    }

    #[test]
    fn the_owner_chooses_what_a_mismatch_and_a_refusal_are() {
        for (chosen, state, code) in [
            ("up", State::Up, "ok"),
            ("degraded", State::Degraded, "tcp.expect"),
            ("down", State::Down, "tcp.expect"),
        ] {
            let written = json!({"expect": "220", "on_mismatch": chosen, "on_refused": chosen});
            let outcome = other(written.clone(), 1, b"x", End::Closed, state, code);
            assert!(!outcome.findings[0].passed && outcome.summary.contains("expected"));
            let outcome = refused(&config(written), "a.test:1 refused the connection".into());
            assert_eq!((outcome.state, outcome.code.replace("refused", "expect").as_str()), (state, code));
            assert_eq!(outcome.summary, "a.test:1 refused the connection");
        }
    }
}
