//! What a run asked of the world and what it heard, written down: so that it can be looked at, and repeated without a network.
//! Owns the format; `record` writes it, `replay` plays it, `mask` keeps secrets out of it. docs/trace.md says the same for people.

mod mask;
mod record;
mod replay;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use replay::{Divergence, Replayed};

use crate::job::Job;
use crate::plugin::Plugin;

/// The format that this version writes and reads. A field may be added to it; whoever reads ignores what it does not know.
pub const FORMAT: &str = "picket-trace/1";

/// What a library's own network goes through: reads and writes of any length at any time, which no replay could repeat.
pub const SOCKETS: &str = "wasi:sockets";

/// One run, as a file holds it. No secret is in it: every byte of one is a `*`, and so is every byte of a proof made with one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// [`FORMAT`].
    pub format: String,
    /// The version of Picket that wrote it.
    pub picket: String,
    /// What ran.
    pub plugin: Subject,
    /// The monitor's name, for messages.
    pub monitor: String,
    /// Which attempt at the same planned time it was, from 1.
    pub attempt: u32,
    /// When the host's own operations gave up.
    pub timeout_ms: u64,
    /// The completed configuration, secrets as references.
    pub config: Value,
    /// What the component's randomness was made of, in base64: the bytes, repeated.
    pub random: String,
    /// Every call to the world, oldest first.
    pub calls: Vec<Call>,
    /// Interfaces that the component used beside these, whose traffic is not in the trace: [`SOCKETS`]. A replay denies them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwritten: Vec<String>,
    /// What the host measured.
    pub measured: net::Measured,
    /// What came of the run, in words for who reads the file.
    pub verdict: Value,
}

/// What ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The plugin's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// "sha256:" and 64 hexadecimal digits.
    pub digest: String,
}

/// One call and its answer: exactly one of `answer` and `failure`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Interface and function as in `wit/`: "tcp.connect", "tcp.read"; "clock.wall" and "clock.elapsed" for readings of clocks.
    pub call: String,
    /// Which connection, counted from 1 in the order in which they were opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<u32>,
    /// What was asked.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub asked: Value,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<net::Failure>,
}

/// Why a file is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Not this format.
    #[error("not a trace of a run: {0}")]
    Form(#[from] serde_json::Error),
    /// Another format.
    #[error("the trace has the format {found:?}, this version reads {FORMAT:?}")]
    Format {
        /// What it says of itself.
        found: String,
    },
}

impl Trace {
    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is no trace, or one of another format.
    pub fn read(text: &str) -> Result<Trace, TraceError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
        }
        let head: Head = serde_json::from_str(text)?;
        if head.format != FORMAT {
            return Err(TraceError::Format { found: crate::redact::cut(head.format, 64).0 });
        }
        Ok(serde_json::from_str(text)?)
    }

    /// The job of the run, with nothing granted: a replay reaches nothing. Each secret has bytes that nobody has to keep.
    pub(crate) fn job(&self, plugin: &Plugin) -> Job {
        let mut secrets = crate::Secrets::new();
        for name in plugin.schema.secret_names(&self.config) {
            secrets.insert(name, b"*".to_vec());
        }
        Job {
            monitor: self.monitor.clone(),
            config: self.config.to_string(),
            attempt: self.attempt,
            timeout: Duration::from_millis(self.timeout_ms),
            grant: Arc::default(),
            route: net::Route::default(),
            secrets,
            limits: crate::Limits::default(),
        }
    }

    /// How often each function was called, for a person.
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for call in &self.calls {
            *counts.entry(call.call.as_str()).or_default() += 1;
        }
        counts
    }
}

/// Readings of clocks, which a component may make more or fewer of than the one of the trace did.
fn is_reading(call: &str) -> bool {
    call.starts_with("clock.")
}
