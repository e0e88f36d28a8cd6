//! Real servers on loopback: targets for the tests and for `picket demo`.
//!
//! Each `start` gives a server that already answers, on a free port, with its files in a temporary directory. Dropping it
//! ends what it started, by process id, and removes the directory; nothing is left behind. Where nothing is dropped because
//! this process was killed, a [`leash`] ends the programs. Everything here is blocking and needs no runtime: call it from a
//! plain thread, or through `spawn_blocking`.
//!
//! nginx, knot, unbound, PostgreSQL, tinyproxy, openssl and those in [`Program`] are the programs of Debian's packages; where one
//! is missing, `start` answers with [`Error::Missing`], which names the package. The rest runs inside this process on threads of its own.

mod certificates;
mod chains;
mod cluster;
mod daemon;
mod inspector;
mod installation;
mod knot;
mod leash;
mod legacy;
mod liar;
mod listener;
mod middlebox;
mod nameserver;
mod nginx;
mod openssl;
mod pair;
mod ports;
mod postgres;
mod process;
mod registry;
mod relay;
mod rogue;
mod rogue_dns;
mod signed;
mod standby;
mod starttls;
mod subscription;
mod tcp;
mod tinyproxy;
mod tls;
mod unbound;

pub use certificates::{Authority, Identity, Shape};
pub use cluster::Cluster;
pub use daemon::{Daemon, Program};
pub use inspector::Inspector;
pub use knot::Knot;
pub use leash::leash;
pub use liar::{Liar, Lie};
pub use middlebox::{Middlebox, Upgrade};
pub use nameserver::{Answers, NameServer};
pub use nginx::{
    CLIENT as NGINX_CLIENT, CLIENT_SECRET as NGINX_CLIENT_SECRET, Nginx, PASSWORD as NGINX_PASSWORD,
    TOKEN as NGINX_TOKEN, USER as NGINX_USER,
};
pub use openssl::OpensslServer;
pub use pair::Pair;
pub use postgres::{PASSWORD as POSTGRES_PASSWORD, Postgres, Running, USER as POSTGRES_USER};
pub use registry::{Answers as RegistryAnswers, Registry};
pub use relay::{Link, Relay};
pub use rogue::{Frames, Rogue, RogueFrames};
pub use rogue_dns::RogueDns;
pub use signed::Signed;
pub use standby::Standby;
pub use starttls::{Starttls, StarttlsServer};
pub use subscription::Subscription;
pub use tcp::{BlackHole, Manner, TcpServer, closed_port};
pub use tinyproxy::{PASSWORD as PROXY_PASSWORD, Tinyproxy, USER as PROXY_USER};
pub use tls::{TlsServer, Versions};
pub use unbound::Unbound;

use std::path::PathBuf;
use std::time::Duration;

/// Why a server could not be started or controlled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not on this machine.
    #[error("{program} is not installed; install it with: apt-get install {package}")]
    Missing {
        /// The program that was looked for.
        program: String,
        /// Debian's package that holds it.
        package: &'static str,
    },
    /// The program ended, or a command of it did, with an error.
    #[error("{program} failed: {output}")]
    Failed {
        /// Which program.
        program: String,
        /// What it wrote, the end of it.
        output: String,
    },
    /// The server was started, but did not answer in time.
    #[error("{program} did not answer within {waited:?}: {output}")]
    Silent {
        /// Which program.
        program: String,
        /// How long it was waited for.
        waited: Duration,
        /// What it wrote, the end of it.
        output: String,
    },
    /// A file or a directory.
    #[error("could not {action} {}", path.display())]
    File {
        /// The verb: "write", "create".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A socket.
    #[error("could not {action}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate could not be made.
    #[error("could not make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A TLS configuration was refused.
    #[error("could not configure TLS")]
    Tls(#[from] rustls::Error),
}
