//! One run from a job to a report: a fresh instance, its bounds, and the reason when it breaks one. The store is dropped after
//! every run, however it ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use wasmtime::component::{InstancePre, ResourceTableError};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;

use crate::Sandbox;
use crate::engine::SLOT_MEMORY;
use crate::host::bindings::exports::picket::check::checker as wit;
use crate::host::bindings::picket::check::verdict as wit_verdict;
use crate::host::bindings::{Check, CheckPre};
use crate::job::{Job, Report, Spent};
use crate::limits::{Exceeded, Limits};
use crate::plugin::{Described, PURE, Plugin};
use crate::redact::Secrets;
use crate::report;
use crate::state::State;
use crate::verdict::{Fault, Mistake, Verdict};
use crate::world::World;

/// How long `describe` and `validate` wait for a slot: they are nobody's schedule.
const PATIENCE: Duration = Duration::from_secs(10);

impl Sandbox {
    /// Makes one run. Always comes back by the job's timeout and [`Limits::grace`].
    pub async fn run(&self, plugin: &Plugin, job: Job) -> Report {
        self.run_in(plugin, job, |session| Arc::new(session)).await
    }

    /// Makes one run in the world that `world` makes of the session of the real one: around it, or in its place.
    pub async fn run_in(
        &self,
        plugin: &Plugin,
        job: Job,
        world: impl FnOnce(net::Session) -> Arc<dyn World>,
    ) -> Report {
        let started = Instant::now();
        let Ok(_slot) = self.inner.slots.try_acquire() else { return Report::fault(Fault::Exhausted) };
        let deadline = tokio::time::Instant::now() + job.timeout;
        let limits = Limits { memory: job.limits.memory.min(SLOT_MEMORY), ..job.limits };
        let session = self.inner.network.session_by(job.route, job.grant, limits.budget(), deadline);
        let world = world(session);
        let mut store = self.store(&limits, Some(Arc::clone(&world)), job.secrets);
        let context = wit::Context {
            config: job.config,
            budget_ms: u32::try_from(job.timeout.as_millis()).unwrap_or(u32::MAX),
            attempt: job.attempt,
            monitor: job.monitor,
        };
        let call = async {
            let check = plugin.pre.instantiate_async(&mut store).await.map_err(Broken::Starting)?;
            check.picket_check_checker().call_run(&mut store, &context).await.map_err(Broken::Running)
        };
        let ended = self.bounded(deadline + limits.grace, call).await;
        let state = store.into_data();
        let (verdict, undescribed) = match ended {
            Ok(returned) => report::verdict(returned, &state.redactor, &plugin.metrics, &limits),
            Err(fault) => (Verdict::Fault(clean(fault, &state)), Vec::new()),
        };
        let mut measured = world.measured();
        for denial in &mut measured.denials {
            *denial = state.redactor.clean(std::mem::take(denial));
        }
        Report {
            verdict,
            measured,
            duration: started.elapsed(),
            log: state.log.take(),
            undescribed,
            spent: Spent { cpu: state.meter.cpu(), memory: state.limiter.used(), calls: state.meter.calls() },
        }
    }

    pub(crate) async fn describe(&self, pre: &CheckPre<State>) -> Result<wit::Description, Fault> {
        self.pure(pre.instance_pre(), async |store, instance| {
            let check = Check::new(&mut *store, &instance).map_err(Broken::Starting)?;
            check.picket_check_checker().call_describe(store).await.map_err(Broken::Running)
        })
        .await
    }

    /// Lets a plugin describe itself once more, as it did when it was loaded: for who tests whether it does so the same way.
    ///
    /// # Errors
    /// The fault of a plugin that breaks this time.
    pub async fn describe_again(&self, plugin: &Plugin) -> Result<Described, Fault> {
        self.pure(plugin.pre.instance_pre(), async |store, instance| {
            let check = Check::new(&mut *store, &instance).map_err(Broken::Starting)?;
            let wit =
                check.picket_check_checker().call_describe(&mut *store).await.map_err(Broken::Running)?;
            let state = store.data();
            Ok(Described {
                texts: [
                    ("name", wit.name),
                    ("version", wit.version),
                    ("summary", wit.summary),
                    ("schema", wit.config_schema),
                    ("list of metrics", wit.metrics),
                ],
                calls: state.asked,
                cpu: state.meter.cpu(),
            })
        })
        .await
    }

