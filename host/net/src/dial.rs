//! TCP connections: dialled to checked addresses only, counted, timed, turned into TLS in place. Names are resolved in `resolve`;
//! what a handshake says is in `tls`.

mod polled;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::errno::{io_failure, told, way_failure};
use crate::grant::Purpose;
use crate::proxy::Way;
use crate::resolve::{permit, resolve};
use crate::session::{Run, add, fail};
use crate::stream::{Metered, Stream};
use crate::tls::{self, TlsSession};
use crate::types::{Cause, Endpoint, Failure, Family, Phase, Timings, TlsOptions, Trust};

pub use polled::Polled;

/// An open connection; closed when it is dropped.
pub struct Connection {
    run: Arc<Run>,
    stream: Stream,
    peer: Endpoint,
    remote: SocketAddr,
    opened: Instant,
    timings: Timings,
    last_sent: Instant,
    trust: Option<Trust>,
}

impl Connection {
    /// Resolves, asks the grant, dials. A second address is tried beside the first after 250 ms (RFC 8305), or at once when the
    /// first fails.
    pub(crate) async fn open(run: &Arc<Run>, to: &Endpoint, family: Family) -> Result<Self, Failure> {
        Self::open_for(run, to, family, Purpose::Target).await
    }

    pub(crate) async fn open_for(
        run: &Arc<Run>,
        to: &Endpoint,
        family: Family,
        purpose: Purpose,
    ) -> Result<Self, Failure> {
        let opened = Instant::now();
        let mut timings = Timings::default();
        let resolved = resolve(run, to, family, purpose).await?;
        if let Some(time) = resolved.time {
            add(&mut timings, Phase::Resolve, time);
        }
        let way = Way::of(run).await?;
        run.take_connection(to)?;
        let begun = Instant::now();
        let reached = reach(run, way.as_ref(), &resolved.addresses, to).await;
        let time = begun.elapsed();
        add(&mut timings, Phase::Connect, time);
        run.spend(Phase::Connect, time);
        let (metered, remote) = reached?;
        let peer = Endpoint::new(resolved.host.to_string(), to.port);
        Ok(Self::over(run, metered, remote, peer, opened, timings))
    }

    /// Connects to an address that somebody found out by himself: one that the grant names, or to which a name led in this run that it
    /// names.
    pub(crate) async fn open_at(run: &Arc<Run>, to: SocketAddr) -> Result<Self, Failure> {
        let opened = Instant::now();
        permit(run, to).await?;
        let way = Way::of(run).await?;
        run.take_connection(&to)?;
        let peer = Endpoint::new(to.ip().to_string(), to.port());
        let begun = Instant::now();
        let reached = reach(run, way.as_ref(), &[to], &peer).await;
        let time = begun.elapsed();
        run.spend(Phase::Connect, time);
        let (metered, remote) = reached?;
        let timings = Timings { connect: Some(time), ..Timings::default() };
        Ok(Self::over(run, metered, remote, peer, opened, timings))
    }

    fn over(
        run: &Arc<Run>,
        metered: Metered,
        remote: SocketAddr,
        peer: Endpoint,
        opened: Instant,
        timings: Timings,
    ) -> Self {
        run.note_remote(remote);
        let stream = Stream::Plain(metered);
        Self {
            run: run.clone(),
            stream,
            peer,
            remote,
            opened,
            timings,
            last_sent: Instant::now(),
            trust: None,
        }
    }

    /// What is there, at most `max` bytes and 1 MiB; waits for the first one. Empty at the end of the stream.
    pub async fn read(&mut self, max: u32) -> Result<Vec<u8>, Failure> {
        self.carries_data()?;
        let mut bytes = Vec::new();
        let mut part = (&mut self.stream).take(max.min(READ_AT_ONCE).into());
        bytes.reserve(max.min(16 * 1024) as usize);
        let phase = reading(&self.timings);
        let read = self.run.within(phase, &self.peer, part.read_buf(&mut bytes)).await;
        self.received(phase);
        read?.map_err(|e| io_failure(&e, phase, &self.peer))?;
        Ok(bytes)
    }

    /// Exactly so many bytes; [`Cause::Closed`] when the stream ends before.
    pub async fn read_exact(&mut self, length: u32) -> Result<Vec<u8>, Failure> {
        self.carries_data()?;
        let mut bytes = Vec::new();
        let phase = reading(&self.timings);
        // Grows with what arrives, so that a length that a peer made up costs nothing.
        let mut part = (&mut self.stream).take(length.into());
        let read = self.run.within(phase, &self.peer, part.read_to_end(&mut bytes)).await;
        self.received(phase);
        read?.map_err(|e| io_failure(&e, phase, &self.peer))?;
        if bytes.len() < length as usize {
            let message =
                format!("{} closed the connection after {} of {length} bytes", self.peer, bytes.len());
            return Err(fail(Cause::Closed, phase, message));
        }
        Ok(bytes)
    }

