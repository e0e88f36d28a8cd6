//! What a request authenticates with: its options, and the handles of the secrets, which the host puts into headers. No secret's bytes
//! come here, and no token's.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use sdk::config::TextOrSecret;
use sdk::http::HeaderValue;
use sdk::net::Family;
use sdk::{Failure, Outcome, Secret, Stop, oauth2, secrets};
use serde::{Deserialize, Serialize};

use crate::Config;

/// How a request authenticates.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A user name and a password (RFC 7617).
    Basic(Basic),
    /// A token (RFC 6750).
    Bearer(Bearer),
    /// A token that a client gets for itself before each run (RFC 6749, section 4.4).
    Oauth2(Box<OAuth2>),
}

/// A user name and a password (RFC 7617).
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Basic {
    /// The user name, without a colon.
    #[schemars(regex(pattern = "^[^:]*$"))]
    username: String,
    /// The password: `{"$secret": name}`.
    password: Secret,
}

/// A token (RFC 6750).
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bearer {
    /// The token: `{"$secret": name}`.
    token: Secret,
}

/// A token that a client gets for itself (RFC 6749, section 4.4).
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OAuth2 {
    /// The token endpoint, http or https; of the monitor's `tls` all but `server_name` counts for it too, and `cert` only where it has
    /// host and port of `url`. It is asked in every run and not redirected.
    #[schemars(regex(pattern = "^https?://[^/?#@]+([/?#].*)?$"), extend("x-picket-target" = "url", "x-picket-beside" = true))]
    token_url: String,
    /// The client's identifier.
    #[schemars(length(min = 1))]
    client_id: String,
    /// The client's secret: `{"$secret": name}`.
    client_secret: Secret,
    /// What the token shall be good for. None unless set: the server decides.
    #[serde(default)]
    scopes: Vec<String>,
    /// More parameters of the request, name to value, such as `audience`. None unless set.
    #[serde(default)]
    endpoint_params: BTreeMap<String, String>,
    /// How the client proves itself (RFC 6749, section 2.3.1): `basic` in a header, or `body`. `basic` unless set: every server
    /// must take it.
    #[serde(default)]
    auth_style: AuthStyle,
}

/// How a client proves itself.
#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum AuthStyle {
    /// HTTP Basic.
    #[default]
    Basic,
    /// `client_id` and `client_secret` in the body.
    Body,
}

/// Handles of the secrets, kept open as long as the request names them.
pub(crate) struct Credentials {
    auth: Option<secrets::Secret>,
    headers: BTreeMap<String, secrets::Secret>,
}

impl Credentials {
    /// Gets a token where one is asked for: that is an exchange of its own.
    pub(crate) fn open(config: &Config) -> Result<Self, Stop> {
        let auth = match &config.auth {
            Some(Auth::Basic(basic)) => Some(basic.password.open()?),
            Some(Auth::Bearer(bearer)) => Some(bearer.token.open()?),
            Some(Auth::Oauth2(client)) => Some(client.token()?),
            None => None,
        };
        let mut headers = BTreeMap::new();
        for (name, value) in &config.headers {
            if let TextOrSecret::Secret(secret) = value {
                headers.insert(name.clone(), secret.open()?);
            }
        }
        Ok(Self { auth, headers })
    }

    /// All headers of the request.
    pub(crate) fn headers<'a>(&'a self, config: &'a Config) -> Vec<(String, HeaderValue<'a>)> {
        let mut headers = Vec::new();
        let text = |text: &str| HeaderValue::Text(text.to_owned());
        if !named(config, "user-agent") {
            headers.push(("user-agent".to_owned(), text(&config.user_agent)));
        }
        if let Some(host) = &config.host {
            headers.push(("host".to_owned(), text(host)));
        }
        if config.keep_alive {
            headers.push(("connection".to_owned(), text("keep-alive")));
        }
        match (&config.auth, &self.auth) {
            (Some(Auth::Basic(basic)), Some(password)) => {
                headers
                    .push(("authorization".into(), HeaderValue::Basic((basic.username.clone(), password))));
            }
            (_, Some(token)) => headers.push(("authorization".into(), HeaderValue::Bearer(token))),
            (_, None) => {}
        }
        for (name, value) in &config.headers {
            let value = match value {
                TextOrSecret::Text(text) => HeaderValue::Text(text.clone()),
                TextOrSecret::Secret(_) => HeaderValue::Secret(&self.headers[name]),
            };
            headers.push((name.clone(), value));
        }
        headers
    }
}

