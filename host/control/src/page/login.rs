//! Who may see the page: whoever showed the admin token once in this browser. The cookie holds a session of its own, never the token.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde::Deserialize;
use wire::signature::token_sha256;

use super::frame;
use crate::control::{Control, lock};
use crate::identity;

/// The sessions of browsers, by the hash of what the cookie holds. In memory: a restart asks for the token again.
#[derive(Debug, Default)]
pub(crate) struct Logins(HashMap<String, u64>);

impl Logins {
    fn enter(&mut self, session: &str, up_ms: u64) {
        self.0.retain(|_, until| *until > up_ms);
        self.0.insert(token_sha256(session), up_ms + SESSION_MS);
    }

    fn is_in(&self, session: &str, up_ms: u64) -> bool {
        self.0.get(&token_sha256(session)).is_some_and(|until| *until > up_ms)
    }

    fn leave(&mut self, session: &str) {
        self.0.remove(&token_sha256(session));
    }
}

#[derive(Deserialize)]
pub(super) struct Shown {
    token: String,
}

pub(super) async fn submit(State(control): State<Arc<Control>>, Form(shown): Form<Shown>) -> Response {
    enter(&control, &shown.token)
}

/// Begins a session for whoever shows the admin token.
pub(super) fn enter(control: &Control, token: &str) -> Response {
    if !control.parts.keys.is_admin(token.trim()) {
        return form(StatusCode::UNAUTHORIZED, Some("This is not the admin token.")).into_response();
    }
    let session = identity::token("");
    lock(&control.logins).enter(&session, control.now().up_ms);
    let secure = if control.parts.secure { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}{secure}",
        SESSION_MS / 1000
    );
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

pub(super) async fn leave(State(control): State<Arc<Control>>, headers: HeaderMap) -> Response {
    if let Some(session) = cookie(&headers) {
        lock(&control.logins).leave(session);
    }
    let cookie = format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

/// Whether this browser may see the page.
pub(super) fn is_in(control: &Control, headers: &HeaderMap) -> bool {
    cookie(headers).is_some_and(|session| lock(&control.logins).is_in(session, control.now().up_ms))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let mut pairs = all.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// Asks for the admin token.
pub(super) fn form(status: StatusCode, wrong: Option<&str>) -> impl IntoResponse {
    let body = html! {
        form.login method="post" action="/login" {
            label for="token" { "Admin token" }
            input #token type="password" name="token" required autofocus autocomplete="current-password"
                aria-describedby="where";
            p #where.quiet { "It lies in " code { "admin.token" } " in the control plane's data directory." }
            @if let Some(wrong) = wrong { p.wrong role="alert" { (wrong) } }
            button type="submit" { "Show me" }
        }
    };
    (status, frame::page("Picket", None, &body))
}

/// What the browser may do with the page: nothing but show it.
pub(super) async fn harden(mut response: Response) -> Response {
    let policy =
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}

const COOKIE: &str = "picket-session";

/// Half a day.
const SESSION_MS: u64 = 12 * 3600 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_after_half_a_day_or_when_it_is_left() {
        let mut logins = Logins::default();
        logins.enter("a", 0);
        assert!(logins.is_in("a", SESSION_MS - 1) && !logins.is_in("a", SESSION_MS));
        assert!(!logins.is_in("b", 0));
        logins.leave("a");
        assert!(!logins.is_in("a", 0));
    }
}
