//! How a session begins: a nonce, a hello, a lease.

use wire::session::{Hello, Nonce, Welcome};
use wire::signature::Stamp;
use wire::{AgentId, Problem};

use super::{Signed, json};
use crate::agents::Agent;
use crate::control::{Control, failed, lock};
use crate::identity;

impl Control {
    /// A nonce for the next hello of whoever holds this token.
    pub(crate) fn nonce(&self, agent: AgentId, token: &str) -> Result<Nonce, Problem> {
        self.bearer(agent, token, None)?;
        self.admit_hello()?;
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
        lock(&self.pushes).begin(agent.id);
        self.pushed.send_modify(|n| *n += 1);
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
        let (cursor, seen) = lock(&self.progress).reached(agent.id);
        Ok(Welcome { lease, cursor, seen, renumber: false })
    }

    fn note_version(&self, agent: &Agent, version: &str) -> Result<(), Problem> {
        let version: String = version.chars().take(64).collect();
        if agent.device.as_ref().is_some_and(|d| d.version != version) {
            self.update_device(agent, |device| device.version = version)?;
        }
        Ok(())
    }
}
