//! The agent's token while it runs: what answers mean for it, its rotation, its recovery, and the duty that the control plane gives.
//! The one place that changes the identity on disk; the rules are in `identity::rotation`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use wire::push::Push;

use super::client::{Client, Session, Trouble};
use super::pushes::Subscription;
use crate::clock;
use crate::duty::Duty;
use crate::identity::keeper::Keeper;
use crate::identity::rotation::{Refusal, Rotation, Step};
use crate::{Error, Settings};

/// What an answer said about this agent's token or its duty. All but [`Said::Unknown`] were signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A hello was welcomed.
    Welcomed {
        /// Of its token.
        generation: u64,
        /// Counts welcomes, from 1.
        number: u64,
    },
    /// An answer that refuses neither.
    Good,
    /// The token of this generation is over.
    Superseded(u64),
    /// Somebody does not know the token of this generation.
    Unknown(u64),
    /// The token is good for a rotation only.
    RotateFirst,
    /// The agent has no work: the owner revoked it, or another device holds its identity.
    Barred {
        /// What is left to it.
        duty: Duty,
        /// Welcomes before it was asked: a later one overrules this.
        welcomes: u64,
    },
}

/// Keeps the token.
pub(crate) struct Tokens {
    client: Client,
    keeper: Keeper,
    rotation: Rotation,
    sessions: watch::Receiver<Option<Arc<Session>>>,
    said: mpsc::Receiver<Said>,
    /// The last welcome.
    welcomed: u64,
    pushes: Subscription,
}

impl Tokens {
    /// The tokens of `keeper`.
    pub(crate) fn new(
        settings: &Settings,
        client: Client,
        keeper: Keeper,
        sessions: watch::Receiver<Option<Arc<Session>>>,
        said: mpsc::Receiver<Said>,
        pushes: Subscription,
    ) -> Self {
        let (pending, age) = (keeper.has_pending(), keeper.age(clock::wall()));
        let rotation = Rotation::new(settings.rotate_every, pending, age, clock::boot(), rand::random());
        Self { client, keeper, rotation, sessions, said, welcomed: 0, pushes }
    }

    /// Runs for ever.
    pub(crate) async fn run(&mut self) {
        loop {
            while let Ok(said) = self.said.try_recv() {
                self.take(said);
            }
            let session = self.sessions.borrow_and_update().clone().filter(|session| !session.is_lost());
            let done = match (self.rotation.next(clock::boot(), session.is_some()), session) {
                (Step::Prepare, _) => self.prepare(),
                (Step::Register, Some(session)) => self.register(&session).await,
                (Step::Prove, Some(session)) => self.prove(&session).await,
                (Step::Recover, _) => self.recover().await,
                (Step::Register | Step::Prove, None) => self.rest(NAP).await,
                (Step::Wait(until), _) => self.rest(until.saturating_sub(clock::boot())).await,
            };
            if let Err(problem) = done {
                tracing::warn!("no new token yet: {problem}");
                self.rotation.failed(clock::boot(), rand::random());
            }
        }
    }

    async fn rest(&mut self, time: Duration) -> Result<(), Problem> {
        tokio::select! {
            Some(said) = self.said.recv() => self.take(said),
            push = self.pushes.next() => if push == Push::Rotate { self.rotation.ask() },
            Ok(()) = self.sessions.changed() => {}
            () = sleep(time.min(NAP)) => {}
        }
        Ok(())
    }

    fn take(&mut self, said: Said) {
        match said {
            Said::Good => self.rotation.heard(),
            Said::RotateFirst => self.rotation.ask(),
            Said::Superseded(generation) => self.refused(generation, Refusal::Signed),
            Said::Unknown(generation) => self.refused(generation, Refusal::Unsigned),
            Said::Barred { welcomes, .. } if welcomes < self.welcomed => {}
            Said::Barred { duty, .. } => self.serve(duty),
            Said::Welcomed { generation, number } => {
                self.welcomed = number;
                self.serve(Duty::Active);
                let Some(which) = self.keeper.which(generation) else { return };
                if self.rotation.welcomed(clock::boot(), which)
                    && let Err(problem) = self.activate()
                {
                    tracing::warn!("cannot keep the new token as the active one: {problem}");
                }
            }
        }
    }

    fn refused(&mut self, generation: u64, refusal: Refusal) {
        // A late word about a token that is over anyway says nothing.
        let Some(which) = self.keeper.which(generation) else { return };
        let speak = self.rotation.refused(which, refusal);
        self.keeper.speak(speak);
    }

    fn serve(&mut self, duty: Duty) {
        if self.keeper.duty() != duty {
            match duty {
                Duty::Active => tracing::info!("on duty again"),
                Duty::Standby => tracing::error!(
                    "another device holds this identity: its data directory was copied; this one stands by and keeps what it recorded"
                ),
                Duty::Revoked => tracing::error!(
                    "the owner revoked this agent: it checks nothing and keeps its identity and what it recorded"
                ),
            }
        }
        self.keeper.serve(duty);
    }

