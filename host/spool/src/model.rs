//! The model test: the queue's rules against a plain list, over a store in memory that crashes and over the real one. A run is
//! a seed; a failure prints it, and `SPOOL_SEED=… cargo test -p picket-spool model` runs only that one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::{
    census::cost,
    fjall::FjallStore,
    marker::Marker,
    queue::{Limits, Queue},
    store::{Changes, Fault, Store, Visitor},
    types::{Entry, Position, Reason, Stored},
};

/// How the next commit of a [`Memory`] ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Luck {
    Good,
    /// An error, and nothing is there.
    Lost,
    /// An error, but all of it is there: the fsync failed after the write.
    Kept,
}

/// A store that keeps its commits in memory, which outlives it as a disk does.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Mutex<Contents>>);

type Contents = (BTreeMap<Vec<u8>, Vec<u8>>, Option<(u64, Luck)>);

impl Memory {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new((BTreeMap::new(), None))))
    }

    /// Flips a bit in the last value.
    pub(crate) fn spoil(&self) {
        if let Some(mut last) = self.0.lock().unwrap().0.last_entry() {
            last.get_mut()[0] ^= 8;
        }
    }

    /// Decides how the next commit ends.
    pub(crate) fn luck(&self, luck: Luck) {
        self.luck_after(0, luck);
    }

    /// Decides how a later commit ends: the one after so many that go well.
    pub(crate) fn luck_after(&self, commits: u64, luck: Luck) {
        self.0.lock().unwrap().1 = Some((commits, luck));
    }
}

impl Store for Memory {
    fn commit(&mut self, changes: Changes) -> Result<(), Fault> {
        let mut disk = self.0.lock().unwrap();
        let (luck, left) = match disk.1.take() {
            None => (Luck::Good, None),
            Some((0, luck)) => (luck, None),
            Some((commits, luck)) => (Luck::Good, Some((commits - 1, luck))),
        };
        disk.1 = left;
        if luck != Luck::Lost {
            for (key, value) in changes {
                match value {
                    Some(value) => disk.0.insert(key, value),
                    None => disk.0.remove(&key),
                };
            }
        }
        if luck == Luck::Good { Ok(()) } else { Err(Fault::Failed(format!("{luck:?}"))) }
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.0.lock().unwrap().0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], visit: &mut Visitor<'_>) -> Result<(), Fault> {
        let disk = self.0.lock().unwrap();
        for (key, value) in disk.0.range(from.to_vec()..) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The list that the queue must agree with: every entry ever recorded, and what became of it.
#[derive(Default)]
struct Model {
    entries: BTreeMap<Position, Item>,
    acknowledged: Position,
}

struct Item {
    entry: Entry,
    fate: Fate,
    /// Whether it ever was acknowledged.
    acknowledged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Held,
    Evicted,
    Released,
    Corrupt,
}

impl Model {
    fn append(&mut self, first: Position, entries: &[Entry], limits: Limits) {
        let added: u64 = entries.iter().map(|entry| cost(entry.bytes.len())).sum();
        let acknowledged = self.acknowledged;
        let held = || self.entries.iter().filter(|(_, item)| item.fate == Fate::Held);
        let mut records = held().count() as u64 + entries.len() as u64;
        let mut bytes = held().map(|(_, item)| cost(item.entry.bytes.len())).sum::<u64>() + added;
        for (position, item) in self.entries.iter_mut().filter(|(_, item)| item.fate == Fate::Held) {
            if records <= limits.records && bytes <= limits.bytes {
                break;
            }
            records -= 1;
            bytes -= cost(item.entry.bytes.len());
            item.fate = if *position <= acknowledged { Fate::Released } else { Fate::Evicted };
        }
        for (n, entry) in entries.iter().enumerate() {
            let position = Position::new(first.epoch, first.seq + n as u64);
            self.entries
                .insert(position, Item { entry: entry.clone(), fate: Fate::Held, acknowledged: false });
        }
    }

    fn release(&mut self, upto: Position) {
        self.acknowledged = self.acknowledged.max(upto);
        self.entries.range_mut(..=upto).for_each(|(_, item)| item.acknowledged = true);
    }

    fn renumber(&mut self, epoch: u64) {
        let moving = self.entries.extract_if(next(self.acknowledged).., |_, _| true).collect::<Vec<_>>();
        let moved = (1..).map(|seq| Position::new(epoch, seq)).zip(moving.into_iter().map(|(_, item)| item));
        self.entries.extend(moved);
        self.acknowledged = Position::new(epoch, 0);
    }

