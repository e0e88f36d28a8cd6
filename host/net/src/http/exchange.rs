//! One hop: a connection, fresh unless the hop before left one, one request, one response, each phase timed. Over hyper, which
//! frames and parses; redirects are followed in the parent.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Version;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::HeaderMap;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::dial::Connection;
use crate::errno::io_failure;
use crate::http::body::Body;
use crate::http::clock::{Clock, Timed};
use crate::http::hop::{Hop, is_redirect};
use crate::http::request::{request, text};
use crate::session::{Run, add, fail};
use crate::tls::TlsSession;
use crate::types::{Cause, Endpoint, Failure, Family, Phase, Timings};

/// What one hop brought.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) version: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) location: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) truncated: bool,
    pub(crate) decoded: bool,
    pub(crate) remote: SocketAddr,
    pub(crate) session: Option<TlsSession>,
    pub(crate) timings: Timings,
}

/// The versions that may be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    one: bool,
    two: bool,
}

impl Versions {
    pub(crate) fn parse(names: &[String]) -> Result<Self, String> {
        let mut versions = Self { one: names.is_empty(), two: names.is_empty() };
        for name in names {
            match name.as_str() {
                "1.1" => versions.one = true,
                "2" => versions.two = true,
                other => return Err(format!("HTTP version {other:?} is not spoken; write \"1.1\" or \"2\"")),
            }
        }
        Ok(versions)
    }

    fn alpn(self) -> Vec<String> {
        let names = [("h2", self.two), ("http/1.1", self.one)];
        names.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name.to_owned()).collect()
    }
}

