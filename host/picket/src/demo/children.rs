//! The demo's own processes: this program again, in a group of its own, ended with its parent.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use url::Url;

use crate::failure::{Failure, exit};

/// A running `picket control` or `picket agent`, its data directory and its log.
pub(super) struct Child {
    name: String,
    log: PathBuf,
    process: tokio::process::Child,
}

impl Child {
    /// Starts "control" or the agent of that name, with its data in `place`.
    pub(super) fn start(
        name: &str,
        place: &Path,
        plugins: Option<&Path>,
        options: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| Failure::new(exit::OS, e).context(format!("cannot start {name}"));
        let log = place.join(format!("{name}.log"));
        let output = File::create(&log).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        // Variables for the caller's own agent or control plane are not for these.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PICKET_") {
                command.env_remove(variable);
            }
        }
        command
            .arg(if name == "control" { "control" } else { "agent" })
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg("--data")
            .arg(place.join(name))
            .args(options)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true);
        if let Some(plugins) = plugins {
            command.arg("--plugins").arg(plugins);
        }
        let process = command.spawn().map_err(failed)?;
        Ok(Self { name: name.to_owned(), log, process })
    }

    /// The address that the control plane tells once it listens.
    pub(super) async fn address(&mut self) -> Result<Url, Failure> {
        loop {
            self.still_runs()?;
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(address) = told(&said) {
                return Ok(address);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// An error with the end of its log when it ended.
    pub(super) fn still_runs(&mut self) -> Result<(), Failure> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::text(
                exit::GENERAL,
                format!("{} ended with {status}:\n{}", self.name, self.last_words()),
            )),
            Err(e) => Err(Failure::new(exit::OS, e).context(format!("cannot watch {}", self.name))),
        }
    }

    /// SIGTERM, and SIGKILL when that is not enough.
    pub(super) async fn end(mut self) {
        if let Some(pid) = self.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            // It was not waited for yet, so the id is still its own. An error means that it ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(GRACE, self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
    }

    fn last_words(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// Gives an agent what the control plane has compiled, key and all, so that it need not wait for its compiler: 3 s on two busy cores.
/// Without it, or should the folders change their names, the agent compiles for itself.
pub(super) fn share_compiled(place: &Path, agent: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new(exit::OS, e).context(format!("cannot prepare {agent}"));
    let (from, to) = (place.join("control/cache"), place.join(agent).join("cache"));
    if !from.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&to).map_err(failed)?;
    for entry in std::fs::read_dir(&from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        std::fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed)?;
    }
    Ok(())
}

/// An agent promises five seconds.
const GRACE: Duration = Duration::from_secs(8);

/// The address in the control plane's greeting.
fn told(said: &str) -> Option<Url> {
    let line = said.lines().find_map(|line| line.strip_prefix(crate::control::GREETING))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Ends this process with its parent, also when that is killed. Too late when it is gone already.
pub(crate) fn end_with_parent(parent: u32) -> Result<(), Failure> {
    let failed =
        |e: std::io::Error| Failure::new(exit::OS, e).context("cannot bind this process to its parent");
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).map_err(|e| failed(e.into()))?;
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    match now {
        Some(now) if u32::try_from(now) == Ok(parent) => Ok(()),
        _ => Err(Failure::text(exit::GENERAL, format!("the parent {parent} is gone"))),
    }
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn the_address_is_read_from_the_greeting() {
        let said =
            "2026-11-20 INFO something\npicket control plane on http://127.0.0.1:40123/\n  the admin token";
        assert_eq!(told(said).unwrap().as_str(), "http://127.0.0.1:40123/");
        assert_eq!(told("nothing yet"), None);
    }
}
