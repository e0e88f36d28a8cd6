//! Answers that are not a success, who is let in, and the way from a handler to the threads that may block.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use wire::{Mistake, Problem};

use crate::control::Control;
use crate::uplink::invalid;

/// A problem as an answer: RFC 9457.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.0).expect("a problem is texts");
        let mut response = (status(&self.0), [(header::CONTENT_TYPE, PROBLEM)], body).into_response();
        response.headers_mut().extend(self.0.retry_after_s.map(|s| (header::RETRY_AFTER, s.into())));
        response
    }
}

/// The status of each code.
pub(super) fn status(problem: &Problem) -> StatusCode {
    match problem.code.as_str() {
        Problem::SETUP_TOKEN_UNKNOWN
        | Problem::UNAUTHORIZED
        | Problem::BAD_SIGNATURE
        | Problem::SUPERSEDED
        | Problem::LEASE_UNKNOWN => StatusCode::UNAUTHORIZED,
        Problem::REVOKED | Problem::APPROVAL_REQUIRED | Problem::ROTATE_FIRST => StatusCode::FORBIDDEN,
        Problem::FORKED => StatusCode::CONFLICT,
        Problem::SETUP_TOKEN_USED | Problem::CONFLICT => StatusCode::CONFLICT,
        Problem::SETUP_TOKEN_EXPIRED => StatusCode::GONE,
        Problem::INVALID => StatusCode::UNPROCESSABLE_ENTITY,
        Problem::NOT_FOUND => StatusCode::NOT_FOUND,
        Problem::TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        Problem::BUSY => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Does something that waits for the disk.
pub(crate) async fn blocking<T: Send + 'static>(
    control: &Arc<Control>,
    work: impl FnOnce(&Control) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let control = control.clone();
    match tokio::task::spawn_blocking(move || work(&control)).await {
        Ok(outcome) => outcome,
        Err(panicked) => {
            tracing::error!(%panicked, "a request or a task broke in the control plane");
            Err(Problem::new(Problem::INTERNAL, "the control plane failed at this request: try again"))
        }
    }
}

/// Lets whoever holds the admin token in.
pub(super) async fn admin_only(
    State(control): State<Arc<Control>>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    match bearer(request.headers()) {
        Some(token) if control.parts.keys.is_admin(token) => Ok(next.run(request).await),
        Some(_) => Err(unauthorized("the admin token is wrong").into()),
        None => Err(unauthorized("the admin token is missing: send it as a bearer token").into()),
    }
}

/// The token of the `authorization` header.
pub(super) fn bearer(headers: &axum::http::HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

/// The problem of a caller without a good credential.
pub(super) fn unauthorized(detail: &str) -> Problem {
    Problem::new(Problem::UNAUTHORIZED, detail)
}

/// The query, or the mistake in it.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let read = Query::<T>::try_from_uri(uri);
    read.map(|q| q.0).map_err(|e| invalid(vec![Mistake { at: String::new(), message: e.body_text() }]))
}

pub(super) const PROBLEM: &str = "application/problem+json";
