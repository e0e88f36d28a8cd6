//! The state that everything shares: what is kept, held in memory, and who is present. Owns the locks; what is decided is decided by
//! the pure modules, what is written is written by the store.
//!
//! Methods here block on the disk: callers are on threads that may. A change holds `changing` from its reading to its end, so changes
//! happen one after another; readers take the registry as it was last.

mod registry;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use wire::plugin::PluginView;
use wire::{AgentId, HEARTBEAT_S, MonitorId, Position, Problem, Timestamp};

use crate::alert::Book;
use crate::assign::{self, Candidate, Choice, Placement};
use crate::clock::{Clock, Now};
use crate::events::Told;
use crate::herd::Herd;
use crate::identity::keys::Keys;
use crate::identity::lease::{Nonces, Sessions};
use crate::ingest::Ahead;
use crate::monitors::Checks;
use crate::page::Logins;
use crate::pushes::Pushes;
use crate::store::{self, Row, Store, Write};
use crate::uptime::Memos;
use crate::warnings::Warnings;
pub(crate) use registry::{Registry, Written};

/// The control plane without its server.
pub(crate) struct Control {
    pub(crate) parts: Parts,
    pub(crate) sessions: Mutex<Sessions>,
    /// Given out for recoveries.
    pub(crate) challenges: Mutex<Nonces>,
    pub(crate) told_events: Mutex<Told>,
    pub(crate) presence: Mutex<HashMap<AgentId, Presence>>,
    /// When this start was, by the clock that never jumps.
    pub(crate) started_up_ms: u64,
    /// When the control plane was last there before this start; none if nobody kept it.
    pub(crate) alive_before: Option<Timestamp>,
    pub(crate) logins: Mutex<Logins>,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) herd: Herd,
    pub(crate) warnings: Mutex<Warnings>,
    /// What was learned of the monitors' histories.
    pub(crate) memos: Mutex<Memos>,
    /// Arrival of the last result, for those who follow.
    pub(crate) arrived: watch::Sender<u64>,
    /// Counts the changes of what agents are told.
    pub(crate) told: watch::Sender<u64>,
    pub(crate) pushes: Mutex<Pushes>,
    /// Counts the pushes, to wake whoever carries them.
    pub(crate) pushed: watch::Sender<u64>,
    /// What alerts remember.
    pub(crate) alerts: Mutex<Book>,
    /// Counts the moments at which somebody is to be told, to wake whoever delivers.
    pub(crate) rang: watch::Sender<u64>,
    /// Whether it ends: whoever waits for something stops waiting.
    pub(crate) closing: watch::Sender<bool>,
    registry: RwLock<Arc<Registry>>,
    placement: RwLock<Arc<Placement>>,
    changing: Mutex<()>,
}

/// What a [`Control`] is made of.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) keys: Keys,
    pub(crate) checks: Box<dyn Checks>,
    pub(crate) plugins: Vec<PluginView>,
    pub(crate) setup_token_ttl: Duration,
    /// Whether browsers reach us by TLS.
    pub(crate) secure: bool,
}

/// What an agent said last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Presence {
    /// By the clock that never jumps; none since the start.
    pub(crate) seen_up_ms: Option<u64>,
    pub(crate) seen_at: Option<Timestamp>,
    pub(crate) pending: Option<u64>,
}

/// How far each history is stored, and the latest results. Held by one ingest at a time.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) cursors: HashMap<AgentId, Position>,
    /// What came by the live lane and stands after the cursor.
    pub(crate) ahead: HashMap<AgentId, Ahead>,
    pub(crate) latest: HashMap<MonitorId, BTreeMap<String, Row>>,
}

impl Progress {
    /// The agent's cursor, and the last position that is stored at all.
    pub(crate) fn reached(&self, agent: AgentId) -> (Position, Position) {
        let cursor = self.cursors.get(&agent).copied().unwrap_or_default();
        let ahead = self.ahead.get(&agent).and_then(|ahead| ahead.keys().next_back().copied());
        (cursor, cursor.max(ahead.unwrap_or_default()))
    }
}

impl Control {
    /// Loads what the store keeps. Each start has a configuration version of its own: after it the monitors may be placed anew. It is
    /// the wall clock's seconds at least, so that after a restore from a backup agents do not refuse it as older than the one they have.
    pub(crate) fn load(parts: Parts) -> Result<Self, store::Error> {
        let Parts { store, clock, .. } = &parts;
        let mut kept = store.load()?;
        let alerts = Book::load(&mut kept);
        let seconds = u64::try_from(clock().wall.as_millis() / 1_000).unwrap_or_default();
        let version = (kept.version + 1).max(seconds);
        store.commit(&[Write::Version(version)])?;
        let mut progress = Progress::default();
        let mut presence = HashMap::<_, Presence>::new();
        for (agent, cursor, at) in kept.cursors {
            progress.cursors.insert(agent, cursor);
            presence.entry(agent).or_default().seen_at = Some(at);
        }
        for (agent, position, id) in kept.ahead {
            progress.ahead.entry(agent).or_default().insert(position, id);
        }
        for row in kept.latest {
            progress.latest.entry(row.result.monitor_id).or_default().insert(row.location.clone(), row);
        }
        let registry = Registry::new(kept.agents, kept.monitors, kept.channels, version);
        let control = Self {
            arrived: watch::Sender::new(store.arrived()),
            told: watch::Sender::new(0),
            memos: Mutex::default(),
            pushes: Mutex::default(),
            pushed: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            alerts: Mutex::new(alerts),
            rang: watch::Sender::new(0),
            sessions: Mutex::default(),
            challenges: Mutex::default(),
            told_events: Mutex::default(),
            presence: Mutex::new(presence),
            started_up_ms: clock().up_ms,
            // A time that has not come yet was written by a clock that was wrong, and says nothing about anybody's silence.
            alive_before: kept.alive.filter(|alive| *alive <= clock().wall),
            logins: Mutex::default(),
            progress: Mutex::new(progress),
            herd: Herd::default(),
            warnings: Mutex::default(),
            registry: RwLock::new(Arc::new(registry)),
            placement: RwLock::default(),
            changing: Mutex::default(),
            parts,
        };
        *write(&control.placement) = Arc::new(control.place());
        Ok(control)
    }

