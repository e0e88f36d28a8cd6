//! What an agent of a session gets and brings: its configuration, and a batch of results, stored before it is acknowledged.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use wire::config::Configuration;
use wire::results::{Ack, Lane};
use wire::{AgentId, BATCH_LIMIT, Mistake, Problem, Timestamp};

use super::{Caller, invalid, json};
use crate::assign::{self, Placement};
use crate::control::{Control, Progress, Registry, failed, lock};
use crate::ingest::{self, Decision, History, Incoming, New};
use crate::judge;
use crate::store::{Ingested, KeptGap, Row};

/// [`wire::results::Batch`] with its records still unread.
#[derive(Debug, Deserialize)]
struct RawBatch {
    #[serde(default)]
    lane: Lane,
    records: Vec<Value>,
    pending: u64,
    sent_at: Timestamp,
}

impl Control {
    /// What the agent runs, and the ETag of it; none while that is the one it has. Between two changes it is made once, so that an
    /// agent of many monitors may ask as often as one of few.
    pub(crate) fn news(&self, agent: AgentId, has: Option<&str>) -> Option<(Configuration, String)> {
        // The placement first: monitors that it names and that are gone since are left out.
        let (placement, registry) = (self.placement(), self.registry());
        if has.is_some() && placement.tag(agent) == has {
            return None;
        }
        let told = tell(&placement, &registry, agent);
        Some(told).filter(|(_, tag)| has != Some(tag))
    }

    /// The version and the ETag of it alone.
    pub(crate) fn tag(&self, agent: AgentId) -> (u64, String) {
        let (placement, registry) = (self.placement(), self.registry());
        let known = placement.tag(agent).map(str::to_owned);
        (registry.version, known.unwrap_or_else(|| tell(&placement, &registry, agent).1))
    }

    /// Stores a batch. The answer comes after it is on disk.
    pub(crate) fn ingest(&self, caller: &Caller, body: &[u8]) -> Result<(Ack, Vec<Mistake>), Problem> {
        let RawBatch { lane, records, pending, sent_at } = json(body)?;
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
        self.compare_clocks(agent.id, sent_at);
        let (place, left) = match lane {
            // The sign of life costs nothing, and a busy control plane needs it most.
            _ if records.is_empty() => (None, pending),
            // What is stored ahead comes again.
            Lane::Live => (Some(self.admit_batch()), pending),
            Lane::Backlog => (Some(self.admit_batch()), pending.saturating_sub(sent)),
        };
        self.seen(agent.id, Some(left));
        let _place = place.transpose()?;
        let cursor = self.store(caller, lane, records)?;
        Ok((Ack { cursor }, mistakes))
    }

    /// Stores what of these records is new, in one transaction. Gives the cursor.
    fn store(&self, caller: &Caller, lane: Lane, records: Vec<Incoming>) -> Result<wire::Position, Problem> {
        let (agent, received_at) = (&caller.agent, self.now().wall);
        let mut progress = lock(&self.progress);
        let registry = self.registry();
        if registry.agent(agent.id).is_none() {
            return Err(Problem::new(Problem::UNAUTHORIZED, "the agent was deleted"));
        }
        let decision = self.decide(&registry, &progress, caller, lane, records)?;
        let Decision { results, gaps, moved, passed, cursor } = decision;
        let before = progress.cursors.get(&agent.id).copied().unwrap_or_default();
        if cursor == before && results.is_empty() {
            return Ok(cursor);
        }
        let ahead: Vec<_> = match lane {
            Lane::Live => results.iter().map(|new| (new.position, new.result.id)).collect(),
            Lane::Backlog => vec![],
        };
        let row = |New { position, delivery, age_ms, result }| {
            let monitor = registry.monitor(result.monitor_id);
            let row = Row {
                agent: agent.id,
                agent_name: agent.name.clone(),
                location: agent.location.clone(),
                position,
                received_at,
                delivery,
                age_ms,
                result,
                found: None,
            };
            match monitor {
                Some(monitor) if monitor.is_maintained(row.at()) => row.maintained(),
                _ => row,
            }
        };
        let rows: Vec<_> = results.into_iter().map(row).collect();
        let kept = |gap| KeptGap { agent: agent.id, agent_name: agent.name.clone(), received_at, gap };
        let gaps: Vec<_> = gaps.into_iter().map(kept).collect();
        let latest = latest(&registry, &progress, &rows);
        let heard = self.hear(caller, cursor, &rows);
        let batch = Ingested {
            agent: agent.id,
            cursor,
            received_at,
            rows: &rows,
            gaps: &gaps,
            ahead: &ahead,
            passed: &passed,
            moved: &moved,
            latest: &latest,
            alerts: &heard.writes(),
        };
        failpoint::hit("control.ingest.before");
        let arrived = self.parts.store.ingest(&batch).map_err(|e| failed(&e))?;
        // At once: were it forgotten by a panic, the same results would be taken for repeated ones.
        progress.cursors.insert(agent.id, cursor);
        let stands = progress.ahead.entry(agent.id).or_default();
        stands.extend(ahead);
        stands.retain(|position, _| passed.binary_search(position).is_err());
        for row in latest {
            let at = progress.latest.entry(row.result.monitor_id).or_default();
            at.insert(row.location.clone(), row.clone());
        }
        failpoint::hit("control.ingest.after");
        self.remember(&registry, &rows, &gaps);
        heard.keep(self);
        self.arrived.send_if_modified(|last| std::mem::replace(last, arrived) != arrived);
        Ok(cursor)
    }

    fn decide(
        &self,
        registry: &Registry,
        progress: &Progress,
        caller: &Caller,
        lane: Lane,
        records: Vec<Incoming>,
    ) -> Result<Decision, Problem> {
        let ids: Vec<_> = records.iter().filter_map(Incoming::id).collect();
        let stored = self.parts.store.known(&ids).map_err(|e| failed(&e))?;
        let known = ids.into_iter().zip(stored).filter_map(|(id, known)| known.then_some(id));
        let nothing = ingest::Ahead::new();
        let history = History {
            cursor: progress.cursors.get(&caller.agent.id).copied().unwrap_or_default(),
            ahead: progress.ahead.get(&caller.agent.id).unwrap_or(&nothing),
            known: known.collect(),
        };
        Ok(ingest::decide(lane, &history, caller.recorded, |m| registry.interval_ms(m), records))
    }
}

fn tell(placement: &Placement, registry: &Registry, agent: AgentId) -> (Configuration, String) {
    let monitors = placement.of(agent).iter().filter_map(|id| registry.monitor(*id));
    let told = assign::configuration(registry.version, monitors, &placement.common);
    placement.remember(agent, &told.1);
    told
}

/// Those of the rows that are now the latest of their monitor and location.
fn latest<'a>(registry: &Registry, progress: &Progress, rows: &'a [Row]) -> Vec<&'a Row> {
    let mut latest = HashMap::<_, &Row>::new();
    for row in rows.iter().filter(|row| registry.interval_ms(row.result.monitor_id).is_some()) {
        let monitor = row.result.monitor_id;
        let stored = progress.latest.get(&monitor).and_then(|l| l.get(&row.location));
        if latest.get(&monitor).copied().or(stored).is_none_or(|old| judge::replaces(row, old)) {
            latest.insert(monitor, row);
        }
    }
    latest.into_values().collect()
}
