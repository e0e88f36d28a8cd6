//! The http check: one request, redirects followed, assertions on the last response. This file owns the configuration and the
//! exchange; `facts.rs` owns what the exchange found, `judge.rs` the verdict, `patterns.rs` and `json.rs` what is asked of the content,
//! `credentials.rs` what the request authenticates with.

mod credentials;
mod facts;
mod json;
mod judge;
mod patterns;
mod status;

use std::collections::BTreeMap;

use credentials::{Auth, Credentials};
use facts::Facts;
use patterns::{Assertions, HeaderPattern};
use schemars::JsonSchema;
use sdk::config::TextOrSecret;
use sdk::http::{self, Request};
use sdk::net::Family;
use sdk::{At, Context, Outcome, State, Stop};
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
    /// The Host header, and with it the virtual host; dropped when a redirect leads to another origin. TLS asks for and verifies
    /// the URL's host all the same. Unset, the URL's own.
    #[schemars(length(min = 1, max = 255))]
    host: Option<String>,
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
    /// Regular expressions, one of which must match somewhere in what is kept of the body: the syntax of Rust's regex crate,
    /// Unicode included, "(?i)" in front for either case. None unless set.
    #[serde(default)]
    body_matches: Vec<String>,
    /// Regular expressions, none of which may match anywhere in what is kept of the body. None unless set.
    #[serde(default)]
    body_not_matches: Vec<String>,
    /// Headers of the response that must match: of each, one of its values. None unless set.
    #[serde(default)]
    header_matches: Vec<HeaderPattern>,
    /// Headers of the response of which no value may match. None unless set.
    #[serde(default)]
    header_not_matches: Vec<HeaderPattern>,
    /// Assertions on the body as JSON; a body that is not JSON, or was cut off at `body_size_limit`, fails. None unless set.
    #[serde(default)]
    json: Vec<json::Rule>,
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
    /// Versions of HTTP that the response may have; with 2 alone, http is spoken as HTTP/2 from the first byte. Any unless set.
    #[serde(default)]
    http_versions: Vec<Version>,
    /// Whether HTTP/2 is offered in the TLS handshake. True unless set.
    #[serde(default = "yes")]
    enable_http2: bool,
    /// Whether a redirect within an origin goes over the connection that is open, as in a browser; a run always begins with a
    /// fresh one. False unless set: a probe tries what a new visitor meets.
    #[serde(default)]
    keep_alive: bool,
    /// What becomes of a longer body: `truncate` looks at what is kept, `fail` is down. `truncate` unless set.
    #[serde(default)]
    on_body_too_large: OnBodyTooLarge,
    /// Degraded when a certificate of the verified chain expires in fewer days than this, 0 to 3650; 0 never. 14 unless set.
    #[serde(default = "cert_expiry_days")]
    #[schemars(range(max = 3650))]
    cert_expiry_days: u32,
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

/// A version of HTTP.
#[derive(Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
enum Version {
    /// RFC 1945.
    #[serde(rename = "1.0")]
    One,
    /// RFC 9112.
    #[serde(rename = "1.1")]
    OneOne,
    /// RFC 9113.
    #[serde(rename = "2")]
    Two,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Self::One => "1.0",
            Self::OneOne => "1.1",
            Self::Two => "2",
        }
    }
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
    examples: [
        r#"{"url": "https://shop.example.com/", "keyword": "Welcome"}"#,
        r#"{"url": "http://intranet.example.com:8080/health", "valid_status_codes": "200"}"#,
        r#"{"url": "https://api.example.com/v1/status", "auth": {"bearer": {"token": {"$secret": "api-token"}}}}"#,
    ],
    validate: validate,
    run: run,
}

fn validate(config: &Config) -> Result<(), Stop> {
    sdk::mistakes([
        spoken(config).map(drop),
        credentials::one_maker(config),
        credentials::can_be_sent(config),
        Assertions::read(config).map(drop),
        json::Rules::read(&config.json).map(drop),
    ])
}

fn run(config: Config, _: &Context) -> Result<Outcome, Stop> {
    let versions = spoken(&config)?;
    credentials::one_maker(&config)?;
    credentials::can_be_sent(&config)?;
    let assertions = Assertions::read(&config)?;
    let rules = json::Rules::read(&config.json)?;
    let credentials = Credentials::open(&config)?;
    let response = http::send(&Request {
        method: config.method.clone(),
        url: config.url.clone(),
        headers: credentials.headers(&config),
        body: config.body.clone().unwrap_or_default().into_bytes(),
        versions,
        family: Family::Any,
        tls: None,
        max_redirects: if config.follow_redirects { config.max_redirects } else { 0 },
        max_body: config.body_size_limit,
    })
    .at("http")?;
    let facts = Facts::ask(&config, &assertions, &rules, &response)?;
    let outcome = judge::judge(&config, &facts);
    Ok(match outcome.state {
        State::Down => outcome.evidence(&response.beginning(EVIDENCE)),
        _ => outcome,
    })
}

/// What the host may speak; all that it can when empty.
fn spoken(config: &Config) -> Result<Vec<String>, Stop> {
    let two = |versions: &[Version]| versions.contains(&Version::Two);
    match (config.http_versions.as_slice(), config.enable_http2) {
        (versions, false) if two(versions) => Err(Stop::mistake(
            "/http_versions",
            "2 cannot be spoken without `enable_http2`: write only one of them",
        )),
        ([Version::Two], true) if !config.url.starts_with("https:") => Ok(vec!["2".into()]),
        ([], true) => Ok(Vec::new()),
        (versions, true) if two(versions) => Ok(Vec::new()),
        _ => Ok(vec!["1.1".into()]),
    }
}

/// Bytes of the body that are asked for to show them of a target that is down.
const EVIDENCE: u32 = sdk::EVIDENCE as u32;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(options: Value, versions: &[&str]) {
        let config = serde_json::from_value(options.clone()).unwrap();
        assert_eq!(spoken(&config).unwrap(), versions, "{options}");
    }

    #[test]
    fn what_is_spoken_follows_from_what_is_wanted() {
        let (http, https) = ("http://shop/", "https://shop/");
        check(json!({"url": https}), &[]);
        check(json!({"url": https, "enable_http2": false}), &["1.1"]);
        check(json!({"url": https, "http_versions": ["1.0", "1.1"]}), &["1.1"]);
        check(json!({"url": https, "http_versions": ["1.1", "2"]}), &[]);
        // Whatever the server chooses is judged.
        check(json!({"url": https, "http_versions": ["2"]}), &[]);
        check(json!({"url": http, "http_versions": ["2"]}), &["2"]);
    }

    #[test]
    fn two_wishes_against_each_other_are_a_mistake() {
        let config = json!({"url": "https://shop/", "http_versions": ["2"], "enable_http2": false});
        let stop = spoken(&serde_json::from_value(config).unwrap()).unwrap_err();
        let expected = "2 cannot be spoken without `enable_http2`: write only one of them";
        assert_eq!(stop, Stop::mistake("/http_versions", expected));
    }
}
