//! What the model test holds the queue against: a plain list of everything ever recorded, and a store in memory that fails, fills
//! up and forgets as a disk does. The runs are in `model/run.rs`.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex},
};

use crate::{
    census::cost,
    key,
    queue::Limits,
    store::{Changes, Fault, Store, Visitor},
    types::{Entry, Position, Reason, Stored},
};

mod run;

/// How the next commit of a [`Memory`] ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Luck {
    Good,
    /// An error, and nothing is there.
    Lost,
    /// An error, but all of it is there: the fsync failed after the write.
    Kept,
    /// No room, and nothing is there.
    Full,
}

/// A store that keeps its commits in memory, which outlives it as a disk does.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    luck: Option<(u64, Luck)>,
    full: bool,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Flips a bit in the last value.
    pub(crate) fn spoil(&self) {
        if let Some(mut last) = self.0.lock().unwrap().records.last_entry() {
            last.get_mut()[0] ^= 8;
        }
    }

    /// Takes nothing any more, or again.
    pub(crate) fn full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }

    /// Loses the record at this position, or flips a bit of it. Says whether there is one.
    fn damage(&self, position: Position, lose: bool) -> bool {
        let key = key::record(position);
        let mut disk = self.0.lock().unwrap();
        match disk.records.get_mut(&key) {
            None => return false,
            Some(_) if lose => drop(disk.records.remove(&key)),
            Some(value) => *value.last_mut().unwrap() ^= 8,
        }
        true
    }

    /// Decides how the next commit ends.
    pub(crate) fn luck(&self, luck: Luck) {
        self.luck_after(0, luck);
    }

    /// Decides how a later commit ends: the one after so many that go well.
    pub(crate) fn luck_after(&self, commits: u64, luck: Luck) {
        self.0.lock().unwrap().luck = Some((commits, luck));
    }
}

