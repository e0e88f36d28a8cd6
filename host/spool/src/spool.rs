//! The public handle: checks what it is given, hands it to the writer thread and waits for the answer. Touches no disk itself.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    command::{Busy, Command, Pace, Reply},
    error::Error,
    place::Place,
    probe::Probe,
    types::{CAPACITY_FLOOR, ENTRY_LIMIT, Entry, Loss, Position, Settings, Status, Stored},
    writer::{COMMIT_ENTRIES, Writer},
};

/// Entries that wait in memory at most; a caller beyond them waits for a place.
const IN_FLIGHT: usize = COMMIT_ENTRIES;

/// A power cut together with a damaged database may leave this much unaccounted for; a full disk is tried this often at first,
/// and after four times as long at the latest.
const PAUSE: Duration = Duration::from_secs(1);

/// A handle to the queue on the disk. Clones are handles to the same one. When the last is dropped, what was handed over is
/// committed and the thread ends; [`Spool::close`] also waits for that.
#[derive(Clone, Debug)]
pub struct Spool {
    commands: mpsc::Sender<Command>,
    places: Arc<Semaphore>,
    status: watch::Receiver<Status>,
    busy: Arc<Busy>,
    stall: Duration,
    probe: Probe,
}

impl Spool {
    /// Opens the directory and begins a new epoch, which is on the disk when this returns. Blocks: a database that was killed
    /// reads its journal first, below half a second for 10,000 entries.
    ///
    /// A damaged database is put aside and a fresh one begun with what its journal still holds; a gap `corrupt` tells what is
    /// lost.
    ///
    /// Installs a panic hook once, for the threads that open a database: set your own before the first call, not after it.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        Self::begin(settings, false)
    }

    /// As [`Spool::open`], but a directory that cannot be read or written for now is not an error: it is tried again with each
    /// append, peek or release, every few seconds at most, and until then these are answered with an error. Another process in
    /// the directory and a newer format stay errors.
    pub fn open_or_wait(settings: Settings) -> Result<Self, Error> {
        Self::begin(settings, true)
    }

    fn begin(settings: Settings, patient: bool) -> Result<Self, Error> {
        check(&settings)?;
        let busy = Arc::new(Busy::new());
        let pace = Pace { group: settings.group, wait: settings.group_wait, pause: PAUSE };
        let (dir, stall) = (settings.dir.clone(), settings.stall);
        let probe = Probe::new(&dir);
        let (writer, status) = Writer::open(Place::new(settings), pace, Arc::clone(&busy), patient)?;
        let (commands, received) = mpsc::channel();
        thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(|source| Error::File { operation: "start the writer of", path: dir, source })?;
        let places = Arc::new(Semaphore::new(IN_FLIGHT));
        Ok(Self { commands, places, status, busy, stall, probe })
    }

    /// Records an entry and gives its position once it is fsynced. An entry that was answered with an error got no seq. Whoever
    /// stops waiting does not take the entry back: it may be recorded.
    ///
    /// Entries that wait together share a commit: it starts when [`Settings::group`] of them wait, or
    /// [`Settings::group_wait`] after the previous commit, so at once on an idle spool.
    pub async fn append(&self, entry: Entry) -> Result<Position, Error> {
        if entry.bytes.len() > ENTRY_LIMIT {
            return Err(Error::TooLarge { size: entry.bytes.len(), limit: ENTRY_LIMIT });
        }
        let busy = self.busy.elapsed();
        if self.places.available_permits() == 0 && busy >= self.stall {
            return Err(Error::Stalled { seconds: busy.as_secs() });
        }
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Error::Closed)?;
        self.ask(|reply| Command::Append { entry, reply, permit: place }).await
    }

    /// Gives entries that were never recorded, because the disk did not take them, their positions, as a gap. On the disk when this
    /// returns.
    pub async fn lost(&self, loss: Loss) -> Result<(), Error> {
        if loss.count == 0 {
            return Ok(());
        }
        self.ask(|reply| Command::Lose { loss, reply }).await
    }

    /// Up to `limit` records after this position in the order of positions, from the oldest unreleased one at the earliest;
    /// at most 4 MiB of entries, but one record at least if there is any. Give [`Stored::position`] of the last to go on, or
    /// [`Position::START`] to begin. Nothing is taken out.
    ///
    /// A gap may grow at its end, and entries become part of one, until they are released: whoever sends the same stretch twice
    /// may send a gap the second time where there were entries the first time.
    pub async fn peek(&self, after: Position, limit: usize) -> Result<Vec<Stored>, Error> {
        self.ask(|reply| Command::Peek { after, limit, reply }).await
    }

    /// Lets go of everything up to here; the next peek begins after it, also after a restart. Released entries stay on the
    /// disk until their room is needed. A position that was released before changes nothing.
    pub async fn release(&self, upto: Position) -> Result<(), Error> {
        self.ask(|reply| Command::Release { upto, reply }).await
    }

    /// Takes back a release, because the control plane was restored from a backup and knows only what came up to `to`: what is
    /// still held after it is pending again, the rest becomes gaps `released`.
    pub async fn rewind(&self, to: Position) -> Result<(), Error> {
        self.ask(|reply| Command::Rewind { to, reply }).await
    }

    /// Gives everything unreleased, entries and gaps in their order, new positions in a fresh epoch above `above`; what is
    /// appended later follows there. For when the control plane has positions of a later life of this agent: its directory
    /// was restored or copied. The bytes stay as they are.
    ///
    /// Crash-safe: it happens as a whole, if need be at the next opening. Each stretch that moves is logged before it does, as
    /// `renumbered from=EPOCH/SEQ to=EPOCH/SEQ count=N`.
    pub async fn renumber(&self, above: Position) -> Result<(), Error> {
        self.ask(|reply| Command::Renumber { above, reply }).await
    }

    /// Comes back when the disk answers: it has taken a file of one byte in the directory, fsynced, or refused it. Where [`Status::busy`]
    /// is long, this tells a disk that hangs, and will go on, from a database that does. Takes one thread, however often it is asked.
    pub async fn probe(&self) -> io::Result<()> {
        self.probe.answer().await
    }

    /// How the spool is. Never waits for the disk.
    pub fn status(&self) -> Status {
        Status { busy: self.busy.elapsed(), ..*self.status.borrow() }
    }

    /// The status as it changes, to wake whoever sends: it changes after each commit. `busy` in it is always zero.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Commits what waits, closes the database and lets go of the directory. Other handles get [`Error::Closed`].
    pub async fn close(self) {
        let (reply, closed) = oneshot::channel();
        if self.commands.send(Command::Close { reply }).is_ok() {
            // An error means that the thread ended already: closed is closed.
            let _ = closed.await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    const MIN_BYTES: u64 = 16 * 1024 * 1024;
    let refuse = |key, found, expected| Err(Error::Settings { key, found, expected });
    if settings.group == 0 {
        return refuse("group", 0, "at least 1");
    }
    if settings.capacity_records < CAPACITY_FLOOR {
        return refuse("capacity_records", settings.capacity_records, "at least 10000");
    }
    if settings.capacity_bytes < MIN_BYTES {
        return refuse("capacity_bytes", settings.capacity_bytes, "at least 16777216 (16 MiB)");
    }
    Ok(())
}
