//! The store in the data directory: fjall, alone in this folder. Owns keyspaces, transactions and durability.
//!
//! Every write is a batch with `SyncAll`: without it a power cut leaves a database that opens empty, without an error.

mod keys;

use std::collections::BinaryHeap;
use std::fs::DirBuilder;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use serde::de::DeserializeOwned;
use uuid::Uuid;
use wire::event::AgentEvent;
use wire::{AgentId, MonitorId, ResultId, Timestamp};

use crate::alert::{Event, Parcel, Watch};

use super::{Error, Filter, Ingested, Kept, KeptGap, Point, Row, Store, Write};
use keys::{Arrival, Reader};

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
        claim(path)?;
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

    fn put(&self, batch: &mut OwnedWriteBatch, write: &Write<'_>) -> Result<(), Error> {
        match write {
            Write::Agent(agent) => batch.insert(&self.agents, agent.id.0.as_bytes(), bytes(agent)),
            Write::AgentGone(id) => {
                batch.remove(&self.agents, id.0.as_bytes());
                batch.remove(&self.cursors, id.0.as_bytes());
                for entry in self.ahead.prefix(id.0.as_bytes()) {
                    batch.remove(&self.ahead, entry.key().map_err(reading("a result ahead"))?);
                }
                for entry in self.agent_events.prefix(id.0.as_bytes()) {
                    batch.remove(&self.agent_events, entry.key().map_err(reading("an event"))?);
                }
            }
            Write::Event(agent, event) => {
                let last = self.agent_events.prefix(agent.0.as_bytes()).next_back();
                let number = match last {
                    Some(entry) => number(&entry.key().map_err(reading("an event"))?[16..])? + 1,
                    None => 0,
                };
                batch.insert(&self.agent_events, keys::event(*agent, number), bytes(event));
                if let Some(oldest) = number.checked_sub(EVENTS) {
                    batch.remove(&self.agent_events, keys::event(*agent, oldest));
                }
            }
            Write::Monitor(m) => batch.insert(&self.monitors, m.id.0.as_bytes(), bytes(m)),
            Write::MonitorGone(id) => {
                batch.remove(&self.monitors, id.0.as_bytes());
                for entry in self.latest.prefix(id.0.as_bytes()) {
                    batch.remove(&self.latest, entry.key().map_err(reading("a latest result"))?);
                }
            }
            Write::Version(version) => batch.insert(&self.meta, VERSION, version.to_be_bytes()),
            Write::Alive(at) => batch.insert(&self.meta, ALIVE, keys::time(*at)),
            Write::Channel(channel) => batch.insert(&self.channels, channel.name.as_bytes(), bytes(channel)),
            Write::ChannelGone(name) => batch.remove(&self.channels, name.as_bytes()),
            Write::Unit(unit) => {
                batch.insert(&self.units, keys::latest(unit.monitor, &unit.location), bytes(unit));
            }
            Write::UnitGone(monitor, location) => batch.remove(&self.units, keys::latest(*monitor, location)),
            Write::Digest(digest) => batch.insert(&self.digests, digest.agent.0.as_bytes(), bytes(digest)),
            Write::DigestGone(agent) => batch.remove(&self.digests, agent.0.as_bytes()),
            Write::Watch(watch) => batch.insert(&self.meta, WATCH, bytes(watch)),
            Write::Told(event) => batch.insert(&self.alerts, event.notice.id.as_bytes(), bytes(event)),
            Write::Parcel(parcel) => {
                batch.insert(&self.parcels, keys::parcel(parcel.event, &parcel.channel), bytes(parcel));
            }
        }
        Ok(())
    }

    /// What befell an agent, newest first.
    fn events_of(&self, agent: AgentId) -> impl Iterator<Item = Result<AgentEvent, Error>> + use<> {
        let events = self.agent_events.prefix(agent.0.as_bytes()).rev();
        events.map(|entry| json(&entry.value().map_err(reading("an event"))?, "an event"))
    }

    /// The newest of all agents. Those of each are in order, so that no more is read than the newest of each and what is given.
    fn events_of_all(&self, limit: usize) -> Result<Vec<AgentEvent>, Error> {
        let (mut agents, mut next, mut from) = (Vec::new(), BinaryHeap::new(), Some(0));
        while let Some(first) =
            from.and_then(|from: u128| self.agent_events.range(from.to_be_bytes()..).next())
        {
            let key = first.key().map_err(reading("an event"))?;
            let agent = Reader(&key).uuid().ok_or(Error::Damaged { what: "an event" })?;
            let mut events = self.events_of(AgentId(agent));
            if let Some(newest) = events.next().transpose()? {
                next.push((newest.at, agents.len()));
                agents.push((newest, events));
            }
            from = agent.as_u128().checked_add(1);
        }
        let mut found = Vec::new();
        while found.len() < limit
            && let Some((_, index)) = next.pop()
        {
            let (newest, events) = &mut agents[index];
            match events.next().transpose()? {
                Some(older) => {
                    next.push((older.at, index));
                    found.push(std::mem::replace(newest, older));
                }
                None => found.push(newest.clone()),
            }
        }
        Ok(found)
    }

    fn row(&self, id: ResultId) -> Result<Option<(u64, Row)>, Error> {
        let Some(value) = self.rows.get(id.0.as_bytes()).map_err(reading("a result"))? else {
            return Ok(None);
        };
        let mut head = Reader(&value);
        let arrival = head.u64().ok_or(Error::Damaged { what: "a result" })?;
        Ok(Some((arrival, json(head.0, "a result")?)))
    }
}

