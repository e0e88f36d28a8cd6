//! What a component may do to the world, as one trait: the only way from the files of `host` to anything outside a run. The real
//! world is a session of `net`; whoever plays another one (a recorded, a replayed, a scripted one) implements the same functions.
//! What a component asks of an answer that is here already, of a body or a certificate, is no matter of the world; clocks and
//! randomness are.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use net::{
    Answer, Cause, Endpoint, Failure, Family, Hidden, Measured, NoToken, Question, Request, Response,
    Revocation, RevocationSource, RevocationStatus, Timings, TlsOptions, TlsSession, TokenRequest,
};
use zeroize::Zeroizing;

/// The world of one run.
#[async_trait]
pub trait World: Send + Sync {
    /// `picket:net/dns.ask`.
    async fn ask(&self, question: Question) -> Result<Answer, Failure>;

    /// `picket:net/dns.validate`. A world that does not say otherwise knows no signatures.
    async fn validate(&self, question: Question, anchors: &[String]) -> Result<Answer, Failure> {
        let _ = (question, anchors);
        Err(unplayed("validates no answers"))
    }

    /// `picket:net/tcp.connect`.
    async fn connect(&self, to: Endpoint, family: Family) -> Result<Box<dyn Stream>, Failure>;

    /// `picket:net/http.send`, and an exchange of `wasi:http`. Headers with a secret in them are marked as sensitive.
    async fn send(&self, request: Request) -> Result<Response, Failure>;

    /// `picket:net/oauth2.token`. A world that does not say otherwise has no tokens.
    async fn token(&self, request: TokenRequest) -> Result<Hidden, NoToken> {
        let _ = request;
        Err(NoToken::Failed(unplayed("has no access tokens")))
    }

    /// The session behind `wasi:sockets`, whose components look names up and dial by themselves. A world that has none to give, because it
    /// is played, denies them.
    fn sockets(&self) -> Option<net::Session> {
        None
    }

    /// `picket:net/tls.session.ask-revocation`; a world that was not told of registries knows of none.
    async fn ask_revocation(
        &self,
        _session: &TlsSession,
        _place: usize,
        _source: RevocationSource,
    ) -> RevocationStatus {
        let message = "nobody can be asked about revocation here".to_owned();
        RevocationStatus { revocation: Revocation::Unknown, named: false, denied: false, message }
    }

    /// What was measured and refused so far.
    fn measured(&self) -> Measured;

    /// Something that `picket:net/secrets` made with a secret, or why it could not, on its way to the component. `function` is its
    /// name in the contract.
    fn made(&self, secret: &str, function: &str, made: Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
        let _ = (secret, function);
        made
    }

    /// What the component's wall clock shows, since 1970.
    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// What the component's other clock shows; `real` is the time since the run began.
    fn elapsed(&self, real: Duration) -> Duration {
        real
    }

    /// Bytes that stand for the component's randomness, repeated; real randomness when none.
    fn random(&self) -> Option<Vec<u8>> {
        None
    }
}

fn unplayed(what: &str) -> Failure {
    let message = format!("this world {what}");
    Failure { cause: Cause::Other(message.clone()), phase: None, message }
}

/// An open connection, `picket:net/tcp.connection`; closed when it is dropped.
#[async_trait]
pub trait Stream: Send {
    /// What is there, at most `max` bytes. Empty at the end of the stream.
    async fn read(&mut self, max: u32) -> Result<Vec<u8>, Failure>;

    /// Exactly so many bytes.
    async fn read_exact(&mut self, length: u32) -> Result<Vec<u8>, Failure>;

    /// Writes all of it.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure>;

    /// Writes a secret between two other texts, in one piece.
    async fn write_secret(&mut self, prefix: &[u8], secret: &[u8], suffix: &[u8]) -> Result<(), Failure>;

    /// Turns the stream into TLS in place.
    async fn secure(&mut self, options: TlsOptions) -> Result<TlsSession, Failure>;

    /// Closes the sending side.
    async fn shutdown(&mut self) -> Result<(), Failure>;

    /// Who it is connected to.
    fn remote(&self) -> SocketAddr;

    /// What was measured so far.
    fn timings(&self) -> Timings;
}

#[async_trait]
impl World for net::Session {
    async fn ask(&self, question: Question) -> Result<Answer, Failure> {
        net::Session::ask(self, question).await
    }

    async fn validate(&self, question: Question, anchors: &[String]) -> Result<Answer, Failure> {
        net::Session::validate(self, question, anchors).await
    }

    async fn connect(&self, to: Endpoint, family: Family) -> Result<Box<dyn Stream>, Failure> {
        Ok(Box::new(net::Session::connect(self, to, family).await?))
    }

    async fn send(&self, request: Request) -> Result<Response, Failure> {
        net::Session::send(self, request).await
    }

    async fn token(&self, request: TokenRequest) -> Result<Hidden, NoToken> {
        net::Session::token(self, request).await
    }

    fn sockets(&self) -> Option<net::Session> {
        Some(self.clone())
    }

    async fn ask_revocation(
        &self,
        session: &TlsSession,
        place: usize,
        source: RevocationSource,
    ) -> RevocationStatus {
        net::Session::ask_revocation(self, session, place, source).await
    }

    fn measured(&self) -> Measured {
        net::Session::measured(self)
    }
}

#[async_trait]
impl Stream for net::Connection {
    async fn read(&mut self, max: u32) -> Result<Vec<u8>, Failure> {
        net::Connection::read(self, max).await
    }

    async fn read_exact(&mut self, length: u32) -> Result<Vec<u8>, Failure> {
        net::Connection::read_exact(self, length).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        net::Connection::write(self, bytes, false).await
    }

    async fn write_secret(&mut self, prefix: &[u8], secret: &[u8], suffix: &[u8]) -> Result<(), Failure> {
        let bytes = Zeroizing::new([prefix, secret, suffix].concat());
        net::Connection::write(self, &bytes, true).await
    }

    async fn secure(&mut self, options: TlsOptions) -> Result<TlsSession, Failure> {
        net::Connection::secure(self, options).await
    }

    async fn shutdown(&mut self) -> Result<(), Failure> {
        net::Connection::shutdown(self).await
    }

    fn remote(&self) -> SocketAddr {
        net::Connection::remote(self)
    }

    fn timings(&self) -> Timings {
        net::Connection::timings(self)
    }
}
