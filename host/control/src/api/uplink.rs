//! What agents call. Every answer to a stamped request of an agent is signed, see `signed`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header as http_header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use wire::config::{self, Configuration};
use wire::enroll::{EnrollAnswer, EnrollRequest};
use wire::results::{Ack, Batch};
use wire::session::{Hello, Nonce, Welcome};
use wire::signature::{Asked, Stamp, header};
use wire::stream::LONG_ANSWER;
use wire::{AgentId, Mistake, Problem};

use super::reply::{Failure, bearer, blocking, query, unauthorized};
use super::signed::{self, Reply};
use crate::control::Control;
use crate::uplink::{Signed, json};

/// Turn a setup token into an identity.
///
/// The same request again gets the same answer until the agent's first authenticated request. The success is signed for the new
/// agent, generation 1, the enrolment's id in the lease's place and counter 0.
#[utoipa::path(post, path = "/v1/enroll", tag = "agent", security(()), request_body = EnrollRequest, responses(
    (status = 200, body = EnrollAnswer),
    (status = 401, description = "setup_token_unknown, bad_signature", body = Problem),
    (status = 409, description = "setup_token_used", body = Problem),
    (status = 410, description = "setup_token_expired", body = Problem),
    (status = 413, description = "too_large", body = Problem),
    (status = 422, description = "invalid", body = Problem),
))]
pub(super) async fn enroll(
    State(control): State<Arc<Control>>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let body = signed::whole(body, ENROLL_LIMIT).await?;
    let path = parts.uri.path_and_query().map_or(parts.uri.path(), |path| path.as_str());
    let asked = Asked::new(parts.method.as_str(), path, &body);
    let request: EnrollRequest = json(&body)?;
    let lease = request.enrollment_id.to_string();
    let answer = blocking(&control, move |c| c.enroll(&request)).await?;
    let stamp = Stamp { agent: answer.agent_id, generation: answer.generation, lease, counter: 0 };
    Ok(signed::seal(&control, &stamp, &asked, Ok(Reply::json(&answer))).into_response())
}

/// Get a nonce that signs one hello within a minute.
#[utoipa::path(post, path = "/v1/nonce", tag = "agent", security(("agent" = [])), responses(
    (status = 200, body = Nonce),
    (status = 401, description = "unauthorized", body = Problem),
))]
pub(super) async fn nonce(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
) -> Result<Json<Nonce>, Failure> {
    let agent = headers.get(header::AGENT).and_then(|v| v.to_str().ok()?.parse().ok()).map(AgentId);
    let (Some(agent), Some(token)) = (agent, bearer(&headers)) else {
        return Err(unauthorized("the request needs an authorization and a picket-agent header").into());
    };
    Ok(Json(control.nonce(agent, token)?))
}

/// Begin a session.
///
/// Signed with the nonce in the lease's place and counter 0.
#[utoipa::path(post, path = "/v1/hello", tag = "agent", security(("agent" = [])), request_body = Hello, responses(
    (status = 200, body = Welcome),
    (status = 401, description = "unauthorized, bad_signature, lease_unknown, superseded: a newer token took the place of this one", body = Problem),
    (status = 403, description = "revoked, approval_required", body = Problem),
    (status = 409, description = "forked: another device holds this identity", body = Problem),
    (status = 503, description = "busy: come again after `retry-after`", body = Problem),
))]
pub(super) async fn hello(State(control): State<Arc<Control>>, request: Request) -> Response {
    signed::answer(control, request, async |control, signed, body, _| {
        let welcome = blocking(&control, move |c| c.hello(&signed, &body)).await?;
        Ok(Reply::json(&welcome))
    })
    .await
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Seconds to wait for a change; at most 30.
    #[serde(default)]
    wait: u64,
}

/// Get what the agent runs.
///
/// With `If-None-Match` and a current ETag the answer waits for a change. With `accept: application/zstd` it is packed, and may unpack to
/// 64 MiB; without, it has at most 8 MiB.
#[utoipa::path(get, path = "/v1/config", tag = "agent", security(("agent" = [])), params(Wait), responses(
    (status = 200, body = Configuration, headers(("etag", description = "of the monitors"))),
    (status = 304, description = "as the agent has it"),
    (status = 401, description = "unauthorized, bad_signature, lease_unknown", body = Problem),
    (status = 413, description = "too_large: it is told packed only", body = Problem),
))]
pub(super) async fn configuration(State(control): State<Arc<Control>>, request: Request) -> Response {
    signed::answer(control, request, async |control, signed, body, headers| {
        wait_for_configuration(control, signed, body, headers, Way::Https).await
    })
    .await
}

