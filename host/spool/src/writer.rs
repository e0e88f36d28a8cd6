//! The thread that owns the queue: gathers entries into groups, commits each with one fsync, answers reads between them, and
//! opens the queue again when the database refuses to write. Decides when, never what: that is `queue.rs`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::{
    error::Error,
    home::Source,
    queue::Queue,
    store::Fault,
    types::{Entry, Position, Status, Stored},
};

/// Entries of one commit at most. More than the settings' group, because whatever came during the last fsync goes with the next.
pub(crate) const COMMIT_ENTRIES: usize = 1024;

/// Bytes of one commit at most, unless a single entry has more.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// Where the answer to a command goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What the public handle asks for.
pub(crate) enum Command {
    /// Record this; answered after the fsync. The permit bounds what waits in memory.
    Append { entry: Entry, reply: Reply<Position>, permit: OwnedSemaphorePermit },
    /// Move the acknowledged position; goes with the next group.
    Release { upto: Position, reply: Reply<()> },
    /// Read.
    Peek { after: Position, limit: usize, reply: Reply<Vec<Stored>> },
    /// Move the acknowledged position back.
    Rewind { to: Position, reply: Reply<()> },
    /// Move everything unreleased to a fresh epoch.
    Renumber { above: Position, reply: Reply<()> },
    /// Commit what waits, and end.
    Close { reply: oneshot::Sender<()> },
}

/// Since when the thread has been waiting for the disk; read by the handles without a lock.
#[derive(Debug)]
pub(crate) struct Busy {
    origin: Instant,
    /// Milliseconds after the origin, plus one; 0 when idle.
    since: AtomicU64,
}

impl Busy {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now(), since: AtomicU64::new(0) }
    }

    /// How long the operation under way has taken.
    pub(crate) fn elapsed(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.origin.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.since.store(self.origin.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        let result = work();
        self.since.store(0, Ordering::Relaxed);
        result
    }
}

/// How groups form, and how often a failure is tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Entries that start a commit at once.
    pub(crate) group: usize,
    /// Time since the previous commit after which one entry is enough.
    pub(crate) wait: Duration,
    /// Time between two tries to open a queue that could not be opened again, and between two syncs of the slots.
    pub(crate) pause: Duration,
}

/// The thread's state.
pub(crate) struct Writer<H: Source> {
    home: H,
    /// None after the database failed, until it could be opened again.
    queue: Option<Queue<H::Store>>,
    pace: Pace,
    group: Group,
    committed_at: Option<Instant>,
    synced_at: Instant,
    failed_at: Option<Instant>,
    reopened: u64,
    /// Evicted by queues that are spent.
    evicted: u64,
    recorded: Position,
    status: watch::Sender<Status>,
    busy: Arc<Busy>,
}

/// What the next commit takes along.
#[derive(Default)]
struct Group {
    entries: Vec<Entry>,
    bytes: usize,
    replies: Vec<(Reply<Position>, OwnedSemaphorePermit)>,
    release: Option<Position>,
    releases: Vec<Reply<()>>,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.releases.is_empty()
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= COMMIT_ENTRIES || self.bytes >= COMMIT_BYTES
    }
}

impl<H: Source> Writer<H> {
    /// Opens the queue. The status can be read as soon as this returns.
    pub(crate) fn open(
        mut home: H,
        pace: Pace,
        busy: Arc<Busy>,
    ) -> Result<(Self, watch::Receiver<Status>), Error> {
        let queue = home.queue(None)?;
        let (status, watched) = watch::channel(Status::default());
        let writer = Self {
            home,
            recorded: queue.marker().recorded(),
            queue: Some(queue),
            pace,
            group: Group::default(),
            committed_at: None,
            synced_at: Instant::now(),
            failed_at: None,
            reopened: 0,
            evicted: 0,
            status,
            busy,
        };
        writer.publish();
        Ok((writer, watched))
    }

