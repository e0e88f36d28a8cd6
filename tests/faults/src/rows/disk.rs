//! The disk fills, is full at start, turns read-only: D1–D3. Checks go on, nothing recorded is lost, and within ten seconds after there
//! is space again results are recorded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use picket_e2e::oracle::recorded;
use rand::RngExt;

use crate::damage::slim;
use crate::image::LIMIT;
use crate::lanes::each;
use crate::loopdisk::Disk;
use crate::row::row;
use crate::rows::drain::add_in;
use crate::rows::process::stop;
use crate::{Process, Row, Run, Stage, Tally, pause, until};

pub(super) const ROWS: &[Row] = &[
    row("D1", "disk full at random points, every fourth time at start (D2)", (20, 200), full),
    row("D1", "a small volume that the agent's own results fill", (3, 30), crowded),
    row("D3", "a file system that breaks in use, and one that is read-only at start", (2, 20), read_only),
];

/// Several agents, each on a file system of its own that fills again and again.
fn full(run: &Run) -> Tally {
    let stage = Stage::new("D1");
    let recovered_ms = AtomicU64::new(0);
    let (starts, kept) = (AtomicU64::new(0), AtomicU64::new(0));
    let lanes = if run.soak { 4 } else { 2 };
    let names: Vec<String> = (0..lanes).map(|lane| format!("edge-{lane}")).collect();
    let tokens: Vec<String> = names.iter().map(|name| stage.create_agent(name, name)).collect();
    stage.apply_all(&names.iter().flat_map(|name| stage.pages(name, 3)).collect::<Vec<_>>());
    each(lanes, |lane| {
        let n = usize::try_from(lane).expect("a handful");
        let (name, token, share) = (&names[n], &tokens[n], run.shares(lanes).nth(n).unwrap_or(0));
        let mut rng = run.rng(lane);
        let disk = Disk::new(stage.path(name), 32);
        let start = |first: bool| {
            let mut command = stage.agent(name);
            slim(&stage, &mut command);
            if first {
                command.env("PICKET_SETUP_TOKEN", token);
            }
            stage.start(name, &mut disk.under(&command))
        };
        let mut agent = start(true);
        begins(&agent);
        for time in 0..share {
            pause(Duration::from_millis(rng.random_range(0..1_500)));
            disk.fill(rng.random_range(0..64 * 1024));
            // Every fourth time it is killed, and starts on the full disk.
            if time % 4 == 3 {
                agent.kill();
                disk.fill(0);
                agent = start(false);
                starts.fetch_add(1, Ordering::Relaxed);
            }
            pause(Duration::from_millis(rng.random_range(300..2_500)));
            assert!(agent.runs(), "{name}, time {time}: it ended on a full disk\n{}", agent.output());
            let before = count(&agent);
            let freed = Instant::now();
            disk.free();
            records(&agent, before, &format!("{name}, time {time}: space is back"));
            let took = u64::try_from(freed.elapsed().as_millis()).unwrap_or(u64::MAX);
            recovered_ms.fetch_max(took, Ordering::Relaxed);
        }
        let (status, _) = agent.terminate();
        assert!(status.success(), "{name}: {status}");
        kept.fetch_add(stage.whole(name, LIMIT).recorded as u64, Ordering::Relaxed);
    });
    Tally::of(run.count, "times full")
        .and(starts.load(Ordering::Relaxed), "of them at start")
        .and(kept.load(Ordering::Relaxed), "recorded")
        .and(0, "lost")
        .took("longest recovery", Duration::from_millis(recovered_ms.load(Ordering::Relaxed)))
}