impl OAuth2 {
    fn token(&self) -> Result<secrets::Secret, Stop> {
        let secret = self.client_secret.open()?;
        let token = oauth2::token(&oauth2::TokenRequest {
            url: self.token_url.clone(),
            client_id: self.client_id.clone(),
            client_secret: &secret,
            scopes: self.scopes.clone(),
            parameters: self.endpoint_params.clone().into_iter().collect(),
            proof: match self.auth_style {
                AuthStyle::Basic => oauth2::Proof::Basic,
                AuthStyle::Body => oauth2::Proof::Body,
            },
            family: Family::Any,
            tls: None,
        });
        token.map_err(|refusal| match refusal {
            oauth2::Refusal::Failed(mut error) => {
                error.message = format!("no token: {}", error.message);
                error.stop("oauth2")
            }
            oauth2::Refusal::Refused((status, reason)) => {
                let summary = format!("no token from {}: status {status}, {reason}", self.token_url);
                match refuses_us(status, &reason) {
                    true => Failure::Permission(summary).into(),
                    false => Outcome::down("oauth2.refused", summary).into(),
                }
            }
        })
    }
}

/// Whether an endpoint that works does not let this client have what it asks for, which says nothing about the page: a status that means
/// nothing else, or one of the words of RFC 6749, section 5.2.
fn refuses_us(status: u16, reason: &str) -> bool {
    let word = reason.split(':').next().unwrap_or_default();
    matches!(status, 401 | 403) || status == 400 && REFUSALS.contains(&word)
}

const REFUSALS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// What a request can carry is known before anything is sent.
pub(crate) fn can_be_sent(config: &Config) -> Result<(), Stop> {
    let control = |text: &str| text.bytes().any(|c| c.is_ascii_control() && c != b'\t');
    let line = "found a line break or another control character, write a value of one line";
    let headers = config.headers.iter().filter_map(|(name, value)| {
        let is_token = !name.is_empty()
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c));
        let framing =
            ["content-length", "transfer-encoding"].iter().any(|own| name.eq_ignore_ascii_case(own));
        let mistake = match value {
            _ if !is_token => "not a header's name: write letters, digits and -, such as X-Request-Id",
            _ if framing => {
                "made from `body`: a server would wait for what it promises and does not get; leave it out"
            }
            TextOrSecret::Text(text) if control(text) => line,
            _ => return None,
        };
        let at = format!("/headers/{}", name.replace('~', "~0").replace('/', "~1"));
        Some(Err(Stop::mistake(&at, mistake)))
    });
    let host = config.host.as_deref().is_some_and(|host| control(host) || host.contains(' '));
    let host = host.then(|| {
        Err(Stop::mistake(
            "/host",
            "found a blank or a control character, write a name, with a port where it has one",
        ))
    });
    let agent = control(&config.user_agent).then(|| Err(Stop::mistake("/user_agent", line)));
    sdk::mistakes(headers.chain(host).chain(agent))
}

/// Each of these headers has one maker.
pub(crate) fn one_maker(config: &Config) -> Result<(), Stop> {
    let made = [
        ("authorization", "auth", config.auth.is_some()),
        ("host", "host", config.host.is_some()),
        ("connection", "keep_alive", config.keep_alive),
    ];
    match made.iter().find(|(header, _, made)| *made && named(config, header)) {
        Some((header, option, _)) => Err(Stop::mistake(
            "/headers",
            format!("`{header}` is also made by `{option}`: write only one of them"),
        )),
        None => Ok(()),
    }
}

fn named(config: &Config, header: &str) -> bool {
    config.headers.keys().any(|name| name.eq_ignore_ascii_case(header))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_client_that_is_refused_is_told_from_an_endpoint_that_fails() {
        for (status, reason, ours) in [
            (401, "invalid_client: nobody knows it", true),
            (403, "no token", true),
            (400, "invalid_scope", true),
            (400, "no token", false),
            (400, "temporarily_unavailable: later", false),
            (200, "invalid_client", false),
            (307, "no token", false),
            (503, "no token", false),
        ] {
            assert_eq!(refuses_us(status, reason), ours, "{status} {reason}");
        }
    }

    #[test]
    fn a_header_has_one_maker() {
        let basic = json!({"basic": {"username": "a", "password": {"$secret": "b"}}});
        for (header, option, value) in [
            ("Authorization", "auth", basic),
            ("HOST", "host", json!("shop")),
            ("connection", "keep_alive", json!(true)),
        ] {
            let mut config = json!({"url": "http://shop/", "headers": {header: "x"}});
            one_maker(&serde_json::from_value(config.clone()).unwrap()).unwrap();
            config[option] = value;
            let stop = one_maker(&serde_json::from_value(config).unwrap()).unwrap_err();
            let header = header.to_lowercase();
            let message = format!("`{header}` is also made by `{option}`: write only one of them");
            assert_eq!(stop, Stop::mistake("/headers", message));
        }
    }
}
