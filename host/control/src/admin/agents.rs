//! Agents: made, shown, revoked, approved and deleted.

use wire::admin::{AgentCreated, AgentState, AgentView, CreateAgent, Transport};
use wire::event::AgentEventKind;
use wire::push::Push;
use wire::{AgentId, Mistake, Problem, Timestamp, signature};

use super::no_such;
use crate::agents::{Agent, Device, Setup, name_mistake};
use crate::control::{Control, Written, lock};
use crate::identity;
use crate::uplink::invalid;

impl Control {
    /// Makes an agent and its setup token.
    pub(crate) fn create_agent(&self, wanted: &CreateAgent) -> Result<AgentCreated, Problem> {
        let names = [("/agent", &wanted.agent), ("/location", &wanted.location)];
        let mistakes = names.iter().filter_map(|(at, name)| {
            name_mistake(name).map(|message| Mistake { at: (*at).to_owned(), message })
        });
        let mistakes: Vec<_> = mistakes.collect();
        if !mistakes.is_empty() {
            return Err(invalid(mistakes));
        }
        let now = self.now().wall;
        let ttl_ms = i64::try_from(self.parts.setup_token_ttl.as_millis()).unwrap_or(i64::MAX);
        let expires_at = now.plus_millis(ttl_ms);
        let setup_token = identity::token("pst_");
        let agent = Agent {
            id: AgentId(uuid::Uuid::new_v4()),
            name: wanted.agent.clone(),
            location: wanted.location.clone(),
            created_at: now,
            setup: Setup { sha256: signature::token_sha256(&setup_token), expires_at },
            device: None,
        };
        self.change(|registry| {
            if registry.agents.contains_key(&agent.name) {
                let detail =
                    format!("agent {} exists already: choose another name, or delete it first", agent.name);
                return Err(Problem::new(Problem::CONFLICT, detail));
            }
            registry.agents_mut().insert(agent.name.clone(), agent.clone());
            Ok((vec![Written::Agent(agent, false)], ()))
        })?;
        let CreateAgent { agent, location } = wanted.clone();
        Ok(AgentCreated { agent, location, setup_token, expires_at })
    }

    /// All agents, by name.
    pub(crate) fn agents(&self) -> Vec<AgentView> {
        self.registry().agents.values().map(|agent| self.agent_view(agent)).collect()
    }

    fn agent_view(&self, agent: &Agent) -> AgentView {
        let presence = lock(&self.presence).get(&agent.id).copied().unwrap_or_default();
        let forked = lock(&self.sessions).is_forked(agent.id, self.now().up_ms);
        let state = match &agent.device {
            None => AgentState::Created,
            Some(device) if device.revoked => AgentState::Revoked,
            Some(_) if self.wants_approval(agent) => AgentState::Approval,
            Some(_) if forked => AgentState::Forked,
            Some(_) if self.is_connected(agent.id) => AgentState::Connected,
            Some(_) => AgentState::Away,
        };
        AgentView {
            agent: agent.name.clone(),
            id: agent.device.as_ref().map(|_| agent.id),
            location: agent.location.clone(),
            state,
            last_seen: presence.seen_at,
            version: agent.device.as_ref().map(|d| d.version.clone()),
            pending: presence.pending,
            transport: [AgentState::Connected, AgentState::Forked].contains(&state).then(|| {
                let streams = lock(&self.pushes).has_stream(agent.id);
                if streams { Transport::Stream } else { Transport::Requests }
            }),
            created_at: agent.created_at,
            warnings: lock(&self.warnings).of(agent.id),
            recoveries: agent.device.as_ref().map_or(0, |d| d.recoveries),
        }
    }

    /// Revokes an agent: it stops, keeps its identity and what it recorded, and asks once a minute.
    pub(crate) fn revoke_agent(&self, name: &str) -> Result<AgentView, Problem> {
        let detail = "revoked by its owner: it stops, and keeps its identity and what it recorded".to_owned();
        self.admit_device(name, AgentEventKind::Revoked, detail, |device, _| device.revoked = true)
    }

    /// Asks an agent that is connected for a new token now.
    pub(crate) fn rotate_agent(&self, name: &str) -> Result<AgentView, Problem> {
        let registry = self.registry();
        let Some(agent) = registry.agents.get(name) else {
            return Err(no_such("agent", name, registry.agents.keys()));
        };
        // What waits for a session that begins is forgotten: a push reaches only one that has begun.
        if !agent.is_wanted() || !lock(&self.sessions).is_live(agent.id, self.now().up_ms) {
            let detail = format!(
                "agent {name} is not connected: it makes a new token by itself once it was away for a week"
            );
            return Err(Problem::new(Problem::CONFLICT, detail));
        }
        self.push(agent.id, Push::Rotate);
        Ok(self.agent_view(agent))
    }

    /// Approves an agent: one that was revoked, and one that was silent for too long.
    pub(crate) fn approve_agent(&self, name: &str) -> Result<AgentView, Problem> {
        let detail = "approved by its owner".to_owned();
        self.admit_device(name, AgentEventKind::Approved, detail, |device, now| {
            device.revoked = false;
            device.approved_at = now;
        })
    }

    fn admit_device(
        &self,
        name: &str,
        kind: AgentEventKind,
        detail: String,
        update: impl FnOnce(&mut Device, Timestamp),
    ) -> Result<AgentView, Problem> {
        let now = self.now().wall;
        let agent = self.change(|registry| {
            let Some(agent) = registry.agents_mut().get_mut(name) else {
                return Err(no_such("agent", name, registry.agents.keys()));
            };
            let Some(device) = &mut agent.device else {
                let detail = format!("agent {name} is not enrolled: its setup token is still to be used");
                return Err(Problem::new(Problem::CONFLICT, detail));
            };
            update(device, now);
            let agent = agent.clone();
            Ok((vec![Written::Agent(agent.clone(), true), agent.event(kind, detail, now)], agent))
        })?;
        self.push(agent.id, Push::Hello);
        Ok(self.agent_view(&agent))
    }

    /// Deletes an agent and its identity; its results stay.
    pub(crate) fn delete_agent(&self, name: &str) -> Result<(), Problem> {
        // Held from here on: a batch of it that is under way is stored before, or refused.
        let mut progress = lock(&self.progress);
        let id = self.change(|registry| match registry.agents_mut().remove(name) {
            Some(agent) => Ok((vec![Written::AgentGone(agent.id)], agent.id)),
            None => Err(no_such("agent", name, registry.agents.keys())),
        })?;
        progress.cursors.remove(&id);
        progress.ahead.remove(&id);
        drop(progress);
        lock(&self.sessions).end(id);
        lock(&self.challenges).forget(id);
        lock(&self.presence).remove(&id);
        lock(&self.warnings).end(id);
        lock(&self.told_events).forget(id);
        lock(&self.pushes).end(id);
        // Whoever carries its pushes ends.
        self.pushed.send_modify(|n| *n += 1);
        Ok(())
    }
}
