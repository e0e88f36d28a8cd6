//! One hop: a fresh connection, one request, one response, each phase timed. Over hyper, which frames and parses; redirects are
//! followed in the parent.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::dial::Connection;
use crate::http::body::Body;
use crate::http::clock::{Clock, Timed};
use crate::http::hop::{Hop, is_redirect};
use crate::session::{Run, add, fail, io_failure};
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
    pub(crate) remote: SocketAddr,
    pub(crate) session: Option<TlsSession>,
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

/// Connects, sends, reads. The body of a redirect that will be followed is left unread.
pub(crate) async fn exchange(
    run: &Arc<Run>,
    hop: &Hop,
    family: Family,
    versions: Versions,
    max_body: usize,
    follow: bool,
    timings: &mut Timings,
) -> Result<Got, Failure> {
    let peer = hop.endpoint();
    let mut connection = Connection::open(run, &peer, family).await?;
    let mut session = None;
    if hop.url.scheme() == "https" {
        let mut options = hop.tls.clone();
        options.alpn = versions.alpn();
        session = Some(connection.secure(options).await?);
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
        return Err(fail(Cause::Protocol(message.clone()), Phase::Handshake, message));
    }
    let remote = connection.remote();
    let clock = Arc::new(Clock::new());
    let stream = Timed { stream: connection.into_stream(), clock: clock.clone(), replies: !two };
    let talked = talk(run, hop, &peer, stream, two, &clock, max_body, follow).await;
    clock.spent(Instant::now()).into_iter().for_each(|(phase, time)| {
        run.spend(phase, time);
        add(timings, phase, time);
    });
    let (parts, body, truncated) = talked?;
    let location =
        parts.headers.get(hyper::header::LOCATION).map(text).filter(|_| is_redirect(parts.status.as_u16()));
    Ok(Got {
        status: parts.status.as_u16(),
        version: if parts.version == Version::HTTP_2 {
            "2"
        } else if parts.version == Version::HTTP_10 {
            "1.0"
        } else {
            "1.1"
        }
        .to_owned(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        location,
        body,
        truncated,
        remote,
        session,
    })
}

#[expect(
    clippy::too_many_arguments,
    reason = "the body of `exchange`, apart only so that its time is counted however it ends"
)]
async fn talk(
    run: &Run,
    hop: &Hop,
    peer: &Endpoint,
    stream: Timed,
    two: bool,
    clock: &Clock,
    max_body: usize,
    follow: bool,
) -> Result<(hyper::http::response::Parts, Vec<u8>, bool), Failure> {
    let request = request(hop, two).map_err(|message| match hop.redirected {
        true => fail(Cause::Protocol(message.clone()), Phase::Send, message),
        false => fail(Cause::Invalid(message.clone()), Phase::Send, message),
    })?;
    let talking = async {
        let (response, _driver) = match two {
            true => {
                let (mut sender, driver) =
                    hyper::client::conn::http2::handshake(Until(run.deadline), TokioIo::new(stream)).await?;
                let driver = Driver::spawn(driver);
                (sender.send_request(request).await?, driver)
            }
            false => {
                let (mut sender, driver) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                let driver = Driver::spawn(driver);
                (sender.send_request(request).await?, driver)
            }
        };
        clock.replied();
        let (parts, incoming) = response.into_parts();
        let skipped = follow
            && is_redirect(parts.status.as_u16())
            && parts.headers.contains_key(hyper::header::LOCATION);
        let (body, truncated) =
            if skipped { (Vec::new(), false) } else { read(incoming, &parts.headers, max_body).await? };
        Ok::<_, Broken>((parts, body, truncated))
    };
    let talked = tokio::time::timeout_at(run.deadline, talking).await;
    // HTTP/2 does not hand on why its stream of bytes ended.
    if let (Ok(Err(_)), Err(spent)) = (&talked, run.tally.spent()) {
        return Err(io_failure(&spent, clock.phase(), peer));
    }
    match talked {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Broken::Http(error))) if ended(&error) && clock.was_reset() => {
            Err(io_failure(&io::ErrorKind::ConnectionReset.into(), clock.phase(), peer))
        }
        Ok(Err(Broken::Http(error))) => Err(failure(&error, clock.phase(), peer)),
        Ok(Err(Broken::Coding(error))) => {
            let reason = format!("the body is not in the coding that its header names: {error}");
            Err(fail(
                Cause::Protocol(reason.clone()),
                Phase::Transfer,
                format!("{peer} broke HTTP: {reason}"),
            ))
        }
        Err(_) => Err(run.timeout(clock.phase(), peer)),
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
async fn read(mut incoming: Incoming, headers: &HeaderMap, max: usize) -> Result<(Vec<u8>, bool), Broken> {
    let codings: Vec<_> = headers.get_all(hyper::header::CONTENT_ENCODING).iter().map(text).collect();
    let mut body = Body::new(&codings.join(","), max).map_err(Broken::Coding)?;
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if body.push(&data).map_err(Broken::Coding)? {
            break;
        }
    }
    body.finish().map_err(Broken::Coding)
}

