//! What agents ask for: enrolment, nonces, sessions, configuration, and the acknowledgement of results. Owns the order of the checks
//! on a request; who decides what stands beside: `agents`, `identity::lease`, `ingest`, `assign`, `judge`.

use ed25519_dalek::VerifyingKey;
use serde::Deserialize;
use serde_json::Value;
use wire::config::Configuration;
use wire::enroll::{EnrollAnswer, EnrollRequest};
use wire::results::Ack;
use wire::session::{Hello, Nonce, Welcome};
use wire::signature::{self, Stamp};
use wire::{AgentId, BATCH_LIMIT, Mistake, Position, Problem, Timestamp};

use crate::agents::Agent;
use crate::assign;
use crate::control::{Control, Written, failed, lock};
use crate::identity;
use crate::ingest;
use crate::judge;
use crate::store::{Ingested, KeptGap, Row};

/// A request that was signed, as far as its headers go. No `Debug`: it holds the token.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) stamp: Stamp,
    pub(crate) token: String,
    pub(crate) signature: String,
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
}

/// [`wire::results::Batch`] with its records still unread.
#[derive(Debug, Deserialize)]
pub(crate) struct RawBatch {
    records: Vec<Value>,
    pending: u64,
    sent_at: Timestamp,
}

impl Control {
    /// Makes an identity of a setup token, once.
    pub(crate) fn enroll(&self, request: &EnrollRequest) -> Result<EnrollAnswer, Problem> {
        let shown = signature::token_sha256(&request.setup_token);
        let now = self.now().wall;
        let enrolled = self.change(|registry| {
            let owner = registry.agents.values().find(|a| identity::same(&a.setup.sha256, &shown));
            let Some(agent) = owner else {
                let detail = "the setup token is unknown: create one with picket agents create";
                return Err(Problem::new(Problem::SETUP_TOKEN_UNKNOWN, detail));
            };
            let enrolled = agent.enrolled(request, now).inspect_err(|problem| {
                if problem.code == Problem::SETUP_TOKEN_USED {
                    tracing::warn!(
                        agent = agent.name,
                        "another device tried to enrol with a used setup token"
                    );
                }
            })?;
            if enrolled == *agent {
                return Ok((vec![], enrolled));
            }
            tracing::info!(agent = agent.name, location = agent.location, "agent enrolled");
            registry.agents.insert(enrolled.name.clone(), enrolled.clone());
            self.seen(enrolled.id, None);
            Ok((vec![Written::Agent(enrolled.clone(), true)], enrolled))
        })?;
        Ok(EnrollAnswer {
            agent_id: enrolled.id,
            generation: enrolled.device.map_or(1, |d| d.generation),
            name: enrolled.name,
            location: enrolled.location,
            server_key: hex::encode(self.keys.server.verifying_key().to_bytes()),
        })
    }

    /// A nonce for the next hello of whoever holds this token.
    pub(crate) fn nonce(&self, agent: AgentId, token: &str) -> Result<Nonce, Problem> {
        self.bearer(agent, token, None)?;
        let fresh = hex::encode(identity::random::<16>());
        let nonce = lock(&self.sessions).give_nonce(agent, fresh, self.now().up_ms);
        Ok(Nonce { nonce })
    }

    /// Begins a session.
    pub(crate) fn hello(&self, signed: &Signed, body: &[u8]) -> Result<Welcome, Problem> {
        let agent = self.verify(signed, body)?;
        let Stamp { lease: nonce, counter, .. } = &signed.stamp;
        if *counter != 0 || !lock(&self.sessions).take_nonce(agent.id, nonce, self.now().up_ms) {
            let detail = "the nonce is unknown, used or older than a minute: ask for another one";
            return Err(Problem::new(Problem::LEASE_UNKNOWN, detail));
        }
        let hello: Hello = json(body)?;
        self.note_version(&agent, &hello.version)?;
        let lease = hex::encode(identity::random::<16>());
        let ended = lock(&self.sessions).begin(agent.id, lease.clone(), hello.recorded);
        if let (Some(ended), Some(claimed)) = (&ended, &hello.previous_lease)
            && ended != claimed
        {
            tracing::warn!(
                agent = agent.name,
                "two devices show this identity: its data directory was copied"
            );
        }
        if self.seen(agent.id, Some(hello.pending)) {
            tracing::info!(agent = agent.name, pending = hello.pending, "agent connected");
            self.settle().map_err(|e| failed(&e))?;
        }
        let cursor = lock(&self.progress).cursors.get(&agent.id).copied().unwrap_or_default();
        Ok(Welcome { lease, cursor })
    }

