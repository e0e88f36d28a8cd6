//! The request of a hop as hyper sends it: what is configured, and what we say where nothing is. Pure.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};

use crate::http::hop::Hop;

/// An error says what cannot be sent.
pub(crate) fn request(hop: &Hop, two: bool) -> Result<hyper::Request<Full<Bytes>>, String> {
    let mut headers = HeaderMap::new();
    for header in &hop.headers {
        // Names were checked when the hop was made; a value may hold a secret and is never shown.
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| format!("{:?} is not a header's name", header.name))?;
        let mut value = HeaderValue::from_bytes(&header.value).map_err(|_| {
            format!("the value of the header {name} has a line break or another control character in it")
        })?;
        value.set_sensitive(header.sensitive);
        headers.append(name, value);
    }
    let host = authority(hop);
    let defaults = [
        ("host", host.as_str()),
        ("user-agent", USER_AGENT),
        ("accept", "*/*"),
        ("accept-encoding", ACCEPTED_CODINGS),
    ];
    for (name, value) in defaults.into_iter().chain((!two).then_some(("connection", "close"))) {
        if let (false, Ok(value)) = (headers.contains_key(name), HeaderValue::from_str(value)) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    // RFC 9110, section 8.6: some servers answer 411 to a request that may have a body and does not say that it has none.
    let may_have_a_body = [Method::POST, Method::PUT, Method::PATCH].contains(&hop.method);
    if may_have_a_body && hop.body.is_empty() && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let path = match hop.url.query() {
        Some(query) => format!("{}?{query}", hop.url.path()),
        None => hop.url.path().to_owned(),
    };
    let uri = match two {
        // RFC 9113, section 8.3.1: the host travels as :authority.
        true => {
            let host = headers.remove("host").map_or(host, |value| text(&value));
            for name in BOUND_TO_CONNECTION {
                headers.remove(name);
            }
            Uri::builder().scheme(hop.url.scheme()).authority(host).path_and_query(path).build()
        }
        false => Uri::builder().path_and_query(path).build(),
    };
    let mut request = hyper::Request::new(Full::new(hop.body.clone()));
    *request.method_mut() = hop.method.clone();
    *request.uri_mut() = uri.map_err(|e| format!("{} cannot be asked for: {e}", hop.url))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Host, and the port where it is not the scheme's own.
fn authority(hop: &Hop) -> String {
    let host = hop.url.host_str().unwrap_or_default();
    match hop.url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Bytes that are not UTF-8 replaced.
pub(crate) fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// What `body` decodes, as browsers ask for it: many servers send nothing else to anybody.
const ACCEPTED_CODINGS: &str = "gzip, deflate, br, zstd";
const USER_AGENT: &str = concat!("picket/", env!("CARGO_PKG_VERSION"));
/// RFC 9113, section 8.2.2.
const BOUND_TO_CONNECTION: [&str; 5] =
    ["connection", "proxy-connection", "transfer-encoding", "keep-alive", "upgrade"];
