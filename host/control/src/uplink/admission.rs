//! Who asks: token, device key, lease and counter of a request, in this order.

use ed25519_dalek::VerifyingKey;
use wire::event::AgentEventKind;
use wire::{AgentId, Problem, Timestamp, signature};

use super::{Caller, Signed};
use crate::agents::{Agent, Device};
use crate::control::{Control, Written, lock};
use crate::identity::token::Standing;

/// An agent whose device key signed a request, and what the token of that request is good for.
pub(super) struct Known {
    pub(super) agent: Agent,
    pub(super) standing: Standing,
    /// When the token was made known.
    pub(super) made_at: Timestamp,
}

impl Control {
    /// Lets a request of a session in: token, signature, lease, counter, in this order.
    pub(crate) fn admit(&self, signed: &Signed, body: &[u8]) -> Result<Caller, Problem> {
        self.admit_to(signed, body, false)
    }

    /// The same for a rotation, which is all that is let in of an agent that was silent for too long.
    pub(super) fn admit_to(&self, signed: &Signed, body: &[u8], rotation: bool) -> Result<Caller, Problem> {
        let known = self.identify(signed, body)?;
        let fresh = !self.is_old(known.made_at);
        let agent = self.take(known)?;
        let up_ms = self.now().up_ms;
        let mut sessions = lock(&self.sessions);
        let Some(session) = sessions.of(agent.id, &signed.stamp.lease, up_ms) else {
            let detail = "the lease ended: say hello again";
            return Err(Problem::new(Problem::LEASE_UNKNOWN, detail));
        };
        if !session.accept(signed.stamp.counter, up_ms) {
            let detail = format!("counter {} was used before or is too old", signed.stamp.counter);
            return Err(Problem::new(Problem::BAD_SIGNATURE, detail));
        }
        session.rotate_first &= !fresh;
        if session.rotate_first && !rotation {
            let detail = "the agent was silent for more than 7 days: it makes a new token first";
            return Err(Problem::new(Problem::ROTATE_FIRST, detail));
        }
        let (recorded, seen) = (session.recorded, !session.rotate_first);
        drop(sessions);
        Ok(Caller { agent: if seen { self.keep_seen(agent)? } else { agent }, recorded })
    }

    /// Whether the request shows a token that an agent has or had: what is asked before its body is read.
    pub(crate) fn recognise(&self, signed: &Signed) -> Result<(), Problem> {
        self.bearer(signed.stamp.agent, &signed.token, Some(signed.stamp.generation)).map(drop)
    }

    /// Whose token this is or was.
    pub(super) fn bearer(&self, id: AgentId, token: &str, generation: Option<u64>) -> Result<Known, Problem> {
        let (registry, now) = (self.registry(), self.now());
        let known = registry.agent(id).and_then(|agent| {
            let tokens = &agent.device.as_ref()?.tokens;
            let (standing, made_at) = tokens.judge(&signature::token_sha256(token), generation, now)?;
            Some(Known { agent: agent.clone(), standing, made_at })
        });
        known.ok_or_else(|| Problem::new(Problem::UNAUTHORIZED, "the agent or its token is unknown"))
    }

    /// Whose device key signed the request; a revoked agent is told so.
    pub(super) fn identify(&self, signed: &Signed, body: &[u8]) -> Result<Known, Problem> {
        let Signed { stamp, token, signature, method, path } = signed;
        let known = self.bearer(stamp.agent, token, Some(stamp.generation))?;
        let key = known.agent.device.as_ref().and_then(|d| signature::public_key(&d.public_key));
        let good = |key: &VerifyingKey| stamp.verify_request(key, method, path, body, signature);
        if !key.as_ref().is_some_and(good) {
            let told = "a request showed its token without the signature of its device: somebody read the token, which alone opens nothing";
            self.note(&known.agent, AgentEventKind::Stolen, told);
            let detail = "the signature does not fit the request";
            return Err(Problem::new(Problem::BAD_SIGNATURE, detail));
        }
        self.not_revoked(&known.agent)?;
        Ok(known)
    }

    /// A revoked agent is told so, whatever it asks.
    pub(super) fn not_revoked(&self, agent: &Agent) -> Result<(), Problem> {
        if agent.is_wanted() {
            return Ok(());
        }
        let detail = format!("the owner revoked this agent: `picket agents approve {}` lifts it", agent.name);
        Err(Problem::new(Problem::REVOKED, detail))
    }

    /// Takes the token of an agent that was identified. The first use of any burns the setup token, the first use of a pending one
    /// activates it.
    pub(super) fn take(&self, known: Known) -> Result<Agent, Problem> {
        let Known { agent, standing, .. } = known;
        match standing {
            Standing::Superseded => {
                let told = "a token was used after a newer one took its place: a copy or a backup of its data directory is in use";
                self.note(&agent, AgentEventKind::Superseded, told);
                let detail = "a newer token took the place of this one";
                Err(Problem::new(Problem::SUPERSEDED, detail))
            }
            Standing::Pending => self.activate(&agent),
            Standing::Active | Standing::Previous if agent.device.as_ref().is_some_and(|d| d.active) => {
                Ok(agent)
            }
            Standing::Active | Standing::Previous => {
                self.update_device(&agent, |device| device.active = true)
            }
        }
    }

    /// Remembers on the disk, to the hour, that an agent was heard from.
    pub(super) fn keep_seen(&self, agent: Agent) -> Result<Agent, Problem> {
        let now = self.now().wall;
        let kept = agent.device.as_ref().map_or(now, |device| device.seen_at);
        let old = now.as_millis().saturating_sub(kept.as_millis());
        if (0..SEEN_MS).contains(&old) {
            return Ok(agent);
        }
        self.update_device(&agent, |device| device.seen_at = now)
    }

    pub(super) fn update_device(
        &self,
        agent: &Agent,
        update: impl FnOnce(&mut Device),
    ) -> Result<Agent, Problem> {
        self.change(|registry| {
            let Some(entry) = registry.agents_mut().get_mut(&agent.name).filter(|a| a.id == agent.id) else {
                return Err(Problem::new(Problem::UNAUTHORIZED, "the agent was deleted"));
            };
            if let Some(device) = &mut entry.device {
                update(device);
            }
            let updated = entry.clone();
            Ok((vec![Written::Agent(updated.clone(), false)], updated))
        })
    }
}

/// How exactly it is kept when an agent was heard from.
const SEEN_MS: i64 = 3_600_000;
