//! The check that is tried: its examples, and runs of it in scripted worlds. Owns how a run is put together, not what must come of
//! it.

use std::sync::Arc;
use std::time::Duration;

use sandbox::{Job, Limits, Plugin, Report, Sandbox, Secrets, Verdict};
use serde_json::Value;

use crate::world::script::{Op, Peer, Script};
use crate::world::{Scripted, Seen};

/// What a run has unless its case says otherwise.
pub(crate) const BUDGET: Duration = Duration::from_secs(2);

/// A check, and where it runs.
pub(crate) struct Subject {
    pub(crate) sandbox: Sandbox,
    pub(crate) plugin: Arc<Plugin>,
    /// Runs of the case that looks at memory.
    pub(crate) runs: u32,
}

/// What a run showed.
pub(crate) struct Shown {
    pub(crate) report: Report,
    pub(crate) seen: Seen,
}

impl Subject {
    /// The schema as the check gave it.
    pub(crate) fn schema(&self) -> &Value {
        &self.plugin.description.config_schema
    }

    /// The configurations that the schema shows as examples.
    pub(crate) fn examples(&self) -> Vec<Value> {
        self.schema().get("examples").and_then(Value::as_array).cloned().unwrap_or_default()
    }

    /// The examples that the schema itself accepts, completed; the others have a case of their own.
    pub(crate) fn good_examples(&self) -> Vec<Value> {
        self.examples().iter().filter_map(|example| self.plugin.schema.complete(example).ok()).collect()
    }

    /// The job of a run with this completed configuration. Secrets that the case does not know get bytes that nobody else has.
    pub(crate) fn job(&self, config: &Value, timeout: Duration) -> Job {
        let mut secrets = Secrets::new();
        for (index, name) in self.plugin.schema.secret_names(config).into_iter().enumerate() {
            secrets.insert(name, canary(index).into_bytes());
        }
        Job {
            monitor: "conformance".to_owned(),
            config: config.to_string(),
            attempt: 1,
            timeout,
            grant: self.plugin.schema.grant(config, &[]).unwrap_or_default().into(),
            route: net::Route::default(),
            secrets,
            limits: Limits::default(),
        }
    }

    /// A run in a scripted world.
    pub(crate) async fn run(&self, job: Job, script: &Script) -> Shown {
        let world = Scripted::new(script.clone(), net::Grant::clone(&job.grant), job.timeout);
        let played = world.clone();
        let report = self.sandbox.run_in(&self.plugin, job, |_| Arc::new(played)).await;
        Shown { report, seen: world.seen() }
    }

    /// A run with a configuration that no schema has looked at, in a world that reaches nothing.
    pub(crate) async fn run_text(&self, text: &str) -> Verdict {
        let job = Job { config: text.to_owned(), secrets: Secrets::new(), ..self.job(&Value::Null, BUDGET) };
        let world = Scripted::new(Script::default(), net::Grant::default(), BUDGET);
        self.sandbox.run_in(&self.plugin, job, |_| Arc::new(world)).await.verdict
    }
}

/// The bytes of a secret: letters and digits that stand nowhere else.
pub(crate) fn canary(index: usize) -> String {
    format!("q7w3x9z5v1k8j4h2n6m0{index:02}")
}

/// A world in which everybody does this.
pub(crate) fn everybody(does: Vec<Op>) -> Script {
    Script { peers: vec![Peer { at: "*".to_owned(), does }] }
}

/// What came of a run, in a few words.
pub(crate) fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Outcome(outcome) => {
            format!("{} with the code {}: {}", state(verdict), outcome.code, outcome.summary)
        }
        Verdict::Failure(failure) => format!("error with the code {}: {failure}", code(verdict)),
        Verdict::Fault(fault) => format!("error with the code {}: {fault}", fault.code()),
    }
}

/// "up", "degraded", "down" or "error".
pub(crate) fn state(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Outcome(outcome) => match outcome.state {
            sandbox::State::Up => "up",
            sandbox::State::Degraded => "degraded",
            sandbox::State::Down => "down",
        },
        _ => "error",
    }
}

/// The code that an agent would report.
pub(crate) fn code(verdict: &Verdict) -> &str {
    use sandbox::Failure as F;
    match verdict {
        Verdict::Outcome(outcome) => &outcome.code,
        Verdict::Failure(F::InvalidConfig(_)) => "config",
        Verdict::Failure(F::Denied(_)) => "denied",
        Verdict::Failure(F::Permission(_)) => "permission",
        Verdict::Failure(F::Unsupported(_)) => "unsupported",
        Verdict::Failure(F::Internal(_)) => "plugin.internal",
        Verdict::Fault(fault) => fault.code(),
    }
}
