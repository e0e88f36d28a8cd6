//! What a power cut may leave of a trace: whatever was synced, and of the rest any pages, any length, any names.
//!
//! Of each page that was written since the last fsync of its file one of its versions survives; within the page that was written last
//! each sector of 512 bytes for itself, so tears and inner holes come by themselves. Names survive in one of two ways: in their order,
//! as journalling file systems keep them, an fsync of anything putting all earlier ones on the disk; or each for itself, an fsync of a
//! directory keeping its names and an fsync of a new file keeping its name.
//!
//! When an fsync fails, what it should have written is perhaps on the disk and perhaps only in memory, where the process still reads it;
//! the system takes it for written, and no later fsync will write it unless the page is written again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::image::{Image, put};
use crate::trace::{Event, Inode, Name, Trace};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// Bytes that are mostly zeros.
#[derive(Clone, Debug, Default)]
struct Content {
    pages: BTreeMap<u64, Vec<u8>>,
    length: u64,
}

/// A file at the moment of the cut.
#[derive(Debug, Default)]
struct File {
    /// What is on the disk for sure.
    durable: Content,
    /// What the process read at that time: the same, but for what a failed fsync lost.
    memory: Content,
    /// What was done since.
    since: Vec<Done>,
}

#[derive(Debug)]
struct Done {
    /// Which event it was.
    at: usize,
    change: Change,
    /// Its pages are taken for written, and are not.
    forgotten: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// A directory tree after a power cut.
pub struct Crash {
    files: Vec<(PathBuf, Content)>,
    directories: BTreeSet<PathBuf>,
    /// What the process had told as recorded.
    pub recorded: BTreeSet<(u64, u64)>,
}

/// Cuts the power when `cut` events of the trace have ended; `before` is what was there at its start, all of it on the disk.
pub fn cut(trace: &Trace, before: &Image, cut: usize, rng: &mut StdRng) -> Crash {
    let events = &trace.events[..cut];
    let mut files: BTreeMap<Inode, File> =
        trace.files.iter().map(|(path, inode)| (*inode, File::of(Content::of(before, path)))).collect();
    let mut recorded = BTreeSet::new();
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Write(inode, place, bytes) => {
                files.entry(*inode).or_default().done(at, Change::Write(*place, bytes.clone()));
            }
            Event::Length(inode, length) => {
                files.entry(*inode).or_default().done(at, Change::Length(*length));
            }
            Event::Sync(inode, begun) => files.entry(*inode).or_default().sync(*begun),
            Event::FailedSync(inode, begun) if rng.random_bool(0.7) => {
                files.entry(*inode).or_default().forget(*begun);
            }
            Event::Recorded(epoch, seq) => drop(recorded.insert((*epoch, *seq))),
            Event::Name(_) | Event::SyncDirectory(..) | Event::FailedSync(..) => {}
        }
    }
    let (names, directories) = names(trace, before, events, rng);
    let mut survived = BTreeMap::new();
    let mut content = |inode: Inode, rng: &mut StdRng| {
        survived.entry(inode).or_insert_with(|| files.remove(&inode).unwrap_or_default().survive(rng)).clone()
    };
    let files = names.into_iter().map(|(path, inode)| (path, content(inode, rng))).collect();
    Crash { files, directories, recorded }
}

impl Crash {
    /// Makes the directory.
    pub fn restore(&self, dir: &Path) {
        for directory in &self.directories {
            std::fs::create_dir_all(dir.join(directory)).expect("a directory can be made");
        }
        for (path, content) in &self.files {
            let end = content.pages.keys().next_back().map_or(0, |page| (page + 1) * PAGE as u64);
            let mut bytes = vec![0; usize::try_from(end.min(content.length)).expect("memory holds it")];
            for (page, data) in &content.pages {
                let from = usize::try_from(*page).expect("memory holds it") * PAGE;
                if from < bytes.len() {
                    let to = bytes.len().min(from + PAGE);
                    bytes[from..to].copy_from_slice(&data[..to - from]);
                }
            }
            put(&dir.join(path), &bytes, content.length);
        }
    }
}

impl Content {
    fn of(image: &Image, path: &Path) -> Self {
        let bytes = image.files().find(|(name, _)| *name == path).map_or(&[][..], |(_, bytes)| bytes);
        let mut content = Self { pages: BTreeMap::new(), length: image.length(path) };
        content.write(0, bytes);
        content.length = image.length(path);
        content
    }

