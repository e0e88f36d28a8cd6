//! Errors as the API answers them: RFC 9457 problem details.

use serde::{Deserialize, Serialize};

/// A mistake in something that was sent: which key, what was found, what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Mistake {
    /// Where: a JSON pointer (RFC 6901), "" for the whole.
    pub at: String,
    /// What was found and what to write instead.
    pub message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.at.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.at, self.message)
        }
    }
}

/// The body of every answer that is not a success (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// For machines and stable: one of the constants of this type.
    pub code: String,
    /// One line for a person.
    pub detail: String,
    /// What was wrong with the input, one entry a place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Mistake>,
    /// Seconds after which it is worth trying again; the `retry-after` header says the same, without the answer's signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

impl Problem {
    /// The setup token is unknown.
    pub const SETUP_TOKEN_UNKNOWN: &str = "setup_token_unknown";
    /// The setup token was used by another device.
    pub const SETUP_TOKEN_USED: &str = "setup_token_used";
    /// The setup token is older than its 24 hours.
    pub const SETUP_TOKEN_EXPIRED: &str = "setup_token_expired";
    /// No or a wrong credential.
    pub const UNAUTHORIZED: &str = "unauthorized";
    /// The signature is wrong, or its counter was used before.
    pub const BAD_SIGNATURE: &str = "bad_signature";
    /// The lease ended or was taken over: say hello again.
    pub const LEASE_UNKNOWN: &str = "lease_unknown";
    /// The token was good once; a newer one of the same agent took its place.
    pub const SUPERSEDED: &str = "superseded";
    /// The agent was silent for too long: its token is good for a rotation only.
    pub const ROTATE_FIRST: &str = "rotate_first";
    /// The agent was silent for far too long: its owner must approve it.
    pub const APPROVAL_REQUIRED: &str = "approval_required";
    /// The owner revoked the agent.
    pub const REVOKED: &str = "revoked";
    /// Another device holds this identity: the data directory was copied.
    pub const FORKED: &str = "forked";
    /// The control plane has too much to do; the answer says when to come again.
    pub const BUSY: &str = "busy";
    /// The input has mistakes, listed in `mistakes`.
    pub const INVALID: &str = "invalid";
    /// There is no such thing.
    pub const NOT_FOUND: &str = "not_found";
    /// There is such a thing already.
    pub const CONFLICT: &str = "conflict";
    /// The body is larger than `BODY_LIMIT`.
    pub const TOO_LARGE: &str = "too_large";
    /// The control plane's own fault; worth trying again.
    pub const INTERNAL: &str = "internal";

    /// A problem without mistakes.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), detail: detail.into(), mistakes: Vec::new(), retry_after_s: None }
    }

    /// There is too much to do: come again after so many seconds.
    pub fn busy(retry_after_s: u64) -> Self {
        let detail = format!("the control plane has too much to do: try again in {retry_after_s} s");
        Self { retry_after_s: Some(retry_after_s), ..Self::new(Self::BUSY, detail) }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)?;
        self.mistakes.iter().try_for_each(|m| write!(f, "\n  {m}"))
    }
}

impl std::error::Error for Problem {}
