//! What a run by hand prints: the wire's words for states, codes and phases; the exit status of a Nagios plugin.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sandbox::{Failure, Mistake, Outcome};
use serde::Serialize;
use wire::results::{Finding, Metric, Phases, RunResult, State};

use super::config::Setting;
use crate::output;

/// One run, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Made {
    pub(super) state: State,
    pub(super) code: String,
    pub(super) summary: String,
    pub(super) findings: Vec<Finding>,
    pub(super) metrics: Vec<Metric>,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) phases: Phases,
    pub(super) remote_address: Option<String>,
    pub(super) evidence: Option<String>,
    pub(super) plugin_digest: String,
    pub(super) duration_ms: u64,
    /// What the check noted; not part of a result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) log: Vec<String>,
}

impl From<RunResult> for Made {
    fn from(result: RunResult) -> Self {
        Self {
            state: result.state,
            code: result.code,
            summary: result.summary,
            findings: result.findings,
            metrics: result.metrics,
            attributes: result.attributes,
            phases: result.phases,
            remote_address: result.remote_address,
            evidence: result.evidence,
            plugin_digest: result.plugin_digest.unwrap_or_default(),
            duration_ms: result.duration_ms,
            log: Vec::new(),
        }
    }
}

impl Made {
    /// The check judged the target.
    pub(super) fn outcome(outcome: Outcome) -> Self {
        let state = match outcome.state {
            sandbox::State::Up => State::Up,
            sandbox::State::Degraded => State::Degraded,
            sandbox::State::Down => State::Down,
        };
        let finding = |f: sandbox::Finding| Finding {
            id: f.id,
            passed: f.passed,
            expected: f.expected,
            actual: f.actual,
        };
        let metric = |m: sandbox::Metric| Metric { name: m.name, value: m.value, unit: m.unit };
        Self {
            state,
            findings: outcome.findings.into_iter().map(finding).collect(),
            metrics: outcome.metrics.into_iter().map(metric).collect(),
            attributes: outcome.attributes.into_iter().collect(),
            evidence: outcome.evidence,
            ..Self::error(&outcome.code, outcome.summary)
        }
    }

    /// The check could not be made.
    pub(super) fn failure(failure: &Failure) -> Self {
        let code = match failure {
            Failure::InvalidConfig(_) => "config",
            Failure::Denied(_) => "denied",
            Failure::Permission(_) => "permission",
            Failure::Unsupported(_) => "unsupported",
            Failure::Internal(_) => "plugin.internal",
        };
        Self::error(code, failure.to_string())
    }

    /// An error with this code.
    pub(super) fn error(code: &str, summary: String) -> Self {
        Self {
            state: State::Error,
            code: code.to_owned(),
            summary,
            findings: Vec::new(),
            metrics: Vec::new(),
            attributes: BTreeMap::new(),
            phases: Phases::default(),
            remote_address: None,
            evidence: None,
            plugin_digest: String::new(),
            duration_ms: 0,
            log: Vec::new(),
        }
    }

    /// The configuration has mistakes: each with the `--set` or the line of the file that wrote it.
    pub(super) fn refused(
        refusal: &super::Refusal,
        settings: &[Setting],
        place: impl Fn(&str) -> Option<String>,
        digest: &str,
    ) -> Self {
        let sentence = |mistake: &Mistake| {
            let key = mistake.at.trim_start_matches('/').replace('/', ".");
            let text =
                if key.is_empty() { mistake.message.clone() } else { format!("{key}: {}", mistake.message) };
            let set = settings.iter().any(|s| s.wrote(&mistake.at));
            match place(&mistake.at) {
                Some(place) if !set => format!("{place}: {text}"),
                _ => text,
            }
        };
        let summary = refusal.mistakes.iter().map(sentence).collect::<Vec<_>>().join("; ");
        Self { plugin_digest: digest.to_owned(), ..Self::error(refusal.code, summary) }
    }

    /// What the host measured.
    pub(super) fn measured(&mut self, measured: &net::Measured) {
        let seconds = |time: Option<std::time::Duration>| time.map(|t| t.as_secs_f64());
        self.phases = Phases {
            resolve: seconds(measured.phases.resolve),
            connect: seconds(measured.phases.connect),
            tls: seconds(measured.phases.handshake),
            send: seconds(measured.phases.send),
            first_byte: seconds(measured.phases.first_byte),
            transfer: seconds(measured.phases.transfer),
        };
        self.remote_address = measured.remote.map(|r| r.to_string());
    }

    /// As a Nagios plugin's.
    pub(crate) fn exit_status(&self) -> u8 {
        match self.state {
            State::Up | State::Maintenance => 0,
            State::Degraded => 1,
            State::Down => 2,
            State::Error => super::ERROR,
        }
    }