impl Store for Embedded {
    fn load(&self) -> Result<Kept, Error> {
        let version = match self.meta.get(VERSION).map_err(reading("the version"))? {
            Some(value) => number(&value)?,
            None => 0,
        };
        let cursors = self.cursors.iter().map(|entry| {
            let (key, value) = entry.into_inner().map_err(reading("a cursor"))?;
            let (mut key, mut value) = (Reader(&key), Reader(&value));
            let mut read = || Some((AgentId(key.uuid()?), value.position()?, value.time()?));
            read().ok_or(Error::Damaged { what: "a cursor" })
        });
        let ahead = self.ahead.iter().map(|entry| {
            let (key, value) = entry.into_inner().map_err(reading("a result ahead"))?;
            let (mut key, mut value) = (Reader(&key), Reader(&value));
            let mut read = || Some((AgentId(key.uuid()?), key.position()?, ResultId(value.uuid()?)));
            read().ok_or(Error::Damaged { what: "a result ahead" })
        });
        Ok(Kept {
            ahead: ahead.collect::<Result<_, _>>()?,
            agents: all(&self.agents, "an agent")?,
            monitors: all(&self.monitors, "a monitor")?,
            version,
            alive: match self.meta.get(ALIVE).map_err(reading("a time"))? {
                Some(value) => Some(Reader(&value).time().ok_or(Error::Damaged { what: "a time" })?),
                None => None,
            },
            cursors: cursors.collect::<Result<_, _>>()?,
            latest: all(&self.latest, "a latest result")?,
            channels: all(&self.channels, "a channel")?,
            units: all(&self.units, "an alert state")?,
            digests: all(&self.digests, "a digest")?,
            watch: match self.meta.get(WATCH).map_err(reading("what is watched"))? {
                Some(value) => json(&value, "what is watched")?,
                None => Watch::default(),
            },
            open: all::<Event>(&self.alerts, "an event")?.into_iter().filter(|e| e.open).collect(),
            waiting: all::<Parcel>(&self.parcels, "a delivery")?.into_iter().filter(Parcel::waits).collect(),
        })
    }

