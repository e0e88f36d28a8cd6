//! Monitors and plugins, for people.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use wire::Problem;
use wire::admin::{Apply, ApplyAnswer, MonitorView};
use wire::plugin::PluginView;

use super::reply::{Failure, blocking};
use crate::control::Control;
use crate::uplink::json;

/// List the monitors with their latest states, by name.
#[utoipa::path(get, path = "/v1/monitors", tag = "admin", security(("admin" = [])), responses(
    (status = 200, body = Vec<MonitorView>),
    (status = 401, description = "unauthorized", body = Problem),
))]
pub(super) async fn list(State(control): State<Arc<Control>>) -> Result<Json<Vec<MonitorView>>, Failure> {
    Ok(Json(blocking(&control, |c| Ok(c.monitors())).await?))
}

/// Apply monitors: all of them or none.
///
/// A name that there is already keeps its id. Every mistake in every monitor is found at once.
#[utoipa::path(post, path = "/v1/monitors/apply", tag = "admin", security(("admin" = [])), request_body = Apply, responses(
    (status = 200, body = ApplyAnswer),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 422, description = "invalid: nothing was changed", body = Problem),
))]
pub(super) async fn apply(
    State(control): State<Arc<Control>>,
    body: Bytes,
) -> Result<Json<ApplyAnswer>, Failure> {
    let apply: Apply = json(&body)?;
    Ok(Json(blocking(&control, move |c| c.apply(&apply)).await?))
}

/// Show a monitor.
#[utoipa::path(get, path = "/v1/monitors/{name}", tag = "admin", security(("admin" = [])),
    params(("name" = String, Path, description = "its name")), responses(
    (status = 200, body = MonitorView),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 404, description = "not_found", body = Problem),
))]
pub(super) async fn show(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<MonitorView>, Failure> {
    Ok(Json(blocking(&control, move |c| c.monitor(&name)).await?))
}

/// Delete a monitor.
///
/// Its results stay.
#[utoipa::path(delete, path = "/v1/monitors/{name}", tag = "admin", security(("admin" = [])),
    params(("name" = String, Path, description = "its name")), responses(
    (status = 204, description = "it is gone"),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 404, description = "not_found", body = Problem),
))]
pub(super) async fn remove(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    blocking(&control, move |c| c.delete_monitor(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the bundled plugins, by name.
#[utoipa::path(get, path = "/v1/plugins", tag = "admin", security(("admin" = [])), responses(
    (status = 200, body = Vec<PluginView>),
    (status = 401, description = "unauthorized", body = Problem),
))]
pub(super) async fn plugins(State(control): State<Arc<Control>>) -> Json<Vec<PluginView>> {
    Json(control.plugins.clone())
}
