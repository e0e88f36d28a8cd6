//! How a session begins: a nonce, a hello, a lease.

use wire::event::AgentEventKind;
use wire::session::{Hello, Nonce, Welcome};
use wire::signature::Stamp;
use wire::{AgentId, Problem, Timestamp};

use super::{Signed, json};
use crate::agents::Agent;
use crate::control::{Control, failed, lock};
use crate::identity;
use crate::identity::lease::{Beginning, Claim, Device};

impl Control {
    /// A nonce for the next hello of whoever holds this token, or held it: the hello tells which, and that answer is signed.
    pub(crate) fn nonce(&self, agent: AgentId, token: &str) -> Result<Nonce, Problem> {
        self.bearer(agent, token, None)?;
        let fresh = hex::encode(identity::random::<16>());
        let nonce = lock(&self.sessions).give_nonce(agent, fresh, self.now().up_ms);
        Ok(Nonce { nonce })
    }

    /// Begins a session.
    pub(crate) fn hello(&self, signed: &Signed, body: &[u8]) -> Result<Welcome, Problem> {
        let known = self.identify(signed, body)?;
        self.admit_hello()?;
        let (id, up_ms) = (known.agent.id, self.now().up_ms);
        let Stamp { lease: nonce, counter, .. } = &signed.stamp;
        if *counter != 0 || !lock(&self.sessions).take_nonce(id, nonce, up_ms) {
            let detail = "the nonce is unknown, used or older than a minute: ask for another one";
            return Err(Problem::new(Problem::LEASE_UNKNOWN, detail));
        }
        let hello: Hello = json(body)?;
        let device = Device { host: short(&hello.host), boot_id: short(&hello.boot_id) };
        // Before the token is looked at: a copy is to stand by, not to recover a token that its twin rotated away.
        let claim = lock(&self.sessions).claim(id, hello.previous_lease.as_deref(), up_ms);
        if let Claim::Fork(holder) = &claim {
            return Err(self.forked(&known.agent, device, holder, &hello));
        }
        self.approved(&known.agent)?;
        let rotate_first = self.silent_ms(&known.agent) > ROTATE_MS && self.is_old(known.made_at);
        let agent = self.take(known)?;
        self.note_version(&agent, &hello.version)?;
        let lease = hex::encode(identity::random::<16>());
        let recorded = hello.recorded;
        let told = format!("{device} speaks as this agent now");
        let claimed = hello.previous_lease.clone();
        let kept = hello.kept_lease.clone();
        let beginning = Beginning { lease: lease.clone(), claimed, kept, recorded, rotate_first, device };
        lock(&self.sessions).begin(id, beginning, up_ms);
        lock(&self.pushes).begin(id);
        self.pushed.send_modify(|n| *n += 1);
        // A device that stood by may come first after a restart of ours, when nobody remembers the other one.
        let renumber = claim == Claim::Successor || hello.stood_by;
        if renumber {
            lock(&self.sessions).reunited(id);
            self.note(&agent, AgentEventKind::TakenOver, &told);
        }
        if !rotate_first {
            let agent = self.keep_seen(agent)?;
            if self.seen(id, Some(hello.pending)) {
                tracing::info!(agent = agent.name, pending = hello.pending, "agent connected");
                self.settle().map_err(|e| failed(&e))?;
            }
        }
        let (cursor, seen) = lock(&self.progress).reached(id);
        Ok(Welcome { lease, cursor, seen, renumber })
    }

    /// A device that shows an identity which another one holds: it stands by, and the owner sees both.
    fn forked(&self, agent: &Agent, device: Device, holder: &Device, hello: &Hello) -> Problem {
        let told = format!(
            "two devices show this identity: {holder} holds it, {device} stands by; its data directory was copied: stop one of them, \
             and enrol it anew if both are to run"
        );
        let claimed = hello.previous_lease.clone();
        if lock(&self.sessions).forked(agent.id, device, claimed, self.now().up_ms) {
            self.note(agent, AgentEventKind::Forked, &told);
        }
        Problem::new(
            Problem::FORKED,
            "another device holds this identity: this one stands by until it is silent",
        )
    }

    /// An agent that was silent for far too long waits for its owner.
    fn approved(&self, agent: &Agent) -> Result<(), Problem> {
        if !self.wants_approval(agent) {
            return Ok(());
        }
        let name = &agent.name;
        let told = format!("it was silent for more than 90 days: `picket agents approve {name}` lets it in");
        self.note(agent, AgentEventKind::ApprovalRequired, &told);
        Err(Problem::new(
            Problem::APPROVAL_REQUIRED,
            format!(
                "the agent was silent for more than 90 days: its owner runs `picket agents approve {name}`"
            ),
        ))
    }

    /// Whether the agent was silent for so long since its last approval that its owner must approve it again.
    pub(crate) fn wants_approval(&self, agent: &Agent) -> bool {
        let Some(device) = &agent.device else { return false };
        let since = self.now().wall.as_millis().saturating_sub(device.approved_at.as_millis());
        since > APPROVAL_MS && self.silent_ms(agent) > APPROVAL_MS
    }

    /// How long the agent was silent while somebody was there to hear it: neither the control plane's own absence counts, nor a wall
    /// clock that jumped over it.
    pub(super) fn silent_ms(&self, agent: &Agent) -> i64 {
        let (now, presence) = (self.now(), lock(&self.presence).get(&agent.id).copied().unwrap_or_default());
        let since = |up_ms: u64| i64::try_from(now.up_ms.saturating_sub(up_ms)).unwrap_or(i64::MAX);
        if let Some(seen) = presence.seen_up_ms {
            return since(seen);
        }
        // An agent that enrolled before this was kept was seen at its making, at least.
        let kept = agent.device.as_ref().map_or(now.wall, |device| device.seen_at.max(agent.created_at));
        let seen = presence.seen_at.map_or(kept, |at| at.max(kept));
        let before = self.alive_before.map_or(0, |alive| alive.as_millis().saturating_sub(seen.as_millis()));
        before.max(0).saturating_add(since(self.started_up_ms))
    }

    /// Whether a token was made known so long ago that an agent which was silent has to make a new one.
    pub(super) fn is_old(&self, made_at: Timestamp) -> bool {
        self.now().wall.as_millis().saturating_sub(made_at.as_millis()) > ROTATE_MS
    }

    fn note_version(&self, agent: &Agent, version: &str) -> Result<(), Problem> {
        let version = short(version);
        if agent.device.as_ref().is_some_and(|d| d.version != version) {
            self.update_device(agent, |device| device.version = version)?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = if self.host.is_empty() { "a machine" } else { &self.host };
        let boot = self.boot_id.split('-').next().unwrap_or_default();
        write!(f, "{host} (boot {boot})")
    }
}

/// What an agent says about itself is for people: its first characters, printable ones.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// An agent that was silent for longer rotates before anything else.
const ROTATE_MS: i64 = 7 * 24 * 3_600_000;

/// An agent that was silent for longer needs its owner.
const APPROVAL_MS: i64 = 90 * 24 * 3_600_000;
