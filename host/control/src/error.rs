//! Why the control plane does not start, or stops.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Each variant is an operation that failed; the cause is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data directory cannot be made, read or written.
    #[error("cannot use {path} in the data directory")]
    Data {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another control plane holds the directory.
    #[error("data directory {path} is in use by another control plane: stop it, or choose another --data")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the data directory holds something else than it should.
    #[error("{path} is damaged: {found}; restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The store does not work.
    #[error("the store failed")]
    Store(#[from] crate::store::Error),
    /// Plain http towards everybody.
    #[error(
        "plain http on {listen} would show tokens to everybody in between: give --tls-cert and --tls-key, listen on a loopback address, or say --behind-proxy"
    )]
    Plain {
        /// The address asked for.
        listen: SocketAddr,
    },
    /// Certificate or key cannot be used.
    #[error("cannot use certificate {cert} with key {key}")]
    Tls {
        /// Its file.
        cert: PathBuf,
        /// Its file.
        key: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The bundled plugins cannot be loaded.
    #[error("cannot load the plugins: {0}")]
    Plugins(String),
    /// The server ended on its own.
    #[error("the server failed")]
    Serve(#[source] std::io::Error),
}

impl Error {
    /// What the process exits with, from sysexits.h: 64 usage, 65 the store is a newer version's, 69 the address or the plugins cannot be had, 73 the data directory is in
    /// use, 74 reading or writing failed, 77 no permission, 78 a certificate, key or stored file is wrong.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Plain { .. } => 64,
            Self::Listen { source, .. } | Self::Data { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                77
            }
            Self::Listen { .. } | Self::Plugins(_) => 69,
            Self::Store(crate::store::Error::Newer { .. }) => 65,
            Self::InUse { .. } => 73,
            Self::Data { .. } | Self::Store(_) | Self::Serve(_) => 74,
            Self::Damaged { .. } | Self::Tls { .. } => 78,
        }
    }
}
