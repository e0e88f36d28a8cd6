//! Runs a case: the component in the sandbox, with the network of a real agent, against the servers that the case names; and
//! compares what came of it. Does what the agent's runner does with the verdict, so that cases speak of states and codes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use agent::attempt::{self, Attempts};
use sandbox::{Failure, Job, Limits, Outcome, Plugin, Sandbox, Secrets, Verdict};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::case::{Case, Expect, State, Table};
use crate::servers::Fleet;

/// A sandbox, the components that were loaded, and the servers that were started.
pub struct Bench {
    sandbox: Sandbox,
    attempts: Attempts,
    loaded: Mutex<BTreeMap<PathBuf, Slot>>,
    fleet: Fleet,
    runtime: Runtime,
}

/// Filled by the first that needs it, while others wait.
type Slot = Arc<OnceLock<Result<Arc<Plugin>, String>>>;

/// What the agent would report.
struct Found {
    state: State,
    code: String,
    summary: String,
    outcome: Option<Outcome>,
    mistakes: Vec<sandbox::Mistake>,
}

impl Bench {
    /// The ceiling is loopback, the rest are the agent's defaults.
    pub fn new() -> Result<Self, String> {
        let runtime = Runtime::new().map_err(|error| error.to_string())?;
        let inside = runtime.enter();
        let allow = ["127.0.0.0/8", "::1"].iter().map(|rule| rule.parse().expect("it is a rule")).collect();
        let ceiling = net::Ceiling { allow, ..net::Ceiling::default() };
        let settings = net::Settings { ceiling, ..net::Settings::default() };
        let network = net::Network::new(settings).map_err(|error| error.to_string())?;
        let sandbox =
            Sandbox::new(sandbox::Settings::default(), network).map_err(|error| error.to_string())?;
        drop(inside);
        let attempts = Attempts::new(sandbox.clone());
        Ok(Self { sandbox, attempts, loaded: Mutex::default(), fleet: Fleet::default(), runtime })
    }

    /// Runs a case of a table with the component. An error says everything that is not as expected.
    pub fn check(&self, component: &Path, table: &Table, case: &Case) -> Result<(), String> {
        let plugin = self.plugin(component)?;
        let case = case.clone().filled(&self.fleet.values(&case.servers(table))?)?;
        let found = self.found(&plugin, &case);
        let wrong = compare(&case.expect, &found);
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{wrong}found {} {}: {}\n{:#?}",
                found.state, found.code, found.summary, found.outcome
            )),
        }
    }

    /// What happens in the sandbox.
    pub(crate) fn block_on<F: Future>(&self, happens: impl FnOnce(Sandbox) -> F) -> F::Output {
        self.runtime.block_on(happens(self.sandbox.clone()))
    }

    pub(crate) fn plugin(&self, component: &Path) -> Result<Arc<Plugin>, String> {
        let slot = {
            let mut loaded = self.loaded.lock().expect("nothing panics while it holds the map");
            loaded.entry(component.to_owned()).or_default().clone()
        };
        let load = || {
            let bytes = std::fs::read(component)
                .map_err(|error| format!("{}: {error}; build it with: make plugins", component.display()))?;
            self.runtime.block_on(self.sandbox.load(&bytes)).map_err(|error| chain(&error))
        };
        slot.get_or_init(load).clone()
    }

    fn found(&self, plugin: &Plugin, case: &Case) -> Found {
        let config = match plugin.schema.complete(&Value::from(case.config.clone())) {
            Ok(config) => config,
            Err(mistakes) => return Found::failure(Failure::InvalidConfig(mistakes)),
        };
        let mut grant = match plugin.schema.grant(&config, &case.allow) {
            Ok(grant) => grant,
            Err(mistakes) => return Found::failure(Failure::InvalidConfig(mistakes)),
        };
        let manner = match control::manner(&case.monitor, case.timeout()) {
            Ok(manner) => manner,
            Err(mistakes) => {
                let same = |m: wire::Mistake| sandbox::Mistake { at: m.at, message: m.message };
                return Found::failure(Failure::InvalidConfig(mistakes.into_iter().map(same).collect()));
            }
        };
        grant.resolvers.extend(attempt::name_servers(&manner));
        let route = attempt::route(&manner, &case.known(manner.secret_names()));
        let secrets = case.known(plugin.schema.secret_names(&config));
        let targets = attempt::targets(plugin, &config);
        let job = Job {
            monitor: "case".into(),
            config: config.to_string(),
            attempt: 1,
            timeout: case.timeout(),
            grant: grant.into(),
            route,
            secrets,
            // A busy machine makes a case slow, and must not make it another verdict.
            limits: Limits { grace: Duration::from_secs(20), ..Limits::default() },
        };
        match self.runtime.block_on(self.attempts.make(plugin, job, &manner, &targets)).verdict {
            Verdict::Outcome(outcome) => Found::outcome(outcome),
            Verdict::Failure(failure) => Found::failure(failure),
            Verdict::Fault(fault) => Found::error(fault.code(), fault.to_string()),
        }
    }
}

