//! The agent's door to the control plane: one HTTPS exchange, bounded in time and size, without redirects, or one that becomes a
//! stream. It judges no answer.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method, StatusCode, Upgraded, Url};
use wire::BODY_LIMIT;
use wire::config;
use wire::signature::header;

use super::names::Names;
use super::proxy::{Chosen, Proxy};
use super::retry_after;
use crate::{Error, clock};

/// Speaks to one control plane.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    /// HTTP/1.1 only, which is where a connection can be upgraded.
    upgrading: reqwest::Client,
    base: Url,
    proxy: Option<Chosen>,
}

/// One request.
pub(crate) struct Request {
    /// GET or POST.
    pub(crate) method: Method,
    /// With the query.
    pub(crate) path: String,
    /// Beside `content-type`.
    pub(crate) headers: HeaderMap,
    /// JSON, or nothing.
    pub(crate) body: Vec<u8>,
    /// Bytes of the answer's body at most.
    pub(crate) limit: usize,
    /// For all of it, from the name's lookup to the answer's last byte.
    pub(crate) within: Duration,
}

/// What became of a request to switch protocols.
pub(crate) enum Switched {
    /// They were switched: whoever is there speaks WebSocket from now on.
    Open(Upgraded),
    /// Whatever answered instead.
    Refused(Answer),
}

/// Whatever answered. Who it was says the signature, if anything.
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// The ETag header, or "".
    pub(crate) etag: String,
    /// The signature header, or "".
    pub(crate) signature: String,
    /// How long it asks to wait before another attempt.
    pub(crate) retry_after: Option<Duration>,
    /// The content type, or "".
    pub(crate) content_type: String,
    /// At most as many bytes as the request allows.
    pub(crate) body: Vec<u8>,
}

