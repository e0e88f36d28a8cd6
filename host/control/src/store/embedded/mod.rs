//! The store in the data directory: fjall, alone in this folder. Owns keyspaces and durability; what is read and written beside a few
//! lines is a file each.
//!
//! Every write is a batch with `SyncAll`: without it a power cut leaves a database that opens empty, without an error.

mod codec;
mod events;
mod forget;
mod format;
mod ingest;
mod keys;
mod load;
mod put;
mod results;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use uuid::Uuid;
use wire::event::AgentEvent;
use wire::{AgentId, MonitorId, ResultId, Timestamp};

use super::{Error, Filter, Ingested, Kept, KeptGap, Point, Row, Store, Write};
use crate::alert::{Event, Parcel};
use codec::{json, number, reading, writing};
use put::put;

/// The embedded store.
pub(crate) struct Embedded {
    database: Database,
    meta: Keyspace,
    agents: Keyspace,
    monitors: Keyspace,
    cursors: Keyspace,
    ahead: Keyspace,
    rows: Keyspace,
    by_monitor: Keyspace,
    by_time: Keyspace,
    arrivals: Keyspace,
    latest: Keyspace,
    gaps: Keyspace,
    agent_events: Keyspace,
    channels: Keyspace,
    units: Keyspace,
    digests: Keyspace,
    alerts: Keyspace,
    parcels: Keyspace,
    /// Held from giving out arrivals to the end of their commit: readers that follow must never see a later one first.
    writer: Mutex<()>,
    arrived: AtomicU64,
}

impl Embedded {
    /// Opens it, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |e: fjall::Error| Error::Open { path: path.to_owned(), source: e.into() };
        // For the owner only, before there is anything in it.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|e| failed(e.into()))?;
        format::claim(path)?;
        let database = Database::builder(path)
            .max_journaling_size(JOURNALS)
            .cache_size(CACHE)
            .worker_threads(2)
            .open()
            .map_err(failed)?;
        let keyspace = |name| {
            database
                .keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE))
                .map_err(failed)
        };
        let arrivals = keyspace("arrivals")?;
        let arrived = match arrivals.last_key_value() {
            Some(last) => number(&last.key().map_err(failed)?)?,
            None => 0,
        };
        Ok(Self {
            meta: keyspace("meta")?,
            agents: keyspace("agents")?,
            monitors: keyspace("monitors")?,
            cursors: keyspace("cursors")?,
            ahead: keyspace("ahead")?,
            rows: keyspace("rows")?,
            by_monitor: keyspace("by_monitor")?,
            by_time: keyspace("by_time")?,
            latest: keyspace("latest")?,
            gaps: keyspace("gaps")?,
            agent_events: keyspace("agent_events")?,
            channels: keyspace("channels")?,
            units: keyspace("units")?,
            digests: keyspace("digests")?,
            alerts: keyspace("alerts")?,
            parcels: keyspace("parcels")?,
            arrivals,
            database,
            writer: Mutex::new(()),
            arrived: AtomicU64::new(arrived),
        })
    }

    fn batch(&self) -> OwnedWriteBatch {
        self.database.batch().durability(Some(PersistMode::SyncAll))
    }
}

impl Store for Embedded {
    fn load(&self) -> Result<Kept, Error> {
        load::load(self)
    }

    fn commit(&self, writes: &[Write<'_>]) -> Result<(), Error> {
        let mut batch = self.batch();
        // An event is numbered after the last one that is stored.
        let _alone = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writes.iter().try_for_each(|write| put(self, &mut batch, write))?;
        batch.commit().map_err(writing("agents and monitors"))
    }

    fn known(&self, ids: &[ResultId]) -> Result<Vec<bool>, Error> {
        ids.iter().map(|id| self.rows.contains_key(id.0.as_bytes()).map_err(reading("a result"))).collect()
    }

    fn ingest(&self, ingested: &Ingested<'_>) -> Result<u64, Error> {
        ingest::ingest(self, ingested)
    }

    fn check(&self) -> Result<(), Error> {
        self.database.persist(PersistMode::SyncAll).map_err(writing("anything"))
    }

    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }

    fn newest(&self, filter: &Filter, upto: u64, limit: usize) -> Result<Vec<Row>, Error> {
        results::newest(self, filter, upto, limit)
    }

    fn arrivals(&self, after: u64, filter: &Filter, limit: usize) -> Result<(Vec<Row>, u64), Error> {
        results::arrivals(self, after, filter, limit)
    }

    fn history(&self, monitor: MonitorId, from: Timestamp, to: Timestamp) -> Result<Vec<Point>, Error> {
        results::history(self, monitor, from, to)
    }

    fn gaps(&self, agent: Option<AgentId>, limit: usize) -> Result<Vec<KeptGap>, Error> {
        let gaps = self.gaps.iter().rev().map(|entry| {
            let value = entry.value().map_err(reading("a gap"))?;
            json::<KeptGap>(&value, "a gap")
        });
        let wanted = |gap: &Result<KeptGap, Error>| match gap {
            Ok(gap) => agent.is_none_or(|a| a == gap.agent),
            Err(_) => true,
        };
        gaps.filter(wanted).take(limit).collect()
    }

    fn agent_events(&self, agent: Option<AgentId>, limit: usize) -> Result<Vec<AgentEvent>, Error> {
        match agent {
            Some(agent) => events::events_of(self, agent).take(limit).collect(),
            None => events::events_of_all(self, limit),
        }
    }

    fn alerts(&self, since: Option<Timestamp>, limit: usize) -> Result<Vec<Event>, Error> {
        let from = keys::alert(since.unwrap_or_default());
        let events = self.alerts.range(from..).rev().map(|entry| {
            let value = entry.value().map_err(reading("an event"))?;
            json(&value, "an event")
        });
        events.take(limit).collect()
    }

    fn alert(&self, id: Uuid) -> Result<Option<Event>, Error> {
        let found = self.alerts.get(id.as_bytes()).map_err(reading("an event"))?;
        found.map(|value| json(&value, "an event")).transpose()
    }

    fn parcels(&self, event: Uuid) -> Result<Vec<Parcel>, Error> {
        let parcels = self.parcels.prefix(event.as_bytes()).map(|entry| {
            let value = entry.value().map_err(reading("a delivery"))?;
            json(&value, "a delivery")
        });
        parcels.collect()
    }

    fn forget_alerts(&self, made_before: Timestamp) -> Result<(), Error> {
        forget::forget_alerts(self, made_before)
    }

    fn forget(&self, received_before: Timestamp, now: Timestamp, limit: usize) -> Result<usize, Error> {
        forget::forget(self, received_before, now, limit)
    }
}

const VERSION: &str = "version";
const ALIVE: &str = "alive";
const WATCH: &str = "watch";

/// Bytes of all journals together: unbounded, they grow to hundreds of megabytes while flushing falls behind.
const JOURNALS: u64 = 128 * 1024 * 1024;

/// Bytes of a keyspace's write buffer.
const MEMTABLE: u64 = 8 * 1024 * 1024;

/// Bytes of blocks kept in memory.
const CACHE: u64 = 64 * 1024 * 1024;
