//! An HTTP exchange, and the token that one may be made with. Values of credentials are wiped when dropped, and neither printed nor
//! written.

use std::fmt;
use std::net::SocketAddr;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{Failure, Family, Timings, TlsOptions};
use crate::tls::TlsSession;
use crate::written;

/// One header of a request.
#[derive(Clone)]
pub struct Header {
    /// The name, in any case.
    pub name: String,
    /// The value's bytes, wiped when dropped.
    pub value: Zeroizing<Vec<u8>>,
    /// Carries a credential: dropped when a redirect leaves the origin, never printed.
    pub sensitive: bool,
}

impl Header {
    /// A header that anybody may see.
    pub fn plain(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), value: Zeroizing::new(value.into()), sensitive: false }
    }

    /// A header with a credential in it.
    pub fn sensitive(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), value: Zeroizing::new(value.into()), sensitive: true }
    }
}

/// Without the value of a credential.
impl Serialize for Header {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut header = to.serialize_struct("Header", 2)?;
        header.serialize_field("name", &self.name)?;
        match self.sensitive {
            true => header.serialize_field("sensitive", &true)?,
            false => header.serialize_field("value", &String::from_utf8_lossy(&self.value))?,
        }
        header.end()
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sensitive {
            true => write!(f, "{}: ***", self.name),
            false => write!(f, "{}: {}", self.name, String::from_utf8_lossy(&self.value)),
        }
    }
}

/// One HTTP request (RFC 9110).
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// "GET".
    pub method: String,
    /// http or https, without user information.
    pub url: String,
    /// Host, Content-Length and Connection are this crate's own unless named here.
    pub headers: Vec<Header>,
    /// Empty for none.
    #[serde(with = "written::bytes")]
    pub body: Vec<u8>,
    /// Accepted versions, "1.1", "2"; any when empty.
    pub versions: Vec<String>,
    /// Which addresses of the host may be used.
    pub family: Family,
    /// Only for https; verified against the system's authorities when none. Its `alpn` is made from `versions`.
    pub tls: Option<TlsOptions>,
    /// How many redirects to follow; each hop asks the grant anew.
    pub max_redirects: u8,
    /// Bytes of the decoded body to keep, within [`Budget::body`](super::Budget::body). gzip, deflate, br and zstd are decoded, and asked for unless
    /// the headers say otherwise.
    pub max_body: u32,
}

/// What came back from the last hop, whatever its status.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// "1.1", "2".
    pub version: String,
    /// All headers, names in lower case, in order; bytes that are not UTF-8 replaced.
    pub headers: Vec<(String, String)>,
    /// The kept bytes.
    #[serde(with = "written::bytes")]
    pub body: Vec<u8>,
    /// Whether the decoded body was longer than what was kept.
    pub truncated: bool,
    /// Whether a content coding was undone: length and coding in the headers are those of what travelled.
    #[serde(default)]
    pub decoded: bool,
    /// Every hop, oldest first, the last one included: URL and status.
    pub hops: Vec<(String, u16)>,
    /// The last hop's peer.
    pub remote: SocketAddr,
    /// The last hop's TLS session; none over http.
    pub session: Option<TlsSession>,
    /// Of all hops together.
    pub timings: Timings,
    /// Of each hop, in the order of `hops`.
    #[serde(default)]
    pub hop_timings: Vec<Timings>,
}

impl Response {
    /// Every value of that header, in order; the name in any case.
    pub fn header(&self, name: &str) -> Vec<String> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone()).collect()
    }

    /// Whether the kept body contains the text; `ignore_case` folds by Unicode's lower case. The empty text always is.
    pub fn contains(&self, text: &str, ignore_case: bool) -> bool {
        match ignore_case {
            true => String::from_utf8_lossy(&self.body).to_lowercase().contains(&text.to_lowercase()),
            false => text.is_empty() || self.body.windows(text.len()).any(|part| part == text.as_bytes()),
        }
    }
}

/// A request for an access token (RFC 6749, section 4.4). Written down without the client's secret.
#[derive(Clone, Debug, Serialize)]
pub struct TokenRequest {
    /// The token endpoint.
    pub url: String,
    /// The client's identifier.
    pub client_id: String,
    /// The client's secret.
    #[serde(skip)]
    pub client_secret: Hidden,
    /// What is asked for; whatever the server gives when none.
    pub scopes: Vec<String>,
    /// More parameters of the request's body.
    pub parameters: Vec<(String, String)>,
    /// How the client proves itself.
    pub proof: Proof,
    /// Which addresses of the endpoint may be used.
    pub family: Family,
    /// Only for https; verified against the system's authorities when none.
    pub tls: Option<TlsOptions>,
}

/// How a client proves itself (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// HTTP Basic.
    #[default]
    Basic,
    /// In the request's body.
    Body,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// The exchange failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The endpoint answered, but not with a token.
    #[error("status {status}: {reason}")]
    Refused {
        /// Its status.
        status: u16,
        /// What it says in `error` and `error_description`, in one line.
        reason: String,
    },
}

/// Bytes that are wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
