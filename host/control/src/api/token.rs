//! Tokens of agents: rotation within a session, recovery without one.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use wire::Problem;
use wire::signature::{Asked, Stamp};
use wire::token::{AskChallenge, Challenge, Recover, Rotate, Rotated};

use super::reply::{Failure, blocking};
use super::signed::{self, Reply};
use crate::control::Control;
use crate::uplink::json;

/// Make the next token of an agent known.
///
/// Its first accepted use activates it; the one before stays good for ten minutes. The same request again gets the same answer.
#[utoipa::path(post, path = "/v1/token/rotate", tag = "agent", security(("agent" = [])), request_body = Rotate, responses(
    (status = 200, body = Rotated),
    (status = 401, description = "unauthorized, bad_signature, lease_unknown, superseded", body = Problem),
    (status = 403, description = "revoked", body = Problem),
    (status = 409, description = "conflict: the generation does not follow the active one", body = Problem),
    (status = 422, description = "invalid", body = Problem),
))]
pub(super) async fn rotate(State(control): State<Arc<Control>>, request: Request) -> Response {
    signed::answer(control, request, async |control, signed, body, _| {
        let rotated = blocking(&control, move |c| c.rotate(&signed, &body)).await?;
        Ok(Reply::json(&rotated))
    })
    .await
}

/// Get a challenge that an agent whose token is refused signs with its device key.
#[utoipa::path(post, path = "/v1/recover/challenge", tag = "agent", security(()), request_body = AskChallenge, responses(
    (status = 200, body = Challenge),
    (status = 401, description = "unauthorized: there is no such agent", body = Problem),
    (status = 422, description = "invalid", body = Problem),
))]
pub(super) async fn challenge(
    State(control): State<Arc<Control>>,
    request: Request,
) -> Result<Json<Challenge>, Failure> {
    let body = signed::whole(request.into_body(), LIMIT).await?;
    let AskChallenge { agent_id } = json(&body)?;
    Ok(Json(control.challenge(agent_id)?))
}

/// Give an agent another token in place of those that are refused.
///
/// The answer to whoever holds the device key is signed for the agent, the generation, the challenge in the lease's place and counter 0.
#[utoipa::path(post, path = "/v1/recover", tag = "agent", security(()), request_body = Recover, responses(
    (status = 200, body = Rotated),
    (status = 401, description = "unauthorized, lease_unknown: the challenge is used or too old", body = Problem),
    (status = 403, description = "revoked", body = Problem),
    (status = 409, description = "conflict: the generation was given out before", body = Problem),
    (status = 422, description = "invalid", body = Problem),
))]
pub(super) async fn recover(
    State(control): State<Arc<Control>>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let body = signed::whole(body, LIMIT).await?;
    let path = parts.uri.path_and_query().map_or(parts.uri.path(), |path| path.as_str());
    let asked = Asked::new(parts.method.as_str(), path, &body);
    let recover: Recover = json(&body)?;
    control.recovers(&recover)?;
    let (agent, generation, lease) = (recover.agent_id, recover.generation, recover.challenge.clone());
    let answer = blocking(&control, move |c| c.recover(&recover)).await;
    let stamp = Stamp { agent, generation, lease, counter: 0 };
    let reply = answer.map(|rotated| Reply::json(&rotated));
    Ok(signed::seal(&control, &stamp, &asked, reply).into_response())
}

/// Bytes of a request that anybody may send: a few hundred are enough.
const LIMIT: usize = 16 * 1024;
