//! What a monitor shows: its state now, and the bar of its last hour. Pure. Only what is known counts: a result speaks for two
//! intervals, its timeout and a grace, then the monitor is unknown.

use std::collections::HashMap;

use wire::Timestamp;
use wire::admin::Shown;
use wire::results::Delivery;

use crate::monitors::Monitor;
use crate::store::{Point, Row};

/// What a monitor shows at one location. `present`: whether an agent of the location is.
pub(crate) fn shown(monitor: &Monitor, latest: Option<&Row>, present: bool, now: Timestamp) -> Shown {
    match latest {
        _ if !monitor.spec.enabled => Shown::Disabled,
        _ if monitor.is_maintained(now) => Shown::Maintenance,
        None => Shown::Pending,
        Some(row) if !present || now > spoken(row).plus_millis(validity(monitor)) => Shown::Unknown,
        Some(row) => row.result.state.into(),
    }
}

/// When a result was true. A live one when it came, by our own clock; another one when it was made, by the agent's, though never
/// later than it came: so an old result that arrives now does not look fresh.
fn spoken(row: &Row) -> Timestamp {
    match row.delivery {
        Delivery::Live => row.received_at,
        Delivery::Buffered | Delivery::Late => row.at(),
    }
}

/// How long a result speaks of a monitor that runs so often, in milliseconds after it was made.
pub(crate) fn speaks_ms(interval_ms: u64, timeout_ms: u64) -> i64 {
    i64::try_from(interval_ms.saturating_mul(2).saturating_add(timeout_ms)).unwrap_or(i64::MAX)
}

/// How long it is shown, which allows for its way to here.
fn validity(monitor: &Monitor) -> i64 {
    speaks_ms(monitor.interval_ms, monitor.timeout_ms).saturating_add(GRACE_MS)
}

/// Whether `new` takes the place of `old` as the latest of its monitor and location: within an agent's history by position, between
/// agents by time.
pub(crate) fn replaces(new: &Row, old: &Row) -> bool {
    if new.agent == old.agent { new.position > old.position } else { spoken(new) >= spoken(old) }
}

/// The worst of several: what speaks about the target first, then what is not known, then what is well.
pub(crate) fn worst(states: impl IntoIterator<Item = Shown>) -> Shown {
    states.into_iter().min_by_key(|s| rank(*s)).unwrap_or(Shown::Pending)
}

fn rank(state: Shown) -> u8 {
    match state {
        Shown::Down => 0,
        Shown::Degraded => 1,
        Shown::Error => 2,
        Shown::Unknown => 3,
        Shown::Maintenance => 4,
        Shown::Up => 5,
        Shown::Pending => 6,
        Shown::Disabled => 7,
    }
}

/// The last hour in slots of a minute, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    /// The worst state of each.
    pub(crate) states: [Shown; SLOTS],
    /// Where results tell of it that did not come at once.
    pub(crate) buffered: [bool; SLOTS],
}

/// What a monitor's bar shows. `points` begin at [`bar_from`]. Buffered results fill the slots in which they were made. Nothing is known
/// where nothing was heard for longer than a result speaks; `Pending` before the first result.
pub(crate) fn bar(
    monitor: &Monitor,
    points: &[Point],
    lost: &[(Timestamp, Timestamp)],
    now: Timestamp,
) -> Bar {
    let mut locations = HashMap::<&str, Vec<&Point>>::new();
    for point in points {
        locations.entry(&point.location).or_default().push(point);
    }
    let bars: Vec<_> = locations.values().map(|points| bar_of(monitor, points, lost, now)).collect();
    let buffered = |slot| {
        let (from, to) = slot_times(slot, now);
        let within = points.partition_point(|p| p.at < from)..points.partition_point(|p| p.at < to);
        points[within].iter().any(|p| p.delivery != Delivery::Live)
    };
    Bar {
        states: std::array::from_fn(|slot| worst(bars.iter().map(|bar| bar[slot]))),
        buffered: std::array::from_fn(buffered),
    }
}

fn bar_of(
    monitor: &Monitor,
    points: &[&Point],
    lost: &[(Timestamp, Timestamp)],
    now: Timestamp,
) -> [Shown; SLOTS] {
    let validity = validity(monitor);
    std::array::from_fn(|slot| {
        let (from, to) = slot_times(slot, now);
        let first_after = points.partition_point(|p| p.at < to);
        let first_within = points.partition_point(|p| p.at < from);
        if first_within < first_after {
            let said = worst(points[first_within..first_after].iter().map(|p| p.state.into()));
            // A minute of which more than half is silence was not heard to be well.
            let heard = &points[first_within.saturating_sub(1)..first_after];
            return if said == Shown::Up && is_silent(heard, (from, to), validity) {
                Shown::Unknown
            } else {
                said
            };
        }
        match first_within.checked_sub(1).map(|before| points[before]) {
            None => Shown::Pending,
            Some(_) if lost.iter().any(|(first, last)| *first < to && from <= *last) => Shown::Unknown,
            Some(before) if before.at.plus_millis(validity) >= from => before.state.into(),
            Some(_) => Shown::Unknown,
        }
    })
}

/// Whether nothing was heard for more than half of a slot. `points` begin with the last one before it.
fn is_silent(points: &[&Point], (from, to): (Timestamp, Timestamp), validity: i64) -> bool {
    let ends = points.iter().skip(1).map(|p| p.at).chain([to]);
    let spoken = points.iter().zip(ends).map(|(point, end)| {
        let until = point.at.plus_millis(validity).min(end);
        until.as_millis().saturating_sub(point.at.max(from).as_millis()).max(0)
    });
    // What lies before the first result of all is no silence.
    let begun = points.first().map_or(from, |first| first.at.max(from));
    spoken.sum::<i64>() * 2 < to.as_millis() - begun.as_millis()
}

/// The time from when on points are wanted for a bar.
pub(crate) fn bar_from(monitor: &Monitor, now: Timestamp) -> Timestamp {
    now.plus_millis(-HOUR_MS).plus_millis(validity(monitor).saturating_neg())
}

/// When a slot of the bar begins and ends.
pub(crate) fn slot_times(slot: usize, now: Timestamp) -> (Timestamp, Timestamp) {
    let back = i64::try_from(SLOTS - slot).unwrap_or(0) * SLOT_MS;
    (now.plus_millis(-back), now.plus_millis(SLOT_MS - back))
}

/// Slots of the bar.
pub(crate) const SLOTS: usize = 60;

const SLOT_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// For the way from the agent to here.
const GRACE_MS: i64 = 10_000;

#[cfg(test)]
mod tests;
