//! What a run says in the words of the wire. Pure: here a verdict becomes a state and a code, and nowhere else.

use std::collections::BTreeMap;

use sandbox::{Failure, Outcome, Report, Verdict};
use wire::results::{Finding, Metric, Phases, State};

/// A result without its time and place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) state: State,
    pub(crate) code: String,
    pub(crate) summary: String,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) evidence: Option<String>,
    pub(crate) phases: Phases,
    pub(crate) remote_address: Option<String>,
}

impl Found {
    /// The check could not be made; nothing is said about the target.
    pub(crate) fn error(code: &str, summary: String) -> Self {
        Self {
            state: State::Error,
            code: code.to_owned(),
            summary,
            metrics: Vec::new(),
            findings: Vec::new(),
            attributes: BTreeMap::new(),
            evidence: None,
            phases: Phases::default(),
            remote_address: None,
        }
    }
}

impl From<Report> for Found {
    fn from(report: Report) -> Self {
        let said = match report.verdict {
            Verdict::Outcome(outcome) => Self::from(outcome),
            Verdict::Failure(failure) => Self::error(code(&failure), failure.to_string()),
            Verdict::Fault(fault) => Self::error(fault.code(), fault.to_string()),
        };
        Self {
            phases: phases(&report.measured.phases),
            remote_address: report.measured.remote.map(|remote| remote.to_string()),
            ..said
        }
    }
}

impl From<Outcome> for Found {
    fn from(outcome: Outcome) -> Self {
        let metric = |m: sandbox::Metric| Metric { name: m.name, value: m.value, unit: m.unit };
        let finding = |f: sandbox::Finding| Finding {
            id: f.id,
            passed: f.passed,
            expected: f.expected,
            actual: f.actual,
        };
        Self {
            state: match outcome.state {
                sandbox::State::Up => State::Up,
                sandbox::State::Degraded => State::Degraded,
                sandbox::State::Down => State::Down,
            },
            code: outcome.code,
            summary: outcome.summary,
            metrics: outcome.metrics.into_iter().map(metric).collect(),
            findings: outcome.findings.into_iter().map(finding).collect(),
            attributes: outcome.attributes.into_iter().collect(),
            evidence: outcome.evidence,
            phases: Phases::default(),
            remote_address: None,
        }
    }
}

fn code(failure: &Failure) -> &'static str {
    match failure {
        Failure::InvalidConfig(_) => "config",
        Failure::Denied(_) => "denied",
        Failure::Permission(_) => "permission",
        Failure::Unsupported(_) => "unsupported",
        Failure::Internal(_) => "plugin.internal",
    }
}

fn phases(timings: &net::Timings) -> Phases {
    let seconds = |phase: Option<std::time::Duration>| phase.map(|d| d.as_secs_f64());
    Phases {
        resolve: seconds(timings.resolve),
        connect: seconds(timings.connect),
        tls: seconds(timings.handshake),
        send: seconds(timings.send),
        first_byte: seconds(timings.first_byte),
        transfer: seconds(timings.transfer),
    }
}

#[cfg(test)]
mod tests {
    use sandbox::Fault;

    use super::*;

    #[test]
    fn what_is_wrong_with_us_is_an_error_and_never_down() {
        for (verdict, code) in [
            (Verdict::Failure(Failure::InvalidConfig(Vec::new())), "config"),
            (Verdict::Failure(Failure::Denied("10.0.0.1".into())), "denied"),
            (Verdict::Failure(Failure::Permission("pg_monitor".into())), "permission"),
            (Verdict::Failure(Failure::Unsupported("tls".into())), "unsupported"),
            (Verdict::Failure(Failure::Internal("bug".into())), "plugin.internal"),
            (Verdict::Fault(Fault::Trap("unreachable".into())), "plugin.trap"),
            (Verdict::Fault(Fault::Wall), "plugin.wall"),
            (Verdict::Fault(Fault::Exhausted), "agent.exhausted"),
        ] {
            let found = Found::from(Report { verdict, ..Report::fault(Fault::Shutdown) });
            assert_eq!((found.state, &found.code[..]), (State::Error, code));
        }
    }

    #[test]
    fn an_outcome_keeps_its_state_and_gains_what_the_host_measured() {
        let outcome = Outcome {
            state: sandbox::State::Down,
            code: "http.status".into(),
            summary: "503".into(),
            metrics: vec![sandbox::Metric { name: "http.body".into(), value: 2.0, unit: "By".into() }],
            findings: Vec::new(),
            attributes: vec![("http.version".into(), "1.1".into())],
            evidence: None,
            cut: false,
        };
        let mut report = Report { verdict: Verdict::Outcome(outcome), ..Report::fault(Fault::Shutdown) };
        report.measured.phases.handshake = Some(std::time::Duration::from_millis(250));
        report.measured.remote = Some("127.0.0.1:80".parse().unwrap());
        let found = Found::from(report);
        assert_eq!((found.state, &found.code[..], &found.summary[..]), (State::Down, "http.status", "503"));
        assert_eq!((found.phases.tls, found.phases.resolve), (Some(0.25), None));
        assert_eq!(found.remote_address.as_deref(), Some("127.0.0.1:80"));
        assert_eq!(found.attributes["http.version"], "1.1");
    }
}
