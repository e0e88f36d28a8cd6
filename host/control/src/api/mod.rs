//! The API over HTTP: routes, and the OpenAPI document of them. Owns no decision: handlers translate.

mod agents;
mod alerts;
mod monitors;
mod reply;
mod results;
mod signed;
mod stream;
mod token;
mod uplink;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use utoipa::OpenApi as _;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use wire::Problem;

use crate::control::Control;
pub(crate) use reply::{Failure, blocking};

/// Every path of the API and of the page.
pub(crate) fn router(control: Arc<Control>) -> Router {
    let admin = Router::new()
        .route("/v1/agents", get(agents::list).post(agents::create))
        .route("/v1/agents/{name}", delete(agents::remove))
        .route("/v1/agents/{name}/rotate", post(agents::rotate))
        .route("/v1/agents/{name}/revoke", post(agents::revoke))
        .route("/v1/agents/{name}/approve", post(agents::approve))
        .route("/v1/agents/{name}/events", get(agents::events_of))
        .route("/v1/events", get(agents::events))
        .route("/v1/monitors", get(monitors::list))
        .route("/v1/monitors/apply", post(monitors::apply))
        .route("/v1/monitors/{name}/run", post(monitors::run))
        .route("/v1/monitors/{name}", get(monitors::show).delete(monitors::remove))
        .route("/v1/plugins", get(monitors::plugins))
        .route("/v1/results", get(results::list))
        .route("/v1/gaps", get(results::gaps))
        .route("/v1/alerts", get(alerts::list))
        .route("/v1/alerts/{id}", get(alerts::show))
        .route_layer(middleware::from_fn_with_state(control.clone(), reply::admin_only));
    let agent = Router::new()
        .route("/v1/enroll", post(uplink::enroll))
        .route("/v1/nonce", post(uplink::nonce))
        .route("/v1/hello", post(uplink::hello))
        .route("/v1/token/rotate", post(token::rotate))
        .route("/v1/recover/challenge", post(token::challenge))
        .route("/v1/recover", post(token::recover))
        .route("/v1/config", get(uplink::configuration))
        .route("/v1/results", post(uplink::results))
        .route("/v1/pushes", get(stream::pushes))
        .route("/v1/stream", get(stream::open));
    let public = Router::new()
        .route("/healthz", get(healthz))
        .route("/v1/openapi.json", get(async || Json(openapi())));
    admin
        .merge(agent)
        .merge(public)
        .merge(crate::page::router())
        .fallback(async || Failure(Problem::new(Problem::NOT_FOUND, "there is nothing at this path")))
        .layer(DefaultBodyLimit::max(wire::BODY_LIMIT))
        .with_state(control)
}

/// Whether the control plane answers.
#[utoipa::path(get, path = "/healthz", tag = "public", security(()), responses((status = 200, description = "it answers")))]
async fn healthz() -> impl IntoResponse {
    "ok\n"
}

/// The OpenAPI document, as it lies in `docs/openapi.json`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    for (name, description) in [("admin", ADMIN), ("agent", AGENT)] {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
        components.add_security_scheme(name, SecurityScheme::Http(bearer.build()));
    }
    document
}

const ADMIN: &str = "The admin token, which lies in `admin.token` in the data directory.";
const AGENT: &str = "The agent's active token. But for `/v1/nonce` the request is signed as well: `picket-agent`, `picket-generation`, \
                     `picket-lease`, `picket-counter` and `picket-signature`, and so is every answer.";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Picket control plane", description = "Errors are RFC 9457 problem details with a stable `code`."),
    paths(
        healthz,
        agents::list,
        agents::create,
        agents::remove,
        agents::rotate,
        agents::revoke,
        agents::approve,
        agents::events_of,
        agents::events,
        monitors::list,
        monitors::apply,
        monitors::show,
        monitors::remove,
        monitors::run,
        monitors::plugins,
        results::list,
        results::gaps,
        alerts::list,
        alerts::show,
        uplink::enroll,
        uplink::nonce,
        uplink::hello,
        token::rotate,
        token::challenge,
        token::recover,
        uplink::configuration,
        uplink::results,
        stream::pushes,
    ),
    components(schemas(wire::admin::MonitorSpec, wire::alert::ChannelSpec)),
    tags(
        (name = "admin", description = "For people and their tools."),
        (name = "agent", description = "For agents."),
        (name = "public", description = "For everybody."),
    ),
)]
struct Document;
