//! What an agent of a session gets and brings: its configuration, and a batch of results, stored before it is acknowledged.

use serde::Deserialize;
use serde_json::Value;
use wire::config::Configuration;
use wire::results::Ack;
use wire::{AgentId, BATCH_LIMIT, Mistake, Problem, Timestamp};

use super::{Caller, invalid, json};
use crate::assign;
use crate::control::{Control, failed, lock};
use crate::ingest;
use crate::judge;
use crate::store::{Ingested, KeptGap, Row};

/// [`wire::results::Batch`] with its records still unread.
#[derive(Debug, Deserialize)]
struct RawBatch {
    records: Vec<Value>,
    pending: u64,
    sent_at: Timestamp,
}

impl Control {
    /// What the agent runs, and the ETag of it.
    pub(crate) fn configuration(&self, agent: AgentId) -> (Configuration, String) {
        // The placement first: monitors that it names and that are gone since are left out.
        let (placement, registry) = (self.placement(), self.registry());
        let ids = placement.get(&agent).cloned().unwrap_or_default();
        let wanted: std::collections::HashSet<_> = ids.into_iter().collect();
        let monitors = registry.monitors.values().filter(|m| wanted.contains(&m.id));
        assign::configuration(registry.version, monitors)
    }

    /// Stores a batch. The answer comes after it is on disk.
    pub(crate) fn ingest(&self, caller: &Caller, body: &[u8]) -> Result<(Ack, Vec<Mistake>), Problem> {
        let RawBatch { records, pending, sent_at } = json(body)?;
        if records.len() > BATCH_LIMIT {
            let message = format!("found {} records, send at most {BATCH_LIMIT} at once", records.len());
            return Err(invalid(vec![Mistake { at: "/records".into(), message }]));
        }
        let sent = records.len() as u64;
        let (records, mistakes) = ingest::read(records).map_err(invalid)?;
        let agent = &caller.agent;
        if !mistakes.is_empty() {
            tracing::warn!(agent = agent.name, first = %mistakes[0], "results that cannot be read are stored as a gap");
        }
        // What is stored now is not pending any more.
        self.seen(agent.id, Some(pending.saturating_sub(sent)));
        let received_at = self.now().wall;
        let skew_s = sent_at.as_millis().saturating_sub(received_at.as_millis()).saturating_abs() / 1000;
        if skew_s > SKEW_S {
            tracing::warn!(agent = agent.name, skew_s, "the agent's clock is off");
        }

        let registry = self.registry();
        let mut progress = lock(&self.progress);
        let cursor = progress.cursors.get(&agent.id).copied().unwrap_or_default();
        let decision = ingest::decide(cursor, caller.recorded, |m| registry.interval_ms(m), records);
        if decision.cursor == cursor {
            return Ok((Ack { cursor }, mistakes));
        }
        let ids: Vec<_> = decision.results.iter().map(|(_, _, r)| r.id).collect();
        let known = self.store.known(&ids).map_err(|e| failed(&e))?;
        let mut seen = std::collections::HashSet::new();
        let new =
            decision.results.into_iter().zip(known).filter(|((_, _, r), known)| !known && seen.insert(r.id));
        let rows: Vec<_> = new
            .map(|((position, delivery, result), _)| Row {
                agent: agent.id,
                agent_name: agent.name.clone(),
                location: agent.location.clone(),
                position,
                received_at,
                delivery,
                result,
            })
            .collect();
        let gaps: Vec<_> = decision
            .gaps
            .into_iter()
            .map(|gap| KeptGap { agent: agent.id, agent_name: agent.name.clone(), received_at, gap })
            .collect();
        let mut latest = std::collections::HashMap::<_, &Row>::new();
        for row in rows.iter().filter(|row| registry.interval_ms(row.result.monitor_id).is_some()) {
            let monitor = row.result.monitor_id;
            let stored = progress.latest.get(&monitor).and_then(|l| l.get(&row.location));
            if latest.get(&monitor).copied().or(stored).is_none_or(|old| judge::replaces(row, old)) {
                latest.insert(monitor, row);
            }
        }
        let cursor = decision.cursor;
        let latest: Vec<_> = latest.into_values().collect();
        let batch =
            Ingested { agent: agent.id, cursor, received_at, rows: &rows, gaps: &gaps, latest: &latest };
        let arrived = self.store.ingest(&batch).map_err(|e| failed(&e))?;
        progress.cursors.insert(agent.id, cursor);
        for row in latest {
            let at = progress.latest.entry(row.result.monitor_id).or_default();
            at.insert(row.location.clone(), row.clone());
        }
        self.arrived.send_if_modified(|last| std::mem::replace(last, arrived) != arrived);
        Ok((Ack { cursor }, mistakes))
    }
}

/// From here on a clock is said to be off.
const SKEW_S: i64 = 300;
