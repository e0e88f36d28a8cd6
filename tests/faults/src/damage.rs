//! What a bad disk, a bad restore or a bad hand does to one file, and the agent that it is done to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, io};

use picket_e2e::process::{self, Process};
use picket_e2e::{pause, until};
use rand::RngExt;
use rand::rngs::StdRng;
use spool::{Entry, Settings, Spool};

use crate::Stage;
use crate::image::{Image, LIMIT, Truth, block_on, everything, put, scratch};

/// An agent that was killed while it was cut off: with an identity, two configurations, results that are acknowledged and results that
/// are not, so many of them that the database wrote tables.
pub struct Subject {
    /// Where it lived; the control plane does not run.
    pub stage: Stage,
    /// Its data directory.
    pub image: Image,
    /// The control plane's.
    pub control: Image,
    /// What it recorded.
    pub truth: Truth,
    /// Its id.
    pub id: String,
}

/// What an agent did on a directory.
#[derive(Debug)]
pub enum Fate {
    /// It checks and records; after how long, and what it logged.
    Checks(Duration, String),
    /// It ended with this status and these words.
    Ends(Option<i32>, String),
    /// Neither in time.
    Nothing(String),
}

impl Subject {
    /// Enrols one, lets it work, and kills it. `inflated` is how many results more it has recorded than there was time for: copies of
    /// real ones under ids of their own.
    pub fn new(row: &str, inflated: u64) -> Self {
        let mut stage = Stage::new(row);
        let token = stage.create_agent(NAME, "dc1");
        let agent = stage.start(NAME, slim(&stage, &mut stage.agent(NAME)).env("PICKET_SETUP_TOKEN", token));
        for pages in [3, 4] {
            stage.apply_all(&stage.pages("dc1", pages));
            let last = format!("dc1-{}", pages - 1);
            stage.wait_for_result(NAME, Duration::from_secs(90), |result| result["monitor"] == last);
        }
        stage.kill_control();
        let recorded = || picket_e2e::oracle::recorded(&agent.output()).len();
        let before = recorded();
        until("the agent records while it is cut off", Duration::from_secs(30), || {
            (recorded() > before + 6).then_some(())
        });
        let id = agent.output().lines().find_map(identity).expect("it said who it is");
        agent.kill();
        let data = stage.path(NAME);
        let spool = Spool::open(Settings::at(data.join("spool"))).expect("a killed agent's spool opens");
        block_on(inflate(&spool, inflated));
        let image = Image::take(&data);
        drop(spool);
        let copy = scratch();
        image.below("spool").restore(copy.path());
        let truth = Truth::read(copy.path());
        let control = Image::take(&stage.path("cp"));
        Self { stage, image, control, truth, id }
    }

    /// Runs the agent on a directory without its control plane, until it is clear what it does there. It is killed then.
    pub fn fate(&self, data: &Path, log: &Path) -> Fate {
        fate(slim(&self.stage, &mut alone(data)), log, LIMIT)
    }
}

/// Runs an agent until it is clear what it does, `limit` at most, and kills it.
pub fn fate(agent: &mut Command, log: &Path, limit: Duration) -> Fate {
    let begun = Instant::now();
    let mut agent = Process::start(agent, log);
    loop {
        let runs = agent.runs();
        let output = agent.output();
        if output.contains("recorded monitor=") {
            return Fate::Checks(begun.elapsed(), output);
        }
        if !runs {
            return Fate::Ends(agent.ends(LIMIT).code(), output);
        }
        if begun.elapsed() > limit {
            return Fate::Nothing(output);
        }
        pause(Duration::from_millis(10));
    }
}

/// The agent's name.
pub const NAME: &str = "edge-1";

/// An agent that finds no control plane.
pub fn alone(data: &Path) -> Command {
    let mut command = process::command(["agent", "--allow", "127.0.0.0/8", "--data"]);
    command.arg(data).env("PICKET_CONTROL", "http://127.0.0.1:9");
    command.env("RUST_LOG", "info,agent=debug,picket_agent=debug");
    command
}

