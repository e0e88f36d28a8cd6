//! Agents, for people.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use wire::Problem;
use wire::admin::{AgentCreated, AgentView, CreateAgent};

use super::reply::{Failure, blocking};
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