/// A connection over which requests go, one after the other.
pub(crate) struct Line {
    sender: Sender,
    driver: Driver,
    clock: Arc<Clock>,
    peer: Endpoint,
    origin: url::Origin,
    remote: SocketAddr,
    session: Option<TlsSession>,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// Connects unless `kept` leads there, sends, reads. The body of a redirect that will be followed is left unread, unless the
/// connection is to be kept.
pub(crate) async fn exchange(
    run: &Arc<Run>,
    kept: &mut Option<Line>,
    hop: &Hop,
    family: Family,
    versions: Versions,
    max_body: usize,
    follow: bool,
) -> Result<Got, Failure> {
    let begun = Instant::now();
    let mut timings = Timings::default();
    let kept_open = match kept.take().filter(|line| line.origin == hop.url.origin()) {
        Some(line) => line.if_open(run).await,
        None => None,
    };
    let reused = kept_open.is_some();
    let mut line = match kept_open {
        Some(line) => line,
        None => Line::open(run, hop, family, versions, &mut timings).await?,
    };
    let mut talked = line.talk(run, hop, max_body, follow).await;
    // A server may close what it had kept while the next request is under way: that is no answer (RFC 9112, section 9.3.1).
    let gone = |failure: &Failure| matches!(failure.cause, Cause::Closed | Cause::Reset);
    if reused && hop.method.is_idempotent() && talked.as_ref().is_err_and(gone) {
        line = Line::open(run, hop, family, versions, &mut timings).await?;
        talked = line.talk(run, hop, max_body, follow).await;
    }
    line.clock.spent(Instant::now()).into_iter().for_each(|(phase, time)| {
        run.spend(phase, time);
        add(&mut timings, phase, time);
    });
    let (parts, Content { body, truncated, decoded }) = talked?;
    timings.total = begun.elapsed();
    let location =
        parts.headers.get(hyper::header::LOCATION).map(text).filter(|_| is_redirect(parts.status.as_u16()));
    let (remote, session) = (line.remote, line.session.clone());
    if follow && location.is_some() && hop.keeps_alive() && !truncated {
        *kept = Some(line);
    }
    Ok(Got {
        status: parts.status.as_u16(),
        version: match parts.version {
            Version::HTTP_2 => "2",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        }
        .to_owned(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        location,
        body,
        truncated,
        decoded,
        remote,
        session,
        timings,
    })
}

type Answer = (hyper::http::response::Parts, Content);

/// What was kept of a body.
#[derive(Default)]
struct Content {
    body: Vec<u8>,
    truncated: bool,
    decoded: bool,
}

impl Line {
    async fn open(
        run: &Arc<Run>,
        hop: &Hop,
        family: Family,
        versions: Versions,
        timings: &mut Timings,
    ) -> Result<Self, Failure> {
        let peer = hop.endpoint();
        let mut connection = Connection::open_for(run, &peer, family, hop.purpose).await?;
        let mut session = None;
        if hop.url.scheme() == "https" {
            let mut options = hop.tls.clone();
            options.alpn = versions.alpn();
            session = Some(connection.secure_as(options).await?);
        }
        let opened = connection.timings();
        for (phase, time) in [
            (Phase::Resolve, opened.resolve),
            (Phase::Connect, opened.connect),
            (Phase::Handshake, opened.handshake),
        ] {
            time.into_iter().for_each(|time| add(timings, phase, time));
        }
        let two = match &session {
            Some(session) => session.alpn.as_deref() == Some("h2"),
            None => !versions.one,
        };
        if !two && !versions.one {
            let message = format!("{peer} does not speak HTTP/2");
            return Err(fail(Cause::Protocol(message.clone()), Phase::Send, message));
        }
        let remote = connection.remote();
        let clock = Arc::new(Clock::new());
        let stream =
            TokioIo::new(Timed { stream: connection.into_stream(), clock: clock.clone(), replies: !two });
        let shaking = async {
            Ok::<_, hyper::Error>(match two {
                true => {
                    let (sender, driver) = http2::handshake(Until(run.deadline), stream).await?;
                    (Sender::Two(sender), Driver::spawn(driver))
                }
                false => {
                    let (sender, driver) = http1::handshake(stream).await?;
                    (Sender::One(sender), Driver::spawn(driver))
                }
            })
        };
        let shaken = run.within(Phase::Send, &peer, shaking).await?;
        let (sender, driver) = shaken.map_err(|error| failure(&error, Phase::Send, &peer))?;
        Ok(Self { sender, driver, clock, peer, origin: hop.url.origin(), remote, session })
    }

    /// Waits until the last answer is behind it; none when the peer has closed it.
    async fn if_open(mut self, run: &Run) -> Option<Self> {
        let ready = async {
            match &mut self.sender {
                Sender::One(sender) => sender.ready().await.is_ok(),
                Sender::Two(sender) => sender.ready().await.is_ok(),
            }
        };
        let open = tokio::time::timeout_at(run.deadline, ready).await.unwrap_or(false);
        self.clock.restart();
        open.then_some(self)
    }

    async fn talk(&mut self, run: &Run, hop: &Hop, max_body: usize, follow: bool) -> Result<Answer, Failure> {
        let two = matches!(self.sender, Sender::Two(_));
        let mut request = request(hop, two).map_err(|message| match hop.redirected {
            true => fail(Cause::Protocol(message.clone()), Phase::Send, message),
            false => fail(Cause::Invalid(message.clone()), Phase::Send, message),
        })?;
        let interim = Arc::new(Interim::default());
        let counting = interim.clone();
        hyper::ext::on_informational(&mut request, move |_| counting.came());
        let (sender, clock, peer) = (&mut self.sender, &self.clock, &self.peer);
        let talking = async {
            let response = match sender {
                Sender::One(sender) => sender.send_request(request).await?,
                Sender::Two(sender) => sender.send_request(request).await?,
            };
            clock.replied();
            let (parts, incoming) = response.into_parts();
            let followed = follow
                && is_redirect(parts.status.as_u16())
                && parts.headers.contains_key(hyper::header::LOCATION);
            let content = match (followed, hop.keeps_alive()) {
                (true, false) => Content::default(),
                (true, true) => {
                    let skipped = read(incoming, &HeaderMap::new(), SKIPPED).await?;
                    Content { truncated: skipped.truncated, ..Content::default() }
                }
                (false, _) => read(incoming, &parts.headers, max_body).await?,
            };
            Ok::<_, Broken>((parts, content))
        };
        let talked = tokio::select! {
            talked = tokio::time::timeout_at(run.deadline, talking) => talked,
            () = interim.too_many() => {
                let reason = format!("more than {MOST_INTERIM} interim responses (1xx) and no other");
                return Err(broken(peer, Phase::FirstByte, reason));
            }
        };
        // HTTP/2 does not hand on why its stream of bytes ended.
        if let (Ok(Err(_)), Err(spent)) = (&talked, run.tally.spent()) {
            return Err(io_failure(&spent, clock.phase(), peer));
        }
        match talked {
            Ok(Ok(done)) => Ok(done),
            // What moves the bytes ends at the deadline too, and may be the first to.
            Ok(Err(Broken::Http(_))) if Instant::now() >= run.deadline => {
                Err(run.timeout(clock.phase(), peer))
            }
            Ok(Err(Broken::Http(error))) if ended(&error) && clock.was_reset() => {
                Err(io_failure(&io::ErrorKind::ConnectionReset.into(), clock.phase(), peer))
            }
            Ok(Err(Broken::Http(error))) => {
                let phase = clock.phase();
                // Over HTTP/2 the request only hears that the connection is gone.
                let why = if two && ended(&error) { self.driver.error().await } else { None };
                Err(failure(&why.unwrap_or(error), phase, peer))
            }
            Ok(Err(Broken::Coding(error))) => {
                let reason = format!("the body is not in the coding that its header names: {error}");
                Err(broken(peer, Phase::Transfer, reason))
            }
            Err(_) => Err(run.timeout(clock.phase(), peer)),
        }
    }
}

/// Counts interim responses, so that a peer that sends nothing else does not use up the run.
#[derive(Default)]
struct Interim {
    count: AtomicU32,
    many: Notify,
}

impl Interim {
    fn came(&self) {
        if self.count.fetch_add(1, Ordering::Relaxed) == MOST_INTERIM {
            self.many.notify_one();
        }
    }

    async fn too_many(&self) {
        self.many.notified().await;
    }
}

/// What can end an exchange early.
enum Broken {
    Http(hyper::Error),
    Coding(io::Error),
}

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Self {
        Broken::Http(error)
    }
}

/// The first bytes of the body, its coding undone, and whether there was more.
async fn read(mut incoming: Incoming, headers: &HeaderMap, max: usize) -> Result<Content, Broken> {
    let codings: Vec<_> = headers.get_all(hyper::header::CONTENT_ENCODING).iter().map(text).collect();
    let mut body = Body::new(&codings.join(","), max).map_err(Broken::Coding)?;
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if body.push(&data).map_err(Broken::Coding)? {
            break;
        }
    }
    let decoded = body.decodes();
    let (body, truncated) = body.finish().map_err(Broken::Coding)?;
    Ok(Content { body, truncated, decoded })
}