/// What was acknowledged makes room where a single journal of the database takes most of it; who is cut off keeps 10,000 results; and
/// a damaged database makes room for the next, also where others took the rest.
fn crowded(run: &Run) -> Tally {
    const NAME: &str = "edge-1";
    let stage = Stage::new("D1-own");
    let token = stage.create_agent(NAME, "dc1");
    stage.apply_all(&stage.pages("dc1", 3));
    let disk = Disk::new(stage.path(NAME), 40);
    let start = |token: Option<&str>| {
        let mut command = stage.agent(NAME);
        slim(&stage, &mut command);
        if let Some(token) = token {
            command.env("PICKET_SETUP_TOKEN", token);
        }
        stage.start(NAME, &mut disk.under(&command))
    };
    let drains = |agent: &Process, when: &str| {
        records(agent, count(agent), when);
        until(&format!("{when}: all is sent"), Duration::from_secs(60), || {
            (stage.agent_view(NAME)["pending"].as_u64()? < 100).then_some(())
        });
    };
    let mut agent = start(Some(&token));
    begins(&agent);
    for time in 0..run.count {
        stop(agent);
        add_in(&disk.root(), &stage, NAME, "dc1", 8_000, "up");
        agent = start(None);
        drains(&agent, &format!("time {time}: 8,000 more"));
    }
    let whole = stage.whole(NAME, Duration::from_secs(60));

    stop(agent);
    add_in(&disk.root(), &stage, NAME, "dc1", 14_000, "up");
    agent = start(None);
    drains(&agent, "more than fits");
    let evicted = stage.accounted(NAME, Duration::from_secs(60)).lost.len();
    assert!(evicted <= 4_000, "of 14,000 results {evicted} were evicted");

    stop(agent);
    add_in(&disk.root(), &stage, NAME, "dc1", 9_000, "up");
    let tree = std::fs::read_dir(disk.root().join("spool/queue/keyspaces/1")).expect("it wrote tables");
    for manifest in tree.flatten().filter(|file| file.file_name().to_string_lossy().starts_with('v')) {
        std::fs::write(manifest.path(), b"damaged").expect("it is a file");
    }
    disk.fill(2 << 20);
    agent = start(None);
    drains(&agent, "a damaged database");
    assert!(agent.output().contains("putting it aside"), "{}", agent.output());
    disk.free();
    stage.accounted(NAME, Duration::from_secs(60));
    stop(agent);
    Tally::of(run.count, "times 8,000 results")
        .and(whole.recorded as u64, "recorded on 40 MiB")
        .and(0, "lost")
        .and(evicted as u64, "evicted of 14,000 that were not sent")
}

/// The file system finds an error while the agent works: from then on it takes nothing. Then a start on it as it is, and after repair.
fn read_only(run: &Run) -> Tally {
    let stage = Stage::new("D3");
    let token = stage.create_agent("edge-1", "dc1");
    stage.apply_all(&stage.pages("dc1", 3));
    let disk = Disk::new(stage.path("edge-1"), 32);
    let mut broken = 0;
    let start = |token: Option<&str>| {
        let mut command = stage.agent("edge-1");
        slim(&stage, &mut command);
        if let Some(token) = token {
            command.env("PICKET_SETUP_TOKEN", token);
        }
        stage.start("edge-1", &mut disk.under(&command))
    };
    // Where no key can be kept, nobody enrols.
    disk.repair(false);
    let mut refused = start(Some(&token));
    assert_eq!(refused.ends(LIMIT).code(), Some(77), "{}", refused.output());
    assert!(refused.output().contains("read-only"), "it says why:\n{}", refused.output());
    disk.repair(true);
    let mut agent = start(Some(&token));
    begins(&agent);
    for time in 0..run.count {
        let mut rng = run.rng(time);
        pause(Duration::from_millis(rng.random_range(0..1_500)));
        if disk.break_down() {
            broken += 1;
            checks(&mut agent, &stage, &format!("time {time}: the file system broke"));
        }
        agent.kill();
        disk.repair(false);
        agent = start(None);
        checks(&mut agent, &stage, &format!("time {time}: read-only at start"));
        agent.kill();
        disk.repair(true);
        agent = start(None);
        // The lease of the start before could not be kept, and no copy is suspected for that.
        records(&agent, count(&agent), &format!("time {time}: repaired"));
    }
    let (status, _) = agent.terminate();
    assert!(status.success(), "{status}");
    Tally::of(run.count, "times read-only at start")
        .and(broken, "times broken in use")
        .and(stage.whole("edge-1", LIMIT).recorded as u64, "recorded")
        .and(0, "lost")
}

/// Checks go on, whatever becomes of what they find.
fn checks(agent: &mut Process, stage: &Stage, when: &str) {
    let before = stage.target.served();
    until(&format!("{when}, and checks go on"), LIMIT, || {
        assert!(agent.runs(), "{when}: the agent ended\n{}", agent.output());
        (stage.target.served() > before + 6).then_some(())
    });
}

/// Recorded lines so far.
fn count(agent: &Process) -> usize {
    recorded(&agent.output()).len()
}

/// Waits for the first result: a new data directory compiles its plugins first.
fn begins(agent: &Process) {
    until("the first result is recorded", Duration::from_secs(90), || (count(agent) > 0).then_some(()));
}

/// Waits until more is recorded than `before`.
fn records(agent: &Process, before: usize, when: &str) {
    let begun = Instant::now();
    while count(agent) <= before {
        assert!(begun.elapsed() < LIMIT, "{when}: nothing is recorded\n{}", agent.output());
        pause(Duration::from_millis(20));
    }
}
