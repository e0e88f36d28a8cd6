//! The values that cross the border of this crate, one to one with `wit/deps/picket-net/net.wit` (without its `secrets` and
//! `log`). Plain data; what they mean on the wire is decided by the files that make them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::tls::TlsSession;
use crate::written;

/// Where an exchange was when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Name to addresses.
    Resolve,
    /// TCP handshake.
    Connect,
    /// TLS handshake.
    Handshake,
    /// The request's bytes.
    Send,
    /// From the last byte sent to the first received.
    FirstByte,
    /// From the first byte received to the last.
    Transfer,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Resolve => "resolve",
            Phase::Connect => "connect",
            Phase::Handshake => "handshake",
            Phase::Send => "send",
            Phase::FirstByte => "first byte",
            Phase::Transfer => "transfer",
        })
    }
}

/// Why an exchange failed, for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The run's time was used up.
    Timeout,
    /// The grant does not contain the target, or the address is always denied.
    Denied,
    /// The peer refused the connection (RST to SYN).
    Refused,
    /// The peer reset an established connection.
    Reset,
    /// No route, or an ICMP unreachable.
    Unreachable,
    /// The peer closed the stream before it said enough.
    Closed,
    /// A budget of the run: connections, bytes.
    Exhausted,
    /// The lookup answered with this RCODE (RFC 1035, RFC 6895); 0 is an answer without addresses.
    Dns(u16),
    /// The handshake failed, with a stable reason: "expired", "not-yet-valid", "wrong-name", "untrusted", "self-signed",
    /// "incomplete-chain", "bad-signature", "weak-signature", "weak-key", "authority-as-leaf", "not-an-authority", "path-length",
    /// "wrong-usage", "name-constraints", "critical-extension", "revoked", "must-staple", "version", "cipher", "alert", "other".
    Tls(String),
    /// The peer broke its protocol.
    Protocol(String),
    /// A proxy on the way refused.
    Proxy(String),
    /// The request itself cannot be made: an unreadable CA, a record type that does not exist. The configuration's fault.
    Invalid(String),
    /// Anything else that went wrong on this side, in words: says nothing about the peer.
    Other(String),
}

/// A failed exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Failure {
    /// Why, for machines.
    pub cause: Cause,
    /// Where, when it is known.
    pub phase: Option<Phase>,
    /// One line for a person; names the peer. For [`Cause::Denied`] it names the line that an operator would add.
    pub message: String,
}

/// What was measured; none where the phase did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Name to addresses.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "written::maybe_micros")]
    pub resolve: Option<Duration>,
    /// TCP handshake.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "written::maybe_micros")]
    pub connect: Option<Duration>,
    /// TLS handshake.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "written::maybe_micros")]
    pub handshake: Option<Duration>,
    /// The request's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "written::maybe_micros")]
    pub send: Option<Duration>,
    /// From the last byte sent to the first received.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "written::maybe_micros")]
    pub first_byte: Option<Duration>,
    /// From the first byte received to the last.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "written::maybe_micros")]
    pub transfer: Option<Duration>,
    /// All of it.
    #[serde(with = "written::micros")]
    pub total: Duration,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// From 1.
    pub port: u16,
}

impl Endpoint {
    /// The host and the port as they are; they are judged when they are used.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

/// "host:port", an IPv6 address in brackets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Which addresses of a name may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Both, IPv6 first, in turns (RFC 8305).
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// How a question travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// RFC 1035. An answer that was cut off says so in [`Answer::truncated`].
    #[default]
    Udp,
    /// RFC 7766.
    Tcp,
    /// RFC 7858.
    Tls,
    /// RFC 8484.
    Https,
}

/// One question to a name server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The name; a trailing dot is optional, no search list is applied.
    pub name: String,
    /// The type as RFC 1035 and its successors print it: "A", "MX", "HTTPS", or "TYPE65" (RFC 3597).
    pub kind: String,
    /// Who is asked, "host" or "host:port", for HTTPS also a URL; the system's first resolver that answers when none.
    pub server: Option<String>,
    /// How.
    pub transport: Transport,
    /// The RD bit.
    pub recursion_desired: bool,
    /// The DO bit (RFC 3225); adds EDNS (RFC 6891).
    pub dnssec_ok: bool,
    /// How TLS is spoken with the server, for the transports that do.
    pub tls: TlsOptions,
}

/// One resource record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Owner name, with a trailing dot.
    pub name: String,
    /// Type, as in [`Question::kind`].
    pub kind: String,
    /// Seconds.
    pub ttl: u32,
    /// The data in presentation form, names with a trailing dot; the chunks of a TXT record joined, without quotes.
    pub data: String,
    /// The data in wire form, names in it uncompressed.
    #[serde(with = "written::bytes")]
    pub rdata: Vec<u8>,
}