fn request(hop: &Hop, two: bool) -> Result<hyper::Request<Full<Bytes>>, String> {
    let mut headers = HeaderMap::new();
    for header in &hop.headers {
        // Names were checked when the hop was made; a value may hold a secret and is never shown.
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| format!("{:?} is not a header's name", header.name))?;
        let mut value = HeaderValue::from_bytes(&header.value).map_err(|_| {
            format!("the value of the header {name} has a line break or another control character in it")
        })?;
        value.set_sensitive(header.sensitive);
        headers.append(name, value);
    }
    let host = authority(hop);
    let defaults = [
        ("host", host.as_str()),
        ("user-agent", USER_AGENT),
        ("accept", "*/*"),
        ("accept-encoding", "identity"),
    ];
    for (name, value) in defaults.into_iter().chain((!two).then_some(("connection", "close"))) {
        if let (false, Ok(value)) = (headers.contains_key(name), HeaderValue::from_str(value)) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let path = match hop.url.query() {
        Some(query) => format!("{}?{query}", hop.url.path()),
        None => hop.url.path().to_owned(),
    };
    let uri = match two {
        // RFC 9113, section 8.3.1: the host travels as :authority.
        true => {
            let host = headers.remove("host").map_or(host, |value| text(&value));
            for name in BOUND_TO_CONNECTION {
                headers.remove(name);
            }
            Uri::builder().scheme(hop.url.scheme()).authority(host).path_and_query(path).build()
        }
        false => Uri::builder().path_and_query(path).build(),
    };
    let mut request = hyper::Request::new(Full::new(hop.body.clone()));
    *request.method_mut() = hop.method.clone();
    *request.uri_mut() = uri.map_err(|e| format!("{} cannot be asked for: {e}", hop.url))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Host, and the port where it is not the scheme's own.
fn authority(hop: &Hop) -> String {
    let host = hop.url.host_str().unwrap_or_default();
    match hop.url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn failure(error: &hyper::Error, phase: Phase, peer: &Endpoint) -> Failure {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
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
    fail(Cause::Protocol(reason.clone()), phase, format!("{peer} broke HTTP: {reason}"))
}

/// Whether the connection ended under the exchange, without saying why.
fn ended(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_closed() || error.is_canceled()
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The task that moves the connection's bytes; it ends with the exchange.
struct Driver(AbortHandle);

impl Driver {
    fn spawn(driver: impl Future<Output = Result<(), hyper::Error>> + Send + 'static) -> Self {
        // Its error is the one that the request or the body gets.
        Self(tokio::spawn(driver).abort_handle())
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

const USER_AGENT: &str = concat!("picket/", env!("CARGO_PKG_VERSION"));
/// RFC 9113, section 8.2.2.
const BOUND_TO_CONNECTION: [&str; 5] =
    ["connection", "proxy-connection", "transfer-encoding", "keep-alive", "upgrade"];
