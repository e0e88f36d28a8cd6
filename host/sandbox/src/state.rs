//! What belongs to one run while it runs: the store's data. Everything in it ends with the run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;

use crate::engine::TICK;
use crate::limits::{Exceeded, Limiter, Limits};
use crate::log::Log;
use crate::redact::{Redactor, Secrets};
use crate::wasi::Http;
use crate::world::World;

/// The data of a run's store.
pub(crate) struct State {
    /// Handles that the component holds.
    pub(crate) table: ResourceTable,
    /// Made at the first call that needs it: most checks make none, and it is not cheap.
    pub(crate) wasi: Option<WasiCtx>,
    pub(crate) http: Http,
    pub(crate) limiter: Limiter,
    pub(crate) meter: Meter,
    /// Calls to interfaces of `picket:net`.
    pub(crate) asked: u32,
    /// None while a component describes itself or validates: no capability at all.
    pub(crate) world: Option<Arc<dyn World>>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) log: Arc<Log>,
    pub(crate) redactor: Arc<Redactor>,
}

impl State {
    pub(crate) fn new(limits: &Limits, world: Option<Arc<dyn World>>, secrets: Secrets) -> State {
        let redactor = Arc::new(Redactor::new(&secrets));
        let log = Arc::new(Log::new(limits.log, Arc::clone(&redactor)));
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        State {
            table,
            wasi: None,
            http: Http::new(world.clone()),
            limiter: Limiter::new(limits.memory),
            meter: Meter::new(limits.calls, limits.cpu),
            asked: 0,
            world,
            secrets: Arc::new(secrets),
            log,
            redactor,
        }
    }
}

/// Counts a run's host calls and the time it computes. Time is counted in stretches between two moments at which the host is in
/// control; the ticker makes sure that none of them is much longer than a tick.
#[derive(Debug)]
pub(crate) struct Meter {
    most_calls: u32,
    calls: u32,
    most_cpu: Duration,
    cpu: Duration,
    since: Instant,
    /// Computed since the run last let others have its thread.
    slice: Duration,
    /// The stretch began with a call that may wait.
    waiting: bool,
}

/// What a stretch that may have been a wait is counted as, so that nobody computes for free behind one.
const WAIT: Duration = Duration::from_millis(1);

impl Meter {
    pub(crate) fn new(most_calls: u32, most_cpu: Duration) -> Meter {
        Meter {
            most_calls,
            calls: 0,
            most_cpu,
            cpu: Duration::ZERO,
            since: Instant::now(),
            slice: Duration::ZERO,
            waiting: false,
        }
    }

    /// The component calls the host.
    pub(crate) fn call(&mut self) {
        self.calls = self.calls.saturating_add(1);
        self.tick(Instant::now());
    }

    /// The component calls a function of the host that may wait and does not say when it is back.
    pub(crate) fn waiting_call(&mut self) {
        self.call();
        self.waiting = true;
    }

    /// The stretch that ends now counts as computing, up to one tick: more is not the component's doing.
    pub(crate) fn tick(&mut self, now: Instant) {
        let most = if self.waiting { WAIT } else { TICK };
        let stretch = now.duration_since(self.since).min(most);
        self.cpu += stretch;
        self.slice += stretch;
        self.since = now;
        self.waiting = false;
    }

    /// Whether it is time to let others have the thread. A run that is hit by a tick in its first moments goes on: most of them
    /// are done before the next one, and giving way would put them behind everything that computes.
    pub(crate) fn gives_way(&mut self) -> bool {
        let due = self.slice >= TICK / 2;
        if due {
            self.slice = Duration::ZERO;
        }
        due
    }

    /// The host has waited for the network: that stretch counts for nothing.
    pub(crate) fn waited(&mut self, now: Instant) {
        self.since = now;
        self.slice = Duration::ZERO;
    }

    /// The host has worked for the component: that stretch counts as it is.
    pub(crate) fn worked(&mut self, now: Instant) {
        let stretch = now.duration_since(self.since);
        self.cpu += stretch;
        self.slice += stretch;
        self.since = now;
    }

    /// An error once a bound is passed: the trap that ends the run.
    pub(crate) fn within(&self) -> Result<(), Exceeded> {
        if self.calls > self.most_calls {
            return Err(Exceeded::Calls);
        }
        if self.cpu > self.most_cpu {
            return Err(Exceeded::Cpu);
        }
        Ok(())
    }

    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    pub(crate) fn cpu(&self) -> Duration {
        self.cpu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> (Meter, Instant) {
        let meter = Meter::new(2, Duration::from_millis(25));
        let since = meter.since;
        (meter, since)
    }

    #[test]
    fn computing_is_counted_in_ticks() {
        let (mut meter, start) = meter();
        meter.tick(start + Duration::from_millis(4));
        assert_eq!(meter.cpu(), Duration::from_millis(4));
        meter.tick(start + Duration::from_secs(9));
        assert_eq!(meter.cpu(), Duration::from_millis(14), "a long stretch is the machine's doing");
        meter.tick(start + Duration::from_secs(18));
        meter.tick(start + Duration::from_secs(27));
        assert_eq!(meter.within(), Err(Exceeded::Cpu));
    }

    #[test]
    fn a_run_gives_way_once_it_has_computed_for_a_while() {
        let (mut meter, start) = meter();
        meter.tick(start + Duration::from_millis(1));
        assert!(!meter.gives_way());
        meter.tick(start + Duration::from_millis(11));
        assert!(meter.gives_way());
        assert!(!meter.gives_way(), "only once for the same stretch");
    }

    #[test]
    fn waiting_is_not_computing() {
        let (mut meter, start) = meter();
        meter.waited(start + Duration::from_secs(5));
        meter.tick(start + Duration::from_secs(5) + Duration::from_millis(2));
        assert_eq!(meter.cpu(), Duration::from_millis(2));
        meter.waiting = true;
        meter.tick(start + Duration::from_secs(8));
        assert_eq!(meter.cpu(), Duration::from_millis(3));
        assert_eq!(meter.within(), Ok(()));
    }

    #[test]
    fn the_hosts_work_for_a_component_is_its_computing() {
        let (mut meter, start) = meter();
        meter.worked(start + Duration::from_millis(26));
        assert_eq!(meter.within(), Err(Exceeded::Cpu));
    }

    #[test]
    fn calls_are_counted() {
        let (mut meter, _) = meter();
        meter.call();
        meter.call();
        assert_eq!(meter.within(), Ok(()));
        meter.call();
        assert_eq!(meter.within(), Err(Exceeded::Calls));
    }
}
