//! From *due* to *finished*: the path of one result through the agent. Whoever reads only this file knows the product.
//!
//! ```text
//! schedule says which monitor is due → sandbox runs its plugin within limits → the result is stamped → the recorder has it
//! ```
//!
//! Decides nothing itself: when is `schedule`'s, how is `sandbox`'s, what a verdict means is `found`'s. Writes no disk: that
//! is `recorder`'s. Sends nothing: that is `uplink`'s.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use sandbox::{Job, Limits, Sandbox};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;
use wire::ResultId;
use wire::push::Push;
use wire::results::RunResult;

use crate::clock;
use crate::duty::Duty;
use crate::found::Found;
use crate::monitors::{self, Monitor, Monitors};
use crate::record::{self, Moment};
use crate::recorder::Recorder;
use crate::schedule::{Due, Schedule, Wanted};
use crate::secrets;
use crate::uplink::pushes::Subscription;

/// Runs monitors when they are due and has recorded what they say.
pub(crate) struct Runner {
    pub(crate) sandbox: Sandbox,
    pub(crate) recorder: Recorder,
    pub(crate) secrets: secrets::Source,
    /// Runs at the same time.
    pub(crate) concurrency: usize,
    /// Of the boot that ages are counted from.
    pub(crate) boot_id: String,
}

impl Runner {
    /// Runs what is due until `stop`; then lets what runs end for a moment. A run that waits for a free place is late, and one that
    /// waits for its whole interval is missed and counted. While the agent is not on duty nothing is planned, and nothing missed.
    pub(crate) async fn work(
        self: Arc<Self>,
        mut schedule: Schedule,
        monitors: &mut watch::Receiver<Arc<Monitors>>,
        duties: &mut watch::Receiver<Duty>,
        pushes: &mut Subscription,
        stop: &mut oneshot::Receiver<()>,
    ) {
        let mut runs = Runs::default();
        let mut current = monitors.borrow_and_update().clone();
        schedule.replace(clock::boot_ms(), wanted(&current, *duties.borrow_and_update()));
        loop {
            failpoint::hit("agent.runner");
            while runs.len() < self.concurrency
                && let Some(due) = schedule.take(clock::boot_ms())
            {
                let monitor = current[&due.monitor].clone();
                runs.start(&monitor, self.clone().run(monitor.clone(), due));
            }
            let wait = match schedule.next_at() {
                Some(at) if runs.len() < self.concurrency => at.saturating_sub(clock::boot_ms()),
                _ => u64::MAX,
            };
            tokio::select! {
                () = sleep(Duration::from_millis(wait).min(NAP)) => {}
                Some(monitor) = runs.ended() => schedule.finished(monitor),
                Ok(()) = monitors.changed() => {
                    current = monitors.borrow_and_update().clone();
                    schedule.replace(clock::boot_ms(), wanted(&current, *duties.borrow()));
                }
                Ok(()) = duties.changed() => {
                    schedule.replace(clock::boot_ms(), wanted(&current, *duties.borrow_and_update()));
                }
                push = pushes.next() => if let Push::Run { monitors, request } = push {
                    monitors.into_iter().for_each(|monitor| schedule.ask(clock::boot_ms(), monitor, request));
                },
                _ = &mut *stop => break,
            }
        }
        let last = timeout(LAST_RUNS, async { while runs.ended().await.is_some() {} });
        if last.await.is_err() {
            tracing::info!(runs = runs.len(), "ended runs that were under way; they are not recorded");
        }
    }

    /// One run: check, stamp, hand over.
    async fn run(self: Arc<Self>, monitor: Arc<Monitor>, due: Due) {
        let (started, started_at) = (Instant::now(), clock::wall());
        let late = clock::boot_ms().saturating_sub(due.planned);
        // A fault of ours is a result too: the monitor is told, and its history has no hole.
        let found = AssertUnwindSafe(self.check(&monitor)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(monitor = monitor.name, "a run panicked in the agent");
            Found::error("agent.panic", "the agent panicked in this run: its log says where".to_owned())
        });
        let result = RunResult {
            id: ResultId(Uuid::now_v7()),
            monitor_id: monitor.id,
            planned_at: started_at.plus_millis(-i64::try_from(late).unwrap_or(i64::MAX)),
            started_at,
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            attempt: 1,
            request: due.request,
            missed: due.missed,
            state: found.state,
            code: found.code,
            summary: found.summary,
            phases: found.phases,
            remote_address: found.remote_address,
            metrics: found.metrics,
            findings: found.findings,
            attributes: found.attributes,
            evidence: found.evidence,
            plugin_digest: monitor.work.as_ref().ok().map(|work| work.plugin.digest.clone()),
            config_digest: monitor.digest.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let ended = Moment { boot_id: &self.boot_id, boot: clock::boot() };
        self.recorder.record(&monitor.name, record::entry(result, ended));
    }

    /// What the monitor's plugin finds out, or why it could not.
    async fn check(&self, monitor: &Monitor) -> Found {
        failpoint::hit("agent.run");
        let work = match &monitor.work {
            Ok(work) => work,
            Err(broken) => return Found::error(broken.code, broken.summary.clone()),
        };
        let secrets = match self.secrets.resolve(&work.secrets) {
            Ok(secrets) => secrets,
            Err(missing) => return Found::error("secret.missing", missing),
        };
        let job = Job {
            monitor: monitor.name.clone(),
            config: work.config.clone(),
            attempt: 1,
            timeout: monitor.timeout,
            grant: work.grant.clone(),
            secrets,
            limits: Limits::default(),
        };
        let report = self.sandbox.run(&work.plugin, job).await;
        for (level, line) in &report.log {
            tracing::debug!(monitor = monitor.name, ?level, "{line}");
        }
        Found::from(report)
    }
}

/// What is planned on this duty.
fn wanted(monitors: &Monitors, duty: Duty) -> impl Iterator<Item = Wanted> {
    monitors::wanted(monitors).filter(move |_| duty.checks())
}

/// The runs under way.
#[derive(Default)]
struct Runs {
    tasks: JoinSet<()>,
    monitors: HashMap<tokio::task::Id, Arc<Monitor>>,
}

impl Runs {
    fn start(&mut self, monitor: &Arc<Monitor>, run: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(run);
        self.monitors.insert(task.id(), monitor.clone());
    }

    fn len(&self) -> usize {
        self.tasks.len()
    }

    /// The monitor of the next run that ends, however it ends; none when nothing runs.
    async fn ended(&mut self) -> Option<wire::MonitorId> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, ())| *id);
        let monitor = self.monitors.remove(&id)?;
        if let Err(panicked) = ended {
            tracing::error!(monitor = monitor.name, %panicked, "a run broke in the agent and is not recorded");
        }
        Some(monitor.id)
    }
}

/// Longest sleep at a stretch: timers do not count suspend, so this is how soon a wake-up is noticed.
const NAP: Duration = Duration::from_secs(10);
/// What runs that are under way get when the agent stops.
const LAST_RUNS: Duration = Duration::from_millis(1_000);
