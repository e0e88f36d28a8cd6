//! Named places where a fault test kills the process, as a power switch would (SIGKILL, no destructor, no flush), or lets it panic.
//!
//! Only builds with debug assertions have them; in a release build [`hit`] is nothing. The names that exist are found by searching the
//! tree for `failpoint::hit(`; the tests in `tests/faults` kill at each of them.
//!
//! `FAILPOINTS="identity.pending=return"` kills at the first hit, `"spool.commit=3*off->return"` at the fourth;
//! `"agent.run=2*panic"` panics at the first two hits.

/// Reads `FAILPOINTS` from the environment. Called once, by the binary.
pub fn setup() {
    if cfg!(debug_assertions) && std::env::var_os("FAILPOINTS").is_some() {
        // The scenario ends with the process.
        std::mem::forget(fail::FailScenario::setup());
    }
}

/// Kills the process here, or panics, if the environment says so.
#[inline]
pub fn hit(name: &'static str) {
    if cfg!(debug_assertions) {
        fail::fail_point!(name, |_| kill(name));
    }
}

/// Says where, so that a test that armed several knows which one it was.
fn kill(name: &str) {
    eprintln!("killed at {name}");
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}
