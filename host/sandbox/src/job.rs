//! What goes into a run and what comes out of it, both plain data: the sandbox could live in another process.

use std::sync::Arc;
use std::time::Duration;

use crate::limits::Limits;
use crate::log::Level;
use crate::redact::Secrets;
use crate::verdict::{Fault, Verdict};

/// One run.
#[derive(Debug, Clone)]
pub struct Job {
    /// The monitor's name, for messages.
    pub monitor: String,
    /// The configuration, completed by [`Schema::complete`](crate::Schema::complete), as the JSON text that the plugin reads.
    pub config: String,
    /// Which attempt at the same planned time this is, from 1.
    pub attempt: u32,
    /// When the host's own operations give up; the run is ended [`Limits::grace`] later.
    pub timeout: Duration,
    /// What may be reached.
    pub grant: Arc<net::Grant>,
    /// How it is gone to.
    pub route: net::Route,
    /// The secrets that the configuration names, with their bytes.
    pub secrets: Secrets,
    /// The bounds.
    pub limits: Limits,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Outcome, failure or fault.
    pub verdict: Verdict,
    /// What the host measured: phases, peer, denials, bytes.
    pub measured: net::Measured,
    /// From the start of the run to its end.
    pub duration: Duration,
    /// The check's notes and what it printed, oldest first, redacted.
    pub log: Vec<(Level, String)>,
    /// Names of metrics that were dropped because the plugin does not describe them; at most 16.
    pub undescribed: Vec<String>,
    /// What the run used of its limits.
    pub spent: Spent,
}

impl Report {
    /// The report of a run that did not begin.
    pub fn fault(fault: Fault) -> Report {
        Report {
            verdict: Verdict::Fault(fault),
            measured: net::Measured::default(),
            duration: Duration::ZERO,
            log: Vec::new(),
            undescribed: Vec::new(),
            spent: Spent::default(),
        }
    }
}

/// What a run used of its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Time on the processor, counted in ticks of 10 ms or less.
    pub cpu: Duration,
    /// Linear memory at its largest, in bytes.
    pub memory: usize,
    /// Calls to the host.
    pub calls: u32,
}