    fn lose_the_database(&mut self) {
        for (position, item) in self.entries.iter_mut().filter(|(_, item)| item.fate != Fate::Released) {
            item.fate = if *position <= self.acknowledged { Fate::Released } else { Fate::Corrupt };
        }
    }

    fn recorded(&self) -> Option<Position> {
        self.entries.keys().next_back().copied()
    }

    /// Every entry after `after` is given as it was recorded, or lies in exactly one gap that says the truth about it.
    fn check(&self, given: &[Stored], after: Position) {
        let mut expected = self.entries.range(after..).filter(|(position, _)| **position > after);
        for stored in given {
            match stored {
                Stored::Entry { position, bytes } => {
                    let (next, item) = expected.next().expect("an entry that was never recorded");
                    assert_eq!((next, &item.entry.bytes, item.fate), (position, bytes, Fate::Held));
                }
                Stored::Gap(gap) => {
                    let missing = (gap.from..=gap.to).map(|seq| {
                        let (position, item) = expected.next().expect("a gap over what was never recorded");
                        assert_eq!(*position, Position::new(gap.epoch, seq), "in {gap:?}");
                        assert_ne!(item.fate, Fate::Held, "{position} is held, but lies in {gap:?}");
                        match gap.reason {
                            Reason::Evicted => assert_eq!(item.fate, Fate::Evicted, "{position}"),
                            Reason::Corrupt => {
                                assert!(item.fate == Fate::Corrupt || item.acknowledged);
                            }
                            Reason::Released => assert!(item.acknowledged, "{position} in {gap:?}"),
                        }
                        &item.entry
                    });
                    let missing = missing.collect::<Vec<_>>();
                    if let Some(down) = gap.down {
                        assert_eq!(down, missing.iter().filter(|entry| entry.down).count() as u64, "{gap:?}");
                        assert_eq!(gap.first_at_ms, Some(missing[0].at_ms), "{gap:?}");
                        assert_eq!(gap.last_at_ms, Some(missing[missing.len() - 1].at_ms), "{gap:?}");
                    }
                }
            }
        }
        assert_eq!(expected.next().map(|(position, _)| *position), None, "not given");
    }
}

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
}

/// Opens the store, anew and empty if told so, and breaks its next commit if it can.
trait Disk {
    type Store: Store;
    fn open(&mut self, anew: bool) -> Self::Store;
    fn luck_after(&mut self, commits: u64, luck: Luck);
    fn can_fail(&self) -> bool;
}

impl Disk for Memory {
    type Store = Memory;

    fn open(&mut self, anew: bool) -> Memory {
        if anew {
            *self = Memory::new();
        }
        self.clone()
    }

    fn luck_after(&mut self, commits: u64, luck: Luck) {
        Memory::luck_after(self, commits, luck);
    }

    fn can_fail(&self) -> bool {
        true
    }
}

struct Real(tempfile::TempDir);

impl Disk for Real {
    type Store = FjallStore;

    fn open(&mut self, anew: bool) -> FjallStore {
        if anew {
            self.0 = tempfile::tempdir().unwrap();
        }
        FjallStore::open(&self.0.path().join("queue")).unwrap()
    }

    fn luck_after(&mut self, _: u64, _: Luck) {}

    fn can_fail(&self) -> bool {
        false
    }
}

