//! The spool: how many results a second it records, each fsynced in a group before it counts, and how long it takes to open again after
//! its process was killed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use spool::{Entry, Position, Settings, Spool};
use tokio::task::JoinSet;

use crate::row::{Bound, Effort, Figure, Of, Target};
use crate::rows::target;

pub(crate) const TARGETS: &[Target] = &[
    target(Of::Figure("recorded"), Bound::AtLeast(50_000.0)),
    target(Of::Figure("opened again"), Bound::AtMost(0.5)),
];

/// The variable that makes this program fill a spool in the directory that it names, and wait to be killed.
pub(crate) const FILL: &str = "PICKET_BENCH_SPOOL";

pub(crate) fn spool(effort: &Effort) -> Result<Vec<Figure>> {
    let mut recorded = Figure { name: "recorded", unit: "/s", values: Vec::new() };
    let mut opened = Figure { name: "opened again", unit: "s", values: Vec::new() };
    for _ in 0..effort.rounds {
        let directory = tempfile::Builder::new().prefix("picket-bench-").tempdir()?;
        recorded.values.push(append(&directory.path().join("append"), RECORDED)?);
        opened.values.push(open_again(&directory.path().join("again"))?);
    }
    Ok(vec![recorded, opened])
}

fn append(directory: &Path, count: usize) -> Result<f64> {
    runtime()?.block_on(async {
        let spool = Spool::open(settings(directory))?;
        fill(&spool, AT_ONCE).await?;
        let begun = Instant::now();
        fill(&spool, count).await?;
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        spool.close().await;
        Ok(rate)
    })
}

fn open_again(directory: &Path) -> Result<f64> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(FILL, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("the process that fills the spool could not be started")?;
    let mut said = String::new();
    BufReader::new(child.stdout.take().context("its output is ours")?).read_line(&mut said)?;
    child.kill()?;
    child.wait()?;
    if said.trim() != FULL {
        bail!("the process that fills the spool said {said:?}");
    }
    runtime()?.block_on(async {
        let begun = Instant::now();
        let spool = Spool::open(settings(directory))?;
        let first = spool.peek(Position::START, 1).await?;
        let time = begun.elapsed();
        let pending = spool.status().pending;
        spool.close().await;
        if first.is_empty() || pending < PENDING as u64 {
            bail!("{pending} of {PENDING} are pending after the opening");
        }
        Ok(time.as_secs_f64())
    })
}

/// Fills the spool, says so, waits to be killed.
#[expect(clippy::print_stdout, reason = "its parent reads it")]
pub(crate) fn child(directory: &OsStr) -> ExitCode {
    let filled = || -> Result<()> {
        runtime()?.block_on(async {
            let spool = Spool::open(settings(Path::new(directory)))?;
            fill(&spool, PENDING).await?;
            println!("{FULL}");
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(())
        })
    };
    match filled() {
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// As many at once as an agent with much to do has under way.
async fn fill(spool: &Spool, count: usize) -> Result<()> {
    let mut tasks = JoinSet::new();
    for n in 0..AT_ONCE.min(count) {
        let spool = spool.clone();
        tasks.spawn(async move {
            for at in (n..count).step_by(AT_ONCE) {
                let entry = Entry { at_ms: at as i64, down: false, bytes: vec![b'r'; BYTES] };
                spool.append(entry).await?;
            }
            Ok::<_, spool::Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

fn settings(directory: &Path) -> Settings {
    Settings { group: 512, ..Settings::at(directory) }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

const FULL: &str = "full";
const RECORDED: usize = 200_000;
const PENDING: usize = 10_000;
const AT_ONCE: usize = 2_000;
/// What a result of the http check takes.
const BYTES: usize = 300;
