//! A control plane and its agents in one temporary directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::compiled;
use crate::process::{self, Finished, Process, until};

/// Where things happen: a directory, the control plane's port, and the control plane while it runs.
pub struct Field {
    dir: TempDir,
    port: u16,
    control: Option<Process>,
    environment: Vec<(String, String)>,
    /// The file of authorities to trust, where the control plane speaks TLS.
    trusted: Option<String>,
}

impl Field {
    /// A running control plane with an empty store.
    pub fn new() -> Self {
        Self::named("e2e")
    }

    /// The same, in a directory whose name begins with this one.
    pub fn named(name: &str) -> Self {
        Self::prepared(name, |_| {})
    }

    /// The same, and `prepare` makes something in the directory before the control plane starts.
    pub fn prepared(name: &str, prepare: impl FnOnce(&Path)) -> Self {
        let prefix = format!("picket-{name}-");
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory");
        prepare(dir.path());
        let (port, environment) = (process::free_port(), Vec::new());
        let mut field = Self { dir, port, control: None, environment, trusted: None };
        field.start_control();
        field
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The control plane's URL.
    pub fn url(&self) -> String {
        let scheme = if self.trusted.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The control plane's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From its next start on the control plane speaks TLS, with a certificate of an authority in this file.
    pub fn use_tls(&mut self, trusted: &str) {
        self.trusted = Some(trusted.to_owned());
    }

    /// Starts the control plane on its data, and waits until it answers. It finds its plugins compiled, as agents do.
    pub fn start_control(&mut self) {
        self.start_control_with(&[]);
    }

    /// The same, with more options.
    pub fn start_control_with(&mut self, options: &[&str]) {
        let listen = format!("127.0.0.1:{}", self.port);
        let lent = compiled::lend(&self.path("cp"));
        let mut command = process::command(["control", "--data"]);
        command.arg(self.path("cp")).args(["--listen", &listen]).args(options);
        command.env("RUST_LOG", "info,picket_control=debug");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut control = Process::start(&mut command, self.path("control.log"));
        until("the control plane answers", Duration::from_secs(120), || {
            assert!(control.runs(), "the control plane ended:\n{}", control.output());
            let here = self.path("cp").join("admin.token").is_file();
            (here && self.picket(["agents", "list"]).status.success()).then_some(())
        });
        lent.keep();
        self.control = Some(control);
    }

    /// A variable of the control plane's environment, from its next start on.
    pub fn give(&mut self, name: &str, value: &str) {
        self.environment.retain(|(given, _)| given != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Waits until the control plane ends by itself, as at a failpoint.
    pub fn await_end_of_control(&mut self, limit: Duration) {
        self.control.take().expect("it runs").ends(limit);
    }

    /// Kills the control plane with SIGKILL.
    pub fn kill_control(&mut self) {
        self.control.take().expect("it runs").kill();
    }

    /// Whether the control plane runs.
    pub fn control_runs(&mut self) -> bool {
        self.control.as_mut().is_some_and(Process::runs)
    }

    /// The running control plane.
    pub fn control(&self) -> &Process {
        self.control.as_ref().expect("it runs")
    }

    /// The admin token.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.path("cp/admin.token")).unwrap_or_default().trim().to_owned()
    }

    /// A command of the binary against this control plane.
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = process::command(args);
        command
            .current_dir(self.dir.path())
            .env("PICKET_CONTROL", self.url())
            .env("PICKET_API_TOKEN", self.token());
        if let Some(trusted) = &self.trusted {
            command.env("PICKET_CA_FILE", trusted);
        }
        command
    }

    /// Runs such a command to its end.
    pub fn picket(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
        Finished::of(&mut self.command(args))
    }

    /// Makes an agent and gives its setup token.
    pub fn create_agent(&self, name: &str, location: &str) -> String {
        let made = self.picket(["agents", "create", name, "--location", location, "--json"]).exits(0).json();
        made["setup_token"].as_str().expect("a setup token").to_owned()
    }

    /// The command that runs an agent whose targets are on loopback. It finds its plugins compiled.
    pub fn agent(&self, name: &str) -> Command {
        drop(compiled::lend(&self.path(name)));
        let mut command = process::command(["agent", "--data"]);
        command.arg(self.path(name)).args(["--allow", "127.0.0.0/8"]).env("PICKET_CONTROL", self.url());
        command.env("RUST_LOG", "info,agent=debug,picket_agent=debug");
        command
    }

    /// Makes an agent and starts it.
    pub fn start_agent(&self, name: &str, location: &str) -> Process {
        let token = self.create_agent(name, location);
        self.run(self.agent(name).env("PICKET_SETUP_TOKEN", token), name)
    }

    /// Starts an agent again, without a setup token.
    pub fn restart_agent(&self, name: &str) -> Process {
        self.run(&mut self.agent(name), name)
    }

    fn run(&self, command: &mut Command, name: &str) -> Process {
        Process::start(command, self.path(&format!("{name}.log")))
    }

    /// Applies a monitors file.
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        let file = self.write("monitors.yaml", yaml);
        self.picket(["monitors".as_ref(), "apply".as_ref(), "-f".as_ref(), file.as_os_str()]).exits(0);
    }

    /// Writes a file into the directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("the directory can be written");
        path
    }

    /// Results as `picket results --json` prints them, oldest first.
    pub fn results(&self, args: &[&str]) -> Vec<Value> {
        let all = [&["results", "--json"], args].concat();
        let out = self.picket(all).exits(0).stdout;
        out.lines().map(|line| serde_json::from_str(line).expect("a line is a JSON object")).collect()
    }

    /// Waits for a result of that monitor that satisfies `wanted`.
    #[track_caller]
    pub fn result_of(&self, monitor: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("a result of {monitor}: {what}"), Duration::from_secs(90), || {
            self.results(&["--monitor", monitor, "--limit", "100"]).into_iter().rev().find(|r| wanted(r))
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Field {
    /// A test that fails leaves its logs and data to whoever looks for the reason.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("kept {}", self.dir.path().display());
        }
    }
}

impl Default for Field {
    fn default() -> Self {
        Self::new()
    }
}