    pub(crate) async fn validate(&self, plugin: &Plugin, completed: &Value) -> Result<Vec<Mistake>, Fault> {
        let Some(validator) = &plugin.validator else { return Ok(Vec::new()) };
        let returned = self
            .pure(plugin.pre.instance_pre(), async |store, instance| {
                type Returned = (Result<(), Vec<wit_verdict::Mistake>>,);
                let validate = instance
                    .get_typed_func::<(String,), Returned>(&mut *store, validator)
                    .map_err(Broken::Starting)?;
                validate.call_async(store, (completed.to_string(),)).await.map_err(Broken::Running)
            })
            .await?;
        Ok(report::mistakes(returned.0.err().unwrap_or_default(), &self.inner.settings.limits))
    }

    /// Calls something that may do nothing but compute, for one second.
    async fn pure<T>(
        &self,
        pre: &InstancePre<State>,
        call: impl AsyncFnOnce(&mut Store<State>, wasmtime::component::Instance) -> Result<T, Broken>,
    ) -> Result<T, Fault> {
        let slot = tokio::time::timeout(PATIENCE, self.inner.slots.acquire()).await;
        let Ok(Ok(_slot)) = slot else { return Err(Fault::Exhausted) };
        let limits = Limits { cpu: PURE, ..self.inner.settings.limits.clone() };
        let mut store = self.store(&limits, None, Secrets::new());
        let call = async {
            let instance = pre.instantiate_async(&mut store).await.map_err(Broken::Starting)?;
            call(&mut store, instance).await
        };
        // Twice the processor time: the machine may be busy with something else.
        let ended = self.bounded(tokio::time::Instant::now() + 2 * PURE, call).await;
        ended.map_err(|fault| clean(fault, store.data()))
    }

    /// Drives a call until it ends or must end. Dropping it unwinds the component's stack.
    async fn bounded<T>(
        &self,
        end: tokio::time::Instant,
        call: impl Future<Output = Result<T, Broken>>,
    ) -> Result<T, Fault> {
        let _running = self.inner.ticker.running();
        match tokio::time::timeout_at(end, call).await {
            Ok(ended) => ended.map_err(Broken::fault),
            Err(_) => Err(Fault::Wall),
        }
    }

    fn store(&self, limits: &Limits, world: Option<Arc<dyn World>>, secrets: Secrets) -> Store<State> {
        let mut store = Store::new(&self.inner.engine, State::new(limits, world, secrets));
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(limits.call_bytes);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut context| {
            let meter = &mut context.data_mut().meter;
            meter.tick(Instant::now());
            meter.within()?;
            if !meter.gives_way() {
                return Ok(UpdateDeadline::Continue(1));
            }
            // Tokio's own yield, not wasmtime's: it lets everything else that is ready go first, timers and sockets included,
            // which a task that only wakes itself keeps away for up to 61 of its turns.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store
    }
}

/// A call that ended in an error, and when.
enum Broken {
    Starting(wasmtime::Error),
    Running(wasmtime::Error),
}

impl Broken {
    fn fault(self) -> Fault {
        let (error, starting) = match self {
            Broken::Starting(error) => (error, true),
            Broken::Running(error) => (error, false),
        };
        if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
            return match exceeded {
                Exceeded::Memory => Fault::Memory,
                Exceeded::Cpu => Fault::Cpu,
                Exceeded::Calls => Fault::Calls,
            };
        }
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return Fault::Trap(format!("it called exit({})", exit.0));
        }
        if let Some(trap) = error.downcast_ref::<Trap>() {
            return Fault::Trap(first_line(&trap.to_string()));
        }
        match error.downcast_ref::<ResourceTableError>() {
            Some(ResourceTableError::Full) => return Fault::Memory,
            Some(other) => return Fault::Trap(first_line(&other.to_string())),
            None => {}
        }
        if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
            return Fault::Exhausted;
        }
        let reason = first_line(&error.root_cause().to_string());
        if starting { Fault::Link(reason) } else { Fault::Output(reason) }
    }
}

/// The reasons come from wasmtime, but may quote what a component handed over.
fn clean(fault: Fault, state: &State) -> Fault {
    let clean = |text: String| state.redactor.clean(text);
    match fault {
        Fault::Trap(text) => Fault::Trap(clean(text)),
        Fault::Output(text) => Fault::Output(clean(text)),
        Fault::Link(text) => Fault::Link(clean(text)),
        other => other,
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    crate::redact::cut(line.strip_prefix("wasm trap: ").unwrap_or(line).to_owned(), 256).0
}
