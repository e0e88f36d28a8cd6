//! A data directory as a crash leaves it, kept in memory: restored again and again, damaged in one place, and held against what was
//! recorded in it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use spool::{Position, Settings, Spool, Stored};
use tempfile::TempDir;

use crate::stage;

/// Files without their trailing zeros (a journal is 64 MiB of those), and their lengths.
#[derive(Clone)]
pub struct Image {
    files: Vec<(PathBuf, Vec<u8>, u64)>,
    directories: Vec<PathBuf>,
}

impl Image {
    /// Everything in this directory.
    pub fn take(dir: &Path) -> Self {
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        let mut folders = vec![dir.to_owned()];
        while let Some(directory) = folders.pop() {
            for entry in fs::read_dir(&directory).expect("a directory").map(|e| e.expect("an entry")) {
                let path = entry.path();
                let name = path.strip_prefix(dir).expect("it is below").to_owned();
                if path.is_dir() {
                    folders.push(path);
                    directories.push(name);
                    continue;
                }
                let mut bytes = fs::read(&path).expect("a file can be read");
                let length = bytes.len() as u64;
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
                files.push((name, bytes, length));
            }
        }
        files.sort();
        Self { files, directories }
    }

    /// Only what stands below this directory of it.
    pub fn below(&self, part: &str) -> Self {
        let below = |(path, bytes, length): &(PathBuf, Vec<u8>, u64)| {
            Some((path.strip_prefix(part).ok()?.to_owned(), bytes.clone(), *length))
        };
        let directories = self.directories.iter().filter_map(|path| path.strip_prefix(part).ok());
        let directories = directories.map(Path::to_owned).collect();
        Self { files: self.files.iter().filter_map(below).collect(), directories }
    }

    /// Makes the directory as it was.
    pub fn restore(&self, dir: &Path) {
        for name in &self.directories {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(dir.join(name)).expect("a directory can be made");
        }
        for (name, bytes, length) in &self.files {
            put(&dir.join(name), bytes, *length);
        }
    }

    /// The directories in it.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.iter().map(PathBuf::as_path)
    }

    /// The files: their names, their bytes but for trailing zeros.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.files.iter().map(|(path, bytes, _)| (path.as_path(), &bytes[..]))
    }

    /// The length of a file with its zeros.
    pub fn length(&self, name: &Path) -> u64 {
        self.files.iter().find(|(path, ..)| path == name).map_or(0, |(.., length)| *length)
    }
}

/// Writes a file of this length that begins with these bytes, and makes the directories it needs.
pub fn put(path: &Path, bytes: &[u8], length: u64) {
    let parent = path.parent().expect("a file stands in a directory");
    DirBuilder::new().recursive(true).mode(0o700).create(parent).expect("a directory can be made");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(path).expect("a file");
    file.write_all(bytes).and_then(|()| file.set_len(length)).expect("a file can be written");
}

/// What a spool held before something happened to it.
#[derive(Clone)]
pub struct Truth {
    entries: BTreeMap<Position, Vec<u8>>,
    acknowledged: Position,
    epoch: u64,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// Entries that lie in gaps now.
    pub lost: u64,
    /// Whether the database was put aside.
    pub aside: bool,
    /// How long opening took.
    pub opened: Duration,
}

impl Truth {
    /// Reads a copy of the spool's directory, which is changed by it.
    pub fn read(copy: &Path) -> Self {
        block_on(async {
            let spool = Spool::open(Settings::at(copy)).expect("what is whole opens");
            let acknowledged = spool.status().acknowledged;
            // What was released is still there, and a spool whose marker is lost may give it again.
            spool.rewind(Position::START).await.expect("what is whole can be rewound");
            let mut entries = BTreeMap::new();
            for stored in everything(&spool).await {
                if let Stored::Entry { position, bytes } = stored {
                    entries.insert(position, bytes);
                }
            }
            let epoch = spool.status().epoch - 1;
            spool.close().await;
            Self { entries, acknowledged, epoch }
        })
    }

    /// Entries not yet released.
    pub fn pending(&self) -> impl Iterator<Item = (Position, &[u8])> {
        self.entries.iter().filter(|(p, _)| **p > self.acknowledged).map(|(p, bytes)| (*p, &bytes[..]))
    }

    /// The bytes recorded at this place.
    pub fn at(&self, position: Position) -> Option<&[u8]> {
        self.entries.get(&position).map(Vec::as_slice)
    }

    /// The last epoch before what happened.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Opens what is left and holds it against the truth; the first thing that is wrong is the error. Leaves the spool closed.
    pub fn check(&self, dir: &Path) -> Result<Kept, String> {
        block_on(async {
            let begun = Instant::now();
            let spool =
                Spool::open(Settings::at(dir)).map_err(|error| format!("does not open: {error:?}"))?;
            let opened = begun.elapsed();
            let kept = self.compare(&spool, opened).await;
            spool.close().await;
            kept
        })
    }

    async fn compare(&self, spool: &Spool, opened: Duration) -> Result<Kept, String> {
        let status = spool.status();
        if status.epoch <= self.epoch {
            return Err(format!("epoch {} again", status.epoch));
        }
        let mut lost = 0;
        let mut last = Position::START;
        let mut expected = self.pending().map(|(position, _)| position).peekable();
        for stored in everything(spool).await {
            let end = stored.position();
            if end <= last {
                return Err(format!("{end} after {last}"));
            }
            last = end;
            if let Stored::Entry { position, bytes } = &stored
                && position.epoch <= self.epoch
                && self.at(*position) != Some(bytes)
            {
                return Err(format!("a wrong value at {position}"));
            }
            while let Some(position) = expected.next_if(|position| *position <= end) {
                match &stored {
                    Stored::Entry { position: given, .. } if *given == position => {}
                    Stored::Gap(gap) if gap.start() <= position => lost += 1,
                    _ => return Err(format!("{position} is neither an entry nor in a gap")),
                }
            }
        }
        match expected.next() {
            None => Ok(Kept { lost, aside: status.quarantined > 0, opened }),
            Some(position) => Err(format!("{position} is gone without a gap")),
        }
    }
}

/// All that a spool gives.
pub async fn everything(spool: &Spool) -> Vec<Stored> {
    let mut all = Vec::<Stored>::new();
    loop {
        let after = all.last().map_or(Position::START, Stored::position);
        let page = spool.peek(after, 1000).await.expect("an open spool can be read");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Runs one future on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime needs two descriptors").block_on(future)
}

/// A directory for what is restored very often: in memory where that is possible, for the tests' disks would be the slowest part.
pub fn scratch() -> TempDir {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(sweep);
    let prefix = format!("{SCRATCH}{}-", std::process::id());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    builder.tempdir_in(MEMORY).or_else(|_| builder.tempdir()).expect("a temporary directory")
}

/// Keeps such a directory for whoever looks for the reason, and on the disk: memory is for those who work.
pub fn keep(home: &TempDir) -> PathBuf {
    let kept = tempfile::Builder::new().prefix("picket-faults-kept-").tempdir().expect("a directory").keep();
    stage::copy(home.path(), &kept);
    kept
}

/// Removes what programs left that were killed: nobody else would give that memory back.
fn sweep() {
    for entry in fs::read_dir(MEMORY).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(SCRATCH)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A file system that is kept in memory.
const MEMORY: &str = "/dev/shm";

/// What the names of such directories begin with; the process id follows.
const SCRATCH: &str = "picket-faults-";

/// Whatever happened, a start takes no longer.
pub const LIMIT: Duration = Duration::from_secs(10);
