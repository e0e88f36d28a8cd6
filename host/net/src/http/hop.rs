//! What is asked at one hop of an exchange, and what of it goes on to the next (RFC 9110, section 15.4). Pure.

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderName;
use url::Url;

use crate::rule::{Host, raw_host};
use crate::types::{Endpoint, Header, Request, TlsOptions, Trust};

/// One request to one URL.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Bytes,
    pub(crate) tls: TlsOptions,
}

impl Hop {
    /// The request as it was configured; an error says what to write instead.
    pub(crate) fn first(request: &Request) -> Result<Self, String> {
        let method =
            Method::from_bytes(request.method.as_bytes()).ok().filter(|method| method != Method::CONNECT);
        let method =
            method.ok_or_else(|| format!("{:?} is not a method; write one like GET", request.method))?;
        let url = Url::parse(&request.url)
            .map_err(|e| format!("the URL cannot be read: {e}; write one like https://example.com/"))?;
        checked(&url, &request.url).map_err(|reason| format!("{} {reason}", redacted(&url)))?;
        for header in &request.headers {
            HeaderName::from_bytes(header.name.as_bytes())
                .map_err(|_| format!("{:?} is not a header's name", header.name))?;
        }
        let tls = request.tls.clone().unwrap_or_default();
        let (headers, body) = (request.headers.clone(), request.body.clone().into());
        Ok(Self { method, url, headers, body, tls })
    }

    /// The hop that a redirect leads to. Credentials, a configured Host and a configured server name stay with their origin.
    pub(crate) fn follow(&self, status: u16, location: &str) -> Result<Self, String> {
        let url = self.url.join(location).map_err(|e| format!("to what is not a URL: {e}"))?;
        let written = if location.starts_with("//") {
            format!("{}:{location}", self.url.scheme())
        } else {
            location.to_owned()
        };
        checked(&url, &written).map_err(|reason| format!("to {}, which {reason}", redacted(&url)))?;
        let mut next = Self { url, ..self.clone() };
        let becomes_get = match status {
            303 => self.method != Method::GET && self.method != Method::HEAD,
            301 | 302 => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            next.method = Method::GET;
            next.body = Bytes::new();
            next.headers.retain(|header| !is_any(&header.name, &ABOUT_BODY));
        }
        if next.url.origin() != self.url.origin() {
            next.headers.retain(|header| !header.sensitive && !is_any(&header.name, &BOUND_TO_ORIGIN));
            next.tls.server_name = None;
        }
        Ok(next)
    }

    /// Why the hop may not be made at all: a handshake that verifies nobody gets no secrets, one that only records no data.
    pub(crate) fn refusal(&self) -> Option<String> {
        let at = self.endpoint();
        let secret = self.headers.iter().find(|header| header.sensitive);
        match (self.tls.trust, self.url.scheme(), secret) {
            (Trust::Recorded, "https", _) => {
                Some(format!("{at} would only be recorded: such a stream carries no data"))
            }
            (Trust::Unverified, "https", Some(header)) => Some(format!(
                "{at} is not verified, so it is not sent the secret in {}; verify the peer",
                header.name
            )),
            _ => None,
        }
    }

    /// Where to connect.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        Endpoint::new(host.trim_start_matches('[').trim_end_matches(']'), port)
    }
}

/// Whether a status is a redirect that is followed.
pub(crate) fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The URL parser makes an address of `0x7f.1` without a word; the host is judged as it was written.
fn checked(url: &Url, written: &str) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("is neither http nor https but {}", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or a password in it; write them as auth".to_owned());
    }
    if url.port() == Some(0) {
        return Err("has port 0".to_owned());
    }
    match raw_host(written) {
        Some(host) => host.parse::<Host>().map(drop).map_err(|e| format!("has no usable host: {e}")),
        None => Ok(()),
    }
}

/// Without what may hold a credential, for messages.
fn redacted(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

fn is_any(name: &str, names: &[&str]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other))
}

const ABOUT_BODY: [&str; 7] = [
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-location",
    "digest",
    "transfer-encoding",
];
const BOUND_TO_ORIGIN: [&str; 5] = ["authorization", "cookie", "proxy-authorization", "host", "x-api-key"];
