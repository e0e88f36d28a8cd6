//! What a handshake is asked for, what is wrong with a peer, and what is said of its certificates elsewhere.

use serde::{Deserialize, Serialize};

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
    /// As in [`Cause::Tls`](super::Cause::Tls).
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
