//! `picket demo`: control plane, two agents and sample targets on this machine, with a live table; everything goes away at the end.
//!
//! Owns the order in which things start and stop. Control plane and agents are this program again, as child processes.

mod board;
mod children;
mod sample;
mod targets;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use wire::admin::{AgentCreated, Apply, ApplyAnswer, CreateAgent, ResultView};

use crate::client::{Client, Secret};
use crate::failure::{Failure, exit};
use crate::output;
use crate::results::Query;
use crate::signals;
use board::Board;
use children::Child;
use sample::Sample;
use targets::Targets;

pub(crate) use children::end_with_parent;

/// Run everything on this machine: a control plane, two agents, sample targets, a live table
///
/// Ctrl-C ends it and everything it started; nothing is left behind.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// End by itself, so long after the agents' start
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    limit: Option<Duration>,
    /// Print one JSON object at the end, and everything else to stderr
    #[arg(long)]
    json: bool,
    /// Directory of the bundled checks. Default: plugins beside the program, beside its directory, or /usr/lib/picket/plugins
    #[arg(long, env = "PICKET_PLUGINS", hide_env_values = true, value_name = "DIR")]
    plugins: Option<std::path::PathBuf>,
}

const AFTER_HELP: &str = "\
Exit status:
  0  every sample monitor had the state that it should have, at each of its locations
  1  some had not, or something did not start";

pub(crate) async fn run(args: Args) -> Result<u8, Failure> {
    let interrupted = signals::shutdown()?;
    let mut stage = Stage::new(&args)?;
    let mut board = Board::default();
    let shown = tokio::select! {
        shown = stage.play(&args, &mut board) => shown,
        () = interrupted => Ok(()),
    };
    // The end must not depend on somebody reading about it.
    let _ = stage.say("ending what was started");
    stage.end().await;
    shown?;
    if args.json {
        output::json_pretty(&board.summary())?;
    }
    let wrong = board.wrong();
    if wrong.is_empty() {
        return Ok(0);
    }
    Err(Failure::text(exit::GENERAL, format!("not as it should be: {}", wrong.join("; "))))
}

/// Everything that was started, and so must be ended.
struct Stage {
    directory: TempDir,
    json: bool,
    children: Vec<Child>,
    targets: Option<JoinHandle<Result<Targets, servers::Error>>>,
    held: Option<Targets>,
    follower: Option<JoinHandle<()>>,
}

