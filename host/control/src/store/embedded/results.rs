//! Results and histories, read.

use std::sync::Arc;

use wire::{AgentId, MonitorId, ResultId, Timestamp};

use super::Embedded;
use super::codec::{json, last_uuid, number, reading};
use super::keys::{self, Arrival, Reader};
use crate::store::{Error, Filter, Point, Row, Store as _};

pub(super) fn row(store: &Embedded, id: ResultId) -> Result<Option<(u64, Row)>, Error> {
    let Some(value) = store.rows.get(id.0.as_bytes()).map_err(reading("a result"))? else {
        return Ok(None);
    };
    let mut head = Reader(&value);
    let arrival = head.u64().ok_or(Error::Damaged { what: "a result" })?;
    Ok(Some((arrival, json(head.0, "a result")?)))
}

pub(super) fn newest(store: &Embedded, filter: &Filter, upto: u64, limit: usize) -> Result<Vec<Row>, Error> {
    let from = keys::time(filter.since.unwrap_or(Timestamp::from_millis(i64::MIN)));
    let prefix = filter.monitor.map_or(vec![], |m| m.0.as_bytes().to_vec());
    let (first, last) = ([&prefix[..], &from].concat(), [&prefix[..], &[0xff; 24]].concat());
    let index = if filter.monitor.is_some() { &store.by_monitor } else { &store.by_time };
    let mut found = Vec::new();
    for entry in index.range(first..=last).rev() {
        let (key, value) = entry.into_inner().map_err(reading("an index"))?;
        let ids = || Some((last_uuid(&key)?, AgentId(last_uuid(&value)?)));
        let (id, agent) = ids().ok_or(Error::Damaged { what: "an index" })?;
        if filter.agent.is_some_and(|wanted| wanted != agent) {
            continue;
        }
        // A row that is gone was forgotten between the two reads.
        match row(store, ResultId(id))? {
            Some((arrival, row)) if arrival <= upto => found.push(row),
            _ => continue,
        }
        if found.len() >= limit {
            break;
        }
    }
    Ok(found)
}

pub(super) fn arrivals(
    store: &Embedded,
    after: u64,
    filter: &Filter,
    limit: usize,
) -> Result<(Vec<Row>, u64), Error> {
    let upto = store.arrived();
    let mut found = Vec::new();
    if after >= upto {
        return Ok((found, after));
    }
    for entry in store.arrivals.range((after + 1).to_be_bytes()..=upto.to_be_bytes()) {
        let (key, value) = entry.into_inner().map_err(reading("an arrival"))?;
        let behind = Arrival::read(&value).ok_or(Error::Damaged { what: "an arrival" })?;
        let wanted = filter.monitor.is_none_or(|m| m == behind.monitor)
            && filter.agent.is_none_or(|a| a == behind.agent)
            && filter.since.is_none_or(|t| t <= behind.at);
        if wanted && let Some((_, row)) = row(store, behind.id)? {
            found.push(row);
        }
        if found.len() >= limit {
            return Ok((found, number(&key)?));
        }
    }
    Ok((found, upto))
}

pub(super) fn history(
    store: &Embedded,
    monitor: MonitorId,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Point>, Error> {
    let key = |t| [&monitor.0.as_bytes()[..], &keys::time(t)].concat();
    // One or few locations, a hundred thousand points: the name is shared.
    let mut shared: Arc<str> = Arc::from("");
    let points = store.by_monitor.range(key(from)..key(to)).map(|entry| {
        let (key, value) = entry.into_inner().map_err(reading("a history"))?;
        let read = Reader(&key[16..]).time().zip(keys::read_heard(&value));
        let (at, (state, delivery, location, agent)) = read.ok_or(Error::Damaged { what: "a history" })?;
        if *shared != *location {
            shared = location.into();
        }
        Ok(Point { at, state, delivery, agent, location: shared.clone() })
    });
    points.collect()
}
