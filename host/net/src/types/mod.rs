//! The values that cross the border of this crate, one to one with `wit/deps/picket-net/net.wit` (without its `secrets` and
//! `log`). Plain data; what they mean on the wire is decided by the files that make them. Those of one protocol stand in a file of its
//! own; here is what all of them share.

mod dns;
mod http;
mod tls;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::written;

pub use dns::{Answer, Entry, Question, Security, Transport};
pub use http::{Header, Hidden, NoToken, Proof, Request, Response, TokenRequest};
pub use tls::{Defect, Revocation, RevocationSource, RevocationStatus, TlsOptions, Trust};

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

impl Cause {
    /// Whether it says nothing about the peer: what this machine, its operator, a proxy of the monitor's or the configuration is to blame
    /// for. A run that ends so has not decided anything: its state is `error`.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Denied | Self::Exhausted | Self::Proxy(_) | Self::Invalid(_) | Self::Other(_) => true,
            Self::Timeout | Self::Refused | Self::Reset | Self::Unreachable | Self::Closed => false,
            Self::Dns(_) | Self::Tls(_) | Self::Protocol(_) => false,
        }
    }
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
        match self.host.contains(':') && !self.host.starts_with('[') {
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