/// What a name server answered, whatever its RCODE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// RFC 6895: 0 NOERROR, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    pub rcode: u16,
    /// AA.
    pub authoritative: bool,
    /// TC.
    pub truncated: bool,
    /// AD.
    pub authenticated: bool,
    /// The answer section.
    pub answers: Vec<Entry>,
    /// The authority section.
    pub authority: Vec<Entry>,
    /// The additional section, without the OPT record.
    pub additional: Vec<Entry>,
    /// Who answered.
    pub server: SocketAddr,
    /// From the question's first byte to the answer's last.
    #[serde(with = "written::micros")]
    pub elapsed: Duration,
    /// What validation says, and why; none where it was not asked for.
    #[serde(default)]
    pub security: Option<(Security, String)>,
}

/// What the signatures of an answer say (RFC 4033, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Security {
    /// A chain of signatures leads from a trust anchor to every record, or proves that there is none.
    Secure,
    /// A signed delegation proves that the zone is not signed.
    Insecure,
    /// There should be signatures, and they are missing, wrong or expired.
    Bogus,
    /// No chain could be built: a question on the way to an anchor was not answered.
    Indeterminate,
}

/// What becomes of a peer that cannot be verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Fail the handshake on any defect.
    #[default]
    Required,
    /// Finish the handshake and report every defect; the stream carries no data.
    Recorded,
    /// Encrypt without knowing the peer, as PostgreSQL's `sslmode=require` does. The stream carries data, but no secrets.
    Unverified,
}

/// How to make a TLS handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsOptions {
    /// Name to ask for (SNI) and to verify; the endpoint's host when none.
    pub server_name: Option<String>,
    /// Protocols to offer (RFC 7301), best first.
    pub alpn: Vec<String>,
    /// "1.2" or "1.3"; the lowest that this crate speaks when none.
    pub min_version: Option<String>,
    /// "1.2" or "1.3"; the highest that this crate speaks when none.
    pub max_version: Option<String>,
    /// Certificate authorities instead of the system's: PEM text, or the path of a PEM file on this machine.
    pub ca: Option<String>,
    /// Name of a client identity: "monitor" is the one of the session's route, which is shown in any case where no other is named.
    pub client_identity: Option<String>,
    /// What becomes of a peer that cannot be verified.
    pub trust: Trust,
}

/// A reason not to trust the peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defect {
    /// As in [`Cause::Tls`].
    pub code: String,
    /// One line for a person.
    pub message: String,
}

/// What a stapled OCSP response says (RFC 6066).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revocation {
    /// Nothing was stapled, or nothing that could be read.
    #[default]
    Unknown,
    /// Not revoked.
    Good,
    /// Revoked.
    Revoked,
}

/// Where it is asked whether a certificate was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationSource {
    /// What the server stapled to the handshake (RFC 6066); about its own certificate only.
    Stapled,
    /// The responders that the certificate names (RFC 6960).
    Ocsp,
    /// The lists that the certificate names (RFC 5280, section 5).
    Crl,
}

/// What one source says of one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationStatus {
    /// The answer; unknown also where none came that can be believed.
    pub revocation: Revocation,
    /// Whether there was anybody to ask: a staple, or an address in the certificate.
    pub named: bool,
    /// Whether nothing is known because the grant refused.
    pub denied: bool,
    /// One line for a person: since when, or until when, or why nothing is known. Names the line that an operator would add where the
    /// grant refused.
    pub message: String,
}

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
    /// Bytes of the decoded body to keep, within [`Budget::body`]. gzip, deflate, br and zstd are decoded, and asked for unless
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

/// What one run may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Connections and questions to name servers, opened in all; default 16. Four times as many names may be looked up on the way
    /// to a connection.
    pub connections: u32,
    /// Bytes received in all, in bytes; default 10 MiB.
    pub received: u64,
    /// Bytes of all bodies that are kept, in bytes; default 4 MiB.
    pub body: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { connections: 16, received: 10 * 1024 * 1024, body: 4 * 1024 * 1024 }
    }
}

/// What the session saw so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Sum over all exchanges, phase by phase; `total` is the time spent in exchanges.
    pub phases: Timings,
    /// The last peer that a connection was made to.
    pub remote: Option<SocketAddr>,
    /// Every refusal of the grant, in words, oldest first; at most 16.
    pub denials: Vec<String>,
    /// Bytes received in all.
    pub received: u64,
    /// Connections and questions opened in all.
    pub connections: u32,
}
