//! What came of a run: an outcome about the target, a failure of the check to judge, or a fault of ours. Three types that never
//! mix. Owns no mapping to the wire: that is the agent's runner.

use serde::Serialize;

/// What came of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The check judged the target.
    Outcome(Outcome),
    /// The check could not be made. Says nothing about the target.
    Failure(Failure),
    /// The plugin or the agent broke. Says nothing about the target.
    Fault(Fault),
}

/// The target's state, as the check saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Every expectation holds.
    Up,
    /// The target serves, but something needs attention soon.
    Degraded,
    /// The target does not serve, or an expectation is false.
    Down,
}

/// What the check found out about the target; every text is redacted and within [`crate::Limits`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The target's state.
    pub state: State,
    /// Why, for machines: "ok", "http.status", "tls.expired". Lower case, digits, dots, hyphens and underscores, at most 64 bytes.
    pub code: String,
    /// Why, for a person, in one line.
    pub summary: String,
    /// What was measured; only names that the plugin's description lists, only finite numbers.
    pub metrics: Vec<Metric>,
    /// Expectations in the order in which they were judged.
    pub findings: Vec<Finding>,
    /// Facts beside the verdict, as name and value.
    pub attributes: Vec<(String, String)>,
    /// What proves the verdict.
    pub evidence: Option<String>,
    /// Whether something of the above was cut or dropped because it was over its bound.
    pub cut: bool,
}

/// One measured number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// Lower case with dots: "dns.answers".
    pub name: String,
    /// Finite.
    pub value: f64,
    /// UCUM: "s", "By", "d", "1".
    pub unit: String,
}

/// One expectation and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The option or rule it belongs to.
    pub id: String,
    /// Whether it holds.
    pub passed: bool,
    /// What was expected, for a person.
    pub expected: String,
    /// What was found, for a person.
    pub actual: String,
}

/// A mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// A JSON pointer (RFC 6901) into the configuration, "" for the whole.
    pub at: String,
    /// What was found and what to write instead.
    pub message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at.as_str() {
            "" => write!(f, "{}", self.message),
            at => write!(f, "{at}: {}", self.message),
        }
    }
}

/// Why the check could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The configuration satisfies the schema, but not the check.
    #[error("{}", join(.0))]
    InvalidConfig(Vec<Mistake>),
    /// The host refused something; the text names the line that an operator would add.
    #[error("{0}")]
    Denied(String),
    /// The target answered, but the account lacks the right that the check needs.
    #[error("{0}")]
    Permission(String),
    /// The target speaks something that this check does not.
    #[error("{0}")]
    Unsupported(String),
    /// The check itself is wrong.
    #[error("{0}")]
    Internal(String),
}

fn join(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("; ")
}

/// What broke on our side of the run. All but the last two are the plugin's; those are the agent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The component trapped; the first line of the reason.
    #[error("the plugin crashed: {0}")]
    Trap(String),
    /// It asked for more memory than a run may have.
    #[error("the plugin asked for more memory than a run may have")]
    Memory,
    /// It computed longer than a run may.
    #[error("the plugin used up the computing time of a run")]
    Cpu,
    /// It did not come back after its deadline.
    #[error("the plugin did not come back after its deadline")]
    Wall,
    /// What it handed over is not what the contract says.
    #[error("the plugin handed over something the contract does not allow: {0}")]
    Output(String),
    /// It could not be instantiated.
    #[error("the plugin could not be started: {0}")]
    Link(String),
    /// It called the host more often than a run may.
    #[error("the plugin called the host more often than a run may")]
    Calls,
    /// All slots of the agent were busy.
    #[error("all slots for runs were busy")]
    Exhausted,
    /// The agent is going down.
    #[error("the agent was shutting down")]
    Shutdown,
}

impl Fault {
    /// Why, for machines and stable: "plugin.trap", "agent.exhausted".
    pub fn code(&self) -> &'static str {
        match self {
            Fault::Trap(_) => "plugin.trap",
            Fault::Memory => "plugin.memory",
            Fault::Cpu => "plugin.cpu",
            Fault::Wall => "plugin.wall",
            Fault::Output(_) => "plugin.output",
            Fault::Link(_) => "plugin.link",
            Fault::Calls => "plugin.calls",
            Fault::Exhausted => "agent.exhausted",
            Fault::Shutdown => "agent.shutdown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_names_its_place() {
        let mistakes = vec![
            Mistake { at: "/port".into(), message: "found 0, expected 1 to 65535".into() },
            Mistake { at: String::new(), message: "found a list, expected an object".into() },
        ];
        assert_eq!(
            Failure::InvalidConfig(mistakes).to_string(),
            "/port: found 0, expected 1 to 65535; found a list, expected an object"
        );
    }

    #[test]
    fn a_fault_tells_whose_it_is() {
        assert_eq!(Fault::Trap("unreachable".into()).code(), "plugin.trap");
        assert_eq!(Fault::Exhausted.code(), "agent.exhausted");
    }
}
