//! How an agent comes to its next token: by rotation with the one it has, or by recovery with its device key. What may follow what is
//! decided by `identity::token`.

use wire::event::AgentEventKind;
use wire::token::{Challenge, Recover, Rotate, Rotated};
use wire::{AgentId, Problem, signature};

use super::{Signed, json};
use crate::agents::{Agent, invalid, is_sha256};
use crate::control::{Control, Written, lock};
use crate::identity;

impl Control {
    /// Makes the next token of an agent known.
    pub(crate) fn rotate(&self, signed: &Signed, body: &[u8]) -> Result<Rotated, Problem> {
        let caller = self.admit_to(signed, body, true)?;
        let Rotate { generation, token_sha256 } = json(body)?;
        check(&token_sha256)?;
        let now = self.now().wall;
        failpoint::hit("control.rotate.before");
        self.change(|registry| {
            let agent = wanted(registry.agents_mut().get_mut(&caller.agent.name), caller.agent.id)?;
            let Some(device) = &mut agent.device else { return Err(gone()) };
            let tokens = device.tokens.registered(generation, &token_sha256, now)?;
            let changed = std::mem::replace(&mut device.tokens, tokens) != device.tokens;
            Ok((changed.then(|| Written::Agent(agent.clone(), false)).into_iter().collect(), ()))
        })?;
        failpoint::hit("control.rotate.after");
        Ok(Rotated { generation })
    }

    /// The first use of a token that was registered.
    pub(super) fn activate(&self, agent: &Agent) -> Result<Agent, Problem> {
        let now = self.now();
        let agent = self.change(|registry| {
            let agent = wanted(registry.agents_mut().get_mut(&agent.name), agent.id)?;
            let Some(device) = &mut agent.device else { return Err(gone()) };
            if device.tokens.pending.is_none() {
                // Another request of the same token was faster.
                return Ok((vec![], agent.clone()));
            }
            device.tokens = device.tokens.activated(now);
            device.active = true;
            let detail = format!("generation {} is in use", device.tokens.generation);
            let event = agent.event(AgentEventKind::Rotated, detail, now.wall);
            Ok((vec![Written::Agent(agent.clone(), false), event], agent.clone()))
        })?;
        lock(&self.pushes).rotated(agent.id);
        Ok(agent)
    }

    /// What an agent signs to prove that it holds its device key. Anybody may ask; who asks again gets the same one.
    pub(crate) fn challenge(&self, agent: AgentId) -> Result<Challenge, Problem> {
        let registry = self.registry();
        let Some(device) = registry.agent(agent).and_then(|agent| agent.device.as_ref()) else {
            return Err(gone());
        };
        let fresh = hex::encode(identity::random::<16>());
        let challenge = lock(&self.challenges).give_nonce(agent, fresh, self.now().up_ms);
        let generation = device.tokens.next();
        let text = Challenge::signed(agent, &challenge, generation);
        Ok(Challenge { signature: signature::sign(&self.parts.keys.server, &text), challenge, generation })
    }

    /// Whether a recovery is signed by the device that it names: only then is it answered with a signature.
    pub(crate) fn recovers(&self, recover: &Recover) -> Result<(), Problem> {
        let Recover { agent_id, challenge, generation, token_sha256, signature } = recover;
        let registry = self.registry();
        let device = registry.agent(*agent_id).and_then(|agent| agent.device.as_ref());
        let key = device.and_then(|device| signature::public_key(&device.public_key)).ok_or_else(gone)?;
        let text = Recover::signed(*agent_id, challenge, *generation, token_sha256);
        match signature::verify(&key, &text, signature) {
            true => Ok(()),
            false => Err(Problem::new(
                Problem::UNAUTHORIZED,
                "the recovery is not signed by the agent's device key",
            )),
        }
    }

    /// Gives the device another token in place of all that it had.
    pub(crate) fn recover(&self, recover: &Recover) -> Result<Rotated, Problem> {
        // The signature first: nobody else uses up the challenge of an agent.
        self.recovers(recover)?;
        let Recover { agent_id, challenge, generation, token_sha256, .. } = recover;
        let now = self.now();
        if !lock(&self.challenges).take_nonce(*agent_id, challenge, now.up_ms) {
            let detail = "the challenge is unknown, used or older than a minute: ask for another one";
            return Err(Problem::new(Problem::LEASE_UNKNOWN, detail));
        }
        check(token_sha256)?;
        failpoint::hit("control.recover.before");
        self.change(|registry| {
            let name = registry.agent(*agent_id).map(|agent| agent.name.clone()).ok_or_else(gone)?;
            let agent = wanted(registry.agents_mut().get_mut(&name), *agent_id)?;
            self.not_revoked(agent)?;
            let Some(device) = &mut agent.device else { return Err(gone()) };
            device.tokens = device.tokens.recovered(*generation, token_sha256, now.wall)?;
            device.recoveries += 1;
            device.active = true;
            let detail = format!(
                "its token was refused, it proved itself with its device key and has generation {generation} now; that is recovery {}",
                device.recoveries
            );
            let event = agent.event(AgentEventKind::Recovered, detail, now.wall);
            Ok((vec![Written::Agent(agent.clone(), false), event], ()))
        })?;
        lock(&self.pushes).rotated(*agent_id);
        failpoint::hit("control.recover.after");
        Ok(Rotated { generation: *generation })
    }
}

fn wanted(agent: Option<&mut Agent>, id: AgentId) -> Result<&mut Agent, Problem> {
    agent.filter(|agent| agent.id == id).ok_or_else(gone)
}

fn check(token_sha256: &str) -> Result<(), Problem> {
    match is_sha256(token_sha256) {
        true => Ok(()),
        false => Err(invalid("/token_sha256", "is not 64 lower-case hexadecimal digits")),
    }
}

fn gone() -> Problem {
    Problem::new(Problem::UNAUTHORIZED, "the agent is unknown")
}
