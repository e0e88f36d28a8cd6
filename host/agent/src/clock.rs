//! The clocks: wall time for people, boot time for ages and plans; and what the kernel calls this machine and its boot.
//!
//! The core takes times as values; only the tasks at the edge read them here.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wire::Timestamp;

/// Time since the machine was booted. It counts suspend and never jumps, so the age of a result can be told from it.
pub(crate) fn boot() -> Duration {
    let t = clock_gettime(ClockId::Boottime);
    Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec.unsigned_abs() as u32) + slept()
}

/// What a fault test adds to the boot clock, as a suspend would: milliseconds in the file that `PICKET_DEBUG_SLEPT` names. Only
/// builds with debug assertions look.
fn slept() -> Duration {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    if !cfg!(debug_assertions) {
        return Duration::ZERO;
    }
    let file = FILE.get_or_init(|| std::env::var_os("PICKET_DEBUG_SLEPT").map(PathBuf::from));
    let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    Duration::from_millis(text.trim().parse().unwrap_or_default())
}

/// [`boot`] in milliseconds, as the schedule counts.
pub(crate) fn boot_ms() -> u64 {
    u64::try_from(boot().as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock, which may be wrong.
pub(crate) fn wall() -> Timestamp {
    jiff::Timestamp::now().into()
}

/// Identifies the boot that [`boot`] counts from; empty where the kernel does not tell, so that no age is believed.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The machine's name, for the owner; empty where the kernel does not tell.
pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
