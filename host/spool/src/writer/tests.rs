//! The writer against a disk that fails, stalls and comes back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::*;
use crate::{
    marker::Marker,
    model::{Luck, Memory},
    queue::{Limits, Opening},
    types::{Gap, Loss, Reason, Stored},
};

/// A directory in memory; `full` keeps it from being opened again.
#[derive(Clone)]
struct Shelf {
    memory: Memory,
    full: Arc<AtomicU64>,
    /// Whether there is said to be no room.
    filled: Arc<AtomicBool>,
    /// Whether a journal is said to take the room.
    crowded: Arc<AtomicBool>,
    /// Times that it was opened.
    opened: Arc<AtomicU64>,
}

impl Shelf {
    fn new() -> Self {
        Self {
            memory: Memory::new(),
            full: Arc::default(),
            filled: Arc::default(),
            crowded: Arc::default(),
            opened: Arc::default(),
        }
    }
}

impl Source for Shelf {
    type Store = Memory;

    fn queue(&mut self, reported: Option<Position>) -> Result<Queue<Memory>, Error> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.crowded.store(false, Ordering::Relaxed);
        if self.full.load(Ordering::Relaxed) == 1 {
            return Err(Error::Full);
        }
        let limits = Limits { records: 100, bytes: 100_000, age_ms: None, floor: 0, gaps: 100 };
        let opening = Opening { limits, known: None, fallback: 1, reported, boot: 0 };
        Queue::open(self.memory.clone(), opening).map_err(|fault| error("open", fault))
    }

    fn keep(&mut self, _: &Marker) -> Result<(), Error> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn dirty(&self) -> bool {
        false
    }

    fn quarantined(&self) -> u64 {
        0
    }

    fn known(&self) -> Option<Marker> {
        None
    }

    fn low(&self) -> bool {
        false
    }

    fn room(&self) -> bool {
        !self.filled.load(Ordering::Relaxed)
    }

    fn doubt(&mut self) {}

    fn tend(&mut self) {}

    fn space(&self) -> Room {
        if self.crowded.load(Ordering::Relaxed) { Room::InJournals } else { Room::Plenty }
    }
}

struct Bench {
    shelf: Shelf,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
}

impl Bench {
    fn new() -> Self {
        Self::on(Shelf::new(), false)
    }

    fn on(shelf: Shelf, patient: bool) -> Self {
        let pace = Pace { group: 1, wait: Duration::ZERO, pause: Duration::ZERO };
        let (writer, status) = Writer::open(shelf.clone(), pace, Arc::new(Busy::new()), patient).unwrap();
        let (commands, received) = mpsc::channel();
        std::thread::spawn(move || writer.run(&received));
        Self { shelf, commands, status }
    }

    fn lose(&self, count: u64) -> Result<(), Error> {
        let loss = Loss { reason: Reason::SlowDisk, count, first_at_ms: 5, last_at_ms: 9, down: 2 };
        self.ask(|reply| Command::Lose { loss, reply })
    }

    fn append(&self, bytes: &[u8]) -> Result<Position, Error> {
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        let permit = places.try_acquire_owned().unwrap();
        let entry = Entry { at_ms: 0, down: false, bytes: bytes.to_vec() };
        self.ask(|reply| Command::Append { entry, reply, permit })
    }

    fn peek(&self) -> Vec<Stored> {
        self.ask(|reply| Command::Peek { after: Position::START, limit: 100, reply }).unwrap()
    }

    fn all(&self) -> Vec<(Position, Vec<u8>)> {
        let found = self.peek();
        let entries = found.into_iter().map(|stored| match stored {
            Stored::Entry { position, bytes } => (position, bytes),
            Stored::Gap(gap) => panic!("{gap:?}"),
        });
        entries.collect()
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).unwrap();
        answer.blocking_recv().unwrap()
    }
}

#[test]
fn a_commit_that_fails_is_made_in_a_new_epoch_once() {
    for luck in [Luck::Lost, Luck::Kept] {
        let bench = Bench::new();
        assert_eq!(bench.append(b"one").unwrap(), Position::new(1, 1));
        bench.shelf.memory.luck(luck);
        assert_eq!(bench.append(b"two").unwrap(), Position::new(2, 1), "{luck:?}");
        let expected = [(Position::new(1, 1), b"one".to_vec()), (Position::new(2, 1), b"two".to_vec())];
        assert_eq!(bench.all(), expected, "{luck:?}");
        assert_eq!((bench.status.borrow().reopened, bench.status.borrow().epoch), (1, 2));
    }
}

#[test]
fn while_the_disk_is_full_appends_fail_and_take_no_seq_and_afterwards_it_goes_on() {
    let bench = Bench::new();
    bench.append(b"one").unwrap();
    bench.shelf.memory.luck(Luck::Kept);
    bench.shelf.full.store(1, Ordering::Relaxed);
    for _ in 0..3 {
        assert!(matches!(bench.append(b"lost"), Err(Error::Full)));
    }
    bench.shelf.full.store(0, Ordering::Relaxed);
    assert_eq!(bench.append(b"two").unwrap(), Position::new(2, 1));
    let expected = [(Position::new(1, 1), b"one".to_vec()), (Position::new(2, 1), b"two".to_vec())];
    assert_eq!(bench.all(), expected);
}

