//! Where a row happens: a control plane, its agents behind proxies, a target, and the questions that rows ask about them.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use picket_e2e::{Field, Process, until};
use serde_json::Value;

use crate::http;
use crate::oracle::{self, Account, Whole};
use crate::target::Target;

/// A field with a target.
pub struct Stage {
    field: Field,
    /// What is checked.
    pub target: Target,
}

impl Stage {
    /// A control plane with an empty store, in a directory named after the row.
    pub fn new(row: &str) -> Self {
        Self { field: Field::named(row), target: Target::start() }
    }

    /// The control plane's port.
    pub fn port(&self) -> u16 {
        self.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a URL with a port")
    }

    /// Asks the API.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap_or_else(|why| panic!("GET {path}: {why}"))
    }

    /// Asks the API; an error when it does not answer 200.
    pub fn try_get(&self, path: &str) -> Result<Value, String> {
        self.call("GET", path, &Value::Null).map_err(|e| e.to_string()).and_then(|answer| {
            if answer.status() == 200 {
                return Ok(answer.json());
            }
            Err(format!("{} {}", answer.start, String::from_utf8_lossy(&answer.body)))
        })
    }

    /// Calls the API.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> std::io::Result<http::Message> {
        let bearer = format!("Bearer {}", self.token());
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        http::ask(self.port(), method, path, &headers, &body)
    }

    /// The same, for one that takes `control` for its control plane.
    pub fn agent_at(&self, name: &str, control: &str) -> Command {
        let mut command = self.agent(name);
        command.env("PICKET_CONTROL", control);
        command
    }

    /// Makes an agent whose control plane is at `control`, and starts it.
    pub fn enrol_at(&self, name: &str, location: &str, control: &str) -> Process {
        let token = self.create_agent(name, location);
        self.start(name, self.agent_at(name, control).env("PICKET_SETUP_TOKEN", token))
    }

    /// Runs it, its log where the oracle looks for it.
    pub fn start(&self, name: &str, command: &mut Command) -> Process {
        Process::start(command, self.path(&format!("{name}.log")))
    }

    /// `count` monitors of one location on pages of the target, every second: "LOCATION-0" and so on.
    pub fn pages(&self, location: &str, count: usize) -> Vec<Value> {
        let page = |n: usize| {
            let name = format!("{location}-{n}");
            serde_json::json!({
                "name": name, "check": "http", "interval": "1s", "timeout": "900ms", "locations": [location],
                "config": { "url": self.target.url(&name) },
            })
        };
        (0..count).map(page).collect()
    }

    /// Applies monitors.
    #[track_caller]
    pub fn apply_all(&self, monitors: &[Value]) {
        let body = serde_json::json!({ "monitors": monitors });
        let answer = self.call("POST", "/v1/monitors/apply", &body).expect("the control plane answers");
        assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// All results of an agent, in the order of storing.
    pub fn stored(&self, agent: &str) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), "0".to_owned());
        loop {
            let mut page = self.get(&format!("/v1/results?agent={agent}&limit=10000&after={after}"));
            let Value::Array(results) = page["results"].take() else { return all };
            if results.is_empty() {
                return all;
            }
            all.extend(results);
            page["cursor"].as_str().unwrap_or_default().clone_into(&mut after);
        }
    }

    /// All gaps of an agent.
    pub fn gaps_of(&self, agent: &str) -> Vec<Value> {
        let Value::Array(gaps) = self.get(&format!("/v1/gaps?agent={agent}&limit=10000")) else {
            panic!("gaps are a list")
        };
        gaps
    }

    /// What the agent's log says.
    pub fn log(&self, agent: &str) -> String {
        let bytes = std::fs::read(self.path(&format!("{agent}.log"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// One agent as the control plane lists it.
    pub fn agent_view(&self, name: &str) -> Value {
        let Ok(Value::Array(agents)) = self.try_get("/v1/agents") else { return Value::Null };
        agents.into_iter().find(|agent| agent["agent"] == name).unwrap_or_default()
    }

    /// Waits until a result of the agent that `wanted` likes is stored.
    #[track_caller]
    pub fn wait_for_result(&self, agent: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("a result of {agent}"), limit, || {
            let page = self.try_get(&format!("/v1/results?agent={agent}&limit=200")).ok()?;
            page["results"].as_array()?.iter().rev().find(|result| wanted(result)).cloned()
        })
    }

    /// What the oracle says about an agent now.
    pub fn judge(&self, agent: &str) -> Whole {
        let log = self.log(agent);
        let events = self.get("/v1/alerts?limit=1000").as_array().cloned().unwrap_or_default();
        let events = events.into_iter().filter(|event| event["agent"] == agent).collect();
        let account = Account { events, stored: self.stored(agent), gaps: self.gaps_of(agent) };
        oracle::judge(&log, &account, &self.target)
    }

    /// Waits until everything that the agent recorded is stored; everything else must hold then. Nothing may be lost.
    #[track_caller]
    pub fn whole(&self, agent: &str, limit: Duration) -> Whole {
        let whole = self.accounted(agent, limit);
        let few: Vec<_> = whole.lost.iter().take(20).collect();
        let gaps = || self.gaps_of(agent);
        assert!(
            few.is_empty(),
            "{agent}: {} are lost, if in gaps: {few:?} in {:#?}",
            whole.lost.len(),
            gaps()
        );
        whole
    }

    /// Waits until everything that the agent recorded is stored or said to be missing; everything else must hold then.
    #[track_caller]
    pub fn accounted(&self, agent: &str, limit: Duration) -> Whole {
        let end = Instant::now() + limit;
        loop {
            let whole = self.judge(agent);
            if whole.wrong.is_empty() {
                // An account that says nothing agrees with every other.
                assert!(whole.recorded > 0, "{agent}: its log tells of nothing that was recorded");
                return whole;
            }
            let few: Vec<_> = whole.wrong.iter().take(20).collect();
            assert!(Instant::now() < end, "{agent}: {} things are wrong: {few:#?}", whole.wrong.len());
            picket_e2e::pause(Duration::from_millis(300));
        }
    }
}

impl Deref for Stage {
    type Target = Field;

    fn deref(&self) -> &Field {
        &self.field
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut Field {
        &mut self.field
    }
}

/// How often something befell the identity of that agent, as the control plane tells its owner.
pub fn events(stage: &Stage, agent: &str, kind: &str) -> usize {
    let events = stage.try_get(&format!("/v1/agents/{agent}/events?limit=1000")).unwrap_or_default();
    events.as_array().map_or(0, |all| all.iter().filter(|event| event["kind"] == kind).count())
}

/// SHA-256 is not needed to see whether files changed: their names and bytes.
pub fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let name = path.strip_prefix(directory).unwrap_or(&path).display().to_string();
                found.push((name, bytes));
            }
        }
    }
    found.sort();
    found
}

/// Copies a directory with everything in it.
pub fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(to).expect("the copy can be made");
    let mode = std::fs::metadata(from).expect("it is there").permissions().mode();
    std::fs::set_permissions(to, PermissionsExt::from_mode(mode)).expect("it is ours");
    for entry in std::fs::read_dir(from).expect("it is a directory").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("the file can be copied");
        }
    }
}