    fn commit(&self, writes: &[Write<'_>]) -> Result<(), Error> {
        let mut batch = self.batch();
        // An event is numbered after the last one that is stored.
        let _alone = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writes.iter().try_for_each(|write| self.put(&mut batch, write))?;
        batch.commit().map_err(writing("agents and monitors"))
    }

    fn known(&self, ids: &[ResultId]) -> Result<Vec<bool>, Error> {
        ids.iter().map(|id| self.rows.contains_key(id.0.as_bytes()).map_err(reading("a result"))).collect()
    }

    fn ingest(&self, ingested: &Ingested<'_>) -> Result<u64, Error> {
        let encoded: Vec<_> = ingested.rows.iter().map(bytes).collect();
        let mut batch = self.batch();
        let cursor = keys::cursor(ingested.cursor, ingested.received_at);
        batch.insert(&self.cursors, ingested.agent.0.as_bytes(), cursor);
        for kept in ingested.gaps {
            let key = keys::gap(kept.received_at, kept.agent, kept.gap.epoch, kept.gap.from);
            batch.insert(&self.gaps, key, bytes(kept));
        }
        for (position, id) in ingested.ahead {
            batch.insert(&self.ahead, keys::ahead(ingested.agent, *position), id.0.as_bytes());
        }
        for position in ingested.passed {
            batch.remove(&self.ahead, keys::ahead(ingested.agent, *position));
        }
        for (id, position) in ingested.moved {
            // One that is gone was forgotten meanwhile.
            if let Some((arrival, row)) = self.row(*id)? {
                let row = Row { position: *position, ..row };
                batch.insert(
                    &self.rows,
                    id.0.as_bytes(),
                    [&arrival.to_be_bytes()[..], &bytes(&row)].concat(),
                );
            }
        }
        for row in ingested.latest {
            batch.insert(&self.latest, keys::latest(row.result.monitor_id, &row.location), bytes(row));
        }
        ingested.alerts.iter().try_for_each(|write| self.put(&mut batch, write))?;
        let _alone = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut arrival = self.arrived();
        for (row, encoded) in ingested.rows.iter().zip(encoded) {
            arrival += 1;
            let (id, monitor, at) = (row.result.id, row.result.monitor_id, row.at());
            let behind = Arrival { received: row.received_at, at, monitor, id, agent: row.agent };
            let key = arrival.to_be_bytes();
            batch.insert(&self.rows, id.0.as_bytes(), [&key[..], &encoded].concat());
            batch.insert(&self.by_monitor, keys::by_monitor(monitor, at, id), keys::heard(row));
            let owners = [*monitor.0.as_bytes(), *row.agent.0.as_bytes()].concat();
            batch.insert(&self.by_time, keys::by_time(at, id), owners);
            batch.insert(&self.arrivals, key, behind.bytes());
        }
        batch.commit().map_err(writing("results"))?;
        self.arrived.store(arrival, Ordering::Release);
        Ok(arrival)
    }

    fn check(&self) -> Result<(), Error> {
        self.database.persist(PersistMode::SyncAll).map_err(writing("anything"))
    }

    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }

