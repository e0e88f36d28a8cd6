//! The command line against a real control plane, without plugins and without an agent: what people type, what they get, and the
//! exit statuses.

#![allow(clippy::unwrap_used, reason = "every function here belongs to a test")]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A running `picket control` on a free port; ended with SIGTERM when dropped.
struct Control {
    process: Child,
    directory: TempDir,
    address: String,
}

impl Control {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("plugins")).unwrap();
        let mut process = picket()
            .args(["control", "--listen", "127.0.0.1:0", "--data"])
            .arg(directory.path().join("cp"))
            .arg("--plugins")
            .arg(directory.path().join("plugins"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "the control plane ended before it listened");
            if let Some(rest) = line.strip_prefix("picket control plane on ") {
                break rest.split_whitespace().next().unwrap().trim_end_matches('/').to_owned();
            }
        };
        // Whoever does not read its log must not hold it up.
        std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
        Self { process, directory, address }
    }

    fn token(&self) -> String {
        std::fs::read_to_string(self.path("cp/admin.token")).unwrap().trim().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let token = self.token();
        let variables = [("PICKET_CONTROL", self.address.as_str()), ("PICKET_API_TOKEN", &token)];
        picket().args(arguments).envs(variables).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success() || std::thread::panicking(), "it ended with {status}");
    }
}

fn picket() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picket"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("PICKET_") {
            command.env_remove(&variable);
        }
    }
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_agent_is_made_listed_and_deleted() {
    let control = Control::start();
    let created = control.json(&["agents", "create", "edge-1", "--location", "dc1", "--json"]);
    let names: Vec<&String> = created.as_object().unwrap().keys().collect();
    assert_eq!(names, ["agent", "location", "setup_token", "expires_at"]);

    let again = control.run(&["agents", "create", "edge-1", "--location", "dc1"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("edge-1"), "{}", said(&again));

    let agents = control.json(&["agents", "list", "--json"]);
    assert_eq!((&agents[0]["agent"], &agents[0]["state"]), (&"edge-1".into(), &"created".into()));
    assert!(control.run(&["agents", "delete", "edge-1"]).status.success());
    assert_eq!(control.json(&["agents", "list", "--json"]), Value::Array(vec![]));
}

#[test]
fn mistakes_in_monitors_are_told_with_their_lines_and_change_nothing() {
    let control = Control::start();
    let file = control.path("monitors.yaml");
    let text =
        "monitors:\n  - name: shop\n    check: htp\n    locations: [dc1]\n    config: {}\n  - nam: x\n";
    std::fs::write(&file, text).unwrap();
    let refused = control.run(&["monitors", "apply", "-f", file.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(65));
    let said = said(&refused);
    assert!(said.contains("monitors.yaml:3:5: monitor \"shop\": check: "), "{said}");
    assert!(said.contains("monitors.yaml:6:5: "), "{said}");
    assert_eq!(control.json(&["monitors", "list", "--json"]), Value::Array(vec![]));
}

#[test]
fn a_wrong_token_is_refused_and_the_right_one_may_lie_in_a_file() {
    let control = Control::start();
    let wrong = picket()
        .args(["results", "--control", &control.address, "--api-token", "pat_wrong"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(77));
    assert!(said(&wrong).contains("admin.token"), "{}", said(&wrong));
    assert!(!said(&wrong).contains("pat_wrong"), "{}", said(&wrong));

    let file = control.path("cp/admin.token");
    let right = picket()
        .args([
            "results",
            "--json",
            "--control",
            &control.address,
            "--api-token-file",
            file.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert!(right.status.success(), "{}", said(&right));
    assert!(right.stdout.is_empty());
}

#[test]
fn https_towards_a_plain_port_says_what_to_write_instead() {
    let control = Control::start();
    let address = control.address.replace("http://", "https://");
    let output =
        picket().args(["agents", "list", "--control", &address, "--api-token", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(said(&output).contains("http://"), "{}", said(&output));
}

#[test]
fn a_second_control_plane_keeps_away_from_a_directory_in_use() {
    let control = Control::start();
    let second = picket()
        .args(["control", "--listen", "127.0.0.1:0", "--data"])
        .arg(control.path("cp"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(73), "{}", said(&second));
}