impl Transport {
    /// Prepares exchanges with `base`: `https://`, or `http://` where it does not leave the machine.
    pub(crate) fn new(base: &Url, ca_file: Option<&Path>, proxy: &Proxy) -> Result<Self, Error> {
        let loopback = check(base)?;
        let proxy = proxy.choose(base, loopback, Matcher::from_env)?;
        if let Some(proxy) = &proxy {
            tracing::info!(proxy = proxy.address(), "the control plane is reached by a proxy");
        }
        let names = Names::default();
        let builder = || {
            let mut builder = reqwest::Client::builder()
                .dns_resolver(names.clone())
                .connect_timeout(CONNECT)
                .redirect(Policy::none())
                .no_gzip()
                .no_zstd()
                .tcp_keepalive(CONNECT)
                .pool_idle_timeout(IDLE)
                .no_proxy()
                .user_agent(concat!("picket-agent/", env!("CARGO_PKG_VERSION")));
            if base.scheme() == "http" && proxy.as_ref().is_none_or(|proxy| proxy.url.scheme() == "http") {
                // No certificate is ever looked at: do not read the system's, which an image without any could not give.
                builder = builder.tls_certs_only([]);
            }
            if let Some(path) = ca_file {
                builder = builder.tls_certs_merge(authorities(path)?);
            }
            if let Some(Chosen { url, credentials }) = &proxy {
                let mut hop = reqwest::Proxy::all(url.clone()).map_err(|e| Error::Usage(chain(&e)))?;
                if let Some(credentials) = credentials {
                    hop = hop.custom_http_auth(credentials.clone());
                }
                builder = builder.proxy(hop);
            }
            Ok(builder)
        };
        let built = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|e| {
                Error::Usage(format!(
                    "cannot speak TLS to {base}: {}; give certificate authorities with --ca-file",
                    chain(&e)
                ))
            })
        };
        let http = built(builder()?)?;
        let upgrading = built(builder()?.http1_only().pool_max_idle_per_host(0))?;
        Ok(Self { http, upgrading, base: base.clone(), proxy })
    }

    /// The control plane's address, for messages.
    pub(crate) fn control(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// One exchange; an error is one line for a person. Dropping the future cuts the connection.
    pub(crate) async fn exchange(&self, request: Request) -> Result<Answer, String> {
        let limit = request.limit;
        self.read(self.send(&self.http, request).await?, limit).await
    }

    /// One exchange that asks to switch protocols, on a connection of its own.
    pub(crate) async fn upgrade(&self, request: Request) -> Result<Switched, String> {
        let limit = request.limit;
        let incoming = self.send(&self.upgrading, request).await?;
        if incoming.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.read(incoming, limit).await.map(Switched::Refused);
        }
        incoming.upgrade().await.map(Switched::Open).map_err(|e| self.explain(&e.without_url()))
    }

    async fn send(&self, http: &reqwest::Client, request: Request) -> Result<reqwest::Response, String> {
        let url = self.base.join(&request.path).map_err(|e| e.to_string())?;
        let mut outgoing = http.request(request.method, url).headers(request.headers).timeout(request.within);
        if !request.body.is_empty() {
            outgoing = outgoing.header(CONTENT_TYPE, "application/json").body(request.body);
        }
        outgoing.send().await.map_err(|e| self.explain(&e.without_url()))
    }

    async fn read(&self, mut incoming: reqwest::Response, limit: usize) -> Result<Answer, String> {
        // A control plane never says so.
        if let (Some(proxy), StatusCode::PROXY_AUTHENTICATION_REQUIRED) = (&self.proxy, incoming.status()) {
            return Err(proxy.unauthorized());
        }
        let text = |name: &str| {
            let value = incoming.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let mut answer = Answer {
            status: incoming.status().as_u16(),
            etag: text(ETAG.as_str()),
            signature: text(header::SIGNATURE),
            retry_after: retry_after::asked(&text(RETRY_AFTER.as_str()), &text(DATE.as_str())),
            content_type: text(CONTENT_TYPE.as_str()),
            body: Vec::new(),
        };
        while let Some(chunk) = incoming.chunk().await.map_err(|e| self.explain(&e.without_url()))? {
            if answer.body.len() + chunk.len() > limit {
                return Err(format!("the answer is larger than {limit} bytes"));
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    fn explain(&self, error: &reqwest::Error) -> String {
        let text = chain(error);
        self.proxy.as_ref().and_then(|proxy| proxy.explain(&text)).unwrap_or(text)
    }
}

impl Request {
    /// A request without headers.
    pub(crate) fn new(method: Method, path: &str, body: Vec<u8>, within: Duration) -> Self {
        Self { method, path: path.to_owned(), headers: HeaderMap::new(), body, limit: BODY_LIMIT, within }
    }

    /// Asks for a configuration, which may be long, and may come packed.
    pub(crate) fn configuration(self) -> Self {
        Self { limit: config::LIMIT, ..self }.with(ACCEPT.as_str(), config::PACKED)
    }

    /// Adds a header of ours.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, ascii(value));
        self
    }

    /// Adds the token, marked so that nobody prints it.
    pub(crate) fn with_token(mut self, token: &str) -> Self {
        let mut value = ascii(&format!("Bearer {token}"));
        value.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, value);
        self
    }

    /// Asks to switch to WebSocket. The key is a formality of RFC 6455: what answers proves itself by its signature.
    pub(crate) fn upgrading(self, key: &[u8; 16]) -> Self {
        use base64::Engine as _;
        self.with("connection", "upgrade")
            .with("upgrade", "websocket")
            .with("sec-websocket-version", "13")
            .with("sec-websocket-key", &base64::engine::general_purpose::STANDARD.encode(key))
    }

    /// Asks for a change only. An ETag that is no header value asks for everything.
    pub(crate) fn if_changed(mut self, etag: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(etag) {
            self.headers.insert(IF_NONE_MATCH, value);
        }
        self
    }
}

/// Whether the address stays on this machine; an error when it may not be used.
fn check(base: &Url) -> Result<bool, Error> {
    let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let problem = match base.scheme() {
        _ if !matches!(base.path(), "" | "/") || base.query().is_some() => {
            "expected an address without a path"
        }
        _ if !base.username().is_empty() || base.password().is_some() => {
            "expected an address without user and password"
        }
        "https" => return Ok(loopback),
        "http" if loopback => return Ok(loopback),
        "http" => "plain http is for loopback addresses only: write https://",
        _ => "expected https://host:port",
    };
    Err(Error::Usage(format!("control plane {}: {problem}", shown(base))))
}

/// Without user and password.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, Error> {
    let usage =
        |problem: String| Error::Usage(format!("certificate authorities in {}: {problem}", path.display()));
    let pem = std::fs::read(path).map_err(|e| usage(e.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|e| usage(chain(&e)))?;
    if found.is_empty() {
        return Err(usage("found no certificate, expected PEM".to_owned()));
    }
    Ok(found)
}

fn ascii(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("invalid"))
}

/// The error and its causes in one line, each said once.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    // Rarely a forgery: a machine whose clock stands in the past finds every certificate too young.
    if text.contains("certificate not valid yet") {
        text = format!("clock: this machine's clock says {}, is it right? {text}", clock::wall());
    }
    text
}

const CONNECT: Duration = Duration::from_secs(5);
/// Two heartbeats: a connection that rested longer, as behind a backoff, may have been given up by somebody in between without a word.
const IDLE: Duration = Duration::from_secs(2 * wire::HEARTBEAT_S);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_does_not_leave_the_machine() {
        for (url, loopback) in [
            ("http://127.0.0.1:8440", Some(true)),
            ("http://[::1]:8440/", Some(true)),
            ("http://localhost", Some(true)),
            ("https://127.0.0.1:8440", Some(true)),
            ("https://picket.example.com", Some(false)),
            ("http://picket.example.com", None),
            ("http://127.0.0.1.example.com", None),
            ("http://10.0.0.1:8440", None),
            ("https://picket.example.com/path", None),
            ("https://user:hunter2@picket.example.com", None),
            ("ftp://127.0.0.1", None),
        ] {
            let result = check(&Url::parse(url).unwrap());
            assert_eq!(result.as_ref().ok().copied(), loopback, "{url}");
            if let Err(error) = result {
                assert_eq!(error.exit_code(), 64);
                assert!(!error.to_string().contains("hunter2"), "{error}");
            }
        }
    }
}
