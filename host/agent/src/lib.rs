//! The agent: who it is, what it is told to do, when each check is due, one run from plan to record, and how results leave.
//!
//! Owns the order in which its parts start and stop. Does not own what a plugin may do (`sandbox`), how results are kept
//! (`spool`) or what travels (`wire`). It opens no listening socket.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

pub mod attempt;
mod clock;
mod config;
mod directory;
mod disk;
mod duty;
mod error;
mod found;
pub mod health;
mod identity;
mod judged;
mod monitors;
mod parts;
mod record;
mod recorder;
mod restarts;
mod retries;
mod runner;
mod schedule;
mod secrets;
mod shared;
mod slots;
pub mod stored;
mod supervise;
mod told;
mod uplink;

pub use error::Error;
pub use reqwest::Url;
pub use uplink::proxy::Proxy;

use health::Doing;
use restarts::{Looping, Starts};
use uplink::lease::Lease;
use uplink::transport::Transport;

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
    /// Directories and files from which monitors may take certificate authorities, client certificates and keys. Only this setting
    /// opens them.
    pub allow_files: Vec<PathBuf>,
    /// Name servers for checks instead of the system's.
    pub resolver: Option<Vec<SocketAddr>>,
    /// Directory of the bundled plugins, NAME.wasm each; none looks in the usual places.
    pub plugins: Option<PathBuf>,
    /// Plugins that may be larger than 8 MiB, up to 64, by digest.
    pub large_plugins: Vec<String>,
    /// Where plugins are compiled.
    pub compiler: sandbox::Compiler,
    /// Runs at the same time; at least 1.
    pub concurrency: usize,
    /// PEM file of certificate authorities trusted for the control plane beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy on the way to the control plane.
    pub proxy: Proxy,
    /// Directory whose files are secrets, by name.
    pub secrets_dir: PathBuf,
    /// How often the agent makes a new token, a tenth more or less. Never more often than once a minute, whoever asks, but for an
    /// interval below that, which only tests choose.
    pub rotate_every: Duration,
    /// How much is kept of what was not acknowledged.
    pub spool: Budget,
    /// How long the fifth start within five minutes waits; doubles with each further one, up to a minute. With
    /// zero none waits.
    pub start_wait: Duration,
}

/// Bounds of the spool; what is none has the spool's default. The newest 10,000 results not acknowledged are kept in any case.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// Bytes of results.
    pub bytes: Option<u64>,
    /// Results.
    pub records: Option<u64>,
    /// Older ones go.
    pub age: Option<Duration>,
}

impl Settings {
    /// Runs at the same time unless told otherwise: as many as the sandbox has slots.
    pub const CONCURRENCY: u16 = 256;
    /// The most that may be told.
    pub const MOST_CONCURRENCY: u16 = 1024;
    /// Where container engines put secrets.
    pub const SECRETS_DIR: &str = "/run/secrets";
    /// How often the agent makes a new token unless told otherwise: a week, so that one that was read is soon worth nothing.
    pub const ROTATE_EVERY: Duration = Duration::from_secs(7 * 24 * 3_600);
    /// The wait unless told otherwise, which only tests do.
    pub const START_WAIT: Duration = Duration::from_secs(1);
}

/// Runs the agent until `shutdown` completes: then what is recorded is flushed, one last batch is tried, and it returns within five
/// seconds. While it is not enrolled it keeps trying; a definite refusal of the setup token is an error.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let mut shutdown = pin!(shutdown);
    let transport = Transport::new(&settings.control, settings.ca_file.as_deref(), &settings.proxy)?;
    let mut lock = directory::take(&settings.data)?;
    let note = |doing: Doing| {
        if let Err(error) = health::write(&settings.data, doing) {
            tracing::warn!(%error, "cannot write the state file");
        }
    };
    let waiting = |reason: &str| {
        tracing::warn!("not enrolled yet, trying again: {reason}");
        note(Doing::Enrolling { reason: reason.to_owned() });
    };
    // What a newer version wrote is refused before anything is written beside it.
    let identity::Loaded { state, .. } = identity::load(&settings.data)?;
    if let Some(refused) = lock.refused.take() {
        // Who cannot keep a key does not enrol.
        if !matches!(state, identity::State::Active(_)) {
            return Err(refused);
        }
        tracing::error!("{refused}: going on, but results are kept in memory until it can be written");
    }
    config::Kept::open(&settings.data)?;
    Lease::open(&settings.data)?;
    let mut starts = Starts::open(&settings.data)?;
    let looping = starts.begin(&clock::boot_id(), clock::boot_ms(), settings.start_wait);
    if let Some(Looping { starts, wait }) = looping {
        tracing::warn!(
            starts,
            ?wait,
            "started too often within five minutes: waiting before anything is done"
        );
        note(Doing::Waiting { starts, wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) });
        if timeout(wait, &mut shutdown).await.is_ok() {
            note(Doing::Stopped);
            return Ok(());
        }
    }
    let token = settings.setup_token.as_deref();
    let keeper =
        identity::enroll::identity(&settings.data, &transport, token, waiting, &mut shutdown).await?;
    let identity = keeper.active();
    tracing::info!(agent = identity.name, location = identity.location, id = %identity.agent, "identity ready");
    let parts = tokio::select! {
        parts = parts::Parts::start(&settings, transport, keeper, starts, looping.is_some()) => parts?,
        // Compiling plugins takes a while; whoever stops the agent does not wait for it.
        () = &mut shutdown => {
            note(Doing::Stopped);
            return Ok(());
        }
    };
    let ended = parts.run(shutdown).await;
    note(Doing::Stopped);
    ended
}
