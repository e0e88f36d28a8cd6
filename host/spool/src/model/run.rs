//! The model test: random verbs and faults on the queue, and after each the whole of it against the list. A run is a seed; a failure
//! prints it, and `SPOOL_SEED=… cargo test -p picket-spool model` runs only that one,
//! `SPOOL_TRIALS=…` more than the default.

use super::{Fate, Luck, Memory, Model};
use crate::{
    census::cost,
    fjall::FjallStore,
    marker::Marker,
    queue::{Limits, Opening, Queue},
    store::{Fault, Store},
    types::{Entry, Loss, Position, Reason, Stored},
};

/// splitmix64: a seed names a run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn of<T: Copy, const N: usize>(&mut self, values: [T; N]) -> T {
        values[self.roll(N as u64) as usize]
    }
}

/// Opens the store, anew and empty if told so, and breaks what it can.
trait Disk {
    type Store: Store;
    /// Whether the other verbs do anything.
    const FAILS: bool;
    fn open(&mut self, anew: bool) -> Self::Store;
    fn luck_after(&mut self, commits: u64, luck: Luck);
    fn damage(&mut self, position: Position, lose: bool) -> bool;
}

impl Disk for Memory {
    type Store = Memory;
    const FAILS: bool = true;

    fn open(&mut self, anew: bool) -> Memory {
        if anew {
            *self = Memory::new();
        }
        self.clone()
    }

    fn luck_after(&mut self, commits: u64, luck: Luck) {
        Memory::luck_after(self, commits, luck);
    }

    fn damage(&mut self, position: Position, lose: bool) -> bool {
        Memory::damage(self, position, lose)
    }
}

struct Real(tempfile::TempDir);

impl Disk for Real {
    type Store = FjallStore;
    const FAILS: bool = false;

    fn open(&mut self, anew: bool) -> FjallStore {
        if anew {
            self.0 = tempfile::tempdir().unwrap();
        }
        FjallStore::open(&self.0.path().join("queue")).unwrap()
    }

    fn luck_after(&mut self, _: u64, _: Luck) {}

    fn damage(&mut self, _: Position, _: bool) -> bool {
        false
    }
}

/// A queue, the list it must agree with, and the disk below it.
struct Run<D: Disk> {
    dice: Dice,
    disk: D,
    limits: Limits,
    model: Model,
    /// None only between a fault and the next opening.
    queue: Option<Queue<D::Store>>,
    /// Whether the disk was said to have little room.
    tight: bool,
    /// Entries made so far.
    number: i64,
}

impl<D: Disk> Run<D> {
    fn begin(seed: u64, disk: D) -> Self {
        let mut dice = Dice(seed);
        let limits = Limits {
            records: 12 + dice.roll(30),
            bytes: 2_000 + dice.roll(3_000),
            age_ms: (dice.roll(2) == 0).then(|| 10 + dice.roll(60) as i64),
            floor: dice.roll(12),
            gaps: dice.of([3, 1000]),
        };
        let mut run =
            Self { dice, disk, limits, model: Model::default(), queue: None, tight: false, number: 0 };
        run.open(false, None, None).unwrap();
        run
    }

    fn step(&mut self) {
        match self.dice.roll(24) {
            0..9 => self.append(),
            9..13 => self.release(),
            13..15 => self.rewind(),
            15..18 => self.crash(),
            18 => self.lose_the_database(),
            19 => self.renumber(),
            20 => self.lost(),
            21 => self.damage(),
            22 => self.tighten(),
            _ => self.full(),
        }
        self.agree();
    }

    fn append(&mut self) {
        let entries = self.entries();
        let luck = self.dice.of([
            Luck::Lost,
            Luck::Kept,
            Luck::Good,
            Luck::Good,
            Luck::Good,
            Luck::Good,
            Luck::Good,
        ]);
        self.disk.luck_after(0, luck);
        let (known, recorded) = (self.queue().marker().clone(), self.queue().marker().recorded());
        let first = Position::new(recorded.epoch, recorded.seq + 1);
        let done = self.queue().commit(&entries, None);
        match done {
            Ok(at) => {
                assert_eq!(at, first);
                self.model.append(first, &entries, self.limits, self.tight);
            }
            Err(_) => {
                if luck == Luck::Kept {
                    // What made room for entries that do not count is gone all the same.
                    self.model.append(first, &entries, self.limits, self.tight);
                    self.model.entries.retain(|position, _| *position <= recorded);
                }
                self.open(false, Some(&known), Some(recorded)).unwrap();
                assert!(self.queue().marker().epoch > recorded.epoch);
            }
        }
    }

    fn release(&mut self) {
        let upto = self.pick();
        self.queue().commit(&[], Some(upto)).unwrap();
        let tight = self.tight && !self.queue().frozen();
        self.model.release(upto, tight);
    }

    fn tighten(&mut self) {
        self.tight = !self.tight;
        let tight = self.tight;
        self.queue().tighten(tight);
    }

