//! Compiled plugins, kept from one process under test to the next, so that none but the first waits for the compiler. A copy that does
//! not fit its plugin or this build is refused by the sandbox and made anew.
//!
//! Owns `compiled/` in the target directory; several test programs share it under a lock.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::process::picket;

/// Gives a data directory the compiled plugins, unless it has its own. Where there are none yet, whoever asks first has to compile them:
/// the others wait here until it kept them or gave up. A file in the directory's place is for the agent to refuse.
pub(crate) fn lend(data: &Path) -> Lent {
    let cache = data.join("cache");
    if cache.exists() || data.is_file() {
        return Lent { cache, first: None };
    }
    let mut lock = Lock::take(File::lock_shared);
    if !current() {
        drop(lock);
        lock = Lock::take(File::lock);
        if !current() {
            return Lent { cache, first: Some(lock) };
        }
    }
    private(data);
    copy(&kept(), &cache);
    Lent { cache, first: None }
}

/// What a process was lent, or the duty to be the first that compiles.
#[must_use]
pub(crate) struct Lent {
    cache: PathBuf,
    first: Option<Lock>,
}

impl Lent {
    /// Keeps for others what the process compiled, if it was the first.
    pub(crate) fn keep(self) {
        if self.first.is_some() {
            let _ = fs::remove_dir_all(kept());
            copy(&self.cache, &kept());
        }
    }
}

/// Whether those that are kept were compiled by this binary, and not by one that was built before.
fn current() -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
    changed(&kept()) > Some(changed(&picket()).unwrap_or(SystemTime::UNIX_EPOCH))
}

fn kept() -> PathBuf {
    tmp().join("compiled")
}

fn tmp() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tmp"))
}

/// The cache is flat, and private as the sandbox makes it.
fn copy(from: &Path, to: &Path) {
    private(to);
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("the file can be copied");
    }
}

fn private(dir: &Path) {
    fs::create_dir_all(dir).expect("the directory can be made");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).expect("it is ours");
}

/// A lock of the directory, held until it is dropped, also against other programs.
struct Lock(#[expect(dead_code, reason = "closing it gives the lock back")] File);

impl Lock {
    fn take(how: impl FnOnce(&File) -> std::io::Result<()>) -> Self {
        fs::create_dir_all(tmp()).expect("the target directory can be written");
        let file = File::create(tmp().join("compiled.lock")).expect("the lock can be made");
        how(&file).expect("the lock can be taken");
        Self(file)
    }
}
