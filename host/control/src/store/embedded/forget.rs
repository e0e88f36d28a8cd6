//! What is old enough, deleted with every trace of it.

use wire::Timestamp;

use super::Embedded;
use super::codec::{json, reading, writing};
use super::keys::{self, Arrival};
use crate::alert::Event;
use crate::store::{Error, Store as _};

pub(super) fn forget(
    store: &Embedded,
    received_before: Timestamp,
    now: Timestamp,
    limit: usize,
) -> Result<usize, Error> {
    let mut batch = store.database.batch();
    let mut forgotten = 0;
    // The newest arrival stays: the next one is counted from it.
    for entry in store.arrivals.range(..store.arrived().to_be_bytes()) {
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
        batch.remove(&store.rows, old.id.0.as_bytes());
        batch.remove(&store.by_monitor, keys::by_monitor(old.monitor, old.at, old.id));
        batch.remove(&store.by_time, keys::by_time(old.at, old.id));
        batch.remove(&store.arrivals, key);
        forgotten += 1;
    }
    for entry in store.gaps.range(..keys::time(received_before).to_vec()).take(limit - forgotten) {
        batch.remove(&store.gaps, entry.key().map_err(reading("a gap"))?);
        forgotten += 1;
    }
    batch.commit().map_err(writing("what is forgotten"))?;
    Ok(forgotten)
}

pub(super) fn forget_alerts(store: &Embedded, made_before: Timestamp) -> Result<(), Error> {
    let mut batch = store.database.batch();
    for entry in store.alerts.range(..keys::alert(made_before)) {
        let (key, value) = entry.into_inner().map_err(reading("an event"))?;
        if json::<Event>(&value, "an event")?.open {
            continue;
        }
        for parcel in store.parcels.prefix(&key) {
            batch.remove(&store.parcels, parcel.key().map_err(reading("a delivery"))?);
        }
        batch.remove(&store.alerts, key);
    }
    batch.commit().map_err(writing("what is forgotten"))
}