    fn rewind(&mut self) {
        let to = self.pick();
        self.queue().rewind(to).unwrap();
        let floor = self.queue().marker().floor();
        self.model.acknowledged = self.model.acknowledged.min(to.max(floor));
    }

    fn crash(&mut self) {
        let known = self.queue().marker().clone();
        let closed = self.queue().closed();
        let blank = Marker::default();
        let slots = self.dice.of([None, Some(&known), Some(&closed), Some(&blank)]);
        self.open(false, slots, None).unwrap();
        assert_eq!(self.queue().marker().epoch, known.epoch + 1);
    }

    fn lose_the_database(&mut self) {
        if self.dice.roll(4) > 0 {
            return;
        }
        let known = self.queue().marker().clone();
        self.model.lose_the_database();
        self.open(true, Some(&known), None).unwrap();
        assert_eq!(self.queue().marker().epoch, known.epoch + 1);
    }

    /// A fault at any of its commits leaves it undone or done as a whole.
    fn renumber(&mut self) {
        let before = self.queue().marker().clone();
        let (commits, luck) = (self.dice.roll(4), self.dice.of([Luck::Good, Luck::Lost, Luck::Kept]));
        self.disk.luck_after(commits, luck);
        let later = Position::new(before.epoch + self.dice.roll(5), 7);
        let above = self.dice.of([Position::START, later]);
        let done = self.queue().renumber(above);
        self.disk.luck_after(0, Luck::Good);
        if done.is_err() {
            let slots = self.dice.of([None, Some(&before)]);
            self.open(false, slots, Some(before.recorded())).unwrap();
        }
        let floor = self.queue().marker().floor;
        assert_eq!(floor == before.floor, commits == 0 && luck == Luck::Lost && D::FAILS);
        if floor != before.floor {
            assert!(floor > before.epoch && floor > above.epoch);
            self.model.renumber(floor);
        }
    }

    fn lost(&mut self) {
        let entries = self.entries();
        let reason = self.dice.of([Reason::Enospc, Reason::SlowDisk]);
        let losses = entries.iter().map(|entry| Loss::of(entry, reason));
        let loss = losses.reduce(Loss::and).unwrap();
        let recorded = self.queue().marker().recorded();
        self.queue().lose(&loss).unwrap();
        self.model.add(Position::new(recorded.epoch, recorded.seq + 1), &entries, Fate::Lost);
    }

    /// A record vanishes or changes while nobody looks: a tear when it is the last one, a hole otherwise.
    fn damage(&mut self) {
        let stored = self.queue().peek(Position::START, usize::MAX).unwrap();
        let picked = self.dice.roll(stored.len() as u64 + 1) as usize;
        let known = self.queue().marker().clone();
        if let Some(stored) = stored.get(picked).or(stored.last()) {
            let at = match stored {
                Stored::Entry { position, .. } => *position,
                Stored::Gap(gap) => gap.start(),
            };
            if self.disk.damage(at, self.dice.roll(2) == 0) {
                self.model.damage(stored);
            }
        }
        self.open(false, Some(&known), None).unwrap();
    }

    /// No room even for the new epoch: the queue gives and lets go, and takes nothing.
    fn full(&mut self) {
        let (known, recorded) = (self.queue().marker().clone(), self.queue().marker().recorded());
        self.disk.luck_after(0, Luck::Full);
        self.open(false, Some(&known), Some(recorded)).unwrap();
        assert_eq!(self.queue().frozen(), D::FAILS);
        if D::FAILS {
            self.agree();
            let entries = self.entries();
            assert!(matches!(self.queue().commit(&entries, None), Err(Fault::Full)));
            self.release();
            self.agree();
            let known = self.queue().marker().clone();
            self.open(false, Some(&known), Some(recorded)).unwrap();
        }
        assert!(!self.queue().frozen());
    }

    fn open(&mut self, anew: bool, known: Option<&Marker>, reported: Option<Position>) -> Result<(), Fault> {
        // The store is closed before it is opened again.
        self.queue = None;
        self.tight = false;
        let opening = Opening { limits: self.limits, known, fallback: 5, reported, boot: 1 };
        self.queue = Some(Queue::open(self.disk.open(anew), opening)?);
        Ok(())
    }

    fn agree(&mut self) {
        let after = self.pick();
        let page = 1 + self.dice.roll(8) as usize;
        let (model, queue) = (&self.model, self.queue.as_ref().unwrap());
        let some = queue.peek(after, page).unwrap();
        assert_eq!(some, queue.peek(after, usize::MAX).unwrap()[..some.len()]);
        let all = queue.peek(Position::START, usize::MAX).unwrap();
        model.check(&all, model.acknowledged, self.limits.gaps < 1000);
        let held = model.entries.iter().filter(|(_, item)| item.fate == Fate::Held);
        let status = queue.status();
        assert_eq!(status.held, held.clone().count() as u64);
        assert_eq!(status.pending, held.clone().filter(|(at, _)| **at > model.acknowledged).count() as u64);
        assert_eq!(status.bytes, held.map(|(_, item)| cost(item.entry.bytes.len())).sum::<u64>());
        assert_eq!(status.acknowledged, model.acknowledged);
    }