fn failure(error: &hyper::Error, phase: Phase, peer: &Endpoint) -> Failure {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            // hyper says so of chunks that cannot be read; of a socket or of TLS comes nothing of the kind.
            let garbled = matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
            if garbled && io.get_ref().is_none_or(|inner| !inner.is::<rustls::Error>()) {
                return broken(peer, phase, io.to_string());
            }
            return io_failure(io, phase, peer);
        }
        source = inner.source();
    }
    if ended(error) {
        return fail(Cause::Closed, phase, format!("{peer} closed the connection too early ({phase})"));
    }
    let reason = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    broken(peer, phase, reason)
}

fn broken(peer: &Endpoint, phase: Phase, reason: String) -> Failure {
    let message = format!("{peer} broke HTTP: {reason}");
    fail(Cause::Protocol(reason), phase, message)
}

/// Whether the connection ended under the exchange, without saying why.
fn ended(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_closed() || error.is_canceled()
}

/// The task that moves the connection's bytes; it ends with the exchange.
struct Driver(JoinHandle<Result<(), hyper::Error>>);

impl Driver {
    fn spawn(driver: impl Future<Output = Result<(), hyper::Error>> + Send + 'static) -> Self {
        Self(tokio::spawn(driver))
    }

    /// What ended the connection; none when it goes on, or ended well.
    async fn error(&mut self) -> Option<hyper::Error> {
        match tokio::time::timeout(ENDING, &mut self.0).await {
            Ok(Ok(Err(error))) => Some(error),
            _ => None,
        }
    }
}

/// Runs what hyper spawns for HTTP/2, and ends it with the run: nobody else holds these tasks.
#[derive(Clone)]
struct Until(Instant);

impl<F> hyper::rt::Executor<F> for Until
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        tokio::spawn(tokio::time::timeout_at(self.0, future));
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A server sends one or two (100, 103).
const MOST_INTERIM: u32 = 32;
/// How long a connection that is gone may take to say why.
const ENDING: Duration = Duration::from_millis(100);
/// Bytes of a redirect's body that are read over to keep the connection.
const SKIPPED: usize = 64 * 1024;
