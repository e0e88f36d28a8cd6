//! Compiled plugins, kept from one run to the next, so that a row does not wait for the compiler. A copy that does not fit its plugin
//! or this build is refused by the sandbox and made anew.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::stage::copy;

/// Gives a data directory the compiled plugins, when there are any and it has none.
pub(crate) fn lend(data: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _one = LOCK.lock();
    let cache = data.join("cache");
    if cache.exists() || !kept().exists() {
        return;
    }
    std::fs::create_dir_all(data).expect("the directory can be made");
    std::fs::set_permissions(data, PermissionsExt::from_mode(0o700)).expect("it is ours");
    copy(&kept(), &cache);
}

/// Keeps those of a control plane that runs, when there are more than were lent.
pub(crate) fn keep(data: &Path) {
    let _one = LOCK.lock();
    let count = |dir: &Path| std::fs::read_dir(dir).map_or(0, Iterator::count);
    if count(&data.join("cache")) <= count(&kept()) {
        return;
    }
    let _ = std::fs::remove_dir_all(kept());
    copy(&data.join("cache"), &kept());
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tmp/faults-cache")
}

static LOCK: Mutex<()> = Mutex::new(());
