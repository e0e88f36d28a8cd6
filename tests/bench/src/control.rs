//! The control plane: how many results a second it stores and judges, each batch on disk before it is acknowledged, and how long a page
//! of 24 hours takes when it holds many.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use picket_e2e::Field;
use picket_faults::device::Device;
use picket_faults::http;
use serde_json::{Value, json};
use wire::{BATCH_LIMIT, Timestamp};

use crate::cpu;
use crate::row::{Bound, Effort, Figure, Of, Target};
use crate::rows::target;

pub(crate) const TARGETS: &[Target] = &[
    target(Of::Figure("stored and judged"), Bound::AtLeast(20_000.0)),
    target(Of::Figure("page of 24 hours"), Bound::AtMost(50.0)),
];

/// Several agents, each with its own monitors, send batches of results of the last day as fast as they are acknowledged.
pub(crate) fn control(effort: &Effort) -> Result<Vec<Figure>> {
    let field = Field::named("bench");
    let mut senders = (0..AGENTS).map(|n| Sender::new(&field, n)).collect::<Result<Vec<_>>>()?;
    let (begun, cpu_begun) = (Instant::now(), cpu::of(field.control().pid())?);
    let sent: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> =
            senders.iter_mut().map(|sender| scope.spawn(|| sender.send(PER_AGENT))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    let (time, cpu) = (begun.elapsed(), cpu::of(field.control().pid())? - cpu_begun);
    let mut page = Figure { name: "page of 24 hours", unit: "ms", values: Vec::new() };
    for round in 0..effort.rounds {
        page.values.push(shown(&field, round as usize)?.as_secs_f64() * 1_000.0);
    }
    Ok(vec![
        Figure::once("stored and judged", "/s", sent as f64 / time.as_secs_f64()),
        Figure::once("processor", "µs a result", cpu.as_secs_f64() * 1e6 / sent as f64),
        page,
        Figure::once("results", "", sent as f64),
        Figure::once("resident", "MiB", cpu::resident(field.control().pid())?),
    ])
}

/// An agent that has results ready.
struct Sender {
    device: Device,
    monitors: Vec<String>,
}

impl Sender {
    fn new(field: &Field, n: usize) -> Result<Self> {
        let location = format!("dc{n}");
        let monitor = |m: usize| {
            json!({
                "name": format!("{location}-{m}"), "check": "tcp", "interval": "60s", "locations": [location],
                "config": {"host": "192.0.2.1", "port": 80},
            })
        };
        let body = json!({ "monitors": (0..MONITORS).map(monitor).collect::<Vec<_>>() }).to_string();
        let bearer = format!("Bearer {}", field.token());
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let answer = http::ask(field.port(), "POST", "/v1/monitors/apply", &headers, body.as_bytes())?;
        if answer.status() != 200 {
            bail!("the control plane refuses the monitors: {}", String::from_utf8_lossy(&answer.body));
        }
        let name = format!("edge-{n}");
        let mut device = Device::new(field.port(), 1 + n as u64);
        device.enroll(&field.create_agent(&name, &location));
        device.hello(&json!({"epoch": 0, "seq": 0}));
        let listed = http::ask(field.port(), "GET", "/v1/monitors", &headers[..1], b"")?;
        let listed: Vec<Value> = serde_json::from_slice(&listed.body).context("monitors are a list")?;
        let here = listed.iter().filter(|m| m["locations"][0] == location.as_str());
        let monitors = here.filter_map(|m| m["id"].as_str().map(str::to_owned)).collect();
        Ok(Self { device, monitors })
    }

    /// Sends so many results; how many were acknowledged.
    fn send(&mut self, count: usize) -> u64 {
        let mut sent = 0;
        while sent < count as u64 {
            let records: Vec<_> = (1..=BATCH_LIMIT as u64).map(|n| self.record(sent + n, count)).collect();
            if self.device.results(&records).status() != 200 {
                break;
            }
            sent += BATCH_LIMIT as u64;
        }
        sent
    }

    fn record(&self, seq: u64, count: usize) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let at = Timestamp::from_millis(now - DAY_MS + DAY_MS * seq as i64 / count as i64);
        let monitor = &self.monitors[seq as usize % self.monitors.len()];
        json!({
            "kind": "result", "epoch": 1, "seq": seq, "age_ms": 5, "result": {
                "id": uuid::Uuid::now_v7(), "monitor_id": monitor, "planned_at": at, "started_at": at, "duration_ms": 3,
                "attempt": 1, "state": "up", "code": "ok", "summary": "connected in 3 ms",
                "phases": {"connect": 0.001, "first_byte": 0.002}, "remote_address": "192.0.2.1:80",
                "config_digest": "d", "agent_version": "0.1.0",
            },
        })
    }
}

/// The page of one monitor, another each time.
fn shown(field: &Field, round: usize) -> Result<Duration> {
    let bearer = format!("Bearer {}", field.token());
    let path = format!("/v1/monitors/dc0-{}", round % MONITORS);
    let begun = Instant::now();
    let answer = http::ask(field.port(), "GET", &path, &[("authorization", bearer.as_str())], b"")?;
    if answer.status() != 200 {
        bail!("{path}: {}", answer.start);
    }
    Ok(begun.elapsed())
}

const AGENTS: usize = 4;
const MONITORS: usize = 100;
const PER_AGENT: usize = 250_000;
const DAY_MS: i64 = 86_400_000;
