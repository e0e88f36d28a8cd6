//! The thread that owns the queue: gathers entries into groups, commits each with one fsync, answers reads between them, and
//! opens the queue again when the database refuses to write. Decides when, never what: that is `queue.rs`.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::{
    command::{Busy, Command, Pace, Reply},
    error::Error,
    home::Source,
    queue::Queue,
    space::Room,
    store::Fault,
    types::{Disk, Entry, Position, Status},
};

/// Entries of one commit at most. More than the settings' group, because whatever came during the last fsync goes with the next.
pub(crate) const COMMIT_ENTRIES: usize = 1024;

/// Bytes of one commit at most, unless a single entry has more.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// Times that the pause between two tries doubles.
const DOUBLINGS: u32 = 2;

/// The thread's state.
pub(crate) struct Writer<H: Source> {
    home: H,
    /// None after the database failed, until it could be opened again.
    queue: Option<Queue<H::Store>>,
    pace: Pace,
    group: Group,
    committed_at: Option<Instant>,
    synced_at: Instant,
    failed: Option<Failed>,
    reopened: u64,
    /// Evicted by queues that are spent.
    evicted: u64,
    recorded: Position,
    /// The last position of this process that the disk has; none until a queue was open.
    reported: Option<Position>,
    status: watch::Sender<Status>,
    busy: Arc<Busy>,
}

