//! What is kept, and the only door to the disk behind it. Owns the shapes of what is kept and the promises of a store; decides
//! nothing: what is written was decided by whoever calls.
//!
//! A store is one trait so that a PostgreSQL one can stand beside the embedded one. Its methods block: they are called from threads
//! that may.

mod embedded;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wire::event::AgentEvent;
use wire::results::{Delivery, Gap, RunResult, State};
use wire::{AgentId, MonitorId, Position, ResultId, Timestamp};

use crate::agents::Agent;
use crate::alert::{Channel, Digest, Event, KeptUnit, Parcel, Watch};
use crate::monitors::Monitor;
pub(crate) use embedded::Embedded;

/// What a store promises: a method that writes returns after the write is on disk, whole or not at all.
pub(crate) trait Store: Send + Sync + 'static {
    /// Everything that is held in memory while the control plane runs.
    fn load(&self) -> Result<Kept, Error>;

    /// Agents, monitors and the version change together.
    fn commit(&self, writes: &[Write<'_>]) -> Result<(), Error>;

    /// Which of these results are stored already.
    fn known(&self, ids: &[ResultId]) -> Result<Vec<bool>, Error>;

    /// Stores a batch, its cursor and the latest results in one transaction. Gives the arrival of its last result.
    fn ingest(&self, batch: &Ingested<'_>) -> Result<u64, Error>;

    /// Whether writing still works. A store that failed to write once may refuse for ever: only a new start helps then.
    fn check(&self) -> Result<(), Error>;

    /// Arrival of the last result that was stored; 0 before the first.
    fn arrived(&self) -> u64;

    /// The newest results that match, by the time at which they started, newest first; none that arrived after `upto`.
    fn newest(&self, filter: &Filter, upto: u64, limit: usize) -> Result<Vec<Row>, Error>;

    /// What was stored after an arrival and matches, in the order of storing, and the arrival up to which was looked.
    fn arrivals(&self, after: u64, filter: &Filter, limit: usize) -> Result<(Vec<Row>, u64), Error>;

    /// The states of a monitor whose runs started within `[from, to)`, oldest first.
    fn history(&self, monitor: MonitorId, from: Timestamp, to: Timestamp) -> Result<Vec<Point>, Error>;

    /// Gaps, newest receipt first.
    fn gaps(&self, agent: Option<AgentId>, limit: usize) -> Result<Vec<KeptGap>, Error>;

    /// What befell one agent, or all, newest first. The newest 1,000 of each are kept.
    fn agent_events(&self, agent: Option<AgentId>, limit: usize) -> Result<Vec<AgentEvent>, Error>;
    /// Events of alerts, made then or later, newest first.
    fn alerts(&self, since: Option<Timestamp>, limit: usize) -> Result<Vec<Event>, Error>;

    /// One event.
    fn alert(&self, id: Uuid) -> Result<Option<Event>, Error>;

    /// The deliveries of an event, by channel.
    fn parcels(&self, event: Uuid) -> Result<Vec<Parcel>, Error>;

    /// Deletes the events that were made before and their deliveries, unless their alerts go on.
    fn forget_alerts(&self, made_before: Timestamp) -> Result<(), Error>;

    /// Deletes at most `limit` results and gaps that were received before. Gives how many; fewer than `limit` means that none is left.
    /// What claims to come after `now` is passed over.
    fn forget(&self, received_before: Timestamp, now: Timestamp, limit: usize) -> Result<usize, Error>;
}

/// What [`Store::load`] gives.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// All agents.
    pub agents: Vec<Agent>,
    /// All monitors.
    pub monitors: Vec<Monitor>,
    /// Version of the configuration; 0 at first.
    pub version: u64,
    /// When the control plane was last there; none at first.
    pub alive: Option<Timestamp>,
    /// How far each agent's history is stored, and when the last of it came.
    pub cursors: Vec<(AgentId, Position, Timestamp)>,
    /// What of each agent's history is stored ahead of its cursor.
    pub ahead: Vec<(AgentId, Position, ResultId)>,
    /// The latest result of each monitor at each location.
    pub latest: Vec<Row>,
    /// The channels that alerts go to.
    pub channels: Vec<Channel>,
    /// What alerts said last about each monitor at each location.
    pub units: Vec<KeptUnit>,
    /// What outages hid and was not told yet.
    pub digests: Vec<Digest>,
    /// What is watched about agents.
    pub watch: Watch,
    /// Events whose alerts go on.
    pub open: Vec<Event>,
    /// Deliveries that are not over.
    pub waiting: Vec<Parcel>,
}

/// One part of a [`Store::commit`] or of an [`Ingested`].
#[derive(Debug)]
pub(crate) enum Write<'a> {
    /// A new agent, or an agent's new state.
    Agent(&'a Agent),
    /// An agent that is no more, with its events; its results stay.
    AgentGone(AgentId),
    /// Something befell an agent; the oldest entry goes when there are too many.
    Event(AgentId, &'a AgentEvent),
    /// A new monitor, or a monitor's new state.
    Monitor(&'a Monitor),
    /// A monitor that is no more; its results stay.
    MonitorGone(MonitorId),
    /// The configuration's version.
    Version(u64),
    /// The control plane is there.
    Alive(Timestamp),
    /// A new or different channel.
    Channel(&'a Channel),
    /// A channel that is no more.
    ChannelGone(&'a str),
    /// What alerts said last about a monitor at a location.
    Unit(&'a KeptUnit),
    /// A monitor that does not run at a location any more.
    UnitGone(MonitorId, &'a str),
    /// What an outage hid so far.
    Digest(&'a Digest),
    /// It was told.
    DigestGone(AgentId),
    /// What is watched about agents.
    Watch(&'a Watch),
    /// A new event of an alert, or its new state.
    Told(&'a Event),
    /// A new delivery, or a delivery's new state.
    Parcel(&'a Parcel),
}

/// One result and what the control plane knows beside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Which agent sent it.
    pub agent: AgentId,
    /// Its name at that time.
    pub agent_name: String,
    /// Its location at that time.
    pub location: String,
    /// Where it stands in the agent's history.
    pub position: Position,
    /// When it came.
    pub received_at: Timestamp,
    /// How it came.
    pub delivery: Delivery,
    /// Milliseconds from the end of the run until it was sent, by a clock that never jumps; none when the agent did not know.
    #[serde(default)]
    pub age_ms: Option<u64>,
    /// As recorded, but for the state within a maintenance window.
    pub result: RunResult,
    /// What was found, within a maintenance window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<State>,
}

impl Row {
    /// The same, in maintenance: it stays what it is, however the monitor's windows change.
    pub(crate) fn maintained(mut self) -> Self {
        self.found = Some(std::mem::replace(&mut self.result.state, State::Maintenance));
        self
    }

    /// Where it stands in time, for everybody: its start by the agent's clock, though never after its receipt, so that an agent whose
    /// clock is ahead does not hide everybody else's results. An age that contradicts that clock is believed instead.
    pub(crate) fn at(&self) -> Timestamp {
        let told = self.result.started_at.min(self.received_at);
        let Some(age_ms) = self.age_ms else { return told };
        let since_ms = i64::try_from(age_ms.saturating_add(self.result.duration_ms)).unwrap_or(i64::MAX);
        let counted = self.received_at.plus_millis(-since_ms);
        let apart_ms = self.result.started_at.as_millis().abs_diff(counted.as_millis());
        if apart_ms > SKEW_MS { counted } else { told }
    }
}

/// So far a clock may be off before the age of a result says more.
const SKEW_MS: u64 = 300_000;

/// A gap and what the control plane knows beside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptGap {
    /// Whose history has it.
    pub agent: AgentId,
    /// Its name at that time.
    pub agent_name: String,
    /// When it came or was noticed.
    pub received_at: Timestamp,
    /// As recorded.
    pub gap: Gap,
}

/// One batch, as decided by `ingest`.
#[derive(Debug)]
pub(crate) struct Ingested<'a> {
    /// Who sent it.
    pub agent: AgentId,
    /// Up to where its history is stored with this batch.
    pub cursor: Position,
    /// When it came.
    pub received_at: Timestamp,
    /// New results.
    pub rows: &'a [Row],
    /// New gaps.
    pub gaps: &'a [KeptGap],
    /// Those of the results that stand ahead of the cursor.
    pub ahead: &'a [(Position, ResultId)],
    /// Positions that are not ahead any more: the cursor passed them, or what stood there moved.
    pub passed: &'a [Position],
    /// Results that are stored already and stand elsewhere from now on.
    pub moved: &'a [(ResultId, Position)],
    /// Those of the results that are now the latest of their monitor and location.
    pub latest: &'a [&'a Row],
    /// What alerts make of the results.
    pub alerts: &'a [Write<'a>],
}

/// Which results are wanted; nothing set means all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Of this monitor.
    pub monitor: Option<MonitorId>,
    /// Of this agent.
    pub agent: Option<AgentId>,
    /// Started then or later.
    pub since: Option<Timestamp>,
}

/// A result reduced to what a history bar and uptime need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// When the run started, see [`Row::at`].
    pub at: Timestamp,
    /// What it found.
    pub state: State,
    /// How it came.
    pub delivery: Delivery,
    /// On which agent.
    pub agent: AgentId,
    /// Where that stood.
    pub location: Arc<str>,
}

/// The store does not work. The text inside stays the engine's own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not open.
    #[error("cannot open the store in {path}")]
    Open {
        /// Its directory.
        path: std::path::PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer version wrote it. It is left untouched.
    #[error(
        "the store in {path} was written by a newer version of picket, in format {found}; this is {}, which reads up to {known}, and it has changed nothing: run the version that wrote it, or a later one",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// Its directory.
        path: std::path::PathBuf,
        /// The format on disk.
        found: u32,
        /// The newest that we read.
        known: u32,
    },
    /// It cannot be read.
    #[error("cannot read {what}")]
    Read {
        /// What was wanted.
        what: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It cannot be written.
    #[error("cannot write {what}")]
    Write {
        /// What was to be kept.
        what: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored cannot be understood.
    #[error("cannot understand what is stored as {what}")]
    Damaged {
        /// What it should be.
        what: &'static str,
    },
}

#[cfg(test)]
pub(crate) mod tests;
