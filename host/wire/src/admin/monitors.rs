//! Monitors as people write, apply and see them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Uptime;
use crate::alert::{ChannelApplied, ChannelSpec, Confirm, Severity};
use crate::maintenance::Maintenance;
use crate::manner::{AddressMode, IpFamily, Proxy, Tls};
use crate::results::State;
use crate::{MonitorId, Timestamp};

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
    /// Further attempts after one that is down; the last one's verdict counts. 0 to 10, all of them within the interval. Default 1
    /// where that fits, else 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// From the end of an attempt to the start of the next one: "5s". Default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_interval: Option<String>,
    /// A success for which the network took longer is degraded: "500ms", below the timeout. Default: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded_after: Option<String>,
    /// Which addresses of a name are used, where the check's own configuration does not say. Default "any".
    #[serde(default, skip_serializing_if = "is_default")]
    pub ip_family: IpFamily,
    /// How many of the addresses of the target's name are used: "any" the first that answers, "first" no other than the first, "all" each
    /// by itself, and the worst counts. Default "any".
    #[serde(default, skip_serializing_if = "is_default")]
    pub address_mode: AddressMode,
    /// Name servers that are asked instead of the agent's own: addresses, "10.0.0.53" or "10.0.0.53:5353"; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolver: Vec<String>,
    /// An HTTP proxy for every TCP connection of the check: "http://host:port", or an object with `url`, `user` and `password`. Only one
    /// that the agent's operator named with `--allow`. Names are resolved by the agent, and the proxy is asked for addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// How TLS is spoken where the check's own configuration does not say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: Tls,
    /// Whether what is up is down, with the code "inverted", and what is down is up; an error stays one. Default false.
    #[serde(default, skip_serializing_if = "is_no")]
    pub invert: bool,
    /// Times in which nobody is alerted and uptime does not count; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Maintenance>,
    /// How grave it is when it is down; stands in its alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Where it is written what to do then: an address that begins with https:// or http://; stands in its alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook_url: Option<String>,
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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
    /// A maintenance window holds.
    Maintenance,
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
            Self::Maintenance => "maintenance",
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
            State::Maintenance => Self::Maintenance,
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
    /// When the latest result started; by the control plane's clock where the agent's is off.
    pub last_result_at: Option<Timestamp>,
    /// As the monitor's own, of this location.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uptime: Vec<Uptime>,
}
