//! Answers to agents, signed for exactly the request that they answer: successes and problems alike. An answer without a signature is
//! a network error to an agent, so nothing in between can say anything in our name. Whoever shows no token of an agent, or no whole
//! body, gets an answer without a signature, and the former has its body unread.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header as http_header, request::Parts};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use uuid::Uuid;
use wire::config;
use wire::signature::{Asked, Stamp, header};
use wire::stream::Down;
use wire::{AgentId, Problem};

use super::reply::{PROBLEM, bearer, status, unauthorized};
use crate::control::Control;
use crate::uplink::Signed;

/// A success, before its signature.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    etag: String,
    kind: &'static str,
    body: Vec<u8>,
}

impl Reply {
    /// 200 with this as JSON.
    pub(super) fn json<T: Serialize>(value: &T) -> Self {
        let body = serde_json::to_vec(value).expect("answers have texts as keys");
        Self { status: StatusCode::OK, etag: String::new(), kind: JSON, body }
    }

    /// Bytes of its body.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    /// The same, packed with zstd.
    pub(super) fn packed(self) -> Result<Self, Problem> {
        let pack = || {
            let mut packer = zstd::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
            packer.window_log(config::PACKED_WINDOW_LOG)?;
            packer.write_all(&self.body)?;
            packer.finish()
        };
        match pack() {
            Ok(body) => Ok(Self { kind: config::PACKED, body, ..self }),
            Err(error) => {
                tracing::error!(%error, "cannot pack a configuration");
                Err(Problem::new(Problem::INTERNAL, "the control plane cannot pack the configuration"))
            }
        }
    }

    /// The same, with an ETag.
    pub(super) fn tagged(self, etag: String) -> Self {
        Self { etag, ..self }
    }

    /// 101: a stream opens.
    pub(super) fn open() -> Self {
        Self { status: StatusCode::SWITCHING_PROTOCOLS, etag: String::new(), kind: JSON, body: vec![] }
    }

    /// 304.
    pub(super) fn not_modified(etag: String) -> Self {
        Self { status: StatusCode::NOT_MODIFIED, etag, kind: JSON, body: vec![] }
    }
}

/// A stamped request whose token is an agent's, and all of its body.
pub(super) struct Received {
    pub(super) signed: Signed,
    pub(super) body: Vec<u8>,
    pub(super) headers: HeaderMap,
}

/// An answer with its signature, before it takes its way.
pub(super) struct Sealed {
    status: StatusCode,
    etag: String,
    /// Seconds after which it is worth trying again.
    again_s: Option<u64>,
    kind: &'static str,
    body: Vec<u8>,
    signature: String,
}

/// Reads a stamped request, has it answered, and signs whatever the answer is.
pub(super) async fn answer<F>(
    control: Arc<Control>,
    request: Request,
    work: impl FnOnce(Arc<Control>, Signed, Vec<u8>, HeaderMap) -> F,
) -> Response
where
    F: Future<Output = Result<Reply, Problem>>,
{
    let Received { signed, body, headers } = match receive(&control, request).await {
        Ok(received) => received,
        Err(problem) => return super::Failure(problem).into_response(),
    };
    let (stamp, asked) = (signed.stamp.clone(), signed.asked(&body));
    let outcome = work(control.clone(), signed, body, headers).await;
    seal(&control, &stamp, &asked, outcome).into_response()
}

/// Reads a stamped request. Its problem is answered without a signature.
pub(super) async fn receive(control: &Control, request: Request) -> Result<Received, Problem> {
    let (parts, body) = request.into_parts();
    let Some(signed) = read(&parts) else {
        let detail = "the request needs an authorization header and the five picket- headers";
        return Err(unauthorized(detail));
    };
    control.recognise(&signed)?;
    let body = whole(body, wire::BODY_LIMIT).await?.to_vec();
    Ok(Received { signed, body, headers: parts.headers })
}

/// A body that comes in time and has at most `limit` bytes.
pub(super) async fn whole(body: Body, limit: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY, to_bytes(body, limit)).await {
        Err(_) => Err(Problem::new(Problem::INVALID, "the body came too slowly")),
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => {
            let detail = format!("the body is cut, or larger than {limit} bytes");
            Err(Problem::new(Problem::TOO_LARGE, detail))
        }
    }
}

/// The answer with its signature.
pub(super) fn seal(
    control: &Control,
    stamp: &Stamp,
    asked: &Asked,
    outcome: Result<Reply, Problem>,
) -> Sealed {
    let again_s = outcome.as_ref().err().and_then(|problem| problem.retry_after_s);
    let Reply { status, etag, kind, body } = outcome.unwrap_or_else(|problem| {
        let body = serde_json::to_vec(&problem).expect("a problem is texts");
        Reply { status: status(&problem), etag: String::new(), kind: PROBLEM, body }
    });
    let signature = stamp.sign_answer(&control.parts.keys.server, asked, status.as_u16(), &etag, &body);
    Sealed { status, etag, again_s, kind, body, signature }
}

impl IntoResponse for Sealed {
    fn into_response(self) -> Response {
        let Self { status, etag, again_s, kind, body, signature } = self;
        let mut headers = vec![(header::SIGNATURE, signature)];
        if !etag.is_empty() {
            headers.push((http_header::ETAG.as_str(), etag));
        }
        if !body.is_empty() {
            headers.push((http_header::CONTENT_TYPE.as_str(), kind.to_owned()));
        }
        let mut response = (status, body).into_response();
        response.headers_mut().remove(http_header::CONTENT_TYPE);
        response.headers_mut().extend(again_s.map(|s| (http_header::RETRY_AFTER, s.into())));
        for (name, value) in headers {
            let value =
                value.parse().expect("signatures, tags and types are ASCII without control characters");
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl Sealed {
    /// The same answer as a frame of a stream.
    pub(super) fn into_frame(self, counter: u64) -> Down {
        let Self { status, etag, again_s, body, signature, .. } = self;
        let body = String::from_utf8(body).expect("what is packed goes by HTTPS only, and JSON is UTF-8");
        Down::Answer { counter, status: status.as_u16(), etag, retry_after: again_s, body, signature }
    }
}

fn read(parts: &Parts) -> Option<Signed> {
    let text = |name: &str| parts.headers.get(name)?.to_str().ok();
    let lease = text(header::LEASE)?.to_owned();
    let stamp = Stamp {
        agent: AgentId(text(header::AGENT)?.parse::<Uuid>().ok()?),
        generation: text(header::GENERATION)?.parse().ok()?,
        lease,
        counter: text(header::COUNTER)?.parse().ok()?,
    };
    Some(Signed {
        stamp,
        token: bearer(&parts.headers)?.to_owned(),
        signature: text(header::SIGNATURE)?.to_owned(),
        method: parts.method.to_string(),
        path: parts.uri.path_and_query()?.to_string(),
    })
}

const JSON: &str = "application/json";

/// How long a body may take.
const BODY: Duration = Duration::from_secs(30);
