//! An open connection to a peer, as the sandbox drives it: what may pass over it, and how long it took.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use net::{Cause, Failure, Phase, Timings, TlsOptions, TlsSession, Trust};
use sandbox::Stream;

use super::{Playing, fail};

/// An open connection to a peer that plays.
pub(in super::super) struct Connection {
    playing: Playing,
    host: String,
    remote: SocketAddr,
    trust: Option<Trust>,
    opened: Duration,
    heard: bool,
}

impl Connection {
    pub(in super::super) fn new(playing: Playing, host: String, remote: SocketAddr) -> Self {
        let opened = playing.world.seen().now;
        Connection { playing, host, remote, trust: None, opened, heard: false }
    }

    fn ready(&self, phase: Phase) -> Result<(), Failure> {
        self.playing.world.called(phase, &self.playing.at)?;
        match self.trust {
            Some(Trust::Recorded) => Err(Failure {
                cause: Cause::Denied,
                phase: None,
                message: "the peer was only recorded, not verified: the stream carries no data".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn take(&mut self, max: usize) -> Result<Vec<u8>, Failure> {
        let phase = if self.heard { Phase::Transfer } else { Phase::FirstByte };
        let bytes = self.playing.read(max, phase)?;
        self.heard = true;
        Ok(bytes)
    }
}

#[async_trait]
impl Stream for Connection {
    async fn read(&mut self, max: u32) -> Result<Vec<u8>, Failure> {
        self.ready(Phase::FirstByte)?;
        self.take(max as usize)
    }

    async fn read_exact(&mut self, length: u32) -> Result<Vec<u8>, Failure> {
        self.ready(Phase::FirstByte)?;
        let mut bytes = Vec::new();
        while bytes.len() < length as usize {
            let more = self.take(length as usize - bytes.len())?;
            if more.is_empty() {
                let message = format!(
                    "{} closed the connection after {} of {length} bytes",
                    self.playing.at,
                    bytes.len()
                );
                return Err(fail(Cause::Closed, Phase::Transfer, message));
            }
            bytes.extend(more);
        }
        Ok(bytes)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.ready(Phase::Send)?;
        self.playing.write(bytes);
        Ok(())
    }

    async fn write_secret(&mut self, prefix: &[u8], secret: &[u8], suffix: &[u8]) -> Result<(), Failure> {
        self.ready(Phase::Send)?;
        if self.trust == Some(Trust::Unverified) {
            let message = format!("{} is not verified, so no secret is sent to it", self.playing.at);
            return Err(Failure { cause: Cause::Denied, phase: None, message });
        }
        self.playing.write(&[prefix, secret, suffix].concat());
        Ok(())
    }

    async fn secure(&mut self, options: TlsOptions) -> Result<TlsSession, Failure> {
        self.playing.world.called(Phase::Handshake, &self.playing.at)?;
        if self.trust.is_some() {
            let message = format!("the connection to {} is TLS already", self.playing.at);
            return Err(fail(Cause::Invalid(message.clone()), Phase::Handshake, message));
        }
        let session = self.playing.secure(&options, &self.host)?;
        self.trust = Some(options.trust);
        Ok(session)
    }

    async fn shutdown(&mut self) -> Result<(), Failure> {
        self.ready(Phase::Send)
    }

    fn remote(&self) -> SocketAddr {
        self.remote
    }

    fn timings(&self) -> Timings {
        Timings {
            connect: Some(Duration::from_millis(1)),
            total: self.playing.world.seen().now - self.opened,
            ..Timings::default()
        }
    }
}