impl Found {
    fn outcome(outcome: Outcome) -> Self {
        let state = match outcome.state {
            sandbox::State::Up => State::Up,
            sandbox::State::Degraded => State::Degraded,
            sandbox::State::Down => State::Down,
        };
        Self {
            state,
            code: outcome.code.clone(),
            summary: outcome.summary.clone(),
            outcome: Some(outcome),
            mistakes: Vec::new(),
        }
    }

    fn failure(failure: Failure) -> Self {
        let code = match &failure {
            Failure::InvalidConfig(_) => "config",
            Failure::Denied(_) => "denied",
            Failure::Permission(_) => "permission",
            Failure::Unsupported(_) => "unsupported",
            Failure::Internal(_) => "plugin.internal",
        };
        let mut found = Self::error(code, failure.to_string());
        if let Failure::InvalidConfig(mistakes) = failure {
            found.mistakes = mistakes;
        }
        found
    }

    fn error(code: &str, summary: String) -> Self {
        Self { state: State::Error, code: code.into(), summary, outcome: None, mistakes: Vec::new() }
    }
}

/// A line for everything that is not as expected.
fn compare(expect: &Expect, found: &Found) -> String {
    let mut wrong = String::new();
    let mut line = |text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(wrong, "{text}");
    };
    if (expect.state, expect.code.as_str()) != (found.state, found.code.as_str()) {
        line(format!("expected {} {}", expect.state, expect.code));
    }
    if let Some(part) = expect.summary_contains.as_deref().filter(|part| !found.summary.contains(part)) {
        line(format!("expected a summary that contains {part:?}"));
    }
    if let Some(at) = expect.mistake_at.as_deref().filter(|at| !found.mistakes.iter().any(|m| m.at == **at)) {
        line(format!("expected a mistake at {at:?}, found {:?}", found.mistakes));
    }
    let outcome = found.outcome.as_ref();
    let evidence = outcome.and_then(|outcome| outcome.evidence.as_deref()).unwrap_or_default();
    if let Some(part) = expect.evidence_contains.as_deref().filter(|part| !evidence.contains(part)) {
        line(format!("expected evidence that contains {part:?}"));
    }
    for (id, passed) in &expect.findings {
        let finding = outcome.and_then(|outcome| outcome.findings.iter().find(|finding| finding.id == *id));
        if finding.is_none_or(|finding| finding.passed != *passed) {
            line(format!("expected the finding {id} with passed: {passed}"));
        }
    }
    for (name, (least, most)) in &expect.metrics {
        let metric = outcome.and_then(|outcome| outcome.metrics.iter().find(|metric| metric.name == *name));
        if metric.is_none_or(|metric| metric.value < *least || metric.value > *most) {
            line(format!("expected the metric {name} from {least} to {most}"));
        }
    }
    for (name, value) in &expect.attributes {
        let pair = (name.clone(), value.clone());
        if outcome.is_none_or(|outcome| !outcome.attributes.contains(&pair)) {
            line(format!("expected the attribute {name}: {value:?}"));
        }
    }
    wrong
}

impl Case {
    /// Those of these secrets that the case has.
    fn known(&self, names: impl IntoIterator<Item = String>) -> Secrets {
        let mut secrets = Secrets::new();
        for name in names {
            if let Some(text) = self.secrets.get(&name) {
                secrets.insert(name, text.clone().into_bytes());
            }
        }
        secrets
    }

    /// 5 s unless it says "800ms" or "2s".
    fn timeout(&self) -> Duration {
        let text = self.timeout.as_deref().unwrap_or("5s");
        let number = |unit| text.strip_suffix(unit).and_then(|number| number.parse().ok());
        number("ms").map(Duration::from_millis).or(number("s").map(Duration::from_secs)).unwrap_or_else(
            || {
                panic!("timeout: found {text}, write 800ms or 2s");
            },
        )
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
