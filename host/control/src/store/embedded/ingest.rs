//! A batch of results with its cursor, in one transaction.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Embedded;
use super::codec::{bytes, writing};
use super::keys::{self, Arrival};
use super::put::put;
use super::results::row;
use crate::store::{Error, Ingested, Row, Store as _};

pub(super) fn ingest(store: &Embedded, ingested: &Ingested<'_>) -> Result<u64, Error> {
    let encoded: Vec<_> = ingested.rows.iter().map(bytes).collect();
    let mut batch = store.batch();
    let cursor = keys::cursor(ingested.cursor, ingested.received_at);
    batch.insert(&store.cursors, ingested.agent.0.as_bytes(), cursor);
    for kept in ingested.gaps {
        let key = keys::gap(kept.received_at, kept.agent, kept.gap.epoch, kept.gap.from);
        batch.insert(&store.gaps, key, bytes(kept));
    }
    for (position, id) in ingested.ahead {
        batch.insert(&store.ahead, keys::ahead(ingested.agent, *position), id.0.as_bytes());
    }
    for position in ingested.passed {
        batch.remove(&store.ahead, keys::ahead(ingested.agent, *position));
    }
    for (id, position) in ingested.moved {
        // One that is gone was forgotten meanwhile.
        if let Some((arrival, row)) = row(store, *id)? {
            let row = Row { position: *position, ..row };
            batch.insert(&store.rows, id.0.as_bytes(), [&arrival.to_be_bytes()[..], &bytes(&row)].concat());
        }
    }
    for row in ingested.latest {
        batch.insert(&store.latest, keys::latest(row.result.monitor_id, &row.location), bytes(row));
    }
    ingested.alerts.iter().try_for_each(|write| put(store, &mut batch, write))?;
    let _alone = store.writer.lock().unwrap_or_else(PoisonError::into_inner);
    let mut arrival = store.arrived();
    for (row, encoded) in ingested.rows.iter().zip(encoded) {
        arrival += 1;
        let (id, monitor, at) = (row.result.id, row.result.monitor_id, row.at());
        let behind = Arrival { received: row.received_at, at, monitor, id, agent: row.agent };
        let key = arrival.to_be_bytes();
        batch.insert(&store.rows, id.0.as_bytes(), [&key[..], &encoded].concat());
        batch.insert(&store.by_monitor, keys::by_monitor(monitor, at, id), keys::heard(row));
        let owners = [*monitor.0.as_bytes(), *row.agent.0.as_bytes()].concat();
        batch.insert(&store.by_time, keys::by_time(at, id), owners);
        batch.insert(&store.arrivals, key, behind.bytes());
    }
    batch.commit().map_err(writing("results"))?;
    store.arrived.store(arrival, Ordering::Release);
    Ok(arrival)
}
