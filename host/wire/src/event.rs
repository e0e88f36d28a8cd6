//! What befell the identity of an agent, for its owner.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One entry of `GET /v1/agents/{name}/events`, newest first. The newest 1,000 of an agent are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentEvent {
    /// By the control plane's clock.
    pub at: Timestamp,
    /// Name of the agent at that time.
    pub agent: String,
    /// What it was.
    pub kind: AgentEventKind,
    /// One line for a person: what was found, and what to do where something is to be done.
    pub detail: String,
}

/// What befell an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentEventKind {
    /// It became an agent.
    Enrolled,
    /// Another device showed its setup token, which was used already.
    SetupTokenReused,
    /// It made a new token, and the new one is in use.
    Rotated,
    /// A token was used after a newer one had taken its place.
    Superseded,
    /// It proved itself with its device key and has a new token.
    Recovered,
    /// Its token was shown without its device key: somebody read it.
    Stolen,
    /// Two devices show its identity: the second stands by.
    Forked,
    /// A device that stood by, or came back from a backup, took the place of one that fell silent.
    TakenOver,
    /// It was silent for so long that its owner has to approve it.
    ApprovalRequired,
    /// Its owner approved it.
    Approved,
    /// Its owner revoked it.
    Revoked,
}

impl AgentEventKind {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::SetupTokenReused => "setup_token_reused",
            Self::Rotated => "rotated",
            Self::Superseded => "superseded",
            Self::Recovered => "recovered",
            Self::Stolen => "stolen",
            Self::Forked => "forked",
            Self::TakenOver => "taken_over",
            Self::ApprovalRequired => "approval_required",
            Self::Approved => "approved",
            Self::Revoked => "revoked",
        }
    }
}

impl std::fmt::Display for AgentEventKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
