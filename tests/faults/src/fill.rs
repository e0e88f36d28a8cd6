//! Fills the spool of a stopped agent with results that it could have recorded: through the spool's own door, in the agent's own form.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use spool::{Entry, Position, Settings, Spool};
use uuid::Uuid;
use wire::Timestamp;

/// What to record.
pub struct Filling<'a> {
    /// Ids of the monitors, taken in turn.
    pub monitors: &'a [String],
    /// How many.
    pub count: usize,
    /// "up" or "down".
    pub state: &'a str,
    /// How long ago the oldest was, in milliseconds; the others follow evenly up to now.
    pub over_ms: i64,
}

/// Records them in the spool of `data`, and tells their positions as the agent's log would.
pub fn fill(data: &Path, filling: &Filling<'_>) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let settings = Settings { group: 512, ..Settings::at(data.join("spool")) };
        let spool = Spool::open(settings).expect("the agent has stopped");
        let appended = futures(&spool, filling).await;
        spool.close().await;
        appended.iter().map(|at| format!("recorded epoch={} seq={}", at.epoch, at.seq)).collect()
    })
}

/// Many at a time, so that they share a commit.
async fn futures(spool: &Spool, filling: &Filling<'_>) -> Vec<Position> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let mut positions = Vec::with_capacity(filling.count);
    for chunk in (0..filling.count).collect::<Vec<_>>().chunks(500) {
        let mut waiting = tokio::task::JoinSet::new();
        for n in chunk {
            let at_ms = now - filling.over_ms + filling.over_ms * (*n as i64) / filling.count as i64;
            let result = result(&filling.monitors[n % filling.monitors.len()], filling.state, at_ms);
            let spooled = json!({"boot_id": boot_id(), "ended_boot_ms": 0, "result": result});
            let entry =
                Entry { at_ms, down: filling.state == "down", bytes: spooled.to_string().into_bytes() };
            let spool = spool.clone();
            waiting.spawn(async move { spool.append(entry).await.expect("the disk has room") });
        }
        positions.extend(waiting.join_all().await);
    }
    positions.sort_unstable();
    positions
}

fn result(monitor: &str, state: &str, at_ms: i64) -> Value {
    let at = Timestamp::from_millis(at_ms);
    let (code, summary) =
        if state == "down" { ("http.status", "500 Internal Server Error") } else { ("ok", "200 OK") };
    json!({
        "id": Uuid::now_v7(), "monitor_id": monitor, "planned_at": at, "started_at": at, "duration_ms": 12,
        "attempt": 1, "state": state, "code": code, "summary": summary,
        "phases": {"connect": 0.001, "send": 0.0001, "first_byte": 0.01, "transfer": 0.0002},
        "remote_address": "127.0.0.1:80", "config_digest": "d", "agent_version": "0.1.0",
        "findings": [{"id": "status", "passed": state != "down", "expected": "200-299", "actual": "500"}],
    })
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