    /// Writes, and gives the pages that it touched.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Vec<u64> {
        let (mut at, mut rest, mut touched) = (at, bytes, Vec::new());
        while !rest.is_empty() {
            let (page, offset) = (at / PAGE as u64, usize::try_from(at % PAGE as u64).expect("below a page"));
            let now = rest.len().min(PAGE - offset);
            self.page(page)[offset..offset + now].copy_from_slice(&rest[..now]);
            touched.push(page);
            rest = &rest[now..];
            at += now as u64;
        }
        self.length = self.length.max(at);
        touched
    }

    /// Changes the length, and gives the pages that it touched: what is cut off is zero when the file grows again.
    fn resize(&mut self, length: u64) -> Vec<u64> {
        self.length = length;
        let first = length / PAGE as u64;
        let touched: Vec<_> = self.pages.range(first..).map(|(page, _)| *page).collect();
        for page in &touched {
            let kept = if *page == first { (length % PAGE as u64) as usize } else { 0 };
            self.page(*page)[kept..].fill(0);
        }
        touched
    }

    fn page(&mut self, page: u64) -> &mut Vec<u8> {
        self.pages.entry(page).or_insert_with(|| vec![0; PAGE])
    }

    fn apply(&mut self, change: &Change) -> Vec<u64> {
        match change {
            Change::Write(at, bytes) => self.write(*at, bytes),
            Change::Length(length) => self.resize(*length),
        }
    }
}

impl File {
    fn of(content: Content) -> Self {
        Self { memory: content.clone(), durable: content, since: Vec::new() }
    }

    fn done(&mut self, at: usize, change: Change) {
        self.since.push(Done { at, change, forgotten: false });
    }

    /// What was done before `begun` is on the disk, unless it was forgotten.
    fn sync(&mut self, begun: usize) {
        let later = self.since.iter().position(|done| done.at >= begun).unwrap_or(self.since.len());
        for done in self.since.drain(..later).collect::<Vec<_>>() {
            self.reach(&done);
        }
    }

    /// The fsync that should have written what was done before `begun` failed.
    fn forget(&mut self, begun: usize) {
        self.since.iter_mut().filter(|done| done.at < begun).for_each(|done| done.forgotten = true);
    }

    /// A change is in memory, and if it was not forgotten its pages are on the disk as they are in memory then.
    fn reach(&mut self, done: &Done) {
        let touched = self.memory.apply(&done.change);
        if !done.forgotten {
            for page in touched {
                self.durable.pages.insert(page, self.memory.pages[&page].clone());
            }
            self.durable.length = self.memory.length;
        }
    }

    /// What is left of it.
    fn survive(mut self, rng: &mut StdRng) -> Content {
        match rng.random_range(0..5) {
            0 => self.since.clear(),
            1 => {}
            // So many of the writes in their order.
            2 => self.since.truncate(rng.random_range(0..=self.since.len())),
            _ => return self.scattered(rng),
        }
        for done in std::mem::take(&mut self.since) {
            self.reach(&done);
        }
        self.durable
    }

    /// Any version of any page, any length that it had.
    fn scattered(self, rng: &mut StdRng) -> Content {
        let mut versions = BTreeMap::<u64, Vec<Vec<u8>>>::new();
        let mut lengths = vec![self.durable.length];
        let mut last = None;
        let (durable, mut now) = (self.durable, self.memory);
        for done in &self.since {
            for page in now.apply(&done.change) {
                if !done.forgotten {
                    // The version on the disk is one, too.
                    let old = || durable.pages.get(&page).cloned().unwrap_or_else(|| vec![0; PAGE]);
                    versions.entry(page).or_insert_with(|| vec![old()]).push(now.pages[&page].clone());
                    last = Some(page);
                }
            }
            if !done.forgotten {
                lengths.push(now.length);
            }
        }
        let mut content = durable;
        for (page, versions) in versions {
            let mut chosen = versions[rng.random_range(0..versions.len())].clone();
            if last == Some(page) {
                for sector in 0..PAGE / SECTOR {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    let other = &versions[rng.random_range(0..versions.len())];
                    chosen[range.clone()].copy_from_slice(&other[range]);
                }
            }
            content.pages.insert(page, chosen);
        }
        content.length = lengths[rng.random_range(0..lengths.len())];
        content
    }
}

