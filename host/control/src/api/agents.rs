//! Agents, for people.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use serde::Deserialize;
use wire::Problem;
use wire::admin::{AgentCreated, AgentView, CreateAgent};
use wire::event::AgentEvent;

use super::reply::{Failure, blocking, query};
use crate::control::Control;
use crate::uplink::json;

/// List the agents, by name.
#[utoipa::path(get, path = "/v1/agents", tag = "admin", security(("admin" = [])), responses(
    (status = 200, body = Vec<AgentView>),
    (status = 401, description = "unauthorized", body = Problem),
))]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Json<Vec<AgentView>> {
    Json(control.agents())
}

/// Make an agent and its setup token.
///
/// The only time that the setup token is shown.
#[utoipa::path(post, path = "/v1/agents", tag = "admin", security(("admin" = [])), request_body = CreateAgent, responses(
    (status = 201, body = AgentCreated),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 409, description = "conflict: the name is taken", body = Problem),
    (status = 422, description = "invalid", body = Problem),
))]
pub(super) async fn create(
    State(control): State<Arc<Control>>,
    body: Bytes,
) -> Result<(StatusCode, Json<AgentCreated>), Failure> {
    let wanted: CreateAgent = json(&body)?;
    let created = blocking(&control, move |c| c.create_agent(&wanted)).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Delete an agent and its identity.
///
/// Its results stay.
#[utoipa::path(delete, path = "/v1/agents/{name}", tag = "admin", security(("admin" = [])),
    params(("name" = String, Path, description = "its name")), responses(
    (status = 204, description = "it is gone"),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 404, description = "not_found", body = Problem),
))]
pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    blocking(&control, move |c| c.delete_agent(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revoke an agent.
///
/// It is told so with a signature, stops checking and sending, and keeps its identity and what it recorded.
#[utoipa::path(post, path = "/v1/agents/{name}/revoke", tag = "admin", security(("admin" = [])),
    params(("name" = String, Path, description = "its name")), responses(
    (status = 200, body = AgentView),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 404, description = "not_found", body = Problem),
    (status = 409, description = "conflict: it is not enrolled", body = Problem),
))]
pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<AgentView>, Failure> {
    Ok(Json(blocking(&control, move |c| c.revoke_agent(&name)).await?))
}

/// Ask an agent for a new token now.
///
/// It makes at most one a minute; its events tell when the new one is in use.
#[utoipa::path(post, path = "/v1/agents/{name}/rotate", tag = "admin", security(("admin" = [])),
    params(("name" = String, Path, description = "its name")), responses(
    (status = 200, body = AgentView),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 404, description = "not_found", body = Problem),
    (status = 409, description = "conflict: it is not connected", body = Problem),
))]
pub(super) async fn rotate(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<AgentView>, Failure> {
    Ok(Json(control.rotate_agent(&name)?))
}

/// Approve an agent.
///
/// Lifts a revocation, and lets in an agent that was silent for more than 90 days.
#[utoipa::path(post, path = "/v1/agents/{name}/approve", tag = "admin", security(("admin" = [])),
    params(("name" = String, Path, description = "its name")), responses(
    (status = 200, body = AgentView),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 404, description = "not_found", body = Problem),
    (status = 409, description = "conflict: it is not enrolled", body = Problem),
))]
pub(super) async fn approve(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<AgentView>, Failure> {
    Ok(Json(blocking(&control, move |c| c.approve_agent(&name)).await?))
}

/// List what befell the identity of an agent, newest first.
#[utoipa::path(get, path = "/v1/agents/{name}/events", tag = "admin", security(("admin" = [])),
    params(("name" = String, Path, description = "its name"), Limit), responses(
    (status = 200, body = Vec<AgentEvent>),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 404, description = "not_found", body = Problem),
))]
pub(super) async fn events_of(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<Vec<AgentEvent>>, Failure> {
    let limit = query::<Limit>(&uri)?.limit;
    Ok(Json(blocking(&control, move |c| c.events(Some(&name), limit)).await?))
}

/// List what befell the identities of all agents, newest first.
#[utoipa::path(get, path = "/v1/events", tag = "admin", security(("admin" = [])), params(Limit), responses(
    (status = 200, body = Vec<AgentEvent>),
    (status = 401, description = "unauthorized", body = Problem),
))]
pub(super) async fn events(
    State(control): State<Arc<Control>>,
    uri: Uri,
) -> Result<Json<Vec<AgentEvent>>, Failure> {
    let limit = query::<Limit>(&uri)?.limit;
    Ok(Json(blocking(&control, move |c| c.events(None, limit)).await?))
}

/// How many are wanted.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Limit {
    /// Events at most; default 100.
    #[serde(default = "limit")]
    limit: usize,
}

fn limit() -> usize {
    100
}
