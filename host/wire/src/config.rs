//! What an agent is told to do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::MonitorId;
use crate::manner::Manner;

/// Bytes of a whole configuration as JSON, and of a request that applies monitors: about 200,000 of them. An agent refuses more, so
/// that nothing packed small grows without a bound.
pub const LIMIT: usize = 64 * 1024 * 1024;

/// The media type of an answer packed with zstd. An agent that can read it says so in `accept`, over HTTPS; what it is then given is
/// signed as it travels, and shows by its first bytes what it is.
pub const PACKED: &str = "application/zstd";

/// With what every zstd frame begins (RFC 8878, section 3.1.1), and no JSON.
pub const PACKED_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Bytes that a packed configuration may refer back to, as a power of two: what an agent holds while it reads one.
pub const PACKED_WINDOW_LOG: u32 = 21;

/// Answer to `GET /v1/config?wait=SECONDS`: with `If-None-Match` and a current ETag the answer waits up to that long for a change and
/// is 304 when there was none. A version is whole; versions only grow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Configuration {
    /// Grows with every change.
    pub version: u64,
    /// By check, members of the configuration that its monitors have where they do not say otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, Object>)]
    pub common: BTreeMap<String, Map<String, Value>>,
    /// The monitors that this agent runs.
    pub monitors: Vec<Assignment>,
}

/// One monitor, as an agent runs it: checked, defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Assignment {
    /// Which monitor.
    pub id: MonitorId,
    /// Its name.
    pub name: String,
    /// The plugin: a bundled one's name ("http"), with a major version ("http@0"), or "sha256:" and a digest.
    pub check: String,
    /// Milliseconds from start to start; at least 1,000.
    pub interval_ms: u64,
    /// Milliseconds from resolve to verdict; below the interval.
    pub timeout_ms: u64,
    /// The plugin's configuration without what is in `common`; secrets as `{"$secret": name}`.
    #[schema(value_type = Object)]
    pub config: Value,
    /// Targets beside those that `config` names: "host", "host:port", "*.example.com:443", "10.0.0.0/8", "10.0.0.0/8:5432".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// How it is run, whatever its check.
    #[serde(default, skip_serializing_if = "Manner::is_plain")]
    pub manner: Manner,
    /// For people and filters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// SHA-256 over check, configuration, allow and manner, lower-case hexadecimal; stands in every result.
    pub digest: String,
}
