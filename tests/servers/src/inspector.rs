//! A proxy that inspects TLS, as some companies have: it speaks TLS with a certificate of its own authority, reads everything, and carries
//! it on in the clear to somebody who may change it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::listener::Listener;
use crate::process::timed_out;
use crate::tls::{Versions, configuration};
use crate::{Authority, Error, Shape};

/// The proxy.
#[derive(Debug)]
pub struct Inspector {
    listener: Listener,
}

impl Inspector {
    /// Carries what comes to that port of 127.0.0.1. Whoever trusts `authority` takes it for the server.
    pub fn start(authority: &Authority, to: u16) -> Result<Inspector, Error> {
        let config = configuration(authority, Shape::Valid, Versions::Both)?;
        let listener = Listener::start(move |stream| {
            let _ = carry(stream, to, config.clone());
        })?;
        Ok(Inspector { listener })
    }

    /// What an agent takes for its control plane.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.listener.port())
    }
}

fn carry(near: TcpStream, to: u16, config: Arc<ServerConfig>) -> io::Result<()> {
    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
    // Both sides are looked at in turn: a TLS connection cannot be shared between a thread that reads and one that writes.
    near.set_read_timeout(Some(LOOK))?;
    far.set_read_timeout(Some(LOOK))?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut near = StreamOwned::new(connection, near);
    let mut buffer = vec![0; 64 * 1024];
    while pass(&mut near, &mut far, &mut buffer)? && pass(&mut far, &mut near, &mut buffer)? {}
    Ok(())
}

/// What one side has said by now goes to the other. False when it has said its last.
fn pass(from: &mut impl Read, to: &mut impl Write, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read(buffer) {
        Ok(0) => Ok(false),
        Ok(length) => to.write_all(&buffer[..length]).and_then(|()| to.flush()).map(|()| true),
        Err(error) if timed_out(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

const LOOK: Duration = Duration::from_millis(3);
