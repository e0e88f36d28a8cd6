//! What waited on an agent, over a link of 50 ms round trip, beside its live results. The same as row N17 of the faults, with figures.

use anyhow::Result;
use picket_faults::rows;

use crate::row::{Bound, Effort, Figure, Of, Target};
use crate::rows::target;

pub(crate) const TARGETS: &[Target] = &[
    target(Of::Figure("last of 10,000"), Bound::AtMost(5.0)),
    target(Of::Figure("first live"), Bound::AtMost(1.0)),
];

pub(crate) fn drain(effort: &Effort) -> Result<Vec<Figure>> {
    let mut last = Figure { name: "last of 10,000", unit: "s", values: Vec::new() };
    let mut live = Figure { name: "first live", unit: "s", values: Vec::new() };
    for _ in 0..effort.rounds.min(3) {
        let drain = rows::drain();
        last.values.push(drain.last_ms as f64 / 1_000.0);
        live.values.push(drain.live_ms as f64 / 1_000.0);
    }
    Ok(vec![last, live])
}