/// Which way a request came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    Https,
    Stream,
}

pub(super) async fn wait_for_configuration(
    control: Arc<Control>,
    signed: Signed,
    body: Vec<u8>,
    headers: HeaderMap,
    way: Way,
) -> Result<Reply, Problem> {
    let uri: Uri = signed.path.parse().map_err(|_| Problem::new(Problem::INVALID, "the path is not one"))?;
    let caller = blocking(&control, move |c| c.admit(&signed, &body)).await?;
    let Wait { wait } = query(&uri)?;
    let known = headers.get(http_header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let packs = headers.get_all(http_header::ACCEPT).iter().any(|accept| accept == config::PACKED);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(wait.min(LONGEST_WAIT_S));
    let mut told = control.told.subscribe();
    let mut closing = control.closing.subscribe();
    loop {
        told.mark_unchanged();
        let (agent, has) = (caller.agent.id, known.clone());
        let news = blocking(&control, move |control| {
            let Some((configuration, etag)) = control.news(agent, has.as_deref()) else { return Ok(None) };
            shaped(&configuration, packs, way).map(|reply| Some(reply.tagged(etag)))
        });
        if let Some(reply) = news.await? {
            return Ok(reply);
        }
        let over = tokio::select! {
            _ = told.changed() => false,
            _ = closing.wait_for(|closing| *closing) => true,
            () = tokio::time::sleep_until(deadline) => true,
        };
        if over {
            return Ok(Reply::not_modified(known.unwrap_or_default()));
        }
    }
}

/// A configuration as an agent can take it: one that reads packed ones is given a long one packed, which no stream carries.
fn shaped(configuration: &Configuration, packs: bool, way: Way) -> Result<Reply, Problem> {
    let json = Reply::json(configuration);
    let long = if packs { LONG_ANSWER } else { wire::BODY_LIMIT };
    if json.len() <= long {
        return Ok(json);
    }
    match (packs, way) {
        (true, Way::Https) => json.packed(),
        (true, Way::Stream) => {
            Err(Problem::new(Problem::TOO_LARGE, "ask for it by HTTPS, where it is packed"))
        }
        (false, _) => {
            let detail = format!(
                "the monitors of this agent are {} MiB, and its version takes at most {} MiB: update it",
                json.len().div_ceil(MIB),
                wire::BODY_LIMIT / MIB,
            );
            Err(Problem::new(Problem::TOO_LARGE, detail))
        }
    }
}

/// An [`Ack`] that names what could not be read.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Stored {
    #[serde(flatten)]
    ack: Ack,
    /// Records that could not be read; each is stored as a gap "rejected".
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mistakes: Vec<Mistake>,
}

/// Store results.
///
/// Without records it is the heartbeat. The answer comes after everything is on disk; the same batch again changes nothing.
#[utoipa::path(post, path = "/v1/results", tag = "agent", security(("agent" = [])), request_body = Batch, responses(
    (status = 200, body = Stored),
    (status = 401, description = "unauthorized, bad_signature, lease_unknown", body = Problem),
    (status = 403, description = "revoked, rotate_first", body = Problem),
    (status = 413, description = "too_large", body = Problem),
    (status = 422, description = "invalid: a record does not say where it stands", body = Problem),
    (status = 503, description = "busy: come again after `retry-after`", body = Problem),
))]
pub(super) async fn results(State(control): State<Arc<Control>>, request: Request) -> Response {
    signed::answer(control, request, store).await
}

pub(super) async fn store(
    control: Arc<Control>,
    signed: Signed,
    body: Vec<u8>,
    _: HeaderMap,
) -> Result<Reply, Problem> {
    let (ack, mistakes) = blocking(&control, move |c| {
        let caller = c.admit(&signed, &body)?;
        c.ingest(&caller, &body)
    })
    .await?;
    Ok(Reply::json(&Stored { ack, mistakes }))
}

const MIB: usize = 1024 * 1024;

/// Bytes of an enrolment, which anybody may send: a few hundred are enough.
const ENROLL_LIMIT: usize = 16 * 1024;

/// Longer than proxies keep a silent connection is of no use.
const LONGEST_WAIT_S: u64 = 30;
