//! A TLS server inside this process that finishes the handshake and echoes. Does not speak before TLS; see `starttls`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::listener::Listener;
use crate::{Authority, Error, Shape};

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
}

impl TlsServer {
    /// Serves a chain of that shape.
    pub fn start(authority: &Authority, shape: Shape) -> Result<TlsServer, Error> {
        TlsServer::start_with(authority, shape, Versions::Both)
    }

    /// The same, with these versions only.
    pub fn start_with(authority: &Authority, shape: Shape, versions: Versions) -> Result<TlsServer, Error> {
        let config = configuration(authority, shape, versions)?;
        let heard = Arc::new(AtomicU64::new(0));
        let count = heard.clone();
        let listener = Listener::start(move |stream| {
            let _ = echo(stream, config.clone(), &count);
        })?;
        Ok(TlsServer { listener, heard })
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
    let identity = authority.issue(shape)?;
    let offered: &[&rustls::SupportedProtocolVersion] = match versions {
        Versions::Both => rustls::ALL_VERSIONS,
        Versions::Only12 => &[&rustls::version::TLS12],
        Versions::Only13 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(offered)?
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)?;
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
