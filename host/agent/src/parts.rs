//! The parts of an enrolled agent: how they are put together, in which order they stop.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sandbox::Sandbox;
use sandbox::bundled::{self, Plugins};
use spool::Spool;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, timeout};

use crate::attempt::Attempts;
use crate::health::{self, Doing, Healthy};
use crate::identity::Identity;
use crate::identity::keeper::Keeper;
use crate::monitors::{self, Monitors};
use crate::recorder::Recorder;
use crate::restarts::{self, Starts};
use crate::runner::Runner;
use crate::schedule::Schedule;
use crate::supervise::{Counts, Panics, keep};
use crate::told::Told;
use crate::uplink::Uplink;
use crate::uplink::client::Client;
use crate::uplink::lease::Lease;
use crate::uplink::pushes::Pushes;
use crate::uplink::stream::Stream;
use crate::uplink::token::Tokens;
use crate::uplink::transport::Transport;
use crate::{Budget, Error, Settings, clock, config, disk, secrets};

/// A running agent.
pub(crate) struct Parts {
    spool: Spool,
    results: Recorder,
    /// Each part says why it ended.
    runner: JoinHandle<Error>,
    recorder: JoinHandle<Error>,
    uplink: JoinHandle<Error>,
    /// Those that may be cut at any time: waiting for configuration, preparing it, keeping the token, writing the state file.
    followers: Vec<JoinHandle<Error>>,
    stop_runner: oneshot::Sender<()>,
    stop_recorder: oneshot::Sender<()>,
    stop_uplink: oneshot::Sender<()>,
}

impl Parts {
    /// Starts all parts. Checks begin with the configuration on disk, whether or not the control plane is there.
    pub(crate) async fn start(
        settings: &Settings,
        transport: Transport,
        keeper: Keeper,
        mut starts: Starts,
        looping: bool,
    ) -> Result<Self, Error> {
        let identity = keeper.active();
        let (mut kept, mut configuration) = config::Kept::open(&settings.data)?;
        let sandbox = sandbox(settings)?;
        let plugins = plugins(settings, &sandbox).await?;
        let spool = spool(settings, identity.fresh).await?;
        let boot_id = clock::boot_id();

        let (tell, said) = mpsc::channel(64);
        let client = Client::new(transport, keeper.identities(), tell);
        let lease = Lease::open(&settings.data)?;
        let mut uplink = Uplink::new(client.clone(), spool.clone(), lease, boot_id.clone());
        let (taken, mut configurations) = mpsc::channel(1);
        let (prepared, mut monitors) = watch::channel(Arc::new(Monitors::new()));
        let mut duty = keeper.duties();
        let mut pushes = Pushes::new(client.clone(), uplink.sessions());
        let (mut news, mut asked) = (pushes.subscribe(), pushes.subscribe());
        let mut tokens =
            Tokens::new(settings, client.clone(), keeper, uplink.sessions(), said, pushes.subscribe());
        let results = Recorder::new(spool.clone());
        let runner = Arc::new(Runner {
            attempts: Attempts::new(sandbox),
            recorder: results.clone(),
            secrets: secrets::Source::new(settings.secrets_dir.clone()),
            concurrency: settings.concurrency.max(1),
            boot_id,
        });
        let panics = Panics::new();
        let mut state = State {
            data: settings.data.clone(),
            identity: identity.clone(),
            monitors: monitors.clone(),
            standing: uplink.standing(),
            streams: client.streams(),
            spool: spool.clone(),
            results: results.clone(),
            panics: panics.watch(),
        };

        let (stop_runner, mut runner_stopped) = oneshot::channel();
        let (stop_recorder, mut recorder_stopped) = oneshot::channel();
        let mut courier = results.courier();
        let (stop_uplink, mut uplink_stopped) = oneshot::channel();
        let mut sessions = uplink.sessions();
        Ok(Self {
            followers: vec![
                tokio::spawn(keep("wait for configuration", panics.clone(), async move || {
                    config::follow(&client, &mut sessions, &mut news, &mut kept, &taken).await;
                })),
                tokio::spawn(keep("pushes", panics.clone(), async move || pushes.listen().await)),
                tokio::spawn(keep("preparation of monitors", panics.clone(), async move || {
                    prepare(&mut configuration, &mut configurations, &plugins, &prepared).await;
                })),
                tokio::spawn(keep("token", panics.clone(), async move || tokens.run().await)),
                tokio::spawn(keep("state file", panics.clone(), async move || state.keep_written().await)),
                tokio::spawn(keep("count of starts", panics.clone(), async move || {
                    sleep(restarts::STABLE).await;
                    starts.lasted();
                    std::future::pending::<()>().await;
                })),
            ],
            runner: tokio::spawn(keep("runner", panics.clone(), async move || {
                // What ran is lost with the panic, so the plans begin anew.
                let schedule = Schedule::new(identity.agent, runner.concurrency);
                runner
                    .clone()
                    .work(schedule, &mut monitors, &mut duty, &mut asked, &mut runner_stopped)
                    .await;
            })),
            recorder: tokio::spawn(keep("recorder", panics.clone(), async move || {
                courier.work(&mut recorder_stopped).await;
            })),
            uplink: tokio::spawn(keep("uplink", panics, async move || {
                if looping && timeout(restarts::QUIET, &mut uplink_stopped).await.is_ok() {
                    return;
                }
                uplink.run(&mut uplink_stopped).await;
            })),
            spool,
            results,
            stop_runner,
            stop_recorder,
            stop_uplink,
        })
    }

