//! What is asked at one hop of an exchange, and what of it goes on to the next (RFC 9110, section 15.4). Pure.

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderName;
use url::Url;

use crate::grant::Purpose;
use crate::host::{Host, raw_host};
use crate::types::{Endpoint, Header, Request, TlsOptions, Trust};

/// Why there can be no such hop, in words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// The host is spelled so that nobody knows which address is meant.
    Host(String),
    /// Anything else that the text says.
    Text(String),
}

/// One request to one URL.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Bytes,
    pub(crate) tls: TlsOptions,
    /// A peer's Location led here: what cannot be asked for is the peer's fault.
    pub(crate) redirected: bool,
    /// What the grant is asked for.
    pub(crate) purpose: Purpose,
}

impl Hop {
    /// The request as it was configured; an error says what to write instead.
    pub(crate) fn first(request: &Request, purpose: Purpose) -> Result<Self, Mistake> {
        let method =
            Method::from_bytes(request.method.as_bytes()).ok().filter(|method| method != Method::CONNECT);
        let method = method
            .ok_or_else(|| text(format!("{:?} is not a method; write one like GET", request.method)))?;
        let url = Url::parse(&request.url)
            .map_err(|e| text(format!("the URL cannot be read: {e}; write one like https://example.com/")))?;
        checked(&url, &request.url, None).map_err(|mistake| mistake.behind(&redacted(&url)))?;
        for header in &request.headers {
            HeaderName::from_bytes(header.name.as_bytes())
                .map_err(|_| text(format!("{:?} is not a header's name", header.name)))?;
        }
        let tls = request.tls.clone().unwrap_or_default();
        let (headers, body) = (request.headers.clone(), request.body.clone().into());
        Ok(Self { method, url, headers, body, tls, redirected: false, purpose })
    }

    /// The hop that a redirect leads to. Credentials, client certificate, a configured Host and a configured server name stay with
    /// their origin.
    pub(crate) fn follow(&self, status: u16, location: &str) -> Result<Self, Mistake> {
        let redirects = format!("{} redirects to", self.endpoint());
        let url = self.url.join(location).map_err(|e| text(format!("{redirects} what is not a URL: {e}")))?;
        let written = if location.starts_with("//") {
            format!("{}:{location}", self.url.scheme())
        } else {
            location.to_owned()
        };
        checked(&url, &written, self.url.host_str())
            .map_err(|mistake| mistake.behind(&format!("{redirects} {}, which", redacted(&url))))?;
        let mut next = Self { url, redirected: true, ..self.clone() };
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
            next.tls.client_identity = None;
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

    /// Whether the connection is to be kept for the next hop.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("connection") && header.value.eq_ignore_ascii_case(b"keep-alive")
        })
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

/// The URL parser makes an address of `0x7f.1` without a word; the host is judged as it was written. `known` is the host that a
/// relative text leaves as it is.
fn checked(url: &Url, written: &str, known: Option<&str>) -> Result<(), Mistake> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(text(format!("is neither http nor https but {}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(text("has a user name or a password in it; write them as auth".to_owned()));
    }
    if url.port() == Some(0) {
        return Err(text("has port 0".to_owned()));
    }
    let host = url.host_str().unwrap_or_default();
    let unusable = |e: crate::Error| Mistake::Host(format!("has no usable host: {e}"));
    host.parse::<Host>().map_err(unusable)?;
    if let Some(raw) = raw_host(written) {
        raw.parse::<Host>().map_err(unusable)?;
    }
    match url.host() {
        Some(url::Host::Ipv4(ip)) if known != Some(host) && !written.contains(&ip.to_string()) => {
            Err(Mistake::Host(format!("has an odd spelling of an address; write {ip}")))
        }
        _ => Ok(()),
    }
}

impl Mistake {
    fn behind(self, front: &str) -> Self {
        match self {
            Mistake::Host(words) => Mistake::Host(format!("{front} {words}")),
            Mistake::Text(words) => Mistake::Text(format!("{front} {words}")),
        }
    }
}

fn text(words: String) -> Mistake {
    Mistake::Text(words)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Family;

    fn hop(url: &str) -> Hop {
        Hop::first(&request(url), Purpose::Target).unwrap()
    }

    fn request(url: &str) -> Request {
        Request {
            method: "GET".to_owned(),
            url: url.to_owned(),
            headers: vec![
                Header::sensitive("x-key", "s3cret"),
                Header::plain("cookie", "c"),
                Header::plain("x", "y"),
            ],
            body: Vec::new(),
            versions: Vec::new(),
            family: Family::Any,
            tls: Some(TlsOptions {
                server_name: Some("sni.example".to_owned()),
                client_identity: Some("monitor".to_owned()),
                ..TlsOptions::default()
            }),
            max_redirects: 1,
            max_body: 1,
        }
    }

    #[test]
    fn a_location_is_read_against_its_hop() {
        for (location, url) in [
            ("/b", "https://a.example/b"),
            ("b", "https://a.example/x/b"),
            ("?q=1", "https://a.example/x/y?q=1"),
            ("../b", "https://a.example/b"),
            ("//b.example/c", "https://b.example/c"),
            ("http://a.example/", "http://a.example/"),
            ("HTTPS://B.example", "https://b.example/"),
            ("https://a.example:443/z", "https://a.example/z"),
            ("/in?to=http://0x7f.1/", "https://a.example/in?to=http://0x7f.1/"),
        ] {
            assert_eq!(
                hop("https://a.example/x/y").follow(302, location).unwrap().url.as_str(),
                url,
                "{location}"
            );
        }
    }

    #[test]
    fn what_belongs_to_an_origin_stays_with_scheme_host_and_port() {
        for (location, stays) in [
            ("/b", true),
            ("https://A.example:443/", true),
            ("http://a.example/", false),
            ("https://a.example:444/", false),
            ("https://b.example/", false),
            ("https://sub.a.example/", false),
            ("//b.example/", false),
        ] {
            let next = hop("https://a.example/x").follow(307, location).unwrap();
            assert_eq!(next.headers.len(), if stays { 3 } else { 1 }, "{location}");
            assert_eq!(next.tls.server_name.is_some(), stays, "{location}");
            assert_eq!(next.tls.client_identity.is_some(), stays, "{location}");
            let back = next.follow(307, "https://a.example/").unwrap();
            assert_eq!(back.headers.len(), next.headers.len(), "what was dropped stays dropped");
        }
    }

    #[test]
    fn a_host_in_an_odd_spelling_is_no_hop_however_the_url_is_written() {
        for odd in [
            "http://0x7f.1/",
            "http://2130706433/",
            "http:\\\\0x7f.1/",
            "http:/0x7f.1/",
            "http:0x7f.1",
            " http://0177.0.0.1/",
            "ht\ntp://127.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://①27.0.0.1/",
            "http://127.0.0.1./",
        ] {
            let first = Hop::first(&request(odd), Purpose::Target);
            assert!(matches!(first, Err(Mistake::Host(_))), "{odd:?}: {first:?}");
            let redirect = hop("https://a.example/").follow(302, odd);
            assert!(matches!(redirect, Err(Mistake::Host(_))), "{odd:?}: {redirect:?}");
        }
        hop("http://127.0.0.1/").follow(302, "/next").unwrap();
        hop("http://[::1]/").follow(302, "http://127.0.0.1:80/").unwrap();
    }

    #[test]
    fn only_five_statuses_are_followed() {
        let followed: Vec<u16> = (100..600).filter(|status| is_redirect(*status)).collect();
        assert_eq!(followed, [301, 302, 303, 307, 308]);
    }
}
