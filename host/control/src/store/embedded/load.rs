//! Everything that is held in memory while the control plane runs, read at its start.

use wire::{AgentId, ResultId};

use super::codec::{all, json, number, reading};
use super::keys::Reader;
use super::{ALIVE, Embedded, VERSION, WATCH};
use crate::alert::{Event, Parcel, Watch};
use crate::store::{Error, Kept};

pub(super) fn load(store: &Embedded) -> Result<Kept, Error> {
    let version = match store.meta.get(VERSION).map_err(reading("the version"))? {
        Some(value) => number(&value)?,
        None => 0,
    };
    let cursors = store.cursors.iter().map(|entry| {
        let (key, value) = entry.into_inner().map_err(reading("a cursor"))?;
        let (mut key, mut value) = (Reader(&key), Reader(&value));
        let mut read = || Some((AgentId(key.uuid()?), value.position()?, value.time()?));
        read().ok_or(Error::Damaged { what: "a cursor" })
    });
    let ahead = store.ahead.iter().map(|entry| {
        let (key, value) = entry.into_inner().map_err(reading("a result ahead"))?;
        let (mut key, mut value) = (Reader(&key), Reader(&value));
        let mut read = || Some((AgentId(key.uuid()?), key.position()?, ResultId(value.uuid()?)));
        read().ok_or(Error::Damaged { what: "a result ahead" })
    });
    Ok(Kept {
        ahead: ahead.collect::<Result<_, _>>()?,
        agents: all(&store.agents, "an agent")?,
        monitors: all(&store.monitors, "a monitor")?,
        version,
        alive: match store.meta.get(ALIVE).map_err(reading("a time"))? {
            Some(value) => Some(Reader(&value).time().ok_or(Error::Damaged { what: "a time" })?),
            None => None,
        },
        cursors: cursors.collect::<Result<_, _>>()?,
        latest: all(&store.latest, "a latest result")?,
        channels: all(&store.channels, "a channel")?,
        units: all(&store.units, "an alert state")?,
        digests: all(&store.digests, "a digest")?,
        watch: match store.meta.get(WATCH).map_err(reading("what is watched"))? {
            Some(value) => json(&value, "what is watched")?,
            None => Watch::default(),
        },
        open: all::<Event>(&store.alerts, "an event")?.into_iter().filter(|e| e.open).collect(),
        waiting: all::<Parcel>(&store.parcels, "a delivery")?.into_iter().filter(Parcel::waits).collect(),
    })
}
