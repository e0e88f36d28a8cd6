//! What an enrolled agent keeps of itself on its disk, and what it shows of that: the identity to speak with, and its duty. Owns that
//! every change is on the disk before it is shown.

use std::sync::Arc;

use tokio::sync::watch;
use wire::Timestamp;
use zeroize::Zeroizing;

use super::rotation::Which;
use super::{Identity, secret, slot};
use crate::Error;
use crate::duty::Duty;
use crate::slots::Slots;

/// What the slots hold of an enrolled agent.
#[derive(Debug)]
pub(crate) struct Kept {
    /// With the active token.
    pub(crate) identity: Arc<Identity>,
    /// The token that is to follow, on disk before anybody hears of it.
    pub(crate) pending: Option<Token>,
    /// Whether the control plane said, with its signature, that the owner revoked this agent.
    pub(crate) revoked: bool,
    /// When the active token became the active one, by a wall clock that may be wrong.
    pub(crate) rotated_at: Option<Timestamp>,
}

/// A token made here.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) generation: u64,
    pub(crate) token: Zeroizing<String>,
}

/// The identity of a running agent.
pub(crate) struct Keeper {
    slots: Slots,
    kept: Kept,
    spoken: watch::Sender<Arc<Identity>>,
    duty: watch::Sender<Duty>,
}

impl Keeper {
    /// Keeps what the slots hold.
    pub(crate) fn new(slots: Slots, kept: Kept) -> Self {
        let duty = if kept.revoked { Duty::Revoked } else { Duty::Active };
        let spoken = watch::Sender::new(kept.identity.clone());
        Self { slots, kept, spoken, duty: watch::Sender::new(duty) }
    }

    /// The identity to speak with, and its changes.
    pub(crate) fn identities(&self) -> watch::Receiver<Arc<Identity>> {
        self.spoken.subscribe()
    }

    /// What the agent is good for, and its changes.
    pub(crate) fn duties(&self) -> watch::Receiver<Duty> {
        self.duty.subscribe()
    }

    /// With the active token.
    pub(crate) fn active(&self) -> Arc<Identity> {
        self.kept.identity.clone()
    }

    /// With the pending token; the active one while there is none.
    pub(crate) fn next(&self) -> Arc<Identity> {
        match &self.kept.pending {
            Some(pending) => Arc::new(self.kept.identity.with(pending)),
            None => self.active(),
        }
    }

    /// Whether a token is to follow.
    pub(crate) fn has_pending(&self) -> bool {
        self.kept.pending.is_some()
    }

    /// Which token has this generation; none when none of ours does.
    pub(crate) fn which(&self, generation: u64) -> Option<Which> {
        match &self.kept.pending {
            _ if generation == self.kept.identity.generation => Some(Which::Active),
            Some(pending) if generation == pending.generation => Some(Which::Pending),
            _ => None,
        }
    }

    /// The age of the active token by the wall clock; nothing where it cannot be told.
    pub(crate) fn age(&self, now: Timestamp) -> std::time::Duration {
        let since = self.kept.rotated_at.unwrap_or(now);
        let millis = now.as_millis().saturating_sub(since.as_millis());
        std::time::Duration::from_millis(u64::try_from(millis).unwrap_or_default())
    }

    /// Makes a token of this generation and keeps it beside the active one.
    pub(crate) fn prepare(&mut self, generation: u64) -> Result<(), Error> {
        let before = self.kept.pending.replace(Token { generation, token: secret() });
        self.write().inspect_err(|_| self.kept.pending = before)
    }

    /// Speaks with this token from now on. Nothing is written: which one is good shows the next answer.
    pub(crate) fn speak(&self, which: Which) {
        let identity = match which {
            Which::Active => self.active(),
            Which::Pending => self.next(),
        };
        self.show(identity);
    }

    /// The pending token is the active one, on disk and for everybody who speaks.
    pub(crate) fn activate(&mut self, now: Timestamp) -> Result<(), Error> {
        let identity = self.next();
        let before = std::mem::replace(&mut self.kept.identity, identity.clone());
        let (pending, rotated_at) = (self.kept.pending.take(), self.kept.rotated_at.replace(now));
        if let Err(error) = self.write() {
            // The pending one is on disk all the same, and what is there may be used.
            self.kept = Kept { identity: before, pending, rotated_at, ..self.kept };
            return Err(error);
        }
        self.show(identity);
        Ok(())
    }

