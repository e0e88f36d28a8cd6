//! Power cuts: D5. The real agent works under strace; then thousands of disks as a cut at any of its system calls may leave them are
//! built and opened. Everything that the agent had told as recorded is there, with the value it had.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use spool::{Position, Settings, Spool, Stored};

use crate::damage::{Fate, NAME, Subject, slim};
use crate::image::{LIMIT, block_on, everything, keep, scratch};
use crate::lanes::times;
use crate::pagemodel::{self, Crash};
use crate::row::row;
use crate::trace::{self, Event, Name, Trace};
use crate::{Process, Row, Run, Tally, until};

pub(super) const ROWS: &[Row] = &[
    row("D5", "power cuts at any system call", (20, 1_000), cuts),
    row("D5 D9", "power cuts after fsyncs that failed", (20, 500), lying),
];

fn cuts(run: &Run) -> Tally {
    cut(run, None)
}

/// Now and then an fsync fails before the cut, and what it should have written is perhaps nowhere.
fn lying(run: &Run) -> Tally {
    cut(run, Some("20+40"))
}

fn cut(run: &Run, failing: Option<&str>) -> Tally {
    let mut subject = Subject::new("D5", INFLATED);
    let trace = traced(&mut subject, failing);
    let ids = ids(&subject);
    let tables = trace.events.iter().filter(|e| is_table(e)).count() as u64;
    let syncs = trace.events.iter().filter(|e| matches!(e, Event::Sync(..))).count() as u64;
    let failed = trace.events.iter().filter(|e| matches!(e, Event::FailedSync(..))).count() as u64;
    let recorded = trace.events.iter().filter(|e| matches!(e, Event::Recorded(..))).count() as u64;
    assert_eq!(failed > 0, failing.is_some(), "{failed} fsyncs failed");
    assert!(
        syncs > 50 && recorded > 500 && tables > 0,
        "{recorded} recorded with {syncs} fsyncs and {tables} tables: the trace proves little"
    );
    let (said, checked, started) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    times(run, 2, |n| {
        let mut rng = run.rng(n);
        let at = rng.random_range(0..=trace.events.len());
        let crash = pagemodel::cut(&trace, &subject.image, at, &mut rng);
        let home = scratch();
        let dir = home.path().join("data");
        crash.restore(&dir);
        let broken = |wrong: String| -> ! {
            let home = scratch();
            crash.restore(home.path());
            panic!("time {n}, cut after call {at}: {wrong}; kept in {}", keep(&home).display())
        };
        // Every tenth time the real agent comes first: it starts, is who it was, and checks.
        if n % 10 == 0 {
            started.fetch_add(1, Ordering::Relaxed);
            match subject.fate(&dir, &home.path().join("log")) {
                Fate::Checks(_, output) if output.contains(&subject.id) => {}
                fate => broken(format!("{fate:?}")),
            }
        }
        match check(&crash, &ids, subject.truth.epoch(), &dir.join("spool")) {
            Ok((there, gaps)) => {
                checked.fetch_add(there, Ordering::Relaxed);
                said.fetch_add(gaps, Ordering::Relaxed);
            }
            Err(wrong) => broken(wrong),
        }
    });
    Tally::of(run.count, "cuts")
        .and(trace.events.len() as u64, "calls traced")
        .and(syncs + failed, "fsyncs")
        .and(failed, "of them failed")
        .and(tables, "tables")
        .and(checked.load(Ordering::Relaxed), "recorded results looked for")
        .and(0, "lost")
        .and(said.load(Ordering::Relaxed), "said as gaps")
        .and(started.load(Ordering::Relaxed), "times under the real agent")
}

