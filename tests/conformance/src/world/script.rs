//! What a scripted world does, as a case writes it. Owns the words; `peer` plays them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// The peers of a world, the first that fits is met; who fits none is met by one that grants whatever is asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// In the order in which they are looked for.
    pub peers: Vec<Peer>,
}

/// One peer. Every connection to it, every question and every exchange begins its operations anew.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// "host:port" as the check names it, "resolver" for the system's name servers, or "*" for everybody, which is also the
    /// default.
    #[serde(default = "everybody")]
    pub at: String,
    /// What it does, one after the other. After the last it closes the connection.
    pub does: Vec<Op>,
}

/// One operation of a peer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// What its name leads to. Skipped where an address was named, and by questions to name servers.
    Resolve(Lookup),
    /// Refuses the connection.
    Refuse,
    /// There is no way to it.
    Unreachable,
    /// Answers nothing, not even that the connection was opened.
    Drop,
    /// Accepts the connection. Skipped by questions over UDP.
    Accept,
    /// Shakes hands.
    Tls(Tls),
    /// Waits until so much has been written, in these bytes.
    Expect(Bytes),
    /// Sends.
    Send(Bytes),
    /// Lets time pass.
    Delay(#[serde(deserialize_with = "duration")] Duration),
    /// Sends one byte after the other for ever, each after a while.
    Trickle(#[serde(deserialize_with = "duration")] Duration),
    /// Sends so many bytes that mean nothing.
    Garbage(usize),
    /// Sends back what was written, the headers of a request too.
    Echo,
    /// Resets the connection.
    Reset,
    /// Closes the connection.
    Close,
    /// Says nothing more.
    Silence,
    /// Answers a question. Skipped by connections.
    Dns(DnsAnswer),
    /// Answers a request. Skipped by plain connections.
    Http(HttpAnswer),
    /// Grants whatever is asked, from here on.
    Oblige,
}

/// What a name leads to on the way to a connection.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lookup {
    /// These addresses.
    Addresses(Vec<IpAddr>),
    /// An answer with this RCODE; 0 is one without addresses.
    Rcode(u16),
    /// No answer.
    Timeout,
}

/// How a handshake goes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// What is served.
    pub certificate: Served,
    /// Days until the certificate expires; 90 unless set.
    pub days: Option<i64>,
    /// "1.2" or "1.3", which is the default.
    pub version: Option<String>,
    /// Ends the handshake with this reason, as `cause.tls` has them: "version", "alert".
    pub fails: Option<String>,
    /// What "stapled", "ocsp" and "crl" say of the certificate when they are asked. Who is not listed is nobody who could be asked.
    pub revocation: HashMap<net::RevocationSource, Told>,
}

/// What somebody says who is asked whether a certificate was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// It was not.
    Good,
    /// It was.
    Revoked,
    /// Nothing that can be believed.
    Unknown,
    /// The grant does not contain whoever would have to be asked.
    Denied,
}

/// A certificate and what is wrong with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Served {
    /// Nothing.
    #[default]
    Valid,
    /// It has ended.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// It is somebody else's.
    WrongName,
    /// It signed itself.
    SelfSigned,
    /// Nobody knows its authority.
    Untrusted,
    /// What is stapled to it says that it was revoked.
    Revoked,
}

/// What a name server answers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsAnswer {
    /// RFC 6895; 0 unless set.
    pub rcode: u16,
    /// AA.
    pub authoritative: bool,
    /// TC.
    pub truncated: bool,
    /// AD.
    pub authenticated: bool,
    /// The answer section.
    pub answers: Vec<Record>,
    /// What validation says where that is asked for: "secure" unless set.
    pub security: Option<net::Security>,
}

/// One record.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Owner; the name that was asked for unless set.
    pub name: Option<String>,
    /// "A"; the type that was asked for unless set.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Seconds; 300 unless set.
    pub ttl: Option<u32>,
    /// In presentation form.
    pub data: String,
}

/// What a web server answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpAnswer {
    /// 200 unless set.
    #[serde(default = "ok")]
    pub status: u16,
    /// Name to value.
    #[serde(default)]
    pub headers: Map<String, Value>,
    /// None unless set.
    #[serde(default)]
    pub body: String,
}

/// A text, or `{"hex": "0d 0a"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a text, or {\"hex\": \"0d 0a\"}")]
        enum Written {
            Text(String),
            Hex { hex: String },
        }
        match Written::deserialize(from)? {
            Written::Text(text) => Ok(Bytes(text.into_bytes())),
            Written::Hex { hex } => {
                let digits: String = hex.split_whitespace().collect();
                hex::decode(&digits).map(Bytes).map_err(serde::de::Error::custom)
            }
        }
    }
}

/// "300ms", "2s".
pub(crate) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text)
        .map_err(|_| serde::de::Error::custom(format!("{text:?} is not a length of time: write 300ms or 2s")))
}

fn everybody() -> String {
    "*".to_owned()
}

fn ok() -> u16 {
    200
}
