//! A thousand machines and one control plane in simulated time: what comes to it when it comes back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

const AGENTS: usize = 1_000;
/// Both ways together.
const TRIP_MS: u64 = 50;

/// The control plane: away for a while, without any lease afterwards, and with the rate for hellos that the real one has.
struct Plane {
    away_ms: std::ops::Range<u64>,
    leases: Vec<bool>,
    cursors: Vec<Position>,
    tokens: f64,
    at_ms: u64,
    promised_ms: u64,
    /// Requests in each tenth of a second.
    load: Vec<u64>,
}

impl Plane {
    /// Whether a request arrives.
    fn hears(&mut self, now_ms: u64) -> bool {
        if self.away_ms.contains(&now_ms) {
            self.leases.fill(false);
            return false;
        }
        let tenth = (now_ms / 100) as usize;
        self.load.resize(self.load.len().max(tenth + 1), 0);
        self.load[tenth] += 1;
        true
    }

    /// Whether a hello may begin, or the seconds to wait.
    fn lets_in(&mut self, now_ms: u64) -> Result<(), u64> {
        const PER_S: f64 = 200.0;
        self.tokens = (self.tokens + (now_ms - self.at_ms) as f64 * PER_S / 1000.0).min(PER_S);
        self.at_ms = now_ms;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        self.promised_ms = self.promised_ms.max(now_ms) + (1000.0 / PER_S) as u64;
        Err((self.promised_ms - now_ms).div_ceil(1000).max(1))
    }

    /// The most requests within a second of this time.
    fn peak(&self, from_ms: u64, to_ms: u64) -> u64 {
        let tenths = &self.load[(from_ms / 100) as usize..(to_ms / 100) as usize];
        tenths.windows(10).map(|second| second.iter().sum()).max().unwrap_or_default()
    }
}

struct Agent {
    machine: Machine,
    released: Position,
    connected_ms: u64,
}

/// Agents that record a result each second, through one time without their control plane. Gives the most requests in a second before
/// and after it, and how long after it the last agent was connected again.
fn through(away_ms: std::ops::Range<u64>, end_ms: u64) -> (u64, u64, u64) {
    let mut random = 7_u64;
    let mut chance = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 40) as f64 / (1_u64 << 24) as f64
    };
    let mut plane = Plane {
        away_ms: away_ms.clone(),
        leases: vec![false; AGENTS],
        cursors: vec![Position::default(); AGENTS],
        tokens: 200.0,
        at_ms: 0,
        promised_ms: 0,
        load: vec![0; (end_ms / 100) as usize],
    };
    let new = || Agent { machine: Machine::new(at(0)), released: at(0), connected_ms: 0 };
    let mut agents: Vec<_> = (0..AGENTS).map(|_| new()).collect();
    let mut due: BinaryHeap<_> = (0..AGENTS).map(|n| Reverse((n as u64, n))).collect();
    while let Some(Reverse((now_ms, n))) = due.pop().filter(|Reverse((ms, _))| *ms < end_ms) {
        let Agent { machine, released, connected_ms } = &mut agents[n];
        let now = Duration::from_millis(now_ms);
        // Each agent's results have a moment of the second of their own.
        let next_result = (now_ms + 1000 - n as u64 % 1000) / 1000 * 1000 + n as u64 % 1000;
        let recorded = at(next_result / 1000);
        let again = match machine.next(now, recorded > *released) {
            Step::Wait(until) if machine.may_speak(now) => (until.as_millis() as u64).min(next_result),
            Step::Wait(until) => until.as_millis() as u64,
            Step::Hello => {
                let greeting = Greeting {
                    mark: machine.declared(now, recorded),
                    recorded,
                    backlog: recorded > *released,
                    cursor: plane.cursors[n],
                    ..Greeting::default()
                };
                // The nonce, then the hello.
                if !plane.hears(now_ms) || !plane.hears(now_ms + TRIP_MS) {
                    machine.failed(now, Failure::Network, &[], chance());
                } else if let Err(seconds) = plane.lets_in(now_ms) {
                    machine.failed(now, Failure::Busy(s(seconds)), &[], chance());
                } else {
                    plane.leases[n] = true;
                    if let Some(upto) = machine.welcomed(now, greeting, chance()).release {
                        *released = upto;
                    }
                    *connected_ms = now_ms;
                }
                now_ms + 2 * TRIP_MS
            }
            Step::Send => {
                let Wanted { lane, after, limit } = machine.wanted(recorded);
                let batch: Vec<_> = (after.seq + 1..=recorded.seq).take(limit).map(at).collect();
                machine.sending(lane, batch.last().copied());
                if !plane.hears(now_ms) {
                    machine.failed(now, Failure::Network, &batch, chance());
                } else if !plane.leases[n] {
                    machine.failed(now, Failure::LeaseUnknown, &batch, chance());
                } else {
                    let end = batch.last().copied().filter(|_| lane == Lane::Backlog);
                    plane.cursors[n] = plane.cursors[n].max(end.unwrap_or_default());
                    let verdict = machine.answered(now, &batch, plane.cursors[n], chance());
                    *released = verdict.release.unwrap_or(*released);
                }
                now_ms + TRIP_MS
            }
        };
        due.push(Reverse((again.max(now_ms + 1), n)));
    }
    let back = agents.iter().map(|agent| agent.connected_ms).max().unwrap_or_default();
    assert!(agents.iter().all(|agent| agent.machine.connected()), "everybody is back");
    let before = plane.peak(away_ms.start - 10_000, away_ms.start);
    (before, plane.peak(away_ms.end, end_ms), back.saturating_sub(away_ms.end))
}

#[test]
fn a_herd_that_comes_back_makes_at_most_twice_the_load_of_every_day() {
    for (outage_s, back_s) in [(3, 15), (20, 75), (600, 75)] {
        let away = 40_000..40_000 + outage_s * 1_000;
        let (before, after, back_ms) = through(away, 40_000 + outage_s * 1_000 + 90_000);
        eprintln!(
            "away for {outage_s} s: {before} requests/s before, at most {after} after, back in {back_ms} ms"
        );
        assert!(before >= 900 && after <= 2 * before, "away for {outage_s} s: {after} after {before}");
        assert!(back_ms <= back_s * 1_000, "away for {outage_s} s: the last was back after {back_ms} ms");
    }
}
