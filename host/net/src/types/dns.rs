//! A question to a name server and its answer.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::TlsOptions;
use crate::written;

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
