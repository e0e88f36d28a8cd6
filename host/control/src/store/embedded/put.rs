//! One part of a commit, as keys and values of a batch.

use fjall::OwnedWriteBatch;

use super::codec::{bytes, number, reading};
use super::{ALIVE, Embedded, VERSION, WATCH, keys};
use crate::store::{Error, Write};

pub(super) fn put(store: &Embedded, batch: &mut OwnedWriteBatch, write: &Write<'_>) -> Result<(), Error> {
    match write {
        Write::Agent(agent) => batch.insert(&store.agents, agent.id.0.as_bytes(), bytes(agent)),
        Write::AgentGone(id) => {
            batch.remove(&store.agents, id.0.as_bytes());
            batch.remove(&store.cursors, id.0.as_bytes());
            for entry in store.ahead.prefix(id.0.as_bytes()) {
                batch.remove(&store.ahead, entry.key().map_err(reading("a result ahead"))?);
            }
            for entry in store.agent_events.prefix(id.0.as_bytes()) {
                batch.remove(&store.agent_events, entry.key().map_err(reading("an event"))?);
            }
        }
        Write::Event(agent, event) => {
            let last = store.agent_events.prefix(agent.0.as_bytes()).next_back();
            let number = match last {
                Some(entry) => number(&entry.key().map_err(reading("an event"))?[16..])? + 1,
                None => 0,
            };
            batch.insert(&store.agent_events, keys::event(*agent, number), bytes(event));
            if let Some(oldest) = number.checked_sub(EVENTS) {
                batch.remove(&store.agent_events, keys::event(*agent, oldest));
            }
        }
        Write::Monitor(m) => batch.insert(&store.monitors, m.id.0.as_bytes(), bytes(m)),
        Write::MonitorGone(id) => {
            batch.remove(&store.monitors, id.0.as_bytes());
            for entry in store.latest.prefix(id.0.as_bytes()) {
                batch.remove(&store.latest, entry.key().map_err(reading("a latest result"))?);
            }
        }
        Write::Version(version) => batch.insert(&store.meta, VERSION, version.to_be_bytes()),
        Write::Alive(at) => batch.insert(&store.meta, ALIVE, keys::time(*at)),
        Write::Channel(channel) => batch.insert(&store.channels, channel.name.as_bytes(), bytes(channel)),
        Write::ChannelGone(name) => batch.remove(&store.channels, name.as_bytes()),
        Write::Unit(unit) => {
            batch.insert(&store.units, keys::latest(unit.monitor, &unit.location), bytes(unit));
        }
        Write::UnitGone(monitor, location) => batch.remove(&store.units, keys::latest(*monitor, location)),
        Write::Digest(digest) => batch.insert(&store.digests, digest.agent.0.as_bytes(), bytes(digest)),
        Write::DigestGone(agent) => batch.remove(&store.digests, agent.0.as_bytes()),
        Write::Watch(watch) => batch.insert(&store.meta, WATCH, bytes(watch)),
        Write::Told(event) => batch.insert(&store.alerts, event.notice.id.as_bytes(), bytes(event)),
        Write::Parcel(parcel) => {
            batch.insert(&store.parcels, keys::parcel(parcel.event, &parcel.channel), bytes(parcel));
        }
    }
    Ok(())
}

/// Events of an agent that are kept.
const EVENTS: u64 = 1_000;