    /// Waits for `shutdown`, then stops: no new runs, what ran recorded, what is recorded sent if it goes quickly, the spool closed.
    /// A part that ends by itself ends the agent, so that whoever supervises it starts it again.
    pub(crate) async fn run(mut self, shutdown: Pin<&mut impl Future<Output = ()>>) -> Result<(), Error> {
        let mut status = self.spool.watch();
        let spool_ended = async { while status.changed().await.is_ok() {} };
        let ended = tokio::select! {
            () = shutdown => Ok(()),
            () = spool_ended => Err(Error::Stopped { part: "spool" }),
            ended = &mut self.runner => Err(why("runner", ended)),
            ended = &mut self.recorder => Err(why("recorder", ended)),
            stuck = self.results.stuck() => Err(stuck),
            ended = &mut self.uplink => Err(why("uplink", ended)),
            ended = any(&mut self.followers) => Err(why("follower", ended)),
        };
        self.followers.iter().for_each(JoinHandle::abort);
        drop(self.stop_runner);
        if !self.runner.is_finished() && timeout(STOP_RUNNER, &mut self.runner).await.is_err() {
            self.runner.abort();
        }
        // Goes on beside the uplink's last words, should the disk need the time.
        drop(self.stop_recorder);
        if !self.recorder.is_finished() {
            let _ = timeout(FLUSH, &mut self.recorder).await;
        }
        drop(self.stop_uplink);
        if !self.uplink.is_finished() && timeout(STOP_UPLINK, &mut self.uplink).await.is_err() {
            self.uplink.abort();
        }
        self.recorder.abort();
        let volatile = self.results.held().results;
        if volatile > 0 {
            tracing::error!(volatile, "the disk did not take the last results: they are lost");
        }
        let pending = self.spool.status().pending;
        if timeout(STOP_SPOOL, self.spool.close()).await.is_err() {
            tracing::warn!("the disk did not finish in time; what was recorded is safe");
        }
        tracing::info!(pending, "stopped; what is pending is sent after the next start");
        ended
    }
}

/// Turns each configuration into monitors, the one from the disk first.
async fn prepare(
    configuration: &mut Option<Told>,
    configurations: &mut mpsc::Receiver<Told>,
    plugins: &Plugins,
    prepared: &watch::Sender<Arc<Monitors>>,
) {
    loop {
        // It stays until it is in use: a panic on the way begins with it again. It is large, so no longer than that.
        if let Some(configuration) = &*configuration {
            failpoint::hit("agent.prepare");
            let version = configuration.version();
            let before = prepared.borrow().clone();
            let monitors = disk::wait(|| monitors::prepare(configuration, plugins, &before));
            let broken = monitors.values().filter(|monitor| monitor.work.is_err()).count();
            tracing::info!(version, monitors = monitors.len(), broken, "configuration in use");
            prepared.send_replace(Arc::new(monitors));
        }
        *configuration = None;
        *configuration = configurations.recv().await;
        if configuration.is_none() {
            // Whoever waits for configurations ended, and the agent is about to notice.
            return std::future::pending().await;
        }
    }
}

/// What the state file tells.
struct State {
    data: PathBuf,
    identity: Arc<Identity>,
    monitors: watch::Receiver<Arc<Monitors>>,
    standing: watch::Receiver<crate::uplink::Standing>,
    streams: watch::Receiver<Option<Arc<Stream>>>,
    spool: Spool,
    results: Recorder,
    panics: watch::Receiver<Counts>,
}

impl State {
    async fn keep_written(&mut self) {
        loop {
            failpoint::hit("agent.state");
            let healthy = self.now();
            if let Err(error) = health::write(&self.data, Doing::Running(healthy)) {
                tracing::warn!(%error, "cannot write the state file");
            }
            tokio::select! {
                () = tokio::time::sleep(health::EVERY) => {}
                Ok(()) = self.standing.changed() => {}
                () = self.results.turned() => {}
                Ok(()) = self.streams.changed() => {}
                Ok(()) = self.monitors.changed() => {}
                Ok(()) = self.panics.changed() => {}
            }
        }
    }