    /// Makes the next token, on disk before anybody hears of it.
    fn prepare(&mut self) -> Result<(), Problem> {
        self.keeper.prepare(self.keeper.active().generation + 1)?;
        failpoint::hit("identity.pending");
        self.rotation.prepared();
        Ok(())
    }

    /// Makes it known, with the active one.
    async fn register(&mut self, session: &Session) -> Result<(), Problem> {
        let (active, next) = (self.keeper.active(), self.keeper.next());
        let told = self.client.rotate(session, &active, &next).await;
        if told.as_ref().is_err_and(|trouble| trouble.is(wire::Problem::CONFLICT))
            && next.generation != active.generation + 1
        {
            self.rotation.out_of_turn();
        }
        told.map_err(lost(session))?;
        failpoint::hit("identity.rotated");
        self.rotation.registered();
        Ok(())
    }

    /// Uses it for the first time, to say the same again; then it is the active one for everybody who speaks.
    async fn prove(&mut self, session: &Session) -> Result<(), Problem> {
        let next = self.keeper.next();
        self.client.rotate(session, &next, &next).await.map_err(lost(session))?;
        self.activate()
    }

    /// Proves with the device key who this is. Nothing is written before the control plane proved who it is.
    async fn recover(&mut self) -> Result<(), Problem> {
        let challenge = self.client.challenge().await?;
        let lowest = challenge.generation.max(self.keeper.active().generation + 1);
        // A token that the control plane never knew is as good as a new one.
        if !self.keeper.has_pending() || self.keeper.next().generation < lowest {
            self.keeper.prepare(lowest)?;
        }
        failpoint::hit("identity.recovering");
        self.client.recover(&challenge, &self.keeper.next()).await?;
        tracing::warn!("the token was refused and is recovered with the device key");
        self.activate()
    }

    fn activate(&mut self) -> Result<(), Problem> {
        self.keeper.activate(clock::wall())?;
        failpoint::hit("identity.activated");
        tracing::info!(generation = self.keeper.active().generation, "a new token is in use");
        self.rotation.activated(clock::boot(), rand::random());
        Ok(())
    }
}

/// Why there is no new token.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Trouble(#[from] Trouble),
    #[error(transparent)]
    Disk(#[from] Error),
}

/// A lease that somebody finds lost is lost for all.
fn lost(session: &Session) -> impl Fn(Trouble) -> Trouble {
    |trouble| {
        if trouble.wants_hello() {
            session.lose();
        }
        trouble
    }
}

/// Longest sleep at a stretch: timers do not count suspend.
const NAP: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use wire::AgentId;

    use super::super::pushes::Pushes;
    use super::super::transport::Transport;
    use super::*;
    use crate::identity::keeper::Kept;
    use crate::identity::{Enrolling, Identity, load};

    fn tokens(data: &std::path::Path) -> Tokens {
        let Enrolling { token, key, .. } = Enrolling::new();
        let (server_key, agent) = (key.verifying_key(), AgentId(Uuid::nil()));
        let (name, location) = ("edge-1".to_owned(), "dc1".to_owned());
        let identity = Identity { agent, name, location, generation: 1, token, key, server_key, fresh: true };
        let keeper = Keeper::new(load(data).unwrap().slots, Kept::fresh(identity, clock::wall()));
        let nobody = "http://127.0.0.1:9".parse().unwrap();
        let transport = Transport::new(&nobody, None, &crate::Proxy::default()).unwrap();
        let (tell, said) = mpsc::channel(1);
        let client = Client::new(transport, keeper.identities(), tell);
        let sessions = watch::Sender::new(None).subscribe();
        let pushes = Pushes::new(client.clone(), sessions.clone()).subscribe();
        let rotation = Rotation::new(Settings::ROTATE_EVERY, false, Duration::ZERO, Duration::ZERO, 0.5);
        Tokens { client, keeper, rotation, sessions, said, welcomed: 0, pushes }
    }

    #[test]
    fn a_late_word_that_an_agent_has_no_work_is_overruled_by_the_welcome_since() {
        let dir = tempfile::tempdir().unwrap();
        let mut tokens = tokens(dir.path());
        let welcome = |number| Said::Welcomed { generation: 1, number };
        for bars in [Duty::Revoked, Duty::Standby] {
            let number = tokens.welcomed + 1;
            for (said, duty) in [
                (Said::Barred { duty: bars, welcomes: number - 1 }, bars),
                (welcome(number), Duty::Active),
                (Said::Barred { duty: bars, welcomes: number - 1 }, Duty::Active),
                (Said::Barred { duty: bars, welcomes: number }, bars),
                (welcome(number + 1), Duty::Active),
            ] {
                tokens.take(said);
                assert_eq!(tokens.keeper.duty(), duty, "after {said:?}");
            }
        }
    }
}