/// Gives an agent only the check that the rows use, so that a new one compiles one plugin and not all.
pub fn slim<'a>(stage: &Stage, agent: &'a mut Command) -> &'a mut Command {
    let dir = stage.path("plugins");
    let built = process::picket().with_file_name("../plugins/http.wasm");
    if !dir.is_dir() {
        fs::create_dir_all(&dir).expect("a directory can be made");
        fs::copy(&built, dir.join("http.wasm")).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
    }
    agent.env("PICKET_PLUGINS", dir)
}

/// The agent's id in a line of its log.
pub fn identity(line: &str) -> Option<String> {
    let rest = line.contains("identity ready").then(|| line.rsplit_once("id=")).flatten()?.1;
    Some(rest.chars().filter(|c| c.is_ascii_hexdigit() || *c == '-').take(36).collect())
}

/// Records copies of what is pending under new ids.
async fn inflate(spool: &Spool, count: u64) {
    let pending = everything(spool).await;
    let models: Vec<serde_json::Value> = pending
        .iter()
        .filter_map(|stored| match stored {
            spool::Stored::Entry { bytes, .. } => serde_json::from_slice(bytes).ok(),
            spool::Stored::Gap(_) => None,
        })
        .collect();
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        let tasks: Vec<_> = chunk
            .iter()
            .map(|n| {
                let mut model = models[usize::try_from(*n).expect("thousands") % models.len()].clone();
                model["result"]["id"] = uuid::Uuid::now_v7().to_string().into();
                let bytes = serde_json::to_vec(&model).expect("it was JSON");
                let spool = spool.clone();
                tokio::spawn(async move { spool.append(Entry { at_ms: 0, down: false, bytes }).await })
            })
            .collect();
        for task in tasks {
            task.await.expect("no task panics").expect("the disk is sound");
        }
    }
}

/// Does one thing to one file of the image that was restored in `dir`, and says which file and what.
pub fn damage(image: &Image, dir: &Path, rng: &mut StdRng) -> (PathBuf, String) {
    let count = image.files().count();
    let (name, bytes) = image.files().nth(rng.random_range(0..count)).expect("it is below the count");
    let (path, length) = (dir.join(name), image.length(name));
    let mut bytes = bytes.to_vec();
    let at = rng.random_range(0..=bytes.len());
    let hole = |size: usize, aligned: bool| {
        let from = if aligned { at / size * size } else { at };
        from..(from + size).min(bytes.len())
    };
    let what = match rng.random_range(0..16) {
        0..6 if bytes.is_empty() => {
            bytes.push(1);
            put(&path, &bytes, length.max(1));
            "a byte where none was".to_owned()
        }
        0..6 => {
            let (at, bit) = (at.min(bytes.len() - 1), rng.random_range(0..8));
            bytes[at] ^= 1 << bit;
            put(&path, &bytes, length);
            format!("bit {bit} of byte {at} flipped")
        }
        6 | 7 => {
            put(&path, &bytes[..at], at as u64);
            format!("cut to {at} bytes")
        }
        8 => {
            put(&path, &[], 0);
            "emptied".to_owned()
        }
        9 => {
            // Of several damages two may hit the same file.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    panic!("{}: {error}", path.display())
                }
                _ => "deleted".to_owned(),
            }
        }
        10 | 11 => {
            let range = hole(512, true);
            bytes[range].fill(0);
            put(&path, &bytes, length);
            format!("512 zeros at {}", at / 512 * 512)
        }
        12 => {
            let range = hole(4096, true);
            bytes[range].fill(0);
            put(&path, &bytes, length);
            format!("4096 zeros at {}", at / 4096 * 4096)
        }
        13 => {
            let range = hole(rng.random_range(1..3000), false);
            rng.fill(&mut bytes[range]);
            put(&path, &bytes, length);
            format!("noise from {at}")
        }
        14 => {
            // The tail as a torn write leaves it: the length is there, the last bytes are not.
            bytes.truncate(at);
            put(&path, &bytes, length);
            format!("zeros from {at} to the end")
        }
        _ => {
            let stranger = path.with_file_name(if rng.random_bool(0.5) { "stranger" } else { "7.jnl" });
            put(&stranger, b"hello", 5);
            format!("{} beside it", stranger.file_name().unwrap_or_default().display())
        }
    };
    (name.to_owned(), what)
}
