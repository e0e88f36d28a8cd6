//! The API for people and their tools: agents, monitors, results. Every request carries the admin token as a bearer token.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::alert::{ChannelApplied, ChannelSpec, Confirm};
use crate::results::{Delivery, RunResult, State};
use crate::{AgentId, MonitorId, Timestamp};

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

/// A monitor as people write it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorSpec {
    /// Unique; lower case, digits, hyphens, dots; 1 to 63 characters.
    pub name: String,
    /// The plugin: "http", "http@0" or "sha256:…".
    pub check: String,
    /// Start to start: "60s", "5m". Default 60s, at least 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// From resolve to verdict: "10s". Default 10s, or nine tenths of a shorter interval; below the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Where it runs: on one agent of each location.
    pub locations: Vec<String>,
    /// Whether it runs. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub enabled: bool,
    /// For people and filters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The plugin's configuration.
    #[serde(default = "empty")]
    #[schema(value_type = Object)]
    pub config: Value,
    /// Targets beside those that `config` names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Who is asked again before anybody is told that it is down. Default "other-agent".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<Confirm>,
    /// So many results in a row, before it is confirmed. 1 to 100; default 1, or 3 where nothing is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
    /// So many good results in a row end an alert. 1 to 100; default 1, or 2 where nothing is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<u32>,
    /// Whether `degraded` is told too; otherwise it counts as up. Default false.
    #[serde(default, skip_serializing_if = "is_no")]
    pub alert_degraded: bool,
    /// The channels that are told, by name. Default: all that there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
}

fn is_no(b: &bool) -> bool {
    !*b
}

fn yes() -> bool {
    true
}

fn is_yes(b: &bool) -> bool {
    *b
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// `POST /v1/monitors/apply`: all of it or nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// As people write them, each checked by the control plane: JSON instead of [`MonitorSpec`], so that every mistake in every
    /// monitor is found at once.
    #[schema(value_type = Vec<MonitorSpec>)]
    pub monitors: Vec<Value>,
    /// The channels that alerts go to, as people write them. Without this key the channels stay as they are.
    #[schema(value_type = Option<Vec<ChannelSpec>>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<Value>>,
    /// Delete the monitors that are not listed; the channels too, where the key `channels` is there.
    #[serde(default)]
    pub prune: bool,
    /// Change nothing, only tell.
    #[serde(default)]
    pub dry_run: bool,
}

/// What becomes of one monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Created,
    /// It differs.
    Updated,
    /// It is as before.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// One line of the answer to an apply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Applied {
    /// The monitor's name.
    pub monitor: String,
    /// What became of it.
    pub change: Change,
    /// The keys that differ, as JSON pointers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
}

/// The answer to an apply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApplyAnswer {
    /// One entry a monitor, in the order of the request, deleted ones last.
    pub changes: Vec<Applied>,
    /// One entry a channel, likewise; empty when the request has no channels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelApplied>,
}

/// What a monitor shows: the state of its latest result, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// The latest result says so.
    Up,
    /// The latest result says so.
    Degraded,
    /// The latest result says so.
    Down,
    /// The latest check could not be made.
    Error,
    /// No result for two intervals and the timeout.
    Unknown,
    /// No result yet.
    Pending,
    /// Not enabled.
    Disabled,
}

impl Shown {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Error => "error",
            Self::Unknown => "unknown",
            Self::Pending => "pending",
            Self::Disabled => "disabled",
        }
    }
}

