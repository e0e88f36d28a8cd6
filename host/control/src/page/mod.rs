//! The page for people with a browser: agents, monitors with their last hour, and a monitor's last results. Rendered here, no script;
//! everything that comes from outside is escaped by maud.

mod frame;
mod login;
mod monitor;
mod overview;

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};

use crate::api::{Failure, blocking};
use crate::control::Control;
pub(crate) use login::Logins;

/// The page's paths.
pub(crate) fn router() -> Router<Arc<Control>> {
    Router::new()
        .route("/", get(show_overview))
        .route("/monitors/{name}", get(show_monitor))
        .route("/login", post(login::submit))
        .route("/logout", post(login::leave))
        .layer(middleware::map_response(login::harden))
        .route("/style.css", get(style))
}

async fn show_overview(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    // A link with the token in it logs in and is left at once: the token stays in no address bar.
    if let Some(token) = query.as_deref().and_then(|q| q.strip_prefix("token=")) {
        return login::enter(&control, token);
    }
    if !login::is_in(&control, &headers) {
        return login::form(StatusCode::OK, None).into_response();
    }
    answered(blocking(&control, overview::render).await)
}

async fn show_monitor(
    State(control): State<Arc<Control>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response {
    if !login::is_in(&control, &headers) {
        return Redirect::to("/").into_response();
    }
    answered(blocking(&control, move |c| monitor::render(c, &name)).await)
}

fn answered(outcome: Result<maud::Markup, wire::Problem>) -> Response {
    match outcome {
        Ok(page) => page.into_response(),
        Err(problem) => {
            let status = Failure(problem.clone()).into_response().status();
            (status, frame::page("Picket", None, &frame::notice(&problem.to_string()))).into_response()
        }
    }
}

async fn style() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=300")];
    (headers, include_str!("style.css"))
}
