//! P1, P4–P6: kill -9 in the middle of everything, a loop of restarts, two agents on one directory, a copied directory.

use std::process::Command;
use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::proxy::{Link, Proxy};
use crate::row::row;
use crate::stage::{copy, events};
use crate::{Finished, Process, Row, Run, Stage, Tally, pause, until};

pub(super) const ROWS: &[Row] = &[
    row("P1", "kill -9 while checking and draining", (30, 600), kills),
    row("P1", "kill -9 while rotating", (15, 200), rotating),
    row("P1", "kill -9 while enrolling", (15, 200), enrolling),
    row("P4", "an agent that ends at every start", (8, 15), restarts),
    row("P5", "two agents on one directory", (10, 100), two_agents),
    row("P6", "a copied data directory", (10, 100), forks),
];

/// Agents side by side on one control plane; each lives for a moment, now with a link, now without, and is killed.
fn kills(run: &Run) -> Tally {
    killed(run, "7d")
}

/// The same with a new token every second.
fn rotating(run: &Run) -> Tally {
    killed(run, "1s")
}

fn killed(run: &Run, rotate_every: &str) -> Tally {
    let stage = Stage::new("P1");
    let locations = ["dc1", "dc2", "dc3"];
    stage.apply_all(&locations.iter().flat_map(|l| stage.pages(l, 5)).collect::<Vec<_>>());
    let counts =
        run.side_by_side(3, |n, cycles| lane(&stage, run, n, locations[n as usize], cycles, rotate_every));
    let rotations: usize = (0..3).map(|n| events(&stage, &format!("edge-{n}"), "rotated")).sum();
    assert!(rotate_every == "7d" || rotations as u64 > run.count / 4, "{rotations} rotations");
    Tally::of(run.count, "cycles")
        .and(rotations as u64, "rotations")
        .and(counts.iter().map(|(recorded, _)| *recorded as u64).sum(), "recorded")
        .and(0, "lost")
        .and(0, "twice")
        .and(counts.iter().map(|(_, back)| back).sum(), "times seen authenticated again")
        .and(0, "lock-outs")
}

/// One agent killed `cycles` times: what it recorded, and how often it was seen to be back.
fn lane(
    stage: &Stage,
    run: &Run,
    salt: u64,
    location: &str,
    cycles: u64,
    rotate_every: &str,
) -> (usize, u64) {
    let name = format!("edge-{salt}");
    let mut rng = run.rng(salt);
    let proxy = Proxy::start(stage.port());
    let token = stage.create_agent(&name, location);
    let start = || {
        let mut command = stage.agent_at(&name, &proxy.url());
        command.env("PICKET_SETUP_TOKEN", &token).env("PICKET_ROTATE_EVERY", rotate_every);
        stage.start(&name, &mut command)
    };
    let mut agent = start();
    stage.wait_for_result(&name, Duration::from_secs(60), |_| true);
    let mut back = 0;
    for cycle in 0..cycles {
        // One cycle in three is lived without a link, so that the next one has something to drain.
        proxy.link(if rng.random_ratio(1, 3) { Link::Refused } else { Link::Up });
        pause(Duration::from_millis(rng.random_range(50..1_300)));
        agent.kill();
        agent = start();
        if cycle % 10 == 9 {
            proxy.link(Link::Up);
            returns(stage, &name);
            back += 1;
        }
    }
    proxy.link(Link::Up);
    returns(stage, &name);
    stop(agent);
    (stage.whole(&name, Duration::from_secs(60)).recorded, back + 1)
}

/// Waits until something that the agent recorded after now is stored: it authenticates.
pub(super) fn returns(stage: &Stage, name: &str) {
    let epoch = |v: &serde_json::Value| (v["epoch"].as_u64(), v["seq"].as_u64());
    let newest = stage.get(&format!("/v1/results?agent={name}&limit=200"));
    let newest = newest["results"].as_array().and_then(|all| all.iter().map(epoch).max());
    stage.wait_for_result(name, Duration::from_secs(90), |r| {
        Some(epoch(r)) > newest && r["delivery"] == "live"
    });
}

/// SIGTERM; it has the ten seconds that a container engine gives, and P7 measures that five are enough. Until then it listened on
/// nothing (I7).
pub(super) fn stop(agent: Process) {
    let sockets = Finished::of(Command::new("ss").args(["-Hlntup"])).exits(0).stdout;
    let of_it: Vec<_> = sockets.lines().filter(|l| l.contains(&format!("pid={},", agent.pid()))).collect();
    assert!(of_it.is_empty(), "the agent listens: {of_it:?}");
    let (status, took) = agent.terminate();
    assert!(status.success() && took < Duration::from_secs(10), "SIGTERM: {status} after {took:?}");
}

/// A new agent each time, killed at a random moment of its first seconds, several times; then it is left alone and must enrol.
fn enrolling(run: &Run) -> Tally {
    let stage = Stage::new("P1e");
    let mut rng = run.rng(77);
    let (mut kills, mut agents) = (0, 0);
    while kills < run.count {
        let name = format!("edge-{agents}");
        let token = stage.create_agent(&name, "dc1");
        let start = || stage.start(&name, stage.agent(&name).env("PICKET_SETUP_TOKEN", &token));
        for _ in 0..rng.random_range(1..=4) {
            let agent = start();
            pause(Duration::from_millis(rng.random_range(5..150)));
            agent.kill();
            kills += 1;
        }
        let agent = start();
        until(&format!("{name} enrols"), Duration::from_secs(60), || {
            (stage.agent_view(&name)["state"] == "connected").then_some(())
        });
        agent.kill();
        agents += 1;
    }
    let Ok(serde_json::Value::Array(all)) = stage.try_get("/v1/agents") else { panic!("agents are a list") };
    assert_eq!(all.len() as u64, agents, "each setup token made one agent");
    Tally::of(kills, "kills").and(agents, "agents").and(0, "lock-outs")
}