/// Lets the agent work under strace: it finds its control plane, drains, checks, and is stopped.
fn traced(subject: &mut Subject, failing: Option<&str>) -> Trace {
    let data = subject.stage.path(NAME);
    std::fs::remove_dir_all(&data).expect("it was there");
    subject.image.restore(&data);
    subject.stage.start_control();
    subject.stage.apply_all(&subject.stage.pages("dc1", 40));
    let output = subject.stage.path("trace");
    let mut command = subject.stage.agent(NAME);
    let mut command = trace::under(slim(&subject.stage, &mut command), &output, failing);
    let log = subject.stage.path("traced.log");
    let tracer = Process::start(&mut command, &log);
    // Drained at first, then cut off, then drained again: recording, releasing and both at once are in the trace.
    let recorded = || picket_e2e::oracle::recorded(&tracer.output()).len();
    let reach = |what: &str, count: usize| {
        until(what, Duration::from_secs(60), || (recorded() > count).then_some(()));
    };
    reach("the agent checks while it drains", 150);
    subject.stage.kill_control();
    reach("the agent checks while it is cut off", 500);
    subject.stage.start_control();
    reach("the agent checks when it is back", 650);
    until("the agent drained everything", Duration::from_secs(60), || {
        (subject.stage.stored(NAME).len() > INFLATED as usize + 600).then_some(())
    });
    // strace passes no signal on; the agent is its child.
    let children = format!("/proc/{0}/task/{0}/children", tracer.pid());
    let agent =
        std::fs::read_to_string(children).ok().and_then(|text| text.split_whitespace().next()?.parse().ok());
    let agent =
        rustix::process::Pid::from_raw(agent.expect("strace has a child")).expect("a child has a pid");
    rustix::process::kill_process(agent, rustix::process::Signal::TERM).expect("the agent runs");
    let mut tracer = tracer;
    tracer.ends(LIMIT);
    Trace::read(
        &output,
        &data,
        subject.image.files().map(|(path, _)| (path.to_owned(), subject.image.length(path))),
    )
}

/// Which result stood where, as the control plane has it.
fn ids(subject: &Subject) -> BTreeMap<(u64, u64), String> {
    let number = |result: &serde_json::Value, key: &str| result[key].as_u64().unwrap_or(0);
    let stored = subject.stage.stored(NAME);
    let id = |result: &serde_json::Value| result["id"].as_str().unwrap_or_default().to_owned();
    stored.iter().map(|result| ((number(result, "epoch"), number(result, "seq")), id(result))).collect()
}

/// Whether the database made a table: what was in the journal goes there, and the journal goes away.
fn is_table(event: &Event) -> bool {
    matches!(event, Event::Name(Name::Create(path, _)) if path.components().any(|c| c.as_os_str() == "tables"))
}

/// Opens the spool: what was recorded, up to `epoch` before the trace and as told in it, is there with its value. Gives how many were
/// told, and how many positions lie in gaps.
fn check(
    crash: &Crash,
    ids: &BTreeMap<(u64, u64), String>,
    epoch: u64,
    dir: &Path,
) -> Result<(u64, u64), String> {
    block_on(async {
        let begun = std::time::Instant::now();
        let spool = Spool::open(Settings::at(dir)).map_err(|error| format!("does not open: {error:?}"))?;
        if begun.elapsed() > LIMIT {
            return Err(format!("opened after {:?}", begun.elapsed()));
        }
        let acknowledged = spool.status().acknowledged;
        let mut left: BTreeSet<_> = crash
            .recorded
            .iter()
            .filter(|(epoch, seq)| Position::new(*epoch, *seq) > acknowledged)
            .copied()
            .collect();
        let (looked_for, mut gaps) = (left.len() as u64, 0);
        for stored in everything(&spool).await {
            match stored {
                Stored::Gap(gap) => gaps += gap.to - gap.from + 1,
                Stored::Entry { position, bytes } => {
                    let at = (position.epoch, position.seq);
                    // After a cut that was early enough, whoever starts takes the same epoch again for other results.
                    if position.epoch > epoch && !crash.recorded.contains(&at) {
                        continue;
                    }
                    let entry: serde_json::Value =
                        serde_json::from_slice(&bytes).map_err(|_| format!("no result at {position}"))?;
                    if ids.get(&at).is_some_and(|id| entry["result"]["id"] != **id) {
                        return Err(format!("another result at {position}"));
                    }
                    left.remove(&at);
                }
            }
        }
        spool.close().await;
        match left.first() {
            None => Ok((looked_for, gaps)),
            Some(first) => Err(format!("{first:?} and {} more were recorded and are lost", left.len() - 1)),
        }
    })
}

/// Results that wait at the start of the trace: so many that the database makes a table while it is traced.
const INFLATED: u64 = 1_600;