    /// What the control plane says of this agent. A disk that refuses costs what a restart would need to know.
    pub(crate) fn serve(&mut self, duty: Duty) {
        let revoked = duty == Duty::Revoked;
        if self.kept.revoked != revoked {
            self.kept.revoked = revoked;
            if let Err(error) = self.write() {
                tracing::warn!(%error, revoked, "cannot keep on the disk what the owner said");
            }
        }
        self.duty.send_if_modified(|told| std::mem::replace(told, duty) != duty);
    }

    /// What the agent is good for.
    pub(crate) fn duty(&self) -> Duty {
        *self.duty.borrow()
    }

    fn show(&self, identity: Arc<Identity>) {
        self.spoken.send_if_modified(|spoken| {
            let same = spoken.generation == identity.generation;
            *spoken = identity;
            !same
        });
    }

    fn write(&mut self) -> Result<(), Error> {
        let payload = slot::encode_active(&self.kept);
        super::store(&mut self.slots, &payload)
    }
}

impl Kept {
    /// An identity that was just made.
    pub(crate) fn fresh(identity: Identity, now: Timestamp) -> Self {
        Self { identity: Arc::new(identity), pending: None, revoked: false, rotated_at: Some(now) }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.generation)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use uuid::Uuid;
    use wire::AgentId;

    use super::super::{Enrolling, Loaded, State, load};
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_millis(hours * 3_600_000)
    }

    /// What an agent that starts in this directory has.
    fn start(data: &Path) -> Keeper {
        let Loaded { slots, state, .. } = load(data).unwrap();
        match state {
            State::Active(kept) => Keeper::new(slots, *kept),
            _ => panic!("the identity is gone"),
        }
    }

    fn enrolled(data: &Path) -> Keeper {
        let Enrolling { token, key, .. } = Enrolling::new();
        let server_key = key.verifying_key();
        let (name, location) = ("edge-1".to_owned(), "dc1".to_owned());
        let agent = AgentId(Uuid::nil());
        let identity = Identity { agent, name, location, generation: 1, token, key, server_key, fresh: true };
        let mut keeper = Keeper::new(load(data).unwrap().slots, Kept::fresh(identity, at(0)));
        keeper.write().unwrap();
        keeper
    }

    #[test]
    fn the_next_token_is_on_disk_before_anybody_can_hear_of_it_and_both_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = enrolled(dir.path());
        let spoken = keeper.identities();
        keeper.prepare(2).unwrap();
        assert_eq!(spoken.borrow().generation, 1);
        let again = start(dir.path());
        assert_eq!((again.active().generation, again.next().generation), (1, 2));
        assert_eq!(
            (&again.active().token, &again.next().token),
            (&keeper.active().token, &keeper.next().token)
        );
        assert_eq!(
            (again.which(1), again.which(2), again.which(3)),
            (Some(Which::Active), Some(Which::Pending), None)
        );
        keeper.speak(Which::Pending);
        assert_eq!((spoken.borrow().generation, start(dir.path()).active().generation), (2, 1));
        keeper.activate(at(1)).unwrap();
        let again = start(dir.path());
        assert_eq!((again.active().generation, again.has_pending()), (2, false));
        assert_eq!(again.active().token, keeper.active().token);
    }

    #[test]
    fn an_agent_that_was_revoked_stays_so_across_a_restart_and_one_that_stood_by_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = enrolled(dir.path());
        keeper.serve(Duty::Standby);
        assert_eq!((keeper.duty(), start(dir.path()).duty()), (Duty::Standby, Duty::Active));
        keeper.serve(Duty::Revoked);
        assert_eq!(start(dir.path()).duty(), Duty::Revoked);
        keeper.serve(Duty::Active);
        assert_eq!(start(dir.path()).duty(), Duty::Active);
    }

    #[test]
    fn a_token_of_a_clock_that_was_ahead_or_that_nobody_dated_has_no_age() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = enrolled(dir.path());
        assert_eq!(keeper.age(at(24)), Duration::from_secs(24 * 3_600));
        assert_eq!(keeper.age(at(-1)), Duration::ZERO);
        keeper.kept.rotated_at = None;
        assert_eq!(keeper.age(at(24)), Duration::ZERO);
    }
}