impl Stage {
    fn new(args: &Args) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("picket-demo-")
            .tempdir()
            .map_err(|e| Failure::new(exit::OS, e).context("cannot make a directory for the demo"))?;
        Ok(Self {
            directory,
            json: args.json,
            children: Vec::new(),
            targets: None,
            held: None,
            follower: None,
        })
    }

    /// Starts everything, then shows results until the time is up or something ended that should not.
    async fn play(&mut self, args: &Args, board: &mut Board) -> Result<(), Failure> {
        let place = self.directory.path().to_owned();
        self.say(&format!(
            "everything is on this machine, in {}, and goes away at the end",
            place.display()
        ))?;
        self.say("starting the control plane and the targets")?;
        self.targets = Some(tokio::task::spawn_blocking(Targets::start));
        let plugins = args.plugins.as_deref();
        let control = Child::start("control", &place, plugins, &["--listen", "127.0.0.1:0"], &[])?;
        self.children.push(control);
        let address = self.children[0].address().await?;
        let token = Secret::read(&place.join("control").join(crate::control::TOKEN))?;
        let client = Arc::new(Client::new(address, token.clone(), None)?);

        let starting = self.targets.as_mut().expect("it was just put there");
        let targets = starting.await.map_err(|e| Failure::new(exit::GENERAL, e))?;
        self.targets = None;
        self.held =
            Some(targets.map_err(|e| Failure::new(exit::GENERAL, e).context("cannot start the targets"))?);
        let targets = self.held.as_ref().expect("it was just put there");
        let sample = Sample::fitted(targets)?;
        for note in targets.notes.iter().chain(&sample.left_out) {
            self.say(note)?;
        }
        std::fs::write(place.join("monitors.yaml"), sample.yaml())
            .map_err(|e| Failure::new(exit::OS, e).context("cannot write monitors.yaml"))?;
        let apply = Apply { monitors: sample.monitors.clone(), channels: None, prune: true, dry_run: false };
        let _: ApplyAnswer = client.post("/monitors/apply", &apply).await?;
        self.say(&format!("the page is {}/ and wants the token {}", client.address(), token.0))?;

        let first = Query::default().newest(&client, 1).await?;
        for (agent, location) in [("edge-1", "dc1"), ("edge-2", "dc2")] {
            self.enrol(&client, agent, location, &place, plugins).await?;
        }
        self.say("the agents edge-1 in dc1 and edge-2 in dc2 are starting; Ctrl-C ends everything")?;
        *board = Board::new(&sample, Instant::now());
        let (results, incoming) = mpsc::channel(64);
        self.follower = Some(tokio::spawn(follow(client, first.cursor, results)));
        self.show(board, incoming, args.limit).await
    }

    async fn enrol(
        &mut self,
        client: &Client,
        agent: &str,
        location: &str,
        place: &Path,
        plugins: Option<&Path>,
    ) -> Result<(), Failure> {
        let request = CreateAgent { agent: agent.to_owned(), location: location.to_owned() };
        let created: AgentCreated = client.post("/agents", &request).await?;
        let options = ["--control", client.address(), "--allow", "127.0.0.0/8,::1"];
        children::share_compiled(place, agent)?;
        let variables = [
            ("PICKET_SETUP_TOKEN", created.setup_token.as_str()),
            ("PICKET_SECRET_ORDERS_DB", servers::POSTGRES_PASSWORD),
        ];
        self.children.push(Child::start(agent, place, plugins, &options, &variables)?);
        Ok(())
    }

    async fn show(
        &mut self,
        board: &mut Board,
        mut incoming: mpsc::Receiver<ResultView>,
        limit: Option<Duration>,
    ) -> Result<(), Failure> {
        let redrawn = output::terminal_width().is_some() && !self.json;
        let end = limit.map(|limit| Instant::now() + limit);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut drawn = 0;
        loop {
            tokio::select! {
                Some(result) = incoming.recv() => {
                    if !redrawn {
                        self.say(&crate::results::row(&result))?;
                    }
                    board.take(result, Instant::now());
                    continue;
                }
                _ = tick.tick() => {}
            }
            for child in &mut self.children {
                child.still_runs()?;
            }
            if redrawn {
                drawn = output::redraw(drawn, &board.text(Instant::now()))?;
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(());
            }
        }
    }

    /// Agents first, so that what they still hold finds its control plane.
    async fn end(mut self) {
        if let Some(follower) = self.follower.take() {
            follower.abort();
        }
        let control = (!self.children.is_empty()).then(|| self.children.remove(0));
        let mut agents: JoinSet<()> = self.children.drain(..).map(Child::end).collect();
        while agents.join_next().await.is_some() {}
        if let Some(control) = control {
            control.end().await;
        }
        // Interrupted while they were starting: they are up soon, and then ended.
        if let Some(starting) = self.targets.take()
            && let Ok(Ok(targets)) = starting.await
        {
            self.held = Some(targets);
        }
        let held = self.held.take();
        let directory = self.directory;
        let cleared = tokio::task::spawn_blocking(move || {
            drop(held);
            directory.close()
        });
        if let Ok(Err(e)) = cleared.await {
            anstream::eprintln!(
                "picket: {}",
                Failure::new(exit::OS, e).context("cannot remove the demo's directory").message()
            );
        }
    }

    /// A line about how it goes.
    fn say(&self, text: &str) -> Result<(), output::WriteError> {
        if self.json {
            anstream::eprintln!("{text}");
            return Ok(());
        }
        output::line(text)
    }
}

/// Hands on each result as it comes in. The control plane is a child of ours: its end is noticed elsewhere.
async fn follow(client: Arc<Client>, mut cursor: String, results: mpsc::Sender<ResultView>) {
    let query = Query::default();
    loop {
        match query.after(&client, &cursor).await {
            Ok(page) => {
                cursor = page.cursor;
                for result in page.results {
                    if results.send(result).await.is_err() {
                        return;
                    }
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