impl From<State> for Shown {
    fn from(state: State) -> Self {
        match state {
            State::Up => Self::Up,
            State::Degraded => Self::Degraded,
            State::Down => Self::Down,
            State::Error => Self::Error,
        }
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A monitor as `GET /v1/monitors` lists it and `GET /v1/monitors/{name}` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MonitorView {
    /// Its id.
    pub id: MonitorId,
    /// As people wrote it, defaults filled in.
    #[serde(flatten)]
    pub spec: MonitorSpec,
    /// The worst over its locations.
    pub state: Shown,
    /// Each location's own.
    pub by_location: Vec<LocationState>,
    /// How much of the last 24 hours, 7 days and 30 days its target was up: the mean over the locations, so that one of them is
    /// neither the whole truth nor hidden by the others. Only in `GET /v1/monitors/{name}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uptime: Vec<Uptime>,
}

/// How a monitor's target fared in a span of time that ends now. A result speaks until the next one, at most for two intervals and the
/// timeout, at the time at which it was made, however late it came. Time before the monitor was made or while it was not enabled does
/// not count; `known_s` and `unknown_s` are all the time that does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Uptime {
    /// "24h", "7d" or "30d".
    pub window: String,
    /// Up and degraded as a share of what is known, rounded down to three decimals: 100 only without any down time. None while
    /// nothing is known.
    pub up_percent: Option<f64>,
    /// Seconds for which the target's state is known: up, degraded or down.
    pub known_s: u64,
    /// Seconds for which it is not: no result, a gap, or a check that could not be made.
    pub unknown_s: u64,
    /// Known seconds of it that were down.
    pub down_s: u64,
    /// Known seconds of it that were degraded.
    pub degraded_s: u64,
    /// Unknown seconds of it in which the check could not be made.
    pub error_s: u64,
}

impl std::fmt::Display for Uptime {
    /// "99.93 % of 23 h 10 min known, 50 min unknown; down 59 s".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.percent() {
            None => write!(f, "nothing known, {} unknown", Span(self.unknown_s))?,
            Some(percent) => {
                write!(f, "{percent} of {} known, {} unknown", Span(self.known_s), Span(self.unknown_s))?;
            }
        }
        if self.down_s > 0 {
            write!(f, "; down {}", Span(self.down_s))?;
        }
        Ok(())
    }
}

impl Uptime {
    /// "99.93 %", rounded down; none while nothing is known.
    pub fn percent(&self) -> Option<String> {
        // Thousandths of a percent, which a float holds exactly enough to be counted.
        let thousandths = (self.up_percent? * 1_000.0).round() as u64;
        Some(match thousandths {
            100_000.. => "100 %".to_owned(),
            less => format!("{}.{:02} %", less / 1_000, less % 1_000 / 10),
        })
    }
}

/// Seconds in the two largest units that they fill: "6 d 23 h", "50 min", "0 s".
struct Span(u64);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            (self.0 / 86_400, "d"),
            (self.0 / 3_600 % 24, "h"),
            (self.0 / 60 % 60, "min"),
            (self.0 % 60, "s"),
        ];
        let largest = parts.iter().position(|(n, _)| *n > 0).unwrap_or(parts.len() - 1);
        let (n, unit) = parts[largest];
        write!(f, "{n} {unit}")?;
        match parts.get(largest + 1) {
            Some((n, unit)) if *n > 0 => write!(f, " {n} {unit}"),
            _ => Ok(()),
        }
    }
}

/// The state of a monitor at one location.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LocationState {
    /// Which location.
    pub location: String,
    /// The agent that sent the latest result.
    pub agent: Option<String>,
    /// The state.
    pub state: Shown,
    /// Code of the latest result.
    pub code: Option<String>,
    /// Summary of the latest result.
    pub summary: Option<String>,
    /// When the latest result started.
    pub last_result_at: Option<Timestamp>,
    /// As the monitor's own, of this location.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uptime: Vec<Uptime>,
}

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
    pub gap: crate::results::Gap,
    /// When it was stored, by the control plane's clock.
    pub received_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_reads_as_a_sentence_and_is_never_rounded_up() {
        let uptime = Uptime {
            window: "24h".into(),
            up_percent: Some(99.929),
            known_s: 23 * 3_600 + 600,
            unknown_s: 3_000,
            down_s: 59,
            degraded_s: 0,
            error_s: 0,
        };
        assert_eq!(uptime.to_string(), "99.92 % of 23 h 10 min known, 50 min unknown; down 59 s");
        for (percent, text) in [(100.0, "100 %"), (99.999, "99.99 %"), (0.0, "0.00 %"), (7.05, "7.05 %")] {
            assert_eq!(Uptime { up_percent: Some(percent), ..uptime.clone() }.percent().unwrap(), text);
        }
        let silent = Uptime { up_percent: None, known_s: 0, unknown_s: 86_400, down_s: 0, ..uptime };
        assert_eq!(silent.to_string(), "nothing known, 1 d unknown");
    }

    #[test]
    fn a_span_has_two_units_at_most() {
        for (seconds, text) in
            [(0, "0 s"), (61, "1 min 1 s"), (3_600, "1 h"), (604_799, "6 d 23 h"), (86_459, "1 d")]
        {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }
}
