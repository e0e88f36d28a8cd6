//! Results: what a run found out, what is missing, and how both travel.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{MonitorId, Position, ResultId, Timestamp};

/// The state that one result gives its monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every expectation holds.
    Up,
    /// Serves, but needs attention.
    Degraded,
    /// Does not serve, or an expectation is false.
    Down,
    /// The check could not be made. Says nothing about the target.
    Error,
    /// Within a maintenance window, whatever was found. Given by the control plane alone.
    Maintenance,
}

impl State {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Error => "error",
            Self::Maintenance => "maintenance",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Seconds that the host measured; none where the phase did not happen. With several exchanges in one run, their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Phases {
    /// Name to addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve: Option<f64>,
    /// TCP handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<f64>,
    /// TLS handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<f64>,
    /// The request's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<f64>,
    /// Last byte sent to first received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<f64>,
    /// First byte received to last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<f64>,
}

/// One expectation and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// The option or rule it belongs to.
    pub id: String,
    /// Whether the expectation holds.
    pub passed: bool,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub actual: String,
}

/// One measured number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Metric {
    /// Lower case with dots.
    pub name: String,
    /// Finite.
    pub value: f64,
    /// UCUM.
    pub unit: String,
}

/// What one run found out, without its position: the agent's spool gives that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunResult {
    /// Unique for ever.
    pub id: ResultId,
    /// Which monitor.
    pub monitor_id: MonitorId,
    /// When the run was due, by the agent's clock.
    pub planned_at: Timestamp,
    /// When it started, by the agent's clock.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// Which attempt at the planned time, from 1.
    pub attempt: u32,
    /// The request that this run answers, when somebody asked for it beside its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Uuid>,
    /// Runs of this monitor that were due before this one and never started: the agent was busy or asleep.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
    /// The state.
    pub state: State,
    /// Why, for machines: "ok", "http.status", "denied", "plugin.trap", "secret.missing".
    pub code: String,
    /// Why, for a person, in one line.
    pub summary: String,
    /// What the host measured.
    #[serde(default)]
    pub phases: Phases,
    /// "address:port" of the last peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<String>,
    /// What the check measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// Expectations; the failed ones at least.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Facts beside the verdict.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// What proves the verdict; bounded and redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// "sha256:" and the digest of the component; none when it could not be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin_digest: Option<String>,
    /// Digest of the assignment that was run.
    pub config_digest: String,
    /// Version of the agent.
    pub agent_version: String,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Results that will never come, and why. Shown as *unknown*, never as up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Gap {
    /// Epoch of the missing results.
    pub epoch: u64,
    /// First missing seq.
    pub from: u64,
    /// Last missing seq.
    pub to: u64,
    /// Why: "evicted", "corrupt"; "missing" when only the control plane noticed; "repeated" when nothing is lost, because the results
    /// are stored under the positions that they had before. More will come.
    pub reason: String,
    /// When the first of them was recorded, by the agent's clock; none when that is lost too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<Timestamp>,
    /// When the last of them was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// How many of them were *down*, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<u64>,
}

/// One record on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Record {
    /// A result.
    Result {
        /// Epoch of its position.
        epoch: u64,
        /// Seq of its position.
        seq: u64,
        /// Milliseconds since the run ended, on a clock that counts suspend; none when the machine was booted since.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        age_ms: Option<u64>,
        /// The result.
        result: Box<RunResult>,
    },
    /// Results that will never come.
    Gap(Gap),
}

impl Record {
    /// Its last position.
    pub fn position(&self) -> Position {
        match self {
            Self::Result { epoch, seq, .. } => Position { epoch: *epoch, seq: *seq },
            Self::Gap(gap) => Position { epoch: gap.epoch, seq: gap.to },
        }
    }
}

/// Which of the two streams of results a batch belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// In order from the cursor on, without a hole; the cursor follows.
    #[default]
    Backlog,
    /// Ahead of a backlog: results of this session, stored at once and by id. The cursor stays; they come again in the backlog's
    /// order, which changes nothing then. Holes between them mean nothing, gaps do not travel here.
    Live,
}

/// `POST /v1/results`: records in the order of their positions. Without records it is the heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Batch {
    /// How the records relate to the cursor.
    #[serde(default)]
    pub lane: Lane,
    /// At most [`crate::BATCH_LIMIT`].
    pub records: Vec<Record>,
    /// Results that remain on the agent, this batch included.
    pub pending: u64,
    /// The agent's clock, to warn about skew.
    pub sent_at: Timestamp,
}

/// Its answer, after all records and the cursor are on disk together. The same batch again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ack {
    /// Everything up to here is stored; the agent releases up to the lower of this and what it sent.
    pub cursor: Position,
}

/// How a result came, decided by the control plane. Only `live` results move alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// At once.
    Live,
    /// Recorded before the agent's current session.
    Buffered,
    /// Recorded in this session, but too old on arrival.
    Late,
}

impl std::fmt::Display for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Live => "live",
            Self::Buffered => "buffered",
            Self::Late => "late",
        })
    }
}
