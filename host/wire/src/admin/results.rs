//! Results, requested runs and gaps as people see them.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::results::{Delivery, Gap, RunResult, State};

/// A result as `GET /v1/results` lists it: what the agent recorded, and what the control plane knows beside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResultView {
    /// Name of the monitor; its id when it was deleted since.
    pub monitor: String,
    /// Name of the agent.
    pub agent: String,
    /// Location of the agent.
    pub location: String,
    /// Epoch of its position.
    pub epoch: u64,
    /// Seq of its position.
    pub seq: u64,
    /// As recorded.
    #[serde(flatten)]
    pub result: RunResult,
    /// What was found, where the state is `maintenance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<State>,
    /// When it was stored, by the control plane's clock.
    pub received_at: Timestamp,
    /// How it came.
    pub delivery: Delivery,
}

/// Answer to `GET /v1/results?monitor=&agent=&since=&limit=&after=&wait=`.
///
/// Without `after`: the newest `limit` (default 100, at most 10,000) that match, ordered by `started_at`. With `after`, a `cursor` from an
/// earlier answer: what was stored since, in the order of storing; `wait` seconds (at most 30) are spent waiting for the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResultsPage {
    /// The results.
    pub results: Vec<ResultView>,
    /// For the next request's `after`.
    pub cursor: String,
}

/// Answer to `POST /v1/monitors/{name}/run?location=&wait=`: one entry a location, in either list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunAnswer {
    /// What the agents found.
    pub results: Vec<ResultView>,
    /// Where there is no result, and why.
    pub missing: Vec<NotRun>,
}

/// A location where a monitor should have run now and has no result yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NotRun {
    /// Which location.
    pub location: String,
    /// The agent that was asked; none when there was none to ask.
    pub agent: Option<String>,
    /// For a person.
    pub reason: String,
}

/// A gap as `GET /v1/gaps` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GapView {
    /// Name of the agent.
    pub agent: String,
    /// As recorded.
    #[serde(flatten)]
    pub gap: Gap,
    /// When it was stored, by the control plane's clock.
    pub received_at: Timestamp,
}