/// The last try to open the queue again, which failed.
struct Failed {
    at: Instant,
    /// In a row before this one.
    times: u32,
    fault: Fault,
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
    /// Opens the queue. The status can be read as soon as this returns. What does not open is an error, or, where `patient`,
    /// tried again whenever there is something to do.
    pub(crate) fn open(
        home: H,
        pace: Pace,
        busy: Arc<Busy>,
        patient: bool,
    ) -> Result<(Self, watch::Receiver<Status>), Error> {
        let known = home.known();
        let status = Status {
            epoch: known.as_ref().map_or(0, |marker| marker.epoch),
            recorded: known.as_ref().map_or(Position::START, crate::marker::Marker::recorded),
            acknowledged: known.as_ref().map_or(Position::START, |marker| marker.acknowledged),
            ..Status::default()
        };
        let (sender, watched) = watch::channel(status);
        let mut writer = Self {
            home,
            queue: None,
            pace,
            group: Group::default(),
            committed_at: None,
            synced_at: Instant::now(),
            failed: None,
            reopened: 0,
            evicted: 0,
            recorded: status.recorded,
            reported: None,
            status: sender,
            busy,
        };
        match writer.home.queue(None) {
            Ok(queue) => writer.take_over(queue),
            Err(error) if patient && !error.is_final() => {
                let fault = fault(&error);
                tracing::error!(%fault, "the spool cannot be opened: nothing is recorded until it can");
                writer.fail(fault);
            }
            Err(error) => return Err(error),
        }
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
                self.make_space();
            }
            self.sync();
        };
        self.commit();
        self.close();
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
            Command::Lose { loss, reply } => self.change(reply, |queue| queue.lose(&loss)),
            Command::Rewind { to, reply } => self.change(reply, |queue| queue.rewind(to)),
            Command::Renumber { above, reply } => {
                self.change(reply, |queue| queue.renumber(above));
                // From here on only the slots know that the old positions are not ours, should the database be lost.
                self.put_slots();
            }
            Command::Close { .. } => unreachable!("the loop ends on it before it is taken"),
        }
    }

    /// Does something that is a commit of its own, after what waits.
    fn change(&mut self, reply: Reply<()>, verb: impl Fn(&mut Queue<H::Store>) -> Result<(), Fault>) {
        self.commit();
        let done = self.attempt(verb);
        self.finish();
        let _ = reply.send(done.map_err(|fault| error("commit", fault)));
    }

    /// Puts the group on the disk and answers everybody in it.
    fn commit(&mut self) {
        let group = std::mem::take(&mut self.group);
        if group.is_empty() {
            return;
        }
        self.committed_at = Some(Instant::now());
        failpoint::hit("spool.commit.before");
        // A frozen queue lets go although it takes nothing.
        let frozen = self.queue.as_ref().is_some_and(Queue::frozen);
        let alone = frozen && !group.entries.is_empty() && !group.releases.is_empty();
        let released = alone.then(|| self.attempt(|queue| queue.commit(&[], group.release)));
        let release = group.release.filter(|_| !alone);
        let first = self.attempt(|queue| queue.commit(&group.entries, release));
        failpoint::hit("spool.commit.after");
        if group.release.is_some() {
            failpoint::hit("spool.release");
        }
        self.finish();
        let released = released.unwrap_or_else(|| first.clone());
        for (offset, (reply, _permit)) in group.replies.into_iter().enumerate() {
            let position = |first: Position| Position::new(first.epoch, first.seq + offset as u64);
            let _ = reply.send(first.clone().map(position).map_err(|fault| error("commit", fault)));
        }
        for reply in group.releases {
            let _ = reply.send(released.clone().map(|_| ()).map_err(|fault| error("commit", fault)));
        }
    }

    /// Does something with the queue; when it fails, opens the queue again and tries once more.
    fn attempt<T>(&mut self, verb: impl Fn(&mut Queue<H::Store>) -> Result<T, Fault>) -> Result<T, Fault> {
        let busy = Arc::clone(&self.busy);
        busy.during(|| {
            let fault = match &mut self.queue {
                Some(queue) => match verb(queue) {
                    Ok(done) => return Ok(done),
                    Err(fault) => {
                        if !queue.frozen() {
                            self.home.doubt();
                        }
                        fault
                    }
                },
                None => Fault::Failed("it could not be opened again".to_owned()),
            };
            self.reopen(fault)?;
            let queue = self.queue.as_mut().expect("reopen succeeded, so there is a queue");
            verb(queue).inspect_err(|_| {
                self.home.doubt();
                self.spend();
            })
        })
    }

    /// Opens the queue again, unless that failed a moment ago, or would only close one that can be read: where there is still no room.
    fn reopen(&mut self, fault: Fault) -> Result<(), Fault> {
        self.spend();
        if let Some(failed) = &self.failed
            && failed.at.elapsed() < self.pace.pause * (1 << failed.times.min(DOUBLINGS))
        {
            return Err(failed.fault.clone());
        }
        if matches!(fault, Fault::Full)
            && self.queue.as_ref().is_some_and(|queue| !queue.idle())
            && !self.home.room()
        {
            return Err(Fault::Full);
        }
        if self.failed.is_none() {
            tracing::warn!(%fault, "the spool's database failed: opening it again");
        }
        self.queue = None;
        let opened = self.home.queue(self.reported);
        let reopened = opened.map(|queue| self.take_over(queue)).map_err(|error| {
            let fault = match self::fault(&error) {
                // The first failure is told once; after it only why it goes on.
                Fault::Failed(why) if self.failed.is_none() => Fault::Failed(format!("{fault}; then {why}")),
                fault => fault,
            };
            self.fail(fault.clone());
            fault
        });
        self.publish();
        reopened
    }

    /// Goes on with a queue that was opened just now.
    fn take_over(&mut self, queue: Queue<H::Store>) {
        self.recorded = queue.marker().recorded();
        if queue.frozen() {
            self.fail(Fault::Full);
        } else {
            self.reopened += u64::from(self.reported.is_some() || self.failed.is_some());
            self.reported = Some(self.recorded);
            if self.failed.take().is_some() {
                tracing::info!("the spool records again");
            }
        }
        self.queue = Some(queue);
    }

    fn fail(&mut self, fault: Fault) {
        let times = self.failed.as_ref().map_or(0, |failed| failed.times + 1);
        self.failed = Some(Failed { at: Instant::now(), times, fault });
    }

    /// Lets go of a queue that failed; the database must be closed before it can be opened again. A frozen one can still be read.
    fn spend(&mut self) {
        if let Some(queue) = self.queue.take_if(|queue| !queue.frozen()) {
            self.evicted += queue.status().evicted;
        }
    }

    /// After something was written: the slots and the status follow.
    fn finish(&mut self) {
        if let Some(queue) = &self.queue {
            self.recorded = queue.marker().recorded();
            if !queue.frozen() {
                self.reported = Some(self.recorded);
            }
            if let Err(error) = self.home.keep(queue.marker()) {
                tracing::warn!(%error, "a slot of the spool could not be written");
            }
        }
        self.publish();
    }

    fn sync(&mut self) {
        if self.home.dirty() && self.synced_at.elapsed() >= self.pace.pause {
            self.put_slots();
            if self.queue.is_some() {
                let (home, busy) = (&mut self.home, &self.busy);
                busy.during(|| home.tend());
            }
            self.publish();
        }
    }

    /// Looks after the room on the disk: as often as some of it was taken.
    fn make_space(&mut self) {
        let Some(queue) = &mut self.queue else { return };
        let (home, busy) = (&self.home, &self.busy);
        match busy.during(|| home.space()) {
            Room::InJournals if !queue.frozen() => {
                self.open_anew();
                self.publish();
            }
            room => queue.tighten(room != Room::Plenty),
        }
    }

    /// Closes the queue and opens it again, so that it takes less room.
    fn open_anew(&mut self) {
        self.spend();
        self.queue = None;
        let busy = Arc::clone(&self.busy);
        match busy.during(|| self.home.queue(self.reported)) {
            Ok(queue) => self.take_over(queue),
            Err(error) => self.fail(fault(&error)),
        }
    }

    /// The last that the slots hear: the next opening knows that nothing was cut off.
    fn close(&mut self) {
        if let Some(queue) = self.queue.as_ref().filter(|queue| !queue.frozen())
            && let Err(error) = self.home.keep(&queue.closed())
        {
            tracing::warn!(%error, "a slot of the spool could not be written");
        }
        self.put_slots();
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
        let disk = match &self.queue {
            None => Disk::Unusable,
            Some(queue) if queue.frozen() => Disk::Full,
            Some(_) if self.home.low() => Disk::Low,
            Some(_) => Disk::Good,
        };
        let now = Status {
            evicted: self.evicted + self.queue.as_ref().map_or(0, |queue| queue.status().evicted),
            quarantined: self.home.quarantined(),
            reopened: self.reopened,
            disk,
            ..self.queue.as_ref().map_or(before, Queue::status)
        };
        self.status.send_if_modified(|status| std::mem::replace(status, now) != now);
    }
}

fn fault(error: &Error) -> Fault {
    match error {
        Error::Full => Fault::Full,
        Error::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => Fault::Full,
        Error::File { source, .. } => Fault::Failed(format!("{error}: {source}")),
        other => Fault::Failed(other.to_string()),
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
