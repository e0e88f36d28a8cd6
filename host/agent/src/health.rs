//! The state file that `picket health` reads: written by the running agent, read by another process. No port is opened for it.
//!
//! Owns the file's shape and what counts as healthy. Does not own the numbers in it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{clock, disk};

/// What a running agent says about itself. Being cut off from the control plane is not unhealthy: the agent goes on checking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Healthy {
    /// The agent's name.
    pub name: String,
    /// Its location.
    pub location: String,
    /// Whether the last exchange with the control plane succeeded.
    pub connected: bool,
    /// What went wrong in it otherwise. It begins with "proxy:" where the proxy between is what fails.
    pub trouble: Option<String>,
    /// How it reaches the control plane while it is connected.
    #[serde(default)]
    pub transport: Option<wire::admin::Transport>,
    /// Monitors that it runs.
    pub monitors: usize,
    /// Results not yet acknowledged.
    pub pending: u64,
    /// Results that are in memory because the disk has not taken them yet; an end of the agent loses them.
    #[serde(default)]
    pub held: usize,
    /// Results that were lost because neither disk nor memory took them: gaps, or about to be.
    #[serde(default)]
    pub lost: u64,
    /// Why results are not recorded as they should be; none when they are.
    #[serde(default)]
    pub degraded: Option<String>,
    /// The agent's version.
    pub version: String,
    /// How often each part panicked and was started again since the agent started; only those that did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub panics: BTreeMap<String, u64>,
}

/// What the agent that runs in `data` says about itself; an error sentence when none runs, it is not enrolled, or it stopped writing.
pub fn check(data: &Path) -> Result<Healthy, String> {
    let path = data.join(FILE);
    let text = std::fs::read(&path).map_err(|e| format!("no agent runs in {}: {e}", data.display()))?;
    let written: Written =
        serde_json::from_slice(&text).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    judge(written, &clock::boot_id(), clock::boot_ms())
}

/// What the agent is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "doing")]
pub(crate) enum Doing {
    /// It has no identity yet.
    Enrolling {
        /// Why the last attempt failed.
        reason: String,
    },
    /// It was started too often and waits before it does anything.
    Waiting {
        /// Starts within five minutes.
        starts: usize,
        /// For how long.
        wait_ms: u64,
    },
    /// It checks.
    Running(Healthy),
    /// It stopped in order.
    Stopped,
}

/// Writes what the agent is doing. Read back only by a running system, so it need not survive a power cut.
pub(crate) fn write(data: &Path, doing: Doing) -> io::Result<()> {
    let written = Written { doing, boot_id: clock::boot_id(), written_boot_ms: clock::boot_ms() };
    let text = serde_json::to_vec(&written).expect("strings and numbers are always JSON");
    let (fresh, path) = (data.join("state.json.new"), data.join(FILE));
    disk::wait(|| put(&fresh, &path, text))
}

fn put(fresh: &Path, path: &Path, text: Vec<u8>) -> io::Result<()> {
    replace(fresh, path, &text).or_else(|error| {
        // On a full disk there is room for no second file, but over the first one can still be written.
        let _ = std::fs::remove_file(fresh);
        overwrite(path, text).map_err(|_| error)
    })
}

fn replace(fresh: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(fresh)?;
    io::Write::write_all(&mut file, text)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a power cut may take this file: the next start writes it anew"
    )]
    std::fs::rename(fresh, path)
}

/// Writes over what is there, the rest of which becomes space.
fn overwrite(path: &Path, mut text: Vec<u8>) -> io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    text.resize(text.len().max(length), b' ');
    file.write_all_at(&text, 0)
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    doing: Doing,
    /// Times of another boot mean nothing.
    boot_id: String,
    written_boot_ms: u64,
}

fn judge(written: Written, boot_id: &str, now_ms: u64) -> Result<Healthy, String> {
    let silent = now_ms.saturating_sub(written.written_boot_ms);
    if written.boot_id != boot_id || now_ms < written.written_boot_ms {
        return Err("the agent has not run since the machine was booted".to_owned());
    }
    match written.doing {
        Doing::Stopped => Err("the agent was stopped".to_owned()),
        Doing::Enrolling { reason } => Err(format!("not enrolled yet: {reason}")),
        Doing::Waiting { starts, wait_ms } => Err(format!(
            "started {starts} times within five minutes, so it waits {} s before it goes on: its log says what ended it",
            wait_ms.div_ceil(1_000)
        )),
        _ if silent > STALE_MS => Err(format!("the agent has said nothing for {} s", silent / 1_000)),
        Doing::Running(healthy) => Ok(healthy),
    }
}

/// Between two writes at most.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// Three writes missed.
const STALE_MS: u64 = 35_000;
const FILE: &str = "state.json";

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Doing {
        Doing::Running(Healthy {
            name: "edge-1".into(),
            location: "dc1".into(),
            connected: false,
            trouble: Some("connection refused".into()),
            transport: None,
            monitors: 5,
            pending: 7,
            held: 0,
            lost: 0,
            degraded: None,
            version: "0.1.0".into(),
            panics: BTreeMap::from([("uplink".into(), 2)]),
        })
    }

    #[test]
    fn an_agent_that_is_cut_off_is_healthy_and_one_that_fell_silent_is_not() {
        for (doing, boot_id, now_ms, healthy) in [
            (running(), "b", 1_000, true),
            (running(), "b", 36_000, true),
            (running(), "b", 36_001, false),
            (running(), "another boot", 1_000, false),
            (Doing::Enrolling { reason: "connection refused".into() }, "b", 1_000, false),
            (Doing::Waiting { starts: 6, wait_ms: 2_000 }, "b", 1_000, false),
            (Doing::Stopped, "b", 1_000, false),
        ] {
            let written = Written { doing, boot_id: "b".into(), written_boot_ms: 1_000 };
            let found = judge(written, boot_id, now_ms);
            assert_eq!(found.is_ok(), healthy, "{found:?}");
        }
    }

    #[test]
    fn what_was_written_is_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check(dir.path()).unwrap_err().starts_with("no agent runs in"));
        write(dir.path(), running()).unwrap();
        let Doing::Running(healthy) = running() else { unreachable!() };
        assert_eq!(check(dir.path()).unwrap(), healthy);
        overwrite(&dir.path().join(FILE), b"{}".to_vec()).unwrap();
        assert!(
            check(dir.path()).unwrap_err().contains("missing field"),
            "shorter text over longer is whole"
        );
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(check(dir.path()).unwrap_err().contains("cannot be read"));
    }
}
