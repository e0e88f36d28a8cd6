//! A TLS server inside this process that finishes the handshake and echoes. Does not speak before TLS; see `starttls`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::listener::Listener;
use crate::{Authority, Error, Identity, Shape};

/// Which versions of TLS the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3.
    Both,
    /// Only 1.2 (RFC 5246).
    Only12,
    /// Only 1.3 (RFC 8446).
    Only13,
}

/// The server.
#[derive(Debug)]
pub struct TlsServer {
    listener: Listener,
    heard: Arc<AtomicU64>,
    root_pem: String,
    pin: [u8; 32],
}

impl TlsServer {
    /// Serves a chain of that shape.
    pub fn start(authority: &Authority, shape: Shape) -> Result<TlsServer, Error> {
        TlsServer::start_with(authority, shape, Versions::Both)
    }

    /// The same, with these versions only.
    pub fn start_with(authority: &Authority, shape: Shape, versions: Versions) -> Result<TlsServer, Error> {
        TlsServer::start_as(authority.issue(shape)?, versions, Vec::new())
    }

    /// Serves that chain, with that OCSP response stapled to it unless it is empty.
    pub(crate) fn start_as(
        identity: Identity,
        versions: Versions,
        staple: Vec<u8>,
    ) -> Result<TlsServer, Error> {
        let (root_pem, pin) = (identity.root_pem.clone(), identity.pin);
        let config = configured(identity, versions, staple)?;
        let heard = Arc::new(AtomicU64::new(0));
        let count = heard.clone();
        let listener = Listener::start(move |stream| {
            let _ = echo(stream, config.clone(), &count);
        })?;
        Ok(TlsServer { listener, heard, root_pem, pin })
    }

    /// SHA-256 over the leaf's subjectPublicKeyInfo (RFC 7469).
    pub fn pin(&self) -> [u8; 32] {
        self.pin
    }

    /// The root of what it serves, in PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Bytes that peers told it behind the handshake.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::SeqCst)
    }
}

/// What a server of that shape is configured with.
pub(crate) fn configuration(
    authority: &Authority,
    shape: Shape,
    versions: Versions,
) -> Result<Arc<ServerConfig>, Error> {
    configured(authority.issue(shape)?, versions, Vec::new())
}

fn configured(identity: Identity, versions: Versions, staple: Vec<u8>) -> Result<Arc<ServerConfig>, Error> {
    let offered: &[&rustls::SupportedProtocolVersion] = match versions {
        Versions::Both => rustls::ALL_VERSIONS,
        Versions::Only12 => &[&rustls::version::TLS12],
        Versions::Only13 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(offered)?
        .with_no_client_auth()
        .with_single_cert_with_ocsp(identity.chain, identity.key, staple)?;
    Ok(Arc::new(config))
}

/// Makes the handshake and sends back what comes, until the peer closes; counts it.
pub(crate) fn echo(stream: TcpStream, config: Arc<ServerConfig>, heard: &AtomicU64) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        heard.fetch_add(length as u64, Ordering::SeqCst);
        stream.write_all(&buffer[..length])?;
        stream.flush()?;
    }
}