    /// What both clocks say.
    pub(crate) fn now(&self) -> Now {
        (self.parts.clock)()
    }

    /// Remembers on the disk that the control plane is there: the silence of agents counts only while somebody listens.
    pub(crate) fn keep_alive(&self) -> Result<(), store::Error> {
        self.parts.store.commit(&[Write::Alive(self.now().wall)])
    }

    /// Agents and monitors as they are.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which monitors an agent runs.
    pub(crate) fn placement(&self) -> Arc<Placement> {
        self.placement.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes agents and monitors: `decide` sees them as they are and gives what to write beside an answer; memory follows the disk.
    pub(crate) fn change<T>(
        &self,
        decide: impl FnOnce(&mut Registry) -> Result<(Vec<Written>, T), Problem>,
    ) -> Result<T, Problem> {
        let _alone = lock(&self.changing);
        let before = self.registry();
        let mut registry = Registry::clone(&before);
        let (written, answer) = decide(&mut registry)?;
        if written.is_empty() {
            return Ok(answer);
        }
        if written.iter().any(Written::moves_monitors) {
            registry.version += 1;
        }
        registry.index(&before);
        let writes = written.iter().map(Written::as_write).chain([Write::Version(registry.version)]);
        self.parts.store.commit(&writes.collect::<Vec<_>>()).map_err(|e| failed(&e))?;
        *write(&self.registry) = Arc::new(registry);
        if written.iter().any(Written::moves_monitors) {
            *write(&self.placement) = Arc::new(self.place());
            self.told.send_modify(|n| *n += 1);
        }
        Ok(answer)
    }

    /// Moves monitors away from agents that are gone and back to those that came. Of many that come at once the first moves for all: those
    /// behind it find their change made.
    pub(crate) fn settle(&self) -> Result<(), store::Error> {
        if self.choice() == self.placement().among {
            return Ok(());
        }
        let _alone = lock(&self.changing);
        let (choice, before) = (self.choice(), self.placement());
        if choice == before.among {
            return Ok(());
        }
        let mut registry = Registry::clone(&self.registry());
        let placement = assign::place(registry.all_monitors(), choice);
        if placement.is_as(&before) {
            *write(&self.placement) = Arc::new(placement);
            return Ok(());
        }
        registry.version += 1;
        self.parts.store.commit(&[Write::Version(registry.version)])?;
        *write(&self.registry) = Arc::new(registry);
        *write(&self.placement) = Arc::new(placement);
        self.told.send_modify(|n| *n += 1);
        Ok(())
    }

    fn place(&self) -> Placement {
        assign::place(self.registry().all_monitors(), self.choice())
    }

    fn choice(&self) -> Choice {
        let registry = self.registry();
        let wanted = registry.agents.values().filter(|a| a.is_wanted());
        assign::choice(wanted.map(|a| Candidate {
            id: a.id,
            location: a.location.clone(),
            present: self.is_present(a.id),
        }))
    }

    /// Whether the agent was heard from within three heartbeats. While the control plane itself is younger than that and the longest
    /// wait of an agent that did not reach it, everybody is taken to be there: nothing moves because of a restart.
    pub(crate) fn is_present(&self, agent: AgentId) -> bool {
        let up_ms = self.now().up_ms;
        up_ms < AWAY_MS + GRACE_MS || self.is_connected(agent)
    }

    /// Whether the agent was heard from within three heartbeats.
    pub(crate) fn is_connected(&self, agent: AgentId) -> bool {
        let seen = lock(&self.presence).get(&agent).and_then(|p| p.seen_up_ms);
        seen.is_some_and(|seen| self.now().up_ms.saturating_sub(seen) <= AWAY_MS)
    }

    /// Remembers a sign of life. Gives whether the agent was away.
    pub(crate) fn seen(&self, agent: AgentId, pending: Option<u64>) -> bool {
        let (now, was) = (self.now(), self.is_connected(agent));
        let mut presence = lock(&self.presence);
        let entry = presence.entry(agent).or_default();
        entry.seen_up_ms = Some(now.up_ms);
        entry.seen_at = Some(now.wall);
        entry.pending = pending.or(entry.pending);
        !was
    }
}

/// A lock whose holder panicked protects values that are replaced whole: they are good.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// The store's failure as an answer: the log tells the operator why, the caller only learns that it is worth trying again.
pub(crate) fn failed(error: &store::Error) -> Problem {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, cause, "the store failed");
    Problem::new(Problem::INTERNAL, "the control plane cannot reach its store: try again")
}

/// Three heartbeats.
const AWAY_MS: u64 = 3 * HEARTBEAT_S * 1000;

/// The longest that an agent waits between two attempts.
const GRACE_MS: u64 = 60_000;