fn run(seed: u64, steps: u64, mut disk: impl Disk) {
    let mut dice = Dice(seed);
    let limits = Limits { records: 12 + dice.roll(30), bytes: 2_000 + dice.roll(3_000) };
    let mut model = Model::default();
    let mut queue = Queue::open(disk.open(false), limits, None, 5, None).unwrap();
    let mut number = 0;
    for _ in 0..steps {
        match dice.roll(21) {
            0..9 => {
                let entries = (0..1 + dice.roll(6)).map(|_| {
                    number += 1;
                    let bytes = format!("{number}:{}", "x".repeat(dice.roll(80) as usize)).into_bytes();
                    Entry { at_ms: number, down: dice.roll(3) == 0, bytes }
                });
                let entries = entries.collect::<Vec<_>>();
                let luck = [Luck::Good, Luck::Lost, Luck::Kept][dice.roll(20).min(2) as usize];
                let luck = if dice.roll(4) == 0 && disk.can_fail() { luck } else { Luck::Good };
                disk.luck_after(0, luck);
                let recorded = queue.marker().recorded();
                let known = queue.marker().clone();
                match queue.commit(&entries, None) {
                    Ok(first) => {
                        assert_eq!(first, Position::new(recorded.epoch, recorded.seq + 1));
                        model.append(first, &entries, limits);
                    }
                    Err(_) => {
                        drop(queue);
                        if luck == Luck::Kept {
                            // What made room for entries that do not count is gone all the same.
                            model.append(Position::new(recorded.epoch, recorded.seq + 1), &entries, limits);
                            model.entries.retain(|position, _| *position <= recorded);
                        }
                        queue =
                            Queue::open(disk.open(false), limits, Some(&known), 5, Some(recorded)).unwrap();
                        assert!(queue.marker().epoch > recorded.epoch);
                    }
                }
            }
            9..13 => {
                let upto = pick(&model, &mut dice);
                queue.commit(&[], Some(upto)).unwrap();
                model.release(upto);
            }
            13..15 => {
                let to = pick(&model, &mut dice);
                queue.rewind(to).unwrap();
                model.acknowledged = model.acknowledged.min(to.max(queue.marker().floor()));
            }
            15..18 => {
                let known = queue.marker().clone();
                let blank = Marker::default();
                let slots = [None, Some(&known), Some(&blank)][dice.roll(3) as usize];
                drop(queue);
                queue = Queue::open(disk.open(false), limits, slots, 5, None).unwrap();
                assert_eq!(queue.marker().epoch, known.epoch + 1);
            }
            18 if dice.roll(4) == 0 => {
                let known = queue.marker().clone();
                drop(queue);
                model.lose_the_database();
                queue = Queue::open(disk.open(true), limits, Some(&known), 5, None).unwrap();
                assert_eq!(queue.marker().epoch, known.epoch + 1);
            }
            19 => {
                let before = queue.marker().clone();
                let (commits, luck) =
                    (dice.roll(4), [Luck::Good, Luck::Lost, Luck::Kept][dice.roll(3) as usize]);
                disk.luck_after(commits, luck);
                let above =
                    [Position::START, Position::new(before.epoch + dice.roll(5), 7)][dice.roll(2) as usize];
                let done = queue.renumber(above);
                disk.luck_after(0, Luck::Good);
                if done.is_err() {
                    drop(queue);
                    let slots = [None, Some(&before)][dice.roll(2) as usize];
                    queue = Queue::open(disk.open(false), limits, slots, 5, Some(before.recorded())).unwrap();
                }
                let floor = queue.marker().floor;
                assert_eq!(floor == before.floor, commits == 0 && luck == Luck::Lost && disk.can_fail());
                if floor != before.floor {
                    assert!(floor > before.epoch && floor > above.epoch);
                    model.renumber(floor);
                }
            }
            _ => {
                let after = pick(&model, &mut dice);
                let page = queue.peek(after, 1 + dice.roll(8) as usize).unwrap();
                let all = queue.peek(after, usize::MAX).unwrap();
                assert_eq!(page, all[..page.len()]);
            }
        }
        model.check(&queue.peek(Position::START, usize::MAX).unwrap(), model.acknowledged);
        let status = queue.status();
        let held = model.entries.iter().filter(|(_, item)| item.fate == Fate::Held);
        assert_eq!(status.held, held.clone().count() as u64);
        assert_eq!(status.pending, held.clone().filter(|(at, _)| **at > model.acknowledged).count() as u64);
        assert_eq!(status.bytes, held.map(|(_, item)| cost(item.entry.bytes.len())).sum::<u64>());
        assert_eq!(status.acknowledged, model.acknowledged);
    }
}

fn next(position: Position) -> Position {
    Position::new(position.epoch, position.seq + 1)
}

fn pick(model: &Model, dice: &mut Dice) -> Position {
    let Some(recorded) = model.recorded() else { return Position::START };
    let n = dice.roll(model.entries.len() as u64 + 1) as usize;
    model.entries.keys().nth(n).copied().unwrap_or(recorded)
}

fn seeds(runs: u64) -> Vec<u64> {
    if let Some(seed) = std::env::var("SPOOL_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return vec![seed];
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    (0..runs).map(|n| now.wrapping_add(n)).collect()
}

#[test]
fn the_queue_agrees_with_a_list_whatever_happens_to_a_store_in_memory() {
    for seed in seeds(400) {
        println!("SPOOL_SEED={seed}");
        run(seed, 120, Memory::new());
    }
}

#[test]
fn the_queue_agrees_with_a_list_on_the_real_store() {
    for seed in seeds(3) {
        println!("SPOOL_SEED={seed}");
        run(seed, 60, Real(tempfile::tempdir().unwrap()));
    }
}
