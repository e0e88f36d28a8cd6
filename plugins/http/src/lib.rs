//! The http check: one request, redirects followed, assertions on the last response. This file owns the configuration and the
//! exchange; `judge.rs` owns the verdict.

mod judge;
mod status;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use judge::Facts;
use schemars::JsonSchema;
use sdk::config::TextOrSecret;
use sdk::http::{self, HeaderValue, Request, Response};
use sdk::net::Family;
use sdk::{At, Context, Outcome, Secret, State, Stop, secrets};
use serde::{Deserialize, Serialize};
use status::StatusRanges;

/// What to ask for, and what the answer must be like.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What to ask for, http or https, without user name and password.
    #[schemars(regex(pattern = "^https?://[^/?#@]+([/?#].*)?$"), extend("x-picket-target" = "url"))]
    url: String,
    /// The request's method. GET unless set.
    #[serde(default = "method")]
    #[schemars(regex(pattern = "^[A-Z]+$"))]
    method: String,
    /// Headers of the request, name to value; a value may be a secret. Those with secrets are dropped when a redirect leads to
    /// another origin. None unless set.
    #[serde(default)]
    headers: BTreeMap<String, TextOrSecret>,
    /// The request's body. None unless set.
    body: Option<String>,
    /// How the request authenticates. Unset, it does not.
    auth: Option<Auth>,
    /// Status codes of a healthy response: a code, "200-299", or a list of codes and ranges. "200-299" unless set.
    #[serde(default = "StatusRanges::success")]
    valid_status_codes: StatusRanges,
    /// A text that the body must contain, in what is kept of it. Unset, the body is not looked at.
    #[schemars(length(min = 1))]
    keyword: Option<String>,
    /// A text that the body must not contain, in what is kept of it. Unset, the body is not looked at.
    #[schemars(length(min = 1))]
    keyword_absent: Option<String>,
    /// Whether upper and lower case differ in `keyword` and `keyword_absent`. True unless set.
    #[serde(default = "yes")]
    case_sensitive: bool,
    /// Whether redirects are followed; the assertions are made on the last response. True unless set.
    #[serde(default = "yes")]
    follow_redirects: bool,
    /// How many redirects are followed at most, 0 to 20; one more is judged as a response. 10 unless set: a chain of moved
    /// addresses is shorter, a loop is not.
    #[serde(default = "max_redirects")]
    #[schemars(range(max = 20))]
    max_redirects: u8,
    /// Bytes of the decoded body that are kept, 1 to 4194304. 1048576 (1 MiB) unless set: pages are smaller, and downloads need no
    /// keyword.
    #[serde(default = "body_size_limit")]
    #[schemars(range(min = 1, max = 4_194_304))]
    body_size_limit: u32,
    /// What becomes of a longer body: `truncate` looks at what is kept, `fail` is down. `truncate` unless set.
    #[serde(default)]
    on_body_too_large: OnBodyTooLarge,
    /// Degraded when a certificate of the verified chain expires in fewer days than this, 0 to 3650; 0 never. 14 unless set.
    #[serde(default = "cert_expiry_days")]
    #[schemars(range(max = 3650))]
    cert_expiry_days: u32,
    /// Degraded when the exchange, redirects included, takes longer: "800ms", "2s". Unset, slowness is not judged.
    degraded_after: Option<sdk::Duration>,
    /// How TLS is spoken with https. Unset, the system's authorities verify the host's name.
    tls: Option<sdk::Tls>,
    /// The User-Agent header unless `headers` has one. "picket" unless set.
    #[serde(default = "user_agent")]
    user_agent: String,
    /// Down when the last response came over TLS. False unless set.
    #[serde(default)]
    fail_if_ssl: bool,
    /// Down when the last response came without TLS. False unless set.
    #[serde(default)]
    fail_if_not_ssl: bool,
}

/// How a request authenticates.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Auth {
    /// A user name and a password (RFC 7617).
    Basic(Basic),
    /// A token (RFC 6750).
    Bearer(Bearer),
}

