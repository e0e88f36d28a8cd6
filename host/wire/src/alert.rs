//! Alerts: the channels that people name, and the events that tell of a change.
//!
//! An *alert* begins with an event and ends with one: `down` and its `recovered` carry the same `alert`. A *digest* stands alone.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::Timestamp;
use crate::admin::{Change, Shown};

/// A channel as people write it, beside the monitors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelSpec {
    /// Unique among the channels; lower case, digits, hyphens, dots; 1 to 63 characters.
    pub name: String,
    /// What it is.
    pub kind: ChannelKind,
    /// Where each event is posted. `https://`, or `http://` for an address that is loopback or private.
    pub url: String,
    /// What the events are signed with, as a reference: `{"$secret": "ops-webhook"}`. The control plane resolves it from its
    /// environment, `PICKET_SECRET_OPS_WEBHOOK`, or from the file `/run/secrets/ops-webhook`.
    #[schema(value_type = Object)]
    pub secret: Value,
}

/// What a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// A `POST` of [`Notice`] as JSON, signed with HMAC-SHA256.
    Webhook,
}

/// What became of a channel in an apply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChannelApplied {
    /// Its name.
    pub channel: String,
    /// What became of it.
    pub change: Change,
}

/// How a monitor is confirmed to be down before anybody is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confirm {
    /// Another agent of the location is asked; where none can be, the same again.
    #[default]
    OtherAgent,
    /// The same agent is asked to run it again at once.
    SameAgent,
    /// Nobody is asked.
    None,
}

/// How grave it is when a monitor is down, in the words of most who are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody is woken.
    Critical,
    /// Somebody looks at it today.
    Error,
    /// Somebody looks at it some time.
    Warning,
    /// Nobody has to.
    Info,
}

impl Severity {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A monitor is down.
    Down,
    /// A monitor that asks for it (`alert_degraded`) is degraded.
    Degraded,
    /// A monitor that was one of these is up; or it was deleted, disabled or taken from the location, as the summary says.
    Recovered,
    /// An agent is silent; without an agent all of a location, without a location many at once.
    AgentDown,
    /// It is back; or it was deleted or revoked, as the summary says.
    AgentUp,
    /// What was down for a while, and is over, while an agent was away.
    Digest,
    /// The clock of an agent is off, or right again, or the agent was deleted or revoked; without an agent, the control plane's own, as
    /// it seems.
    Clock,
}

impl EventKind {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Recovered => "recovered",
            Self::AgentDown => "agent_down",
            Self::AgentUp => "agent_up",
            Self::Digest => "digest",
            Self::Clock => "clock",
        }
    }
}

impl std::fmt::Display for EventKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One event: the body that a webhook gets. The same event sent again has the same `id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Notice {
    /// Of this event; stays the same in each try of its delivery.
    pub id: Uuid,
    /// Of the alert that the event begins, changes or ends.
    pub alert: Uuid,
    /// What it tells.
    pub event: EventKind,
    /// Name of the monitor; none for what is about agents.
    pub monitor: Option<String>,
    /// Name of the agent that found out, or that the event is about; none when it is about several.
    pub agent: Option<String>,
    /// The location; none when the event is about several.
    pub location: Option<String>,
    /// The state from now on; none for a digest and for clocks.
    pub state: Option<Shown>,
    /// Since when it is so: the time of the first result that said so, also of one that came later than it was made.
    pub since: Timestamp,
    /// When the event was made, by the control plane's clock.
    pub at: Timestamp,
    /// For a person, in one line.
    pub summary: String,
    /// Whether another agent agreed.
    pub confirmed: bool,
    /// The monitor's own word on how grave it is; none where it has none, and for what is about agents.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// Where the monitor's owner wrote down what to do.
    #[serde(default)]
    pub runbook_url: Option<String>,
    /// More lines: those of a digest, or the names of the agents that an event is about.
    #[serde(default)]
    pub lines: Vec<String>,
}

/// An event as `GET /v1/alerts` lists it and `GET /v1/alerts/{id}` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AlertView {
    /// As it was sent.
    #[serde(flatten)]
    pub notice: Notice,
    /// Whether the alert that it began goes on.
    pub open: bool,
    /// How far it came, a channel each.
    pub deliveries: Vec<DeliveryView>,
}

/// How far an event came on its way into a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeliveryView {
    /// The channel's name.
    pub channel: String,
    /// How it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last try came to, when it failed.
    pub error: Option<String>,
    /// When the last try was.
    pub tried_at: Option<Timestamp>,
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It is to be tried, or tried again.
    Waiting,
    /// The receiver has it.
    Delivered,
    /// Given up.
    Failed,
}

impl std::fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        })
    }
}