    /// For a person; a monitoring system, which is no terminal, gets the metrics on the first line.
    pub(crate) fn text(&self, terminal: bool) -> String {
        let mut text = format!(
            "{}: {} ({})",
            output::coloured(self.state.as_str()),
            output::printable(&self.summary),
            self.code
        );
        if !terminal {
            text.push_str(&self.performance());
        }
        for finding in &self.findings {
            let mark = if finding.passed { "passed" } else { "failed" };
            let line = format!("{}: expected {}, found {}", finding.id, finding.expected, finding.actual);
            let _ = write!(text, "\n  {mark}  {}", output::printable(&line));
        }
        for metric in &self.metrics {
            let unit = if metric.unit == "1" { "" } else { &metric.unit };
            let _ = write!(text, "\n  {} = {} {unit}", metric.name, metric.value);
        }
        for (name, value) in &self.attributes {
            let _ = write!(text, "\n  {} = {}", output::printable(name), output::printable(value));
        }
        let _ = write!(text, "\n  took {} ms{}", self.duration_ms, self.phase_list());
        if let Some(peer) = &self.remote_address {
            let _ = write!(text, ", last peer {peer}");
        }
        for line in &self.log {
            let _ = write!(text, "\n  log: {}", output::printable(line));
        }
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    fn phase_list(&self) -> String {
        let Phases { resolve, connect, tls, send, first_byte, transfer } = self.phases;
        let named = [
            ("resolve", resolve),
            ("connect", connect),
            ("tls", tls),
            ("send", send),
            ("first byte", first_byte),
            ("transfer", transfer),
        ];
        let list: Vec<String> =
            named.iter().filter_map(|(name, s)| s.map(|s| format!("{name} {:.1}", s * 1000.0))).collect();
        if list.is_empty() { String::new() } else { format!(" ({})", list.join(", ")) }
    }

    /// " | 'dns.answers'=2", after the guidelines for Nagios plugins.
    fn performance(&self) -> String {
        let unit = |unit: &str| match unit {
            "s" => "s",
            "By" => "B",
            "%" => "%",
            _ => "",
        };
        let words: Vec<String> =
            self.metrics.iter().map(|m| format!("'{}'={}{}", m.name, m.value, unit(&m.unit))).collect();
        if words.is_empty() { String::new() } else { format!(" | {}", words.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Made {
        let mut made = Made::outcome(Outcome {
            state: sandbox::State::Down,
            code: "http.status".into(),
            summary: "503 Service Unavailable".into(),
            metrics: vec![sandbox::Metric { name: "http.body".into(), value: 12.0, unit: "By".into() }],
            findings: vec![sandbox::Finding {
                id: "valid_status_codes".into(),
                passed: false,
                expected: "200-299".into(),
                actual: "503".into(),
            }],
            attributes: vec![],
            evidence: None,
            cut: false,
        });
        made.duration_ms = 12;
        made.phases.connect = Some(0.001);
        made
    }

    #[test]
    fn the_exit_status_is_a_nagios_plugins() {
        let status = |state| Made { state, ..sample() }.exit_status();
        assert_eq!([State::Up, State::Degraded, State::Down, State::Error].map(status), [0, 1, 2, 3]);
    }

    #[test]
    fn a_person_sees_what_failed_and_how_long_it_took() {
        let text = anstream::adapter::strip_str(&sample().text(true)).to_string();
        assert_eq!(
            text,
            "down: 503 Service Unavailable (http.status)\n  failed  valid_status_codes: expected 200-299, found 503\n  \
             http.body = 12 By\n  took 12 ms (connect 1.0)"
        );
    }

    #[test]
    fn a_monitoring_system_gets_the_metrics_on_the_first_line() {
        let text = sample().text(false);
        assert!(text.lines().next().unwrap().ends_with("(http.status) | 'http.body'=12B"), "{text}");
    }

    #[test]
    fn the_json_form_has_the_members_that_are_promised() {
        let value = serde_json::to_value(sample()).unwrap();
        for name in [
            "state",
            "code",
            "summary",
            "findings",
            "metrics",
            "attributes",
            "phases",
            "plugin_digest",
            "duration_ms",
        ] {
            assert!(value.get(name).is_some(), "{name} is missing in {value}");
        }
    }

    #[test]
    fn what_is_not_an_outcome_is_an_error_with_its_own_code() {
        let code = |failure: Failure| Made::failure(&failure).code;
        assert_eq!(code(Failure::Denied("127.0.0.1".into())), "denied");
        assert_eq!(code(Failure::Internal("x".into())), "plugin.internal");
    }
}
