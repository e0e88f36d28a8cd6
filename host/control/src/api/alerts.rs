//! Alerts, for people.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::Uri;
use serde::Deserialize;
use wire::Problem;
use wire::alert::AlertView;

use super::reply::{Failure, blocking, query};
use super::results::{LIMIT, point_in_time};
use crate::control::Control;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AlertsQuery {
    /// Only events whose alerts go on. Default false.
    #[serde(default)]
    open: bool,
    /// Made then or later: an RFC 3339 time, or how long ago, like "1h".
    since: Option<String>,
    /// How many at most: 1 to 10,000. Default 100.
    limit: Option<usize>,
}

/// List the events of alerts, newest first.
///
/// An alert begins with an event that is `open` and ends with another one of the same `alert`.
#[utoipa::path(get, path = "/v1/alerts", tag = "admin", security(("admin" = [])), params(AlertsQuery), responses(
    (status = 200, body = Vec<AlertView>),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 422, description = "invalid", body = Problem),
))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    uri: Uri,
) -> Result<Json<Vec<AlertView>>, Failure> {
    let AlertsQuery { open, since, limit } = query(&uri)?;
    let since = since.map(|text| point_in_time(&text, control.now().wall)).transpose()?;
    let limit = limit.unwrap_or(100).clamp(1, LIMIT);
    Ok(Json(blocking(&control, move |c| c.alerts(open, since, limit)).await?))
}

/// Show an event and how far it came on its way into each channel.
#[utoipa::path(get, path = "/v1/alerts/{id}", tag = "admin", security(("admin" = [])),
    params(("id" = String, Path, description = "the event's id")), responses(
    (status = 200, body = AlertView),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 404, description = "not_found", body = Problem),
))]
pub(super) async fn show(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<AlertView>, Failure> {
    Ok(Json(blocking(&control, move |c| c.alert(&id)).await?))
}