    fn now(&mut self) -> Healthy {
        let standing = self.standing.borrow_and_update().clone();
        let held = self.results.held();
        let streams = self.streams.borrow_and_update().is_some();
        let transport =
            if streams { wire::admin::Transport::Stream } else { wire::admin::Transport::Requests };
        Healthy {
            name: self.identity.name.clone(),
            location: self.identity.location.clone(),
            connected: standing.connected,
            trouble: standing.trouble,
            transport: standing.connected.then_some(transport),
            monitors: self.monitors.borrow_and_update().len(),
            pending: self.spool.status().pending,
            held: held.results,
            lost: held.lost,
            degraded: held.degraded,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            panics: self
                .panics
                .borrow_and_update()
                .iter()
                .map(|(part, n)| ((*part).to_owned(), *n))
                .collect(),
        }
    }
}

fn sandbox(settings: &Settings) -> Result<Sandbox, Error> {
    let host = settings.control.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = settings.control.port_or_known_default().unwrap_or_default();
    let ceiling = net::Ceiling {
        allow: settings.allow.clone(),
        control: Some((host, port)),
        files: net::Files::Beneath(settings.allow_files.clone()),
    };
    let new = |cache: Option<PathBuf>| {
        let network = net::Settings { ceiling: ceiling.clone(), resolver: settings.resolver.clone() };
        let settings = sandbox::Settings {
            slots: u32::try_from(settings.concurrency.max(1) + Attempts::BESIDE).unwrap_or(u32::MAX),
            cache,
            compiler: settings.compiler.clone(),
            large: settings.large_plugins.clone(),
            ..sandbox::Settings::default()
        };
        Sandbox::new(settings, net::Network::new(network).map_err(sandbox::Error::Network)?)
    };
    let sandbox = match new(Some(settings.data.join("cache"))) {
        // It saves the compiling at each start, and the disk may be full or read-only.
        Err(error @ sandbox::Error::Cache { .. }) => {
            tracing::warn!(%error, "plugins are compiled at every start");
            new(None)
        }
        made => made,
    };
    sandbox.map_err(|e| start("sandbox", e))
}

async fn plugins(settings: &Settings, sandbox: &Sandbox) -> Result<Plugins, Error> {
    let directory = bundled::directory(settings.plugins.as_deref()).map_err(|e| start("plugins", e))?;
    let plugins = bundled::load_all(sandbox, &directory).await.map_err(|e| start("plugins", e))?;
    for (path, error) in &plugins.refused {
        tracing::warn!(path = %path.display(), %error, "not a plugin");
    }
    let names: Vec<_> = plugins.iter().map(|plugin| plugin.description.name.as_str()).collect();
    tracing::info!(directory = %directory.display(), plugins = names.join(", "), "plugins loaded");
    Ok(plugins)
}

/// Opens the spool, or goes on without the disk until it can be had. When its whole directory was lost, the wall clock's seconds are an epoch that was not used yet; a fresh
/// identity has used none.
async fn spool(settings: &Settings, fresh: bool) -> Result<Spool, Error> {
    let seconds = u64::try_from(clock::wall().as_millis() / 1_000).unwrap_or(1).max(1);
    let fallback_epoch = if fresh { 1 } else { seconds };
    let defaults = spool::Settings::at(settings.data.join("spool"));
    let Budget { bytes, records, age } = settings.spool;
    let settings = spool::Settings {
        fallback_epoch,
        capacity_bytes: bytes.unwrap_or(defaults.capacity_bytes),
        capacity_records: records.unwrap_or(defaults.capacity_records),
        capacity_age: age,
        boot_id: clock::boot_id(),
        ..defaults
    };
    let opened = tokio::task::spawn_blocking(|| Spool::open_or_wait(settings)).await;
    opened.map_err(|e| start("spool", e))?.map_err(|error| match error {
        spool::Error::Newer { dir, found, .. } => Error::newer(dir, found),
        mistake @ spool::Error::Settings { .. } => Error::Usage(mistake.to_string()),
        error => start("spool", error),
    })
}

fn start(part: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Start { part, source: Box::new(source) }
}

/// Why a part ended. One whose supervision broke did so too.
fn why(part: &'static str, ended: Result<Error, JoinError>) -> Error {
    ended.unwrap_or(Error::Stopped { part })
}

/// How the first that ends does.
async fn any(tasks: &mut [JoinHandle<Error>]) -> Result<Error, JoinError> {
    std::future::poll_fn(|context| {
        let mut polled = tasks.iter_mut().map(|task| Pin::new(task).poll(context));
        polled.find(std::task::Poll::is_ready).unwrap_or(std::task::Poll::Pending)
    })
    .await
}

/// A little more than what runs get to end.
const STOP_RUNNER: Duration = Duration::from_millis(1_200);
/// A little more than what the last batch gets.
const STOP_UPLINK: Duration = Duration::from_millis(3_100);
/// Usually a disk needs milliseconds.
const FLUSH: Duration = Duration::from_millis(200);
const STOP_SPOOL: Duration = Duration::from_millis(500);