    fn newest(&self, filter: &Filter, upto: u64, limit: usize) -> Result<Vec<Row>, Error> {
        let from = keys::time(filter.since.unwrap_or(Timestamp::from_millis(i64::MIN)));
        let prefix = filter.monitor.map_or(vec![], |m| m.0.as_bytes().to_vec());
        let (first, last) = ([&prefix[..], &from].concat(), [&prefix[..], &[0xff; 24]].concat());
        let index = if filter.monitor.is_some() { &self.by_monitor } else { &self.by_time };
        let mut found = Vec::new();
        for entry in index.range(first..=last).rev() {
            let (key, value) = entry.into_inner().map_err(reading("an index"))?;
            let ids = || Some((last_uuid(&key)?, AgentId(last_uuid(&value)?)));
            let (id, agent) = ids().ok_or(Error::Damaged { what: "an index" })?;
            if filter.agent.is_some_and(|wanted| wanted != agent) {
                continue;
            }
            // A row that is gone was forgotten between the two reads.
            match self.row(ResultId(id))? {
                Some((arrival, row)) if arrival <= upto => found.push(row),
                _ => continue,
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    fn arrivals(&self, after: u64, filter: &Filter, limit: usize) -> Result<(Vec<Row>, u64), Error> {
        let upto = self.arrived();
        let mut found = Vec::new();
        if after >= upto {
            return Ok((found, after));
        }
        for entry in self.arrivals.range((after + 1).to_be_bytes()..=upto.to_be_bytes()) {
            let (key, value) = entry.into_inner().map_err(reading("an arrival"))?;
            let behind = Arrival::read(&value).ok_or(Error::Damaged { what: "an arrival" })?;
            let wanted = filter.monitor.is_none_or(|m| m == behind.monitor)
                && filter.agent.is_none_or(|a| a == behind.agent)
                && filter.since.is_none_or(|t| t <= behind.at);
            if wanted && let Some((_, row)) = self.row(behind.id)? {
                found.push(row);
            }
            if found.len() >= limit {
                return Ok((found, number(&key)?));
            }
        }
        Ok((found, upto))
    }

    fn history(&self, monitor: MonitorId, from: Timestamp, to: Timestamp) -> Result<Vec<Point>, Error> {
        let key = |t| [&monitor.0.as_bytes()[..], &keys::time(t)].concat();
        // One or few locations, a hundred thousand points: the name is shared.
        let mut shared: Arc<str> = Arc::from("");
        let points = self.by_monitor.range(key(from)..key(to)).map(|entry| {
            let (key, value) = entry.into_inner().map_err(reading("a history"))?;
            let read = Reader(&key[16..]).time().zip(keys::read_heard(&value));
            let (at, (state, delivery, location, agent)) =
                read.ok_or(Error::Damaged { what: "a history" })?;
            if *shared != *location {
                shared = location.into();
            }
            Ok(Point { at, state, delivery, agent, location: shared.clone() })
        });
        points.collect()
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
            Some(agent) => self.events_of(agent).take(limit).collect(),
            None => self.events_of_all(limit),
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
        let mut batch = self.database.batch();
        for entry in self.alerts.range(..keys::alert(made_before)) {
            let (key, value) = entry.into_inner().map_err(reading("an event"))?;
            if json::<Event>(&value, "an event")?.open {
                continue;
            }
            for parcel in self.parcels.prefix(&key) {
                batch.remove(&self.parcels, parcel.key().map_err(reading("a delivery"))?);
            }
            batch.remove(&self.alerts, key);
        }
        batch.commit().map_err(writing("what is forgotten"))
    }

    fn forget(&self, received_before: Timestamp, now: Timestamp, limit: usize) -> Result<usize, Error> {
        let mut batch = self.database.batch();
        let mut forgotten = 0;
        // The newest arrival stays: the next one is counted from it.
        for entry in self.arrivals.range(..self.arrived().to_be_bytes()) {
            if forgotten == limit {
                break;
            }
            let (key, value) = entry.into_inner().map_err(reading("an arrival"))?;
            let old = Arrival::read(&value).ok_or(Error::Damaged { what: "an arrival" })?;
            if old.received > now {
                // Our clock was ahead for a while: what came after it may be old all the same.
                continue;
            }
            if old.received >= received_before {
                break;
            }
            batch.remove(&self.rows, old.id.0.as_bytes());
            batch.remove(&self.by_monitor, keys::by_monitor(old.monitor, old.at, old.id));
            batch.remove(&self.by_time, keys::by_time(old.at, old.id));
            batch.remove(&self.arrivals, key);
            forgotten += 1;
        }
        for entry in self.gaps.range(..keys::time(received_before).to_vec()).take(limit - forgotten) {
            batch.remove(&self.gaps, entry.key().map_err(reading("a gap"))?);
            forgotten += 1;
        }
        batch.commit().map_err(writing("what is forgotten"))?;
        Ok(forgotten)
    }
}

/// Refuses a store of a newer version before anything in it is opened, and writes down that it is ours.
fn claim(path: &Path) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::Open { path: path.to_owned(), source: e.into() };
    let file = path.join("format");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(failed(e)),
    };
    match text.trim().parse() {
        Ok(found) if found > FORMAT => Err(Error::Newer { path: path.to_owned(), found, known: FORMAT }),
        Ok(_) => Ok(()),
        // Nothing, or the beginning of a first write that was cut.
        Err(_) => {
            let mut file = std::fs::File::create(&file).map_err(failed)?;
            writeln!(file, "{FORMAT}").and_then(|()| file.sync_all()).map_err(failed)?;
            std::fs::File::open(path).and_then(|directory| directory.sync_all()).map_err(failed)
        }
    }
}

fn all<T: DeserializeOwned>(keyspace: &Keyspace, what: &'static str) -> Result<Vec<T>, Error> {
    keyspace.iter().map(|entry: Guard| json(&entry.value().map_err(reading(what))?, what)).collect()
}

fn json<T: DeserializeOwned>(value: &[u8], what: &'static str) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|_| Error::Damaged { what })
}

fn bytes<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value)
        .expect("maps have text keys, and nothing else of what is kept can fail to encode")
}

fn number(value: &[u8]) -> Result<u64, Error> {
    Reader(value).u64().ok_or(Error::Damaged { what: "a number" })
}

fn last_uuid(bytes: &[u8]) -> Option<Uuid> {
    bytes.last_chunk().map(|id| Uuid::from_bytes(*id))
}

fn reading(what: &'static str) -> impl Fn(fjall::Error) -> Error {
    move |e| Error::Read { what, source: e.into() }
}

fn writing(what: &'static str) -> impl Fn(fjall::Error) -> Error {
    move |e| Error::Write { what, source: e.into() }
}

const VERSION: &str = "version";
const ALIVE: &str = "alive";
const WATCH: &str = "watch";

/// Events of an agent that are kept.
const EVENTS: u64 = 1_000;
/// Of keys and values together: grows when an older version could not read what we write.
const FORMAT: u32 = 1;

/// Bytes of all journals together: unbounded, they grow to hundreds of megabytes while flushing falls behind.
const JOURNALS: u64 = 128 * 1024 * 1024;

/// Bytes of a keyspace's write buffer.
const MEMTABLE: u64 = 8 * 1024 * 1024;

/// Bytes of blocks kept in memory.
const CACHE: u64 = 64 * 1024 * 1024;
