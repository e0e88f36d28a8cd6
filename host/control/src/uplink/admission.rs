//! Who asks: token, signature, lease and counter of a request, in this order.

use ed25519_dalek::VerifyingKey;
use wire::signature::{self};
use wire::{AgentId, Problem};

use super::{Caller, Signed};
use crate::agents::{Agent, Device};
use crate::control::{Control, Written, lock};
use crate::identity;

impl Control {
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

    /// Whether the request shows the token of an agent: what is asked before its body is read.
    pub(crate) fn recognise(&self, signed: &Signed) -> Result<(), Problem> {
        self.bearer(signed.stamp.agent, &signed.token, Some(signed.stamp.generation)).map(drop)
    }

    /// Whose token this is.
    pub(super) fn bearer(&self, id: AgentId, token: &str, generation: Option<u64>) -> Result<Agent, Problem> {
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
    pub(super) fn verify(&self, signed: &Signed, body: &[u8]) -> Result<Agent, Problem> {
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

    pub(super) fn update_device(
        &self,
        agent: &Agent,
        update: impl FnOnce(&mut Device),
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
