//! What an operator chooses. Owns names and defaults; the command line owns the flags.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How the control plane runs. Everything but the data directory has a default.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Store, keys and the admin token. One control plane a directory; made when missing, mode 0700.
    pub data: PathBuf,
    /// Where it listens. Default 127.0.0.1:8440; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate and key. Default none: plain http, on loopback addresses only.
    pub tls: Option<Tls>,
    /// Whether a proxy in front does TLS, so that plain http is allowed on every address. Default false.
    pub behind_proxy: bool,
    /// How long results are kept after their receipt. Default 30 days.
    pub retention: Duration,
    /// Where the bundled plugins lie, as `NAME.wasm`. Default: searched beside the program.
    pub plugins: Option<PathBuf>,
    /// How long a setup token is good, by this machine's clock. Default 24 hours.
    pub setup_token_ttl: Duration,
}

/// PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate, followed by its intermediates.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Settings {
    /// The defaults, with this data directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8440)),
            tls: None,
            behind_proxy: false,
            retention: Duration::from_secs(30 * 24 * 3600),
            plugins: None,
            setup_token_ttl: Duration::from_secs(24 * 3600),
        }
    }
}