/// Whoever supervises it starts it again at once, each time; from the fifth start on it waits, twice as long each time, before it asks
/// anything of anybody. Repaired, it waits once more and goes on.
fn restarts(run: &Run) -> Tally {
    let stage = Stage::new("P4");
    stage.apply_all(&stage.pages("dc1", 3));
    let proxy = Proxy::start(stage.port());
    let token = stage.create_agent("edge-1", "dc1");
    let command = || {
        let mut command = stage.agent_at("edge-1", &proxy.url());
        command.env("PICKET_SETUP_TOKEN", &token).env("PICKET_START_WAIT_MS", "40");
        command
    };
    let mut waited = Duration::ZERO;
    for start in 1..=run.count {
        let before = proxy.asked("/v1/").len();
        let begun = Instant::now();
        let mut agent = stage.start("edge-1", command().env("FAILPOINTS", "agent.runner=5*off->panic"));
        let wait = if start < 5 { Duration::ZERO } else { Duration::from_millis(40 << (start - 5)) };
        while begun.elapsed() < wait {
            assert!(agent.runs(), "start {start} waits for {wait:?}, and ended after {:?}", begun.elapsed());
            assert_eq!(proxy.asked("/v1/").len(), before, "start {start} asks something while it waits");
            pause(Duration::from_millis(5));
        }
        assert_eq!(agent.ends(Duration::from_secs(60)).code(), Some(70), "start {start}\n{}", agent.output());
        waited += wait;
        assert!(proxy.asked("/v1/hello").len() as u64 <= start, "more than one hello a start");
    }
    let agent = stage.start("edge-1", &mut command());
    returns(&stage, "edge-1");
    stop(agent);
    let whole = stage.whole("edge-1", Duration::from_secs(60));
    Tally::of(run.count, "starts")
        .and(proxy.asked("/v1/hello").len() as u64, "hellos")
        .took("waited in all", waited)
        .and(whole.recorded as u64, "recorded")
        .and(0, "lost")
}

/// The second agent on a directory ends with 73, at once, and the first does not notice.
fn two_agents(run: &Run) -> Tally {
    let stage = Stage::new("P5");
    stage.apply_all(&stage.pages("dc1", 3));
    let agent = stage.start_agent("edge-1", "dc1");
    stage.wait_for_result("edge-1", Duration::from_secs(60), |_| true);
    for n in 0..run.count {
        let mut second = stage.start("second", &mut stage.agent("edge-1"));
        let status = second.ends(Duration::from_secs(10));
        assert_eq!(status.code(), Some(73), "the second agent of pair {n}");
    }
    stop(agent);
    let whole = stage.whole("edge-1", Duration::from_secs(20));
    Tally::of(run.count, "pairs")
        .and(run.count, "ended with 73")
        .and(whole.recorded as u64, "recorded")
        .and(0, "lost")
}

/// Copies of a data directory beside its agent: each is found within two heartbeats, and one of the two stands by.
fn forks(run: &Run) -> Tally {
    let stage = Stage::new("P6");
    let lanes = run.count.min(10);
    stage.apply_all(&(0..lanes).flat_map(|n| stage.pages(&format!("dc{n}"), 1)).collect::<Vec<_>>());
    let told = run.side_by_side(lanes, |lane, copies| {
        let (name, copied) = (format!("edge-{lane}"), format!("copy-{lane}"));
        let mut agent = stage.enrol_at(&name, &format!("dc{lane}"), &stage.url());
        stage.wait_for_result(&name, Duration::from_secs(90), |_| true);
        let mut slowest = Duration::ZERO;
        for n in 0..copies {
            // A machine that is cloned is at rest.
            agent.kill();
            let _ = std::fs::remove_dir_all(stage.path(&copied));
            copy(&stage.path(&name), &stage.path(&copied));
            agent = stage.start(&name, &mut stage.agent(&name));
            returns(&stage, &name);
            // The owner's event is not repeated within a while; that one of the two stands by is said each time.
            let stands_by = || {
                let logs = stage.log(&name) + &stage.log(&copied);
                logs.matches("this one stands by until it is silent").count()
            };
            let before = stands_by();
            let twin = stage.start(&copied, &mut stage.agent(&copied));
            let begun = Instant::now();
            until(&format!("fork {n} of {name} is found"), Duration::from_secs(22), || {
                (stands_by() > before).then_some(())
            });
            slowest = slowest.max(begun.elapsed());
            twin.kill();
            // Whoever held the lease is silent now, and the original goes on, at once or after three heartbeats.
            returns(&stage, &name);
        }
        assert!(events(&stage, &name, "forked") > 0, "the owner of {name} was told");
        stop(agent);
        // What a copy recorded is lost with it; the original loses nothing to it.
        let whole = stage.whole(&name, Duration::from_secs(90));
        (slowest, whole.recorded as u64)
    });
    let slowest = told.iter().map(|(slowest, _)| *slowest).max().unwrap_or_default();
    Tally::of(run.count, "copies")
        .took("found after at most", slowest)
        .and(0, "agents lost")
        .and(told.iter().map(|(_, recorded)| recorded).sum(), "recorded by the originals")
        .and(0, "lost")
}
