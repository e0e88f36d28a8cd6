//! How results leave: asks the state machine what to say, says it, and tells the spool what came of it.
//!
//! The rules are in `machine` and `lanes`, how a session begins in `hello`, the life of the token in `token`, trust is in `client`, the
//! network in `transport`.

use std::sync::Arc;
use std::time::Duration;

use spool::{Spool, Stored};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use wire::results::{Batch, Lane, Record};
use wire::{Position, Problem};

use crate::clock;
use crate::record::{self, Moment};
use client::{Client, Session, Trouble};
use lease::Lease;
use machine::{Failure, Machine, Step, Verdict, Wanted};
use releases::Releases;

pub(crate) mod backoff;
pub(crate) mod client;
mod hello;
mod lanes;
pub(crate) mod lease;
mod machine;
mod names;
pub(crate) mod proxy;
pub(crate) mod pushes;
mod releases;
pub(crate) mod retry_after;
pub(crate) mod stream;
pub(crate) mod token;
pub(crate) mod transport;
mod way;

/// How the agent stands with its control plane.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    /// Whether the last exchange succeeded.
    pub(crate) connected: bool,
    /// What went wrong in it otherwise.
    pub(crate) trouble: Option<String>,
}

/// Sends what is recorded.
pub(crate) struct Uplink {
    client: Client,
    spool: Spool,
    recorded: watch::Receiver<spool::Status>,
    machine: Machine,
    releases: Releases,
    session: Option<Arc<Session>>,
    /// The session while it is good for something, for whoever else speaks within it.
    sessions: watch::Sender<Option<Arc<Session>>>,
    standing: watch::Sender<Standing>,
    lease: Lease,
    boot_id: String,
}

impl Uplink {
    /// An uplink that has not said hello.
    pub(crate) fn new(client: Client, spool: Spool, lease: Lease, boot_id: String) -> Self {
        Self {
            machine: Machine::new(record::from_spool(spool.status().acknowledged)),
            releases: Releases::default(),
            recorded: spool.watch(),
            session: None,
            sessions: watch::Sender::new(None),
            standing: watch::Sender::new(Standing::default()),
            client,
            spool,
            lease,
            boot_id,
        }
    }

    /// The session, for whoever else speaks within it; none while the control plane is away.
    pub(crate) fn sessions(&self) -> watch::Receiver<Option<Arc<Session>>> {
        self.sessions.subscribe()
    }

    /// How the agent stands with its control plane.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Sends until `stop`, then tries for a moment to send what is left.
    pub(crate) async fn run(&mut self, stop: &mut oneshot::Receiver<()>) {
        loop {
            failpoint::hit("agent.uplink");
            tokio::select! {
                () = self.turn() => {}
                _ = &mut *stop => break,
            }
        }
        let _ = timeout(LAST_WORDS, self.last_words()).await;
    }

    /// One thing to do. It may be dropped at any point: what left counts as sent, and nothing is released without an answer.
    async fn turn(&mut self) {
        let ready = self.ready().await;
        match self.machine.next(clock::boot(), !ready.is_empty()) {
            Step::Hello => self.greet().await,
            Step::Send => self.send(ready).await,
            Step::Wait(until) => self.rest(until.saturating_sub(clock::boot())).await,
        }
    }

    /// Sends as long as there is something to send and nothing fails.
    async fn last_words(&mut self) {
        loop {
            let ready = self.ready().await;
            match self.machine.next(clock::boot(), !ready.is_empty()) {
                Step::Send if !ready.is_empty() => self.send(ready).await,
                Step::Hello if self.spool.status().pending > 0 => self.greet().await,
                Step::Hello | Step::Send | Step::Wait(_) => return self.releases.end().await,
            }
        }
    }

