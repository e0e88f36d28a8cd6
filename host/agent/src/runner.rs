//! From *due* to *finished*: the path of one result through the agent. Whoever reads only this file knows the product.
//!
//! ```text
//! schedule says which monitor is due → attempt has the sandbox run its plugin within limits → the result is stamped
//! → it is tried again after a pause, or the recorder has it
//! ```
//!
//! Decides nothing itself: when is `schedule`'s, how is `attempt`'s, what a verdict means is `judged`'s and `found`'s, what waits for
//! another attempt is `retries`'. Writes no disk: that is `recorder`'s. Sends nothing: that is `uplink`'s.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use sandbox::{Job, Limits};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;
use wire::ResultId;
use wire::push::Push;
use wire::results::RunResult;

use crate::attempt::{self, Attempts};
use crate::clock;
use crate::duty::Duty;
use crate::found::Found;
use crate::judged;
use crate::monitors::{self, Monitor, Monitors};
use crate::record::{self, Moment};
use crate::recorder::Recorder;
use crate::retries::{Again, Attempt, Retries};
use crate::schedule::{self, Schedule, Wanted};
use crate::secrets;
use crate::uplink::pushes::Subscription;

/// Runs monitors when they are due and has recorded what they say.
pub(crate) struct Runner {
    pub(crate) attempts: Attempts,
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
        let (mut runs, mut retries) = (Runs::default(), Retries::default());
        let mut current = monitors.borrow_and_update().clone();
        schedule.replace(clock::boot_ms(), wanted(&current, *duties.borrow_and_update()));
        loop {
            failpoint::hit("agent.runner");
            while runs.len() < self.concurrency
                && let Some(attempt) = next(&mut retries, &mut schedule)
            {
                let monitor = current[&attempt.due.monitor].clone();
                runs.start(&monitor, self.clone().run(monitor.clone(), attempt));
            }
            let wait = match schedule.next_at().into_iter().chain(retries.next_at()).min() {
                Some(at) if runs.len() < self.concurrency => at.saturating_sub(clock::boot_ms()),
                _ => u64::MAX,
            };
            tokio::select! {
                () = sleep(Duration::from_millis(wait).min(NAP)) => {}
                Some(ended) = runs.ended() => match ended {
                    Ended::Finished(monitor, took) => schedule.finished(monitor, took),
                    Ended::Again(again) => {
                        retries.wait(again);
                        self.give_up(&mut retries, &mut schedule, &current, *duties.borrow());
                    }
                },
                Ok(()) = monitors.changed() => {
                    current = monitors.borrow_and_update().clone();
                    schedule.replace(clock::boot_ms(), wanted(&current, *duties.borrow()));
                    self.give_up(&mut retries, &mut schedule, &current, *duties.borrow());
                }
                Ok(()) = duties.changed() => {
                    schedule.replace(clock::boot_ms(), wanted(&current, *duties.borrow_and_update()));
                    self.give_up(&mut retries, &mut schedule, &current, *duties.borrow());
                }
                push = pushes.next() => if let Push::Run { monitors, request } = push {
                    monitors.into_iter().for_each(|monitor| schedule.ask(clock::boot_ms(), monitor, request));
                },
                _ = &mut *stop => break,
            }
        }
        let last = timeout(LAST_RUNS, async {
            while let Some(ended) = runs.ended().await {
                if let Ended::Again(again) = ended {
                    retries.wait(again);
                }
            }
        });
        if last.await.is_err() {
            tracing::info!(runs = runs.len(), "ended runs that were under way; they are not recorded");
        }
        self.give_up(&mut retries, &mut schedule, &Monitors::new(), Duty::Standby);
    }

    /// Of a monitor that is another now, or nobody's here, no other attempt is made: what the last one said is recorded.
    fn give_up(&self, retries: &mut Retries, schedule: &mut Schedule, current: &Monitors, duty: Duty) {
        let stays = |monitor: &Arc<Monitor>, digest: &str| monitor.digest == digest && duty.checks();
        for again in
            retries.give_up(|id, digest| current.get(&id).is_some_and(|monitor| stays(monitor, digest)))
        {
            schedule.finished(again.next.due.monitor, 0);
            self.recorder.record(&again.name, again.so_far);
        }
    }

    /// One run: check, stamp, hand over; or say that it is to be made again.
    async fn run(self: Arc<Self>, monitor: Arc<Monitor>, attempt: Attempt) -> Ended {
        let Attempt { due, number, mut earlier } = attempt;
        let (started, started_at) = (Instant::now(), clock::wall());
        let late = clock::boot_ms().saturating_sub(due.planned);
        // A fault of ours is a result too: the monitor is told, and its history has no hole.
        let checked = AssertUnwindSafe(self.check(&monitor, number)).catch_unwind().await;
        let found = checked.unwrap_or_else(|_| {
            tracing::error!(monitor = monitor.name, "a run panicked in the agent");
            Found::error("agent.panic", "the agent panicked in this run: its log says where".to_owned())
        });
        let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let again = judged::is_worth_another(&found) && number <= monitor.manner.retries && !due.asked;
        let said = format!("{} ({}): {}", found.state, found.code, found.summary);
        let before = (1..).zip(&earlier).map(|(n, said)| (format!("attempt.{n}"), said.clone()));
        let result = RunResult {
            id: ResultId(Uuid::now_v7()),
            monitor_id: monitor.id,
            planned_at: started_at.plus_millis(-i64::try_from(late).unwrap_or(i64::MAX)),
            started_at,
            duration_ms: took,
            attempt: number,
            request: due.request,
            missed: due.missed,
            state: found.state,
            code: found.code,
            summary: found.summary,
            phases: found.phases,
            remote_address: found.remote_address,
            metrics: found.metrics,
            findings: found.findings,
            attributes: found.attributes.into_iter().chain(before).collect(),
            evidence: found.evidence,
            plugin_digest: monitor.work.as_ref().ok().map(|work| work.plugin.digest.clone()),
            config_digest: monitor.digest.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let ended = Moment { boot_id: &self.boot_id, boot: clock::boot() };
        let so_far = record::entry(result, ended);
        if again {
            earlier.push(said);
            return Ended::Again(Again {
                at: clock::boot_ms() + monitor.manner.retry_interval_ms,
                next: Attempt { due, number: number + 1, earlier },
                digest: monitor.digest.clone(),
                name: monitor.name.clone(),
                so_far,
            });
        }
        self.recorder.record(&monitor.name, so_far);
        Ended::Finished(monitor.id, took)
    }

    /// What the monitor's plugin finds out, or why it could not.
    async fn check(&self, monitor: &Monitor, number: u32) -> Found {
        failpoint::hit("agent.run");
        let work = match &monitor.work {
            Ok(work) => work,
            Err(broken) => return Found::error(broken.code, broken.summary.clone()),
        };
        let here = (self.secrets.resolve(&work.secrets), self.secrets.resolve(&work.own_secrets));
        let (secrets, own) = match here {
            (Ok(secrets), Ok(own)) => (secrets, own),
            (Err(missing), _) | (_, Err(missing)) => return Found::error("secret.missing", missing),
        };
        let job = Job {
            monitor: monitor.name.clone(),
            config: work.config.text(),
            attempt: number,
            timeout: monitor.timeout,
            grant: work.grant.clone(),
            route: attempt::route(&monitor.manner, &own),
            secrets,
            limits: Limits::default(),
        };
        let report = self.attempts.make(&work.plugin, job, &monitor.manner, &work.targets).await;
        for (level, line) in &report.log {
            tracing::debug!(monitor = monitor.name, ?level, "{line}");
        }
        Found::from(report)
    }
}

