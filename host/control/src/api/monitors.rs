//! Monitors and plugins, for people.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use serde::Deserialize;
use wire::Problem;
use wire::admin::{Apply, ApplyAnswer, MonitorView, RunAnswer};
use wire::plugin::PluginView;

use super::reply::{Failure, blocking, query};
use super::signed;
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

/// Apply monitors and the channels that their alerts go to: all of them or none.
///
/// A name that there is already keeps its id. Every mistake in every monitor and channel is found at once.
#[utoipa::path(post, path = "/v1/monitors/apply", tag = "admin", security(("admin" = [])), request_body = Apply, responses(
    (status = 200, body = ApplyAnswer),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 413, description = "too_large: it has more than 64 MiB", body = Problem),
    (status = 422, description = "invalid: nothing was changed", body = Problem),
))]
pub(super) async fn apply(
    State(control): State<Arc<Control>>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    let body = signed::whole(request.into_body(), wire::config::LIMIT).await?;
    let apply: Apply = json(&body)?;
    drop(body);
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

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RunQuery {
    /// Only at this location.
    location: Option<String>,
    /// Seconds to wait for the agents: 1 to 50. Default 30.
    wait: Option<u64>,
}

/// Run a monitor now.
///
/// Beside its plan, on one agent of each of its locations. The answer comes when all have sent their results, or the time is over.
#[utoipa::path(post, path = "/v1/monitors/{name}/run", tag = "admin", security(("admin" = [])),
    params(("name" = String, Path, description = "its name"), RunQuery), responses(
    (status = 200, body = RunAnswer),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 404, description = "not_found: no such monitor, or it does not run at that location", body = Problem),
    (status = 409, description = "conflict: it is disabled", body = Problem),
))]
pub(super) async fn run(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<RunAnswer>, Failure> {
    let RunQuery { location, wait } = query(&uri)?;
    let wait = Duration::from_secs(wait.unwrap_or(30).clamp(1, 50));
    let deadline = tokio::time::Instant::now() + wait;
    let mut arrived = control.arrived.subscribe();
    let mut closing = control.closing.subscribe();
    let mut asked = blocking(&control, move |c| c.ask_for_run(&name, location.as_deref())).await?;
    while !asked.is_answered() {
        let over = tokio::select! {
            _ = arrived.changed() => false,
            _ = closing.wait_for(|closing| *closing) => true,
            () = tokio::time::sleep_until(deadline) => true,
        };
        if over {
            break;
        }
        asked = blocking(&control, move |c| c.answers(asked)).await?;
    }
    Ok(Json(asked.answer(wait)))
}

/// List the bundled plugins, by name.
#[utoipa::path(get, path = "/v1/plugins", tag = "admin", security(("admin" = [])), responses(
    (status = 200, body = Vec<PluginView>),
    (status = 401, description = "unauthorized", body = Problem),
))]
pub(super) async fn plugins(State(control): State<Arc<Control>>) -> Json<Vec<PluginView>> {
    Json(control.parts.plugins.clone())
}