    /// What the spool holds for the next batch.
    async fn ready(&mut self) -> Ready {
        let status = *self.recorded.borrow_and_update();
        if status.pending + status.gaps == 0 || !self.machine.may_speak(clock::boot()) {
            return Ready::default();
        }
        let recorded = record::from_spool(status.recorded);
        let wanted = self.machine.wanted(recorded);
        let mut stored = self.peek(wanted).await;
        if wanted.lane == Lane::Live {
            // Gaps wait for their turn in the order of things.
            let last = stored.last().map(|stored| record::from_spool(stored.position()));
            stored.retain(|stored| matches!(stored, Stored::Entry { .. }));
            if stored.is_empty() {
                self.machine.pass(last.unwrap_or(recorded));
                let wanted = self.machine.wanted(recorded);
                return Ready { lane: wanted.lane, stored: self.peek(wanted).await };
            }
        }
        Ready { lane: wanted.lane, stored }
    }

    async fn peek(&self, Wanted { after, limit, .. }: Wanted) -> Vec<Stored> {
        match self.spool.peek(record::to_spool(after), limit).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%error, "cannot read the spool");
                Vec::new()
            }
        }
    }

    async fn send(&mut self, Ready { lane, stored }: Ready) {
        let Some(session) = self.session.clone() else { return };
        let now = Moment { boot_id: &self.boot_id, boot: clock::boot() };
        let entries: Vec<Position> = stored.iter().filter_map(entry).collect();
        let rejected = self.machine.rejected();
        let records: Vec<Record> =
            stored.into_iter().map(|stored| record::record(stored, now, rejected)).collect();
        let positions: Vec<Position> = records.iter().map(Record::position).collect();
        let batch = Batch { lane, records, pending: self.pending(), sent_at: clock::wall() };
        self.machine.sending(lane, positions.last().copied());
        match self.client.results(&session, &batch).await {
            Ok(ack) => {
                failpoint::hit("uplink.sent");
                self.lease.settle();
                let verdict = self.machine.answered(clock::boot(), &positions, ack.cursor, rand::random());
                if verdict.odd {
                    tracing::warn!(cursor = %ack.cursor, sent = ?positions.last(), "the control plane's cursor makes no sense");
                }
                if let Err(error) = self.apply(verdict, &entries).await {
                    tracing::warn!(%error, "cannot move the spool's acknowledged position");
                }
                failpoint::hit("uplink.acknowledged");
                self.tell(trouble(verdict));
            }
            Err(trouble) => self.fail(trouble, &positions),
        }
    }

    /// Waits for the time, a new result, or the end of the session; while it keeps quiet after a failure, only for the time.
    async fn rest(&mut self, time: Duration) {
        let quiet = !self.machine.may_speak(clock::boot());
        let session = self.session.clone();
        let ended = async {
            match &session {
                Some(session) => session.ended.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep(time.min(NAP)) => {}
            // A spool that is gone has nothing more to say, and ends the agent elsewhere.
            Ok(()) = self.recorded.changed(), if !quiet => {}
            () = ended => self.machine.failed(clock::boot(), Failure::LeaseUnknown, &[], rand::random()),
        }
    }

    /// Tells the spool what came of it; `entries` are those of the batch. An error is a rewind or new positions, which must not wait, that
    /// are not on the disk.
    async fn apply(&mut self, verdict: Verdict, entries: &[Position]) -> Result<(), spool::Error> {
        if let Some(upto) = verdict.release {
            let released = entries.iter().filter(|position| **position <= upto).count() as u64;
            self.releases.begin(&self.spool, record::to_spool(upto), released);
        }
        if verdict.rewind.is_some() || verdict.renumber.is_some() {
            self.releases.end().await;
        }
        if let Some(to) = verdict.rewind {
            tracing::warn!(%to, "the control plane has less than it acknowledged: sending again what is still here");
            self.spool.rewind(record::to_spool(to)).await?;
            self.machine.rewound(to);
        }
        if let Some(above) = verdict.renumber {
            tracing::info!(%above, "what is held gets new positions");
            let done = self.spool.renumber(record::to_spool(above)).await;
            self.machine.renumbered(record::from_spool(self.spool.status().acknowledged));
            done?;
        }
        Ok(())
    }

    /// Results that the control plane does not have yet.
    fn pending(&mut self) -> u64 {
        let status = self.spool.status();
        status.pending.saturating_sub(self.releases.beyond(status.acknowledged))
    }

    fn fail(&mut self, trouble: Trouble, batch: &[Position]) {
        self.machine.failed(clock::boot(), failure(&trouble), batch, rand::random());
        self.tell(Some(trouble.to_string()));
    }

    /// Says how it stands, once per change.
    fn tell(&self, trouble: Option<String>) {
        let connected = self.machine.connected();
        let session = self.session.clone().filter(|session| connected && !session.is_lost());
        self.sessions.send_if_modified(|told| {
            let same = match (told.as_ref(), session.as_ref()) {
                (Some(told), Some(session)) => Arc::ptr_eq(told, session),
                (told, session) => told.is_none() && session.is_none(),
            };
            *told = session;
            !same
        });
        let standing = Standing { connected, trouble };
        self.standing.send_if_modified(|told| {
            if *told == standing {
                return false;
            }
            match &standing.trouble {
                Some(trouble) => tracing::warn!("cannot report, results are kept: {trouble}"),
                None => tracing::info!("connected to the control plane"),
            }
            *told = standing;
            true
        });
    }
}