/// What is to be run now: another attempt before the next plan.
fn next(retries: &mut Retries, schedule: &mut Schedule) -> Option<Attempt> {
    let now = clock::boot_ms();
    retries.take(now).or_else(|| schedule.take(now).map(Attempt::first))
}

/// What is planned on this duty.
fn wanted(monitors: &Monitors, duty: Duty) -> impl Iterator<Item = Wanted> {
    monitors::wanted(monitors).filter(move |_| duty.checks())
}

/// The runs under way.
#[derive(Default)]
struct Runs {
    tasks: JoinSet<Ended>,
    monitors: HashMap<tokio::task::Id, Arc<Monitor>>,
}

impl Runs {
    fn start(&mut self, monitor: &Arc<Monitor>, run: impl Future<Output = Ended> + Send + 'static) {
        let task = self.tasks.spawn(run);
        self.monitors.insert(task.id(), monitor.clone());
    }

    fn len(&self) -> usize {
        self.tasks.len()
    }

    /// How the next run ends; none when nothing runs.
    async fn ended(&mut self) -> Option<Ended> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let monitor = self.monitors.remove(&id)?;
        Some(ended.map_or_else(
            |panicked| {
                tracing::error!(monitor = monitor.name, %panicked, "a run broke in the agent and is not recorded");
                Ended::Finished(monitor.id, 0)
            },
            |(_, ended)| ended,
        ))
    }
}

/// How a run ended.
enum Ended {
    /// It is recorded, and took so long.
    Finished(wire::MonitorId, schedule::Millis),
    /// It was down, and is made again.
    Again(Again),
}

/// Longest sleep at a stretch: timers do not count suspend, so this is how soon a wake-up is noticed.
const NAP: Duration = Duration::from_secs(10);
/// What runs that are under way get when the agent stops.
const LAST_RUNS: Duration = Duration::from_millis(1_000);
