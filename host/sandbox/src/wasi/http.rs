//! `wasi:http` over the network of Picket: an exchange is one of `net`, with its grant, budget, deadline and timings. wasmtime-wasi-http
//! keeps requests, headers and bodies; its own sender is not even compiled in.
//!
//! A body is sent and received as a whole: what a component sends is collected first, and it sees an answer when all of it is here. Redirects are
//! the component's business.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::state::State;
use crate::world::World;

/// Bytes of a request's body.
const SENT: usize = 1 << 20;

/// What a store keeps of `wasi:http`.
pub(crate) struct Http {
    context: WasiHttpCtx,
    sender: Sender,
}

impl Http {
    /// Without a world every exchange is denied.
    pub(crate) fn new(world: Option<Arc<dyn World>>) -> Self {
        Http { context: WasiHttpCtx::new(), sender: Sender { world } }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.http.sender, table: &mut self.table, ctx: &mut self.http.context }
    }
}

pub(super) fn add_to_linker(l: &mut Linker<State>) -> wasmtime::Result<()> {
    let options = types::LinkOptions::default();
    types::add_to_linker::<State, WasiHttp>(l, &options, |state| super::entered(state).http())?;
    outgoing_handler::add_to_linker::<State, WasiHttp>(l, |state| super::entered(state).http())
}

/// Makes the exchanges.
struct Sender {
    world: Option<Arc<dyn World>>,
}

/// What a sender gives back: the answer, and what goes on behind it, which is nothing here.
type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Sender {
    /// `net` makes the header itself, from the URL.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _guests: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let world = self.world.clone();
        Box::new(async move {
            let Some(world) = world else { return Err(Error::HttpRequestDenied) };
            let exchange = exchange(&*world, request);
            let response = match options.and_then(|options| bound(&options)) {
                None => exchange.await,
                Some(bound) => {
                    tokio::time::timeout(bound, exchange).await.unwrap_or(Err(Error::HttpResponseTimeout))
                }
            };
            Ok((response?, Box::new(async { Ok(()) }) as Box<dyn Future<Output = _> + Send>))
        })
    }
}

/// How long an exchange may take that a component bounds itself: its three times together, as it sees nothing of what is between. None where it
/// does not bound the wait for an answer.
fn bound(options: &RequestOptions) -> Option<Duration> {
    let rest =
        options.connect_timeout.unwrap_or_default() + options.between_bytes_timeout.unwrap_or_default();
    options.first_byte_timeout.map(|first| first + rest)
}

async fn exchange(
    world: &dyn World,
    request: http::Request<WasiBody>,
) -> Result<http::Response<WasiBody>, Error> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, SENT).collect().await.map_err(|error| match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(_) => Error::HttpRequestBodySize(Some(SENT as u64)),
    })?;
    let headers =
        parts.headers.iter().map(|(name, value)| net::Header::plain(name.as_str(), value.as_bytes()));
    let request = net::Request {
        method: parts.method.to_string(),
        url: parts.uri.to_string(),
        headers: headers.collect(),
        body: body.to_bytes().into(),
        versions: Vec::new(),
        family: net::Family::Any,
        tls: None,
        max_redirects: 0,
        max_body: u32::MAX,
    };
    let response = world.send(request).await.map_err(|failure| error(&failure))?;
    if response.truncated {
        return Err(Error::HttpResponseBodySize(Some(response.body.len() as u64)));
    }
    let mut built = http::Response::builder().status(response.status);
    for (name, value) in &response.headers {
        // The body is what it was before it was coded.
        let coded = response.decoded && (name == "content-encoding" || name == "content-length");
        if !coded {
            built = built.header(name, value);
        }
    }
    let body = Full::new(Bytes::from(response.body)).map_err(|never| match never {});
    built.body(body.boxed_unsync()).map_err(|_| Error::HttpProtocolError)
}

/// What a component hears of a failure.
fn error(failure: &net::Failure) -> Error {
    match (&failure.cause, failure.phase) {
        (net::Cause::Denied, _) => Error::HttpRequestDenied,
        (net::Cause::Timeout, Some(net::Phase::Resolve)) => Error::DnsTimeout,
        (net::Cause::Timeout, Some(net::Phase::Connect | net::Phase::Handshake)) => Error::ConnectionTimeout,
        (net::Cause::Timeout, Some(net::Phase::Send)) => Error::ConnectionWriteTimeout,
        (net::Cause::Timeout, _) => Error::ConnectionReadTimeout,
        (net::Cause::Refused, _) => Error::ConnectionRefused,
        (net::Cause::Reset, _) => Error::ConnectionTerminated,
        (net::Cause::Closed, _) => Error::HttpResponseIncomplete,
        (net::Cause::Unreachable, _) => Error::DestinationUnavailable,
        (net::Cause::Exhausted, Some(net::Phase::Connect | net::Phase::Resolve)) => {
            Error::ConnectionLimitReached
        }
        (net::Cause::Exhausted, _) => Error::HttpResponseBodySize(None),
        (net::Cause::Dns(rcode), _) => Error::DnsError { rcode: Some(rcode.to_string()), info_code: None },
        (net::Cause::Tls(_), _) => Error::TlsCertificateError,
        (net::Cause::Invalid(_), _) => Error::HttpRequestUriInvalid,
        (net::Cause::Protocol(_) | net::Cause::Proxy(_), _) => Error::HttpProtocolError,
        (net::Cause::Other(_), _) => Error::InternalError(None),
    }
}