    /// Lets a request of a session in: token, signature, lease, counter, in this order.
    pub(crate) fn admit(&self, signed: &Signed, body: &[u8]) -> Result<Caller, Problem> {
        let agent = self.verify(signed, body)?;
        let mut sessions = lock(&self.sessions);
        let Some(session) = sessions.of(agent.id, &signed.stamp.lease) else {
            let detail = "the lease ended: say hello again";
            return Err(Problem::new(Problem::LEASE_UNKNOWN, detail));
        };
        if !session.accept(signed.stamp.counter) {
            let detail = format!("counter {} was used before or is too old", signed.stamp.counter);
            return Err(Problem::new(Problem::BAD_SIGNATURE, detail));
        }
        let recorded = session.recorded;
        drop(sessions);
        Ok(Caller { agent, recorded })
    }

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

    /// Whether the request shows the token of an agent: what is asked before its body is read.
    pub(crate) fn recognise(&self, signed: &Signed) -> Result<(), Problem> {
        self.bearer(signed.stamp.agent, &signed.token, Some(signed.stamp.generation)).map(drop)
    }

    /// Whose token this is.
    fn bearer(&self, id: AgentId, token: &str, generation: Option<u64>) -> Result<Agent, Problem> {
        let registry = self.registry();
        let known = registry.agent(id).filter(|agent| {
            agent.device.as_ref().is_some_and(|device| {
                identity::same(&device.token_sha256, &signature::token_sha256(token))
                    && generation.is_none_or(|g| g == device.generation)
            })
        });
        known.cloned().ok_or_else(|| Problem::new(Problem::UNAUTHORIZED, "the agent or its token is unknown"))
    }

    /// Token and signature; the first request that passes burns the setup token.
    fn verify(&self, signed: &Signed, body: &[u8]) -> Result<Agent, Problem> {
        let Signed { stamp, token, signature, method, path } = signed;
        let agent = self.bearer(stamp.agent, token, Some(stamp.generation))?;
        let key = agent.device.as_ref().and_then(|d| signature::public_key(&d.public_key));
        let good = |key: &VerifyingKey| stamp.verify_request(key, method, path, body, signature);
        if !key.as_ref().is_some_and(good) {
            let detail = "the signature does not fit the request";
            return Err(Problem::new(Problem::BAD_SIGNATURE, detail));
        }
        if agent.device.as_ref().is_some_and(|d| d.active) {
            return Ok(agent);
        }
        self.update_device(&agent, |device| device.active = true)
    }

    fn note_version(&self, agent: &Agent, version: &str) -> Result<(), Problem> {
        let version: String = version.chars().take(64).collect();
        if agent.device.as_ref().is_some_and(|d| d.version != version) {
            self.update_device(agent, |device| device.version = version)?;
        }
        Ok(())
    }

    fn update_device(
        &self,
        agent: &Agent,
        update: impl FnOnce(&mut crate::agents::Device),
    ) -> Result<Agent, Problem> {
        self.change(|registry| {
            let entry = registry.agents.get_mut(&agent.name).filter(|a| a.id == agent.id);
            let Some((entry, device)) = entry.map(|a| (a.clone(), &mut a.device)) else {
                return Err(Problem::new(Problem::UNAUTHORIZED, "the agent was deleted"));
            };
            if let Some(device) = device {
                update(device);
            }
            let updated = Agent { device: device.clone(), ..entry };
            Ok((vec![Written::Agent(updated.clone(), false)], updated))
        })
    }
}

/// An agent whose request was let in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) agent: Agent,
    /// The last result recorded before its session.
    recorded: Position,
}

/// A body as JSON, or the mistake in it.
pub(crate) fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|e| invalid(vec![Mistake { at: String::new(), message: e.to_string() }]))
}

/// A problem that lists mistakes.
pub(crate) fn invalid(mistakes: Vec<Mistake>) -> Problem {
    let detail = match mistakes.len() {
        1 => "the input has a mistake".to_owned(),
        n => format!("the input has {n} mistakes"),
    };
    Problem { mistakes, ..Problem::new(Problem::INVALID, detail) }
}

/// From here on a clock is said to be off.
const SKEW_S: i64 = 300;