#[test]
fn a_disk_without_room_for_a_new_epoch_is_read_and_let_go_of_and_taken_up_again() {
    let bench = Bench::new();
    for bytes in [b"one", b"two"] {
        bench.append(bytes).unwrap();
    }
    bench.shelf.memory.full(true);
    assert!(matches!(bench.append(b"lost"), Err(Error::Full)));
    assert_eq!(bench.status.borrow().disk, Disk::Full);
    assert_eq!(bench.all().len(), 2);
    bench.ask(|reply| Command::Release { upto: Position::new(1, 1), reply }).unwrap();
    assert_eq!(bench.all(), [(Position::new(1, 2), b"two".to_vec())]);
    assert!(matches!(bench.append(b"lost"), Err(Error::Full)));
    assert!(matches!(bench.lose(3), Err(Error::Full)));

    bench.shelf.memory.full(false);
    assert_eq!(bench.append(b"three").unwrap().seq, 1);
    assert_eq!(bench.status.borrow().disk, Disk::Good);
}

#[test]
fn as_long_as_there_is_no_room_a_full_database_stays_open_for_readers_and_is_not_opened_again() {
    let bench = Bench::new();
    bench.append(b"one").unwrap();
    bench.shelf.memory.full(true);
    bench.shelf.filled.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        assert!(matches!(bench.append(b"lost"), Err(Error::Full)));
        assert_eq!(bench.all().len(), 1);
    }
    assert_eq!(bench.shelf.opened.load(Ordering::Relaxed), 2, "at the start, and to become readable");

    bench.shelf.memory.full(false);
    bench.shelf.filled.store(false, Ordering::Relaxed);
    assert_eq!(bench.append(b"two").unwrap().seq, 1);
}

#[test]
fn where_a_journal_takes_the_room_the_database_is_opened_anew_before_the_disk_is_full() {
    let bench = Bench::new();
    bench.append(b"one").unwrap();
    bench.shelf.crowded.store(true, Ordering::Relaxed);
    bench.append(b"two").unwrap();
    assert_eq!(bench.append(b"three").unwrap().epoch, 2);
    let given = bench.all().into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    assert_eq!(given, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
}

#[test]
fn what_was_never_recorded_takes_its_place_in_the_order_as_a_gap() {
    let bench = Bench::new();
    bench.append(b"one").unwrap();
    bench.lose(40).unwrap();
    bench.lose(2).unwrap();
    assert_eq!(bench.append(b"two").unwrap(), Position::new(1, 44));
    let found = bench.peek();
    let gap = Gap {
        epoch: 1,
        from: 2,
        to: 43,
        reason: Reason::SlowDisk,
        first_at_ms: Some(5),
        last_at_ms: Some(9),
        down: Some(4),
    };
    assert_eq!((found.len(), &found[1]), (3, &Stored::Gap(gap)));
}

#[test]
fn a_directory_that_does_not_open_at_the_start_is_waited_for_where_that_is_wanted() {
    let shelf = Shelf { full: Arc::new(AtomicU64::new(1)), ..Shelf::new() };
    let pace = Pace { group: 1, wait: Duration::ZERO, pause: Duration::ZERO };
    assert!(matches!(Writer::open(shelf.clone(), pace, Arc::new(Busy::new()), false), Err(Error::Full)));
    let bench = Bench::on(shelf, true);
    assert_eq!(bench.status.borrow().disk, Disk::Unusable);
    assert!(matches!(bench.append(b"lost"), Err(Error::Full)));
    bench.shelf.full.store(0, Ordering::Relaxed);
    assert_eq!(bench.append(b"one").unwrap(), Position::new(1, 1));
    assert_eq!(bench.status.borrow().disk, Disk::Good);
}

#[test]
fn an_entry_that_changed_on_the_disk_is_not_given_but_told_as_a_gap() {
    let bench = Bench::new();
    bench.append(b"one").unwrap();
    bench.append(b"two").unwrap();
    bench.shelf.memory.spoil();
    let found = bench.peek();
    assert_eq!(found[0], Stored::Entry { position: Position::new(1, 1), bytes: b"one".to_vec() });
    assert_eq!(found.len(), 2);
    assert!(
        matches!(&found[1], Stored::Gap(gap) if (gap.from, gap.to, gap.reason) == (2, 2, Reason::Corrupt))
    );
}

#[test]
fn what_waits_when_the_last_handle_goes_is_committed() {
    let bench = Bench::new();
    let (reply, answer) = oneshot::channel();
    let permit = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
    let entry = Entry { at_ms: 0, down: false, bytes: b"last".to_vec() };
    bench.commands.send(Command::Append { entry, reply, permit }).unwrap();
    drop(bench.commands);
    assert_eq!(answer.blocking_recv().unwrap().unwrap(), Position::new(1, 1));
}