    fn entries(&mut self) -> Vec<Entry> {
        let count = 1 + self.dice.roll(6);
        let entries = (0..count).map(|_| {
            self.number += 1;
            let filling = "x".repeat(self.dice.roll(80) as usize);
            let bytes = format!("{}:{filling}", self.number).into_bytes();
            Entry { at_ms: self.number, down: self.dice.roll(3) == 0, bytes }
        });
        entries.collect()
    }

    fn pick(&mut self) -> Position {
        let Some(recorded) = self.model.recorded() else { return Position::START };
        let n = self.dice.roll(self.model.entries.len() as u64 + 1) as usize;
        self.model.entries.keys().nth(n).copied().unwrap_or(recorded)
    }

    fn queue(&mut self) -> &mut Queue<D::Store> {
        self.queue.as_mut().unwrap()
    }
}

fn seeds(runs: u64) -> Vec<u64> {
    if let Some(seed) = number("SPOOL_SEED") {
        return vec![seed];
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    (0..runs).map(|n| now.wrapping_add(n)).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run<D: Disk>(seed: u64, steps: u64, disk: D) {
    println!("SPOOL_SEED={seed}");
    let mut run = Run::begin(seed, disk);
    (0..steps).for_each(|_| run.step());
}

#[test]
fn the_queue_agrees_with_a_list_whatever_happens_to_a_store_in_memory() {
    let trials = number("SPOOL_TRIALS").unwrap_or(500);
    seeds(trials).into_iter().for_each(|seed| run(seed, 120, Memory::new()));
}

#[test]
fn the_queue_agrees_with_a_list_on_the_real_store() {
    seeds(3).into_iter().for_each(|seed| run(seed, 60, Real(tempfile::tempdir().unwrap())));
}

#[test]
fn a_tail_that_is_gone_is_a_power_cut_only_where_one_explains_it() {
    let entry = |n: u8| Entry { at_ms: 0, down: false, bytes: vec![n] };
    let gap_after = |known: fn(&Queue<Memory>) -> Marker, boot, reported| {
        let memory = Memory::new();
        let limits = Limits { records: 100, bytes: 10_000, age_ms: None, floor: 0, gaps: 100 };
        let opening = Opening { limits, known: None, fallback: 1, reported: None, boot: 1 };
        let mut queue = Queue::open(memory.clone(), opening).unwrap();
        queue.commit(&[entry(1), entry(2), entry(3)], None).unwrap();
        let known = known(&queue);
        memory.damage(Position::new(1, 3), true);
        let queue = Queue::open(memory, Opening { known: Some(&known), boot, reported, ..opening }).unwrap();
        match &queue.peek(Position::new(1, 2), 9).unwrap()[..] {
            [Stored::Gap(gap)] => (gap.from, gap.to, gap.reason),
            other => panic!("{other:?}"),
        }
    };
    let cut: fn(&Queue<Memory>) -> Marker = |queue| queue.marker().clone();
    let closed: fn(&Queue<Memory>) -> Marker = Queue::closed;
    let reported = Some(Position::new(1, 3));
    for (known, boot, reported, reason) in [
        (cut, 1, None, Reason::Power),
        (cut, 2, None, Reason::Power),
        (closed, 2, None, Reason::Power),
        (closed, 1, None, Reason::Corrupt),
        (cut, 1, reported, Reason::Corrupt),
    ] {
        assert_eq!(gap_after(known, boot, reported), (3, 3, reason));
    }
}

#[test]
fn many_losses_between_entries_that_go_later_leave_few_gaps_that_count_them_all() {
    let limits = Limits { records: 20, bytes: 100_000, age_ms: None, floor: 0, gaps: 30 };
    let opening = Opening { limits, known: None, fallback: 1, reported: None, boot: 1 };
    let mut queue = Queue::open(Memory::new(), opening).unwrap();
    for n in 0..1_000 {
        let entry = Entry { at_ms: n, down: n % 2 == 0, bytes: vec![0] };
        queue.lose(&Loss::of(&entry, Reason::SlowDisk)).unwrap();
        queue.commit(&[entry], None).unwrap();
        assert!(queue.status().gaps <= 31, "{} gaps", queue.status().gaps);
    }
    let (mut next, mut down) = (1, 0);
    for stored in queue.peek(Position::START, usize::MAX).unwrap() {
        let from = match &stored {
            Stored::Entry { position, .. } => position.seq,
            Stored::Gap(gap) => {
                down += gap.down.unwrap();
                gap.from
            }
        };
        assert_eq!(from, next);
        next = stored.position().seq + 1;
    }
    assert_eq!((next, down), (2_001, 500 + 490));
}
