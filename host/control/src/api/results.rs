//! Results and gaps, for people.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Deserialize;
use wire::admin::{GapView, ResultsPage};
use wire::{Mistake, Problem, Timestamp};

use super::reply::{Failure, blocking, query};
use crate::admin::Wanted;
use crate::control::Control;
use crate::uplink::invalid;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ResultsQuery {
    /// Name of a monitor; the id of a deleted one.
    monitor: Option<String>,
    /// Name of an agent; the id of a deleted one.
    agent: Option<String>,
    /// Started then or later: an RFC 3339 time, or how long ago, like "1h".
    since: Option<String>,
    /// How many at most: 1 to 10,000. Default 100.
    limit: Option<usize>,
    /// The cursor of an earlier answer: what was stored since.
    after: Option<u64>,
    /// With `after`: seconds to wait for the first result; at most 30.
    wait: Option<u64>,
}

/// List results.
///
/// Without `after` the newest that match, ordered by their start. With `after` what was stored since, in the order of storing.
#[utoipa::path(get, path = "/v1/results", tag = "admin", security(("admin" = [])), params(ResultsQuery), responses(
    (status = 200, body = ResultsPage),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 404, description = "not_found: no such monitor or agent", body = Problem),
    (status = 422, description = "invalid", body = Problem),
))]
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    uri: Uri,
) -> Result<Json<ResultsPage>, Failure> {
    let ResultsQuery { monitor, agent, since, limit, after, wait } = query(&uri)?;
    let since = since.map(|text| point_in_time(&text, control.now().wall)).transpose()?;
    let wanted = Wanted { monitor, agent, since, limit: limit.unwrap_or(100).clamp(1, LIMIT) };
    let Some(mut after) = after else {
        return Ok(Json(blocking(&control, move |c| c.results(&wanted)).await?));
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(wait.unwrap_or(0).min(LONGEST_WAIT_S));
    let mut arrived = control.arrived.subscribe();
    let mut closing = control.closing.subscribe();
    loop {
        arrived.mark_unchanged();
        let wanted = wanted.clone();
        let page = blocking(&control, move |c| c.results_after(&wanted, after)).await?;
        let over = !page.results.is_empty()
            || tokio::select! {
                _ = arrived.changed() => false,
                _ = closing.wait_for(|closing| *closing) => true,
                () = tokio::time::sleep_until(deadline) => true,
            };
        if over {
            return Ok(Json(page));
        }
        // What did not match is not looked at again.
        after = page.cursor.parse().unwrap_or(after);
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GapsQuery {
    /// Name of an agent; the id of a deleted one.
    agent: Option<String>,
    /// How many at most: 1 to 10,000. Default 100.
    limit: Option<usize>,
}

/// List gaps, newest receipt first.
#[utoipa::path(get, path = "/v1/gaps", tag = "admin", security(("admin" = [])), params(GapsQuery), responses(
    (status = 200, body = Vec<GapView>),
    (status = 401, description = "unauthorized", body = Problem),
    (status = 404, description = "not_found: no such agent", body = Problem),
))]
pub(super) async fn gaps(
    State(control): State<Arc<Control>>,
    uri: Uri,
) -> Result<Json<Vec<GapView>>, Failure> {
    let GapsQuery { agent, limit } = query(&uri)?;
    let limit = limit.unwrap_or(100).clamp(1, LIMIT);
    Ok(Json(blocking(&control, move |c| c.gaps(agent, limit)).await?))
}

pub(super) fn point_in_time(text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        return Ok(now.plus_millis(-ago_ms));
    }
    text.parse().map_err(|_| {
        let message = format!(
            "since={text:?}: write a time like \"2026-11-20T18:00:00Z\", or how long ago, like \"1h\""
        );
        invalid(vec![Mistake { at: String::new(), message }])
    })
}

pub(super) const LIMIT: usize = 10_000;
const LONGEST_WAIT_S: u64 = 30;