impl Store for Memory {
    fn commit(&mut self, changes: Changes) -> Result<(), Fault> {
        let mut disk = self.0.lock().unwrap();
        let (luck, left) = match disk.luck.take() {
            None => (Luck::Good, None),
            Some((0, luck)) => (luck, None),
            Some((commits, luck)) => (Luck::Good, Some((commits - 1, luck))),
        };
        disk.luck = left;
        let luck = if disk.full { Luck::Full } else { luck };
        if matches!(luck, Luck::Good | Luck::Kept) {
            for (key, value) in changes {
                match value {
                    Some(value) => disk.records.insert(key, value),
                    None => disk.records.remove(&key),
                };
            }
        }
        match luck {
            Luck::Good => Ok(()),
            Luck::Full => Err(Fault::Full),
            Luck::Lost | Luck::Kept => Err(Fault::Failed(format!("{luck:?}"))),
        }
    }

    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.0.lock().unwrap().records.get(key).cloned())
    }

    fn scan(&self, from: &[u8], visit: &mut Visitor<'_>) -> Result<(), Fault> {
        let disk = self.0.lock().unwrap();
        for (key, value) in disk.records.range(from.to_vec()..) {
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
    /// Never recorded.
    Lost,
}

impl Model {
    /// `tight` as in [`Queue::tighten`](crate::queue::Queue::tighten).
    fn append(&mut self, first: Position, entries: &[Entry], limits: Limits, tight: bool) {
        let (acknowledged, coming) = (self.acknowledged, entries.len() as u64);
        let newest = entries.iter().map(|entry| entry.at_ms).max();
        let held = || self.entries.iter().filter(|(_, item)| item.fate == Fate::Held);
        let mut records = held().count() as u64 + coming;
        let mut bytes = held().map(|(_, item)| cost(item.entry.bytes.len())).sum::<u64>();
        let most = if tight { limits.bytes.min(bytes) } else { limits.bytes };
        bytes += entries.iter().map(|entry| cost(entry.bytes.len())).sum::<u64>();
        let mut pending = held().filter(|(at, _)| **at > acknowledged).count() as u64 + coming;
        for (position, item) in self.entries.iter_mut().filter(|(_, item)| item.fate == Fate::Held) {
            let released = *position <= acknowledged;
            let old = limits.age_ms.is_some_and(|age| newest.is_some_and(|now| now - item.entry.at_ms > age));
            let spare = released || pending > limits.floor;
            let must_go = records > limits.records || (spare && (old || bytes > most));
            let let_go = tight && released;
            if !must_go && !let_go {
                break;
            }
            records -= 1;
            bytes -= cost(item.entry.bytes.len());
            pending -= u64::from(!released);
            item.fate = if released { Fate::Released } else { Fate::Evicted };
        }
        self.add(first, entries, Fate::Held);
    }

    fn add(&mut self, first: Position, entries: &[Entry], fate: Fate) {
        for (n, entry) in entries.iter().enumerate() {
            let position = Position::new(first.epoch, first.seq + n as u64);
            self.entries.insert(position, Item { entry: entry.clone(), fate, acknowledged: false });
        }
    }

    fn release(&mut self, upto: Position, tight: bool) {
        self.acknowledged = self.acknowledged.max(upto);
        self.entries.range_mut(..=upto).for_each(|(_, item)| item.acknowledged = true);
        if tight {
            let released =
                self.entries.range_mut(..=self.acknowledged).filter(|(_, item)| item.fate == Fate::Held);
            released.for_each(|(_, item)| item.fate = Fate::Released);
        }
    }

    fn renumber(&mut self, epoch: u64) {
        let moving = self
            .entries
            .extract_if((Bound::Excluded(self.acknowledged), Bound::Unbounded), |_, _| true)
            .collect::<Vec<_>>();
        let moved = (1..).map(|seq| Position::new(epoch, seq)).zip(moving.into_iter().map(|(_, item)| item));
        self.entries.extend(moved);
        self.acknowledged = Position::new(epoch, 0);
    }

    fn lose_the_database(&mut self) {
        for (position, item) in self.entries.iter_mut().filter(|(_, item)| item.fate != Fate::Released) {
            item.fate = if *position <= self.acknowledged { Fate::Released } else { Fate::Corrupt };
        }
    }

    /// What this record tells of is gone.
    fn damage(&mut self, stored: &Stored) {
        let from = match stored {
            Stored::Entry { position, .. } => *position,
            Stored::Gap(gap) => gap.start(),
        };
        self.entries.range_mut(from..=stored.position()).for_each(|(_, item)| item.fate = Fate::Corrupt);
    }

    fn recorded(&self) -> Option<Position> {
        self.entries.keys().next_back().copied()
    }

    /// Every entry after `after` is given as it was recorded, or lies in exactly one gap that says the truth about it; where gaps may be
    /// `joined`, about most in it.
    fn check(&self, given: &[Stored], after: Position, joined: bool) {
        let mut expected = self.entries.range(after..).filter(|(position, _)| **position > after);
        for stored in given {
            match stored {
                Stored::Entry { position, bytes } => {
                    let (next, item) = expected.next().expect("an entry that was never recorded");
                    assert_eq!((next, &item.entry.bytes, item.fate), (position, bytes, Fate::Held));
                }
                Stored::Gap(gap) => {
                    let mut explained = 0;
                    let missing = (gap.from..=gap.to).map(|seq| {
                        let (position, item) = expected.next().expect("a gap over what was never recorded");
                        assert_eq!(*position, Position::new(gap.epoch, seq), "in {gap:?}");
                        assert_ne!(item.fate, Fate::Held, "{position} is held, but lies in {gap:?}");
                        explained += usize::from(match gap.reason {
                            Reason::Evicted => item.fate == Fate::Evicted,
                            Reason::Enospc | Reason::SlowDisk | Reason::Rejected => item.fate == Fate::Lost,
                            Reason::Corrupt | Reason::Power => {
                                item.fate == Fate::Corrupt || item.acknowledged
                            }
                            Reason::Released => item.acknowledged,
                        });
                        &item.entry
                    });
                    let missing = missing.collect::<Vec<_>>();
                    assert!(joined || explained == missing.len(), "{gap:?}");
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
