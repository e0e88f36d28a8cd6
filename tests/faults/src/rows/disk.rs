//! The disk fills, is full at start, turns read-only: D1–D3. Checks go on, nothing recorded is lost, and within ten seconds after there
//! is space again results are recorded.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use picket_e2e::web::Web;
use picket_e2e::{Field, Process, oracle, pause, until};
use rand::RngExt;

use crate::damage::{monitors, plugins};
use crate::image::LIMIT;
use crate::lanes::each;
use crate::loopdisk::Disk;
use crate::row::{Row, Run, Tally, row};

/// The rows.
pub fn rows() -> Vec<Row> {
    vec![
        row("D1", "disk full at random points on a small file system, and at start", (20, 200), full),
        row(
            "D3",
            "a file system that breaks and turns read-only in use, and one that is read-only at start",
            (2, 20),
            read_only,
        ),
    ]
}

/// Several agents, each on a file system of its own that fills again and again.
fn full(run: &Run) -> Tally {
    let web = Web::start("<h1>Welcome</h1>");
    let field = Field::new();
    let plugins = plugins(&field);
    let recovered_ms = AtomicU64::new(0);
    let (starts, recorded) = (AtomicU64::new(0), AtomicU64::new(0));
    let lanes = if run.soak { 4 } else { 2 };
    let names: Vec<String> = (0..lanes).map(|lane| format!("edge-{lane}")).collect();
    let tokens: Vec<String> = names.iter().map(|name| field.create_agent(name, name)).collect();
    let every: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    field.apply(&monitors(&web.url(), 3).replace("[dc1]", &format!("[{}]", every.join(", "))));
    each(lanes, |lane| {
        let n = usize::try_from(lane).expect("a handful");
        let (name, token, share) = (&names[n], &tokens[n], run.shares(lanes).nth(n).unwrap_or(0));
        let mut rng = run.rng(lane);
        let disk = Disk::new(field.path(name), 32);
        let start = |first: bool| {
            let mut command = field.agent(name);
            command.env("PICKET_PLUGINS", &plugins);
            if first {
                command.env("PICKET_SETUP_TOKEN", token);
            }
            Process::start(&mut disk.under(&command), field.path(&format!("{name}.log")))
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
        recorded.fetch_add(whole(&field, name), Ordering::Relaxed);
    });
    Tally::of(run.count, "times full")
        .and(starts.load(Ordering::Relaxed), "of them at start")
        .and(recorded.load(Ordering::Relaxed), "recorded")
        .and(0, "lost")
        .took("longest recovery", Duration::from_millis(recovered_ms.load(Ordering::Relaxed)))
}

/// The file system finds an error while the agent works: from then on it takes nothing. Then a start on it as it is, and after repair.
fn read_only(run: &Run) -> Tally {
    let web = Web::start("<h1>Welcome</h1>");
    let field = Field::new();
    let plugins = plugins(&field);
    let token = field.create_agent("edge-1", "dc1");
    field.apply(&monitors(&web.url(), 3));
    let disk = Disk::new(field.path("edge-1"), 32);
    let broken = Mutex::new(0);
    let start = |token: Option<&str>| {
        let mut command = field.agent("edge-1");
        command.env("PICKET_PLUGINS", &plugins);
        if let Some(token) = token {
            command.env("PICKET_SETUP_TOKEN", token);
        }
        Process::start(&mut disk.under(&command), field.path("edge-1.log"))
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
            *broken.lock().expect("nobody panicked") += 1;
            checks(&mut agent, &web, &format!("time {time}: the file system broke"));
        }
        agent.kill();
        disk.repair(false);
        agent = start(None);
        checks(&mut agent, &web, &format!("time {time}: read-only at start"));
        agent.kill();
        disk.repair(true);
        agent = start(None);
        records(&agent, count(&agent), &format!("time {time}: repaired"));
    }
    let (status, _) = agent.terminate();
    assert!(status.success(), "{status}");
    let recorded = whole(&field, "edge-1");
    Tally::of(run.count, "times read-only at start")
        .and(broken.into_inner().expect("nobody panicked"), "times broken in use")
        .and(recorded, "recorded")
        .and(0, "lost")
}

/// Checks go on, whatever becomes of what they find.
fn checks(agent: &mut Process, web: &Web, when: &str) {
    let before = web.served();
    until(&format!("{when}, and checks go on"), LIMIT, || {
        assert!(agent.runs(), "{when}: the agent ended\n{}", agent.output());
        (web.served() > before + 6).then_some(())
    });
}

/// Recorded lines so far.
fn count(agent: &Process) -> usize {
    oracle::recorded(&agent.output()).len()
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

/// Starts the agent no more: what it recorded is stored or in a gap. Gives how much that is.
fn whole(field: &Field, name: &str) -> u64 {
    let log = std::fs::read_to_string(field.path(&format!("{name}.log"))).unwrap_or_default();
    let recorded = oracle::recorded(&log);
    let begun = Instant::now();
    loop {
        let stored = field.results(&["--agent", name, "--since", "2h", "--limit", "10000"]);
        let gaps = field.picket(["gaps", "--limit", "10000", "--json"]).exits(0).stdout;
        let gaps: Vec<_> =
            gaps.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        let wrong = oracle::judge(&recorded, &stored, &gaps);
        if wrong.is_empty() {
            return recorded.len() as u64;
        }
        assert!(begun.elapsed() < LIMIT, "{name}: {wrong:#?}\n{log}");
        pause(Duration::from_millis(300));
    }
}
