//! Agents as people make and see them.

use serde::{Deserialize, Serialize};

use crate::{AgentId, Timestamp};

/// `POST /v1/agents`.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAgent {
    /// Lower case, digits, hyphens, dots; 1 to 63 characters; unique.
    pub agent: String,
    /// The named place; same alphabet.
    pub location: String,
}

/// Its answer: the only time that the setup token is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentCreated {
    /// The agent's name.
    pub agent: String,
    /// Its location.
    pub location: String,
    /// Good once, until `expires_at`.
    pub setup_token: String,
    /// 24 hours after its making, by the control plane's clock.
    pub expires_at: Timestamp,
}

/// What the control plane knows about an agent's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// Its setup token was not used yet.
    Created,
    /// Heard from within three heartbeats.
    Connected,
    /// Silent for longer.
    Away,
    /// Connected, and a second device shows the same identity: its data directory was copied. The second one stands by.
    Forked,
    /// Silent for more than 90 days: waits for `picket agents approve`.
    Approval,
    /// Revoked by its owner, until `picket agents approve`.
    Revoked,
}

impl std::fmt::Display for AgentState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Created => "created",
            Self::Connected => "connected",
            Self::Away => "away",
            Self::Forked => "forked",
            Self::Approval => "approval",
            Self::Revoked => "revoked",
        })
    }
}

/// An agent as `GET /v1/agents` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgentView {
    /// Its name.
    pub agent: String,
    /// Its id; none before enrolment.
    pub id: Option<AgentId>,
    /// Its location.
    pub location: String,
    /// Its presence.
    pub state: AgentState,
    /// When it was last heard from.
    pub last_seen: Option<Timestamp>,
    /// Its version.
    pub version: Option<String>,
    /// Results that it holds and that are not acknowledged, when last heard from.
    pub pending: Option<u64>,
    /// How it is reached while it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What its owner should look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// How often it proved itself with its device key because its token was refused.
    #[serde(default)]
    pub recoveries: u64,
}

/// Something about an agent that is no fault of its monitors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// Since when, by the control plane's clock and since its start.
    pub since: Timestamp,
    /// One line for a person.
    pub detail: String,
}

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WarningKind {
    /// The agent's clock and the control plane's differ by more than five minutes.
    Clock,
}

impl std::fmt::Display for WarningKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Clock => "clock",
        })
    }
}

/// How an agent and its control plane speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// By a WebSocket that the agent keeps open.
    Stream,
    /// By HTTPS requests, one of which waits for pushes.
    Requests,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Stream => "stream",
            Self::Requests => "requests",
        })
    }
}