/// A user name and a password (RFC 7617).
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Basic {
    /// The user name, without a colon.
    #[schemars(regex(pattern = "^[^:]*$"))]
    username: String,
    /// The password: `{"$secret": name}`.
    password: Secret,
}

/// A token (RFC 6750).
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Bearer {
    /// The token: `{"$secret": name}`.
    token: Secret,
}

/// What becomes of a body over the limit.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnBodyTooLarge {
    /// What is kept is looked at.
    #[default]
    Truncate,
    /// The target is down.
    Fail,
}

fn method() -> String {
    "GET".into()
}

fn yes() -> bool {
    true
}

fn max_redirects() -> u8 {
    10
}

fn body_size_limit() -> u32 {
    1 << 20
}

fn cert_expiry_days() -> u32 {
    14
}

fn user_agent() -> String {
    "picket".into()
}

sdk::check! {
    name: "http",
    summary: "An HTTP or HTTPS address answers with the right status and content.",
    config: Config,
    metrics: [
        ("http.status", "1", "status code of the last response"),
        ("http.redirects", "1", "redirects that were followed"),
        ("http.certificate_days", "d", "days until the first certificate of the verified chain expires"),
    ],
    run: run,
}

fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    let credentials = Credentials::open(&config)?;
    let response = http::send(&Request {
        method: config.method.clone(),
        url: config.url.clone(),
        headers: credentials.headers(&config),
        body: config.body.clone().unwrap_or_default().into_bytes(),
        versions: Vec::new(),
        family: Family::Any,
        tls: config.tls.as_ref().map(sdk::Tls::options),
        max_redirects: if config.follow_redirects { config.max_redirects } else { 0 },
        max_body: config.body_size_limit,
    })
    .at("http")?;
    let outcome = judge::judge(&config, &facts(&config, &response), now());
    Ok(match outcome.state {
        State::Down => outcome.evidence(&response.body().0),
        _ => outcome,
    })
}

/// Handles of the secrets, kept open as long as the request names them.
struct Credentials {
    auth: Option<secrets::Secret>,
    headers: BTreeMap<String, secrets::Secret>,
}

impl Credentials {
    fn open(config: &Config) -> Result<Self, Stop> {
        let auth = match &config.auth {
            Some(Auth::Basic(basic)) => Some(basic.password.open()?),
            Some(Auth::Bearer(bearer)) => Some(bearer.token.open()?),
            None => None,
        };
        if auth.is_some() && named(config, "authorization") {
            return Err(Stop::mistake(
                "/headers",
                "`authorization` is also made by `auth`: write only one of them",
            ));
        }
        let mut headers = BTreeMap::new();
        for (name, value) in &config.headers {
            if let TextOrSecret::Secret(secret) = value {
                headers.insert(name.clone(), secret.open()?);
            }
        }
        Ok(Self { auth, headers })
    }

    fn headers<'a>(&'a self, config: &'a Config) -> Vec<(String, HeaderValue<'a>)> {
        let mut headers = Vec::new();
        if !named(config, "user-agent") {
            headers.push(("user-agent".to_owned(), HeaderValue::Text(config.user_agent.clone())));
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

fn named(config: &Config, header: &str) -> bool {
    config.headers.keys().any(|name| name.eq_ignore_ascii_case(header))
}

/// Asks the host only for what an assertion needs: the body stays there.
fn facts(config: &Config, response: &Response) -> Facts {
    let contains = |text: &String| response.contains(text, !config.case_sensitive);
    let session = response.session();
    let verified = session.as_ref().and_then(|session| session.verified().ok());
    Facts {
        status: response.status(),
        version: response.version(),
        hops: response.hops(),
        keyword: config.keyword.as_ref().map(contains),
        keyword_absent: config.keyword_absent.as_ref().map(contains),
        too_large: config.on_body_too_large == OnBodyTooLarge::Fail && response.body().1,
        encrypted: session.is_some(),
        certificate: verified.and_then(|chain| judge::first_to_expire(&chain)),
        took: std::time::Duration::from_micros(response.timings().total_us),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