/// Which names there are, and which directories.
fn names(
    trace: &Trace,
    before: &Image,
    events: &[Event],
    rng: &mut StdRng,
) -> (BTreeMap<PathBuf, Inode>, BTreeSet<PathBuf>) {
    let ordered = rng.random_bool(0.5);
    let likely = rng.random_range(0.0..=1.0);
    let synced = |which: &dyn Fn(&Event) -> Option<usize>| events.iter().filter_map(which).max().unwrap_or(0);
    let barrier = synced(&|event| match event {
        Event::Sync(_, begun) | Event::SyncDirectory(_, begun) => Some(*begun),
        _ => None,
    });
    // Of what is not on the disk for sure: all up to here, when in order.
    let reached = rng.random_range(barrier.min(events.len())..=events.len());
    let mut names: BTreeMap<PathBuf, Inode> = trace.files.iter().cloned().collect();
    let mut directories: BTreeSet<PathBuf> = before.directories().map(Path::to_owned).collect();
    directories.insert(PathBuf::new());
    for (at, event) in events.iter().enumerate() {
        let Event::Name(name) = event else { continue };
        let survives = if ordered {
            at < reached
        } else {
            let parent = |path: &Path| path.parent().unwrap_or(Path::new("")).to_owned();
            let (directory, created) = match name {
                Name::Create(path, inode) => (parent(path), Some(*inode)),
                Name::Directory(path) | Name::Remove(path) | Name::Rename(_, path) => (parent(path), None),
            };
            let kept = synced(&|event| match event {
                Event::SyncDirectory(path, begun) if *path == directory => Some(*begun),
                Event::Sync(inode, begun) if Some(*inode) == created => Some(*begun),
                _ => None,
            });
            at < kept || rng.random_bool(likely)
        };
        if survives {
            apply(name, &mut names, &mut directories);
        }
    }
    (names, directories)
}

/// Does what is possible after what went before it survived or not.
fn apply(name: &Name, names: &mut BTreeMap<PathBuf, Inode>, directories: &mut BTreeSet<PathBuf>) {
    let there =
        |path: &Path, directories: &BTreeSet<PathBuf>| path.parent().is_none_or(|p| directories.contains(p));
    match name {
        Name::Create(path, inode) if there(path, directories) => drop(names.insert(path.clone(), *inode)),
        Name::Directory(path) if there(path, directories) => drop(directories.insert(path.clone())),
        Name::Create(..) | Name::Directory(_) => {}
        Name::Remove(path) => {
            names.remove(path);
            directories.remove(path);
        }
        Name::Rename(from, to) => {
            let moved = |path: &Path| path.strip_prefix(from).map(|rest| to.join(rest)).ok();
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            } else if directories.contains(from) {
                let old = std::mem::take(names);
                names.extend(old.into_iter().map(|(path, inode)| (moved(&path).unwrap_or(path), inode)));
                let old = std::mem::take(directories);
                directories.extend(old.into_iter().map(|path| moved(&path).unwrap_or(path)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn trace() -> Trace {
        let name = |path: &str| PathBuf::from(path);
        Trace {
            files: Vec::new(),
            events: vec![
                Event::Name(Name::Create(name("a"), 0)),
                Event::Write(0, 0, vec![1; 10_000]),
                Event::Sync(0, 2),
                Event::SyncDirectory(name(""), 3),
                Event::Recorded(1, 1),
                Event::Write(0, 100, vec![2; 10_000]),
            ],
        }
    }

    #[test]
    fn what_was_synced_is_always_there_and_what_was_not_comes_in_pieces() {
        let (dir, mut states) = (tempfile::tempdir().unwrap(), BTreeSet::new());
        let empty = Image::take(dir.path());
        for seed in 0..200 {
            let crash = cut(&trace(), &empty, 6, &mut StdRng::seed_from_u64(seed));
            let home = tempfile::tempdir().unwrap();
            crash.restore(home.path());
            let bytes = std::fs::read(home.path().join("a")).unwrap();
            assert!(bytes.len() == 10_000 || bytes.len() == 10_100);
            assert!(bytes[..100].iter().all(|byte| *byte == 1), "the first hundred bytes were never changed");
            assert!(bytes[..10_000].iter().all(|byte| *byte == 1 || *byte == 2));
            assert_eq!(crash.recorded, BTreeSet::from([(1, 1)]));
            states.insert(bytes);
        }
        assert!(states.len() > 10, "only {} states", states.len());
    }

    #[test]
    fn a_cut_before_the_fsync_may_leave_nothing_and_a_cut_after_it_leaves_all() {
        let dir = tempfile::tempdir().unwrap();
        let empty = Image::take(dir.path());
        let lengths = |events| -> BTreeSet<Option<u64>> {
            let state = |seed| {
                let crash = cut(&trace(), &empty, events, &mut StdRng::seed_from_u64(seed));
                crash.files.first().map(|(_, content)| content.length)
            };
            (0..100).map(state).collect()
        };
        assert_eq!(lengths(2), BTreeSet::from([None, Some(0), Some(10_000)]));
        assert_eq!(lengths(5), BTreeSet::from([Some(10_000)]));
    }
}