    /// Serves until closed, or until no handle is left.
    pub(crate) fn run(mut self, commands: &mpsc::Receiver<Command>) {
        let closing = 'serving: loop {
            let Ok(first) = self.receive(commands) else { break None };
            // What came during the last fsync goes with the next: everything that waits, not only a group of it.
            for command in first.into_iter().chain(commands.try_iter()) {
                match command {
                    Command::Close { reply } => break 'serving Some(reply),
                    command => self.take(command),
                }
                if self.group.is_full() {
                    break;
                }
            }
            if self.group.is_full() || self.due().is_some_and(|due| due <= Instant::now()) {
                self.commit();
            }
            self.sync();
        };
        self.commit();
        self.put_slots();
        drop(self);
        if let Some(reply) = closing {
            // Whoever closes may have gone away meanwhile; closed it is all the same.
            let _ = reply.send(());
        }
    }

    /// The next command; none when it is time for something else.
    fn receive(&self, commands: &mpsc::Receiver<Command>) -> Result<Option<Command>, mpsc::RecvError> {
        let sync_due = self.home.dirty().then(|| self.synced_at + self.pace.pause);
        let until = [self.due(), sync_due].into_iter().flatten().min();
        let Some(until) = until else { return commands.recv().map(Some) };
        match commands.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(command) => Ok(Some(command)),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(mpsc::RecvError),
        }
    }

    /// When the group that waits must be committed; none when nothing waits.
    fn due(&self) -> Option<Instant> {
        if self.group.is_empty() {
            return None;
        }
        let now = Instant::now();
        let patience =
            if self.group.entries.len() >= self.pace.group { Duration::ZERO } else { self.pace.wait };
        Some(self.committed_at.map_or(now, |before| before + patience))
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Append { entry, reply, permit } => {
                self.group.bytes += entry.bytes.len();
                self.group.entries.push(entry);
                self.group.replies.push((reply, permit));
            }
            Command::Release { upto, reply } if upto > self.recorded => {
                let _ = reply.send(Err(Error::Beyond { upto, recorded: self.recorded }));
            }
            Command::Release { upto, reply } => {
                self.group.release = self.group.release.max(Some(upto));
                self.group.releases.push(reply);
            }
            Command::Peek { after, limit, reply } => {
                let found = self.attempt(|queue| queue.peek(after, limit));
                let _ = reply.send(found.map_err(|fault| error("read", fault)));
            }
            Command::Rewind { to, reply } => {
                self.commit();
                let done = self.attempt(|queue| queue.rewind(to));
                self.finish();
                let _ = reply.send(done.map_err(|fault| error("commit", fault)));
            }
            Command::Renumber { above, reply } => {
                self.commit();
                let done = self.attempt(|queue| queue.renumber(above));
                self.finish();
                // From here on only the slots know that the old positions are not ours, should the database be lost.
                self.put_slots();
                let _ = reply.send(done.map_err(|fault| error("commit", fault)));
            }
            Command::Close { .. } => unreachable!("the loop ends on it before it is taken"),
        }
    }

    /// Puts the group on the disk and answers everybody in it.
    fn commit(&mut self) {
        let group = std::mem::take(&mut self.group);
        if group.is_empty() {
            return;
        }
        self.committed_at = Some(Instant::now());
        let first = self.attempt(|queue| queue.commit(&group.entries, group.release));
        self.finish();
        for (offset, (reply, _permit)) in group.replies.into_iter().enumerate() {
            let position = |first: Position| Position::new(first.epoch, first.seq + offset as u64);
            let _ = reply.send(first.clone().map(position).map_err(|fault| error("commit", fault)));
        }
        for reply in group.releases {
            let _ = reply.send(first.clone().map(|_| ()).map_err(|fault| error("commit", fault)));
        }
    }

    /// Does something with the queue; when it fails, opens the queue again and tries once more.
    fn attempt<T>(&mut self, verb: impl Fn(&mut Queue<H::Store>) -> Result<T, Fault>) -> Result<T, Fault> {
        let busy = Arc::clone(&self.busy);
        busy.during(|| {
            let fault = match &mut self.queue {
                Some(queue) => match verb(queue) {
                    Ok(done) => return Ok(done),
                    Err(fault) => fault,
                },
                None => Fault::Failed("it could not be opened again".to_owned()),
            };
            self.reopen(fault)?;
            let queue = self.queue.as_mut().expect("reopen succeeded, so there is a queue");
            verb(queue).inspect_err(|_| self.spend())
        })
    }

    fn reopen(&mut self, fault: Fault) -> Result<(), Fault> {
        self.spend();
        if self.failed_at.is_some_and(|at| at.elapsed() < self.pace.pause) {
            return Err(fault);
        }
        tracing::warn!(%fault, "the spool's database failed: opening it again");
        match self.home.queue(Some(self.recorded)) {
            Ok(queue) => {
                self.recorded = queue.marker().recorded();
                self.queue = Some(queue);
                self.reopened += 1;
                Ok(())
            }
            Err(Error::Full) => {
                self.failed_at = Some(Instant::now());
                Err(Fault::Full)
            }
            Err(error) => {
                self.failed_at = Some(Instant::now());
                Err(Fault::Failed(format!("{fault}; then {error}")))
            }
        }
    }

    /// Lets go of a queue that failed; the database must be closed before it can be opened again.
    fn spend(&mut self) {
        if let Some(queue) = self.queue.take() {
            self.evicted += queue.status().evicted;
        }
    }

    /// After something was written: the slots and the status follow.
    fn finish(&mut self) {
        if let Some(queue) = &self.queue {
            self.recorded = queue.marker().recorded();
            if let Err(error) = self.home.keep(queue.marker()) {
                tracing::warn!(%error, "a slot of the spool could not be written");
            }
        }
        self.publish();
    }

    fn sync(&mut self) {
        if self.home.dirty() && self.synced_at.elapsed() >= self.pace.pause {
            self.put_slots();
        }
    }

    fn put_slots(&mut self) {
        self.synced_at = Instant::now();
        let (home, busy) = (&mut self.home, &self.busy);
        if let Err(error) = busy.during(|| home.sync()) {
            tracing::warn!(%error, "a slot of the spool could not be written");
        }
    }

    fn publish(&self) {
        let before = *self.status.borrow();
        let now = self.queue.as_ref().map_or(before, Queue::status);
        self.status.send_replace(Status {
            evicted: self.evicted + self.queue.as_ref().map_or(0, |queue| queue.status().evicted),
            quarantined: self.home.quarantined(),
            reopened: self.reopened,
            ..now
        });
    }
}

fn error(operation: &'static str, fault: Fault) -> Error {
    match fault {
        Fault::Full => Error::Full,
        Fault::Damaged(reason) => Error::Damaged { reason },
        Fault::Refused(reason) | Fault::Failed(reason) => Error::Store { operation, reason },
        Fault::Newer(format) => Error::Store { operation, reason: format!("format {format}") },
    }
}

#[cfg(test)]
mod tests;