/// What the next batch is made of.
#[derive(Default)]
struct Ready {
    lane: Lane,
    stored: Vec<Stored>,
}

impl Ready {
    fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }
}

/// Where an entry stands; none of a gap.
fn entry(stored: &Stored) -> Option<Position> {
    matches!(stored, Stored::Entry { .. }).then(|| record::from_spool(stored.position()))
}

/// What a verdict means for the operator.
fn trouble(verdict: Verdict) -> Option<String> {
    (verdict.later_life || verdict.renumber.is_some()).then(|| {
        "the control plane has results of a later life of this agent: its data directory was restored or copied".to_owned()
    })
}

fn failure(trouble: &Trouble) -> Failure {
    if let Some(time) = barred(trouble) {
        return Failure::Barred(time);
    }
    match trouble {
        Trouble::Network(_) => Failure::Network,
        Trouble::Later { asked, .. } => Failure::Later(*asked),
        _ if trouble.wants_hello() => Failure::LeaseUnknown,
        Trouble::Refused { status: 429 | 503, problem: Problem { retry_after_s: Some(s), .. } } => {
            Failure::Busy(Duration::from_secs(*s))
        }
        Trouble::Refused { status: 400 | 413 | 422, .. } => Failure::Rejected,
        Trouble::Refused { problem, .. }
            if [Problem::INVALID, Problem::TOO_LARGE].contains(&&problem.code[..]) =>
        {
            Failure::Rejected
        }
        Trouble::Refused { .. } => Failure::Refused,
    }
}

/// How long an agent keeps quiet that the control plane bars for now.
fn barred(trouble: &Trouble) -> Option<Duration> {
    let Trouble::Refused { problem, .. } = trouble else { return None };
    match problem.code.as_str() {
        Problem::FORKED => Some(STANDBY),
        Problem::REVOKED | Problem::APPROVAL_REQUIRED => Some(BARRED),
        _ => None,
    }
}

/// Between two hellos of an agent that stands by: a heartbeat, so that it takes over soon after the other fell silent.
const STANDBY: Duration = Duration::from_secs(wire::HEARTBEAT_S);
/// Between two hellos of an agent that its owner has to approve.
const BARRED: Duration = Duration::from_secs(60);
/// Longest sleep at a stretch: timers do not count suspend.
const NAP: Duration = Duration::from_secs(10);
/// For what is left when the agent stops.
const LAST_WORDS: Duration = Duration::from_secs(3);