    /// Writes all of it. `secret` says that a credential is in it: denied on TLS whose peer was not verified.
    pub async fn write(&mut self, bytes: &[u8], secret: bool) -> Result<(), Failure> {
        self.carries_data()?;
        if secret && self.trust == Some(Trust::Unverified) {
            let message =
                format!("{} is not verified, so no secret is sent to it; verify the peer", self.peer);
            return Err(Failure { cause: Cause::Denied, phase: None, message });
        }
        let begun = Instant::now();
        let sending = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let written = self.run.within(Phase::Send, &self.peer, sending).await;
        self.spent(Phase::Send, begun.elapsed());
        self.last_sent = Instant::now();
        written?.map_err(|e| io_failure(&e, Phase::Send, &self.peer))
    }

    /// Turns the stream into TLS in place: implicit TLS, or after a STARTTLS dialogue. Once per connection. What the options leave
    /// open is as the session's route says.
    pub async fn secure(&mut self, options: TlsOptions) -> Result<TlsSession, Failure> {
        let options = self.run.route.tls.beneath(options);
        self.secure_as(options).await
    }

    /// The same with exactly these options.
    pub(crate) async fn secure_as(&mut self, options: TlsOptions) -> Result<TlsSession, Failure> {
        let metered = match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Plain(metered) => metered,
            other => {
                self.stream = other;
                let message = format!("the connection to {} is TLS already, or was given up", self.peer);
                return Err(fail(Cause::Invalid(message.clone()), Phase::Handshake, message));
            }
        };
        let begun = Instant::now();
        let shaken = tls::handshake(&self.run, metered, &self.peer, &options).await;
        self.spent(Phase::Handshake, begun.elapsed());
        let (stream, session) = shaken?;
        self.stream = stream.map_or(Stream::Gone, |stream| Stream::Tls(Box::new(stream)));
        self.trust = Some(options.trust);
        self.last_sent = Instant::now();
        Ok(session)
    }

    /// Closes the sending side.
    pub async fn shutdown(&mut self) -> Result<(), Failure> {
        let closed = self.run.within(Phase::Send, &self.peer, self.stream.shutdown()).await?;
        closed.map_err(|e| io_failure(&e, Phase::Send, &self.peer))
    }

    /// Who it is connected to.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// What was measured so far; the total is the time since the connection was asked for.
    pub fn timings(&self) -> Timings {
        Timings { total: self.opened.elapsed(), ..self.timings }
    }

    /// The stream itself, for a protocol that does its own reading and writing.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    fn carries_data(&self) -> Result<(), Failure> {
        match self.trust {
            Some(Trust::Recorded) => {
                let message =
                    format!("{} was only recorded, not verified: the stream carries no data", self.peer);
                Err(Failure { cause: Cause::Denied, phase: None, message })
            }
            _ => Ok(()),
        }
    }

    fn received(&mut self, phase: Phase) {
        let time = self.last_sent.elapsed();
        self.last_sent = Instant::now();
        self.spent(phase, time);
    }

    fn spent(&mut self, phase: Phase, time: Duration) {
        add(&mut self.timings, phase, time);
        self.run.spend(phase, time);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// The first read after a write waits for the first byte; later ones transfer.
fn reading(timings: &Timings) -> Phase {
    if timings.first_byte.is_none() { Phase::FirstByte } else { Phase::Transfer }
}

/// The first of the addresses that answers, or that the session's proxy opens a way to, by the run's deadline.
async fn reach(
    run: &Run,
    way: Option<&Way<'_>>,
    addresses: &[SocketAddr],
    to: &Endpoint,
) -> Result<(Metered, SocketAddr), Failure> {
    match way {
        Some(way) => way.open(addresses, to).await,
        None => {
            let (tcp, remote) = run.within(Phase::Connect, to, dial(addresses, to)).await??;
            Ok((Metered { tcp, tally: run.tally.clone() }, remote))
        }
    }
}

/// The first of the addresses that answers; the first failure when none does.
pub(crate) async fn dial(
    addresses: &[SocketAddr],
    to: &Endpoint,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let mut waiting = addresses.iter().copied();
    let mut running = FuturesUnordered::new();
    let mut failed = None;
    loop {
        match waiting.next() {
            Some(address) => running.push(async move { (address, TcpStream::connect(address).await) }),
            None if running.is_empty() => break,
            None => {}
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some((address, outcome)) = running.next() => match outcome {
                Ok(tcp) => {
                    // A check's writes are whole messages; waiting to fill a segment only distorts what is measured.
                    let _ = tcp.set_nodelay(true);
                    return Ok((tcp, address));
                }
                Err(error) => {
                    let failure = way_failure(&error, Phase::Connect, address, &peer(to, address));
                    failed = Some(told(failed, failure));
                }
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if more => {}
        }
    }
    Err(failed.unwrap_or_else(|| {
        let message = format!("{to} has no address to connect to");
        fail(Cause::Unreachable, Phase::Connect, message)
    }))
}

fn peer(to: &Endpoint, address: SocketAddr) -> String {
    match to.to_string() == address.to_string() {
        true => address.to_string(),
        false => format!("{to} ({})", address.ip()),
    }
}

/// RFC 8305, section 5: the recommended delay between attempts.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
const READ_AT_ONCE: u32 = 1024 * 1024;
