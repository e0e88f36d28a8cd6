//! Compiled plugins, kept from one process under test to the next, so that none but the first waits for the compiler. A copy that does
//! not fit its plugin or this build is refused by the sandbox and made anew.
//!
//! Owns `compiled/` in the target directory; several test programs share it under a lock.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::process::picket;

/// Gives a data directory the compiled plugins, when there are any and it has none. A file in its place is for the agent to refuse.
pub(crate) fn lend(data: &Path) {
    let cache = data.join("cache");
    if cache.exists() || data.is_file() {
        return;
    }
    let _shared = Lock::take(File::lock_shared);
    if current() {
        private(data);
        copy(&kept(), &cache);
    }
}

/// Keeps those of a control plane that runs, when there are more than were lent.
pub(crate) fn keep(data: &Path) {
    let cache = data.join("cache");
    let _alone = Lock::take(File::lock);
    if current() && count(&cache) <= count(&kept()) {
        return;
    }
    let _ = fs::remove_dir_all(kept());
    copy(&cache, &kept());
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

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
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
