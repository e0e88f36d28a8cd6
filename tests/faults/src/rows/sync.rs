//! D9–D11: fsyncs and reads fail, fsync takes seconds, no descriptor is left. Checks keep their times, nothing that was told as recorded is lost, a
//! descriptor whose fsync failed is never trusted again, and what the agent lacks is no fault of the target.

use std::process::Command;
use std::time::{Duration, Instant};

use picket_e2e::oracle::recorded;
use rand::RngExt;
use serde_json::Value;

use super::process::stop;
use crate::image::LIMIT;
use crate::preload::Orders;
use crate::row::row;
use crate::target::Mood;
use crate::{Process, Row, Run, Stage, Tally, pause, until, wrap};

pub(super) const ROWS: &[Row] = &[
    row("D9", "fsync fails with EIO", (10, 200), failing),
    row("D9", "fsyncs and reads fail with EIO at the start", (8, 100), failing_start),
    row("D10", "fsync takes two seconds, on one worker, through a hello", (1, 10), slow).alone(),
    row("D11", "no more than 64 descriptors", (1, 5), few_descriptors),
];

fn failing(run: &Run) -> Tally {
    let stage = Stage::new("D9");
    stage.apply_all(&stage.pages("dc1", 4));
    let orders = Orders::new(stage.dir(), NAME);
    let mut agent = start(&stage, &orders);
    let mut rng = run.rng(0);
    let mut slowest = Duration::ZERO;
    for time in 0..run.count {
        pause(Duration::from_millis(rng.random_range(0..700)));
        let before = orders.failed();
        orders.fail(rng.random_range(1..4));
        until("an fsync fails", LIMIT, || (orders.failed() > before).then_some(()));
        let begun = Instant::now();
        let there = count(&agent);
        until(&format!("time {time}: results are recorded again"), LIMIT, || {
            assert!(agent.runs(), "time {time}: it ended\n{}", agent.output());
            (count(&agent) > there + 3).then_some(())
        });
        slowest = slowest.max(begun.elapsed());
    }
    orders.fail(0);
    stop(agent);
    let whole = stage.whole(NAME, 3 * LIMIT);
    let log = stage.log(NAME);
    // The database syncs its journal once more when it lets go of it, and nobody trusts the answer.
    let again: Vec<_> =
        log.lines().filter(|line| line.starts_with("fsync again") && !line.ends_with(".jnl")).collect();
    assert!(again.is_empty(), "descriptors on which an fsync had failed were trusted: {again:#?}");
    Tally::of(u64::try_from(orders.failed()).unwrap_or(0), "fsyncs failed")
        .and(again.len() as u64, "tried again")
        .and(whole.recorded as u64, "recorded")
        .and(0, "lost")
        .took("longest until results were recorded again", slowest)
}

/// Killed and started anew on a disk that gives errors at first: the database is good, and stays where it is.
fn failing_start(run: &Run) -> Tally {
    let stage = Stage::new("D9-start");
    stage.apply_all(&stage.pages("dc1", 4));
    let orders = Orders::new(stage.dir(), NAME);
    let mut agent = start(&stage, &orders);
    let mut rng = run.rng(0);
    let (mut reads, mut slowest) = (0, Duration::ZERO);
    for time in 0..run.count {
        let recorded = count(&agent);
        until("the agent records", LIMIT, || (count(&agent) > recorded + 2).then_some(()));
        agent.kill();
        let failing = rng.random_range(1..6);
        if time % 2 == 0 {
            orders.unread(failing);
        } else {
            orders.fail(rng.random_range(1..4));
        }
        let mut command = stage.agent(NAME);
        orders.give(&mut command, &stage.path(NAME).join("spool/queue"));
        let begun = Instant::now();
        agent = stage.start(NAME, &mut command);
        let recorded = count(&agent);
        until(&format!("time {time}: results are recorded"), 3 * LIMIT, || {
            assert!(agent.runs(), "time {time}: it ended\n{}", agent.output());
            (count(&agent) > recorded).then_some(())
        });
        reads += u64::from(failing) * u64::from(time % 2 == 0);
        slowest = slowest.max(begun.elapsed());
        assert_eq!(orders.to_fail(), 0, "time {time}: not every read was asked for");
        orders.fail(0);
    }
    stop(agent);
    let whole = stage.whole(NAME, 3 * LIMIT);
    let aside = spool::inspect(&stage.path(NAME).join("spool")).expect("it was closed").quarantined;
    assert!(aside.is_empty(), "good databases were put aside: {aside:?}");
    Tally::of(run.count, "starts")
        .and(u64::try_from(orders.failed()).unwrap_or(0), "fsyncs failed")
        .and(reads, "reads failed")
        .and(whole.recorded as u64, "recorded")
        .and(0, "databases put aside")
        .and(0, "lost")
        .took("longest until results were recorded", slowest)
}

fn slow(run: &Run) -> Tally {
    const MONITORS: usize = 20;
    let mut stage = Stage::new("D10");
    stage.apply_all(&stage.pages("dc1", MONITORS));
    let orders = Orders::new(stage.dir(), NAME);
    let token = stage.create_agent(NAME, "dc1");
    let mut command = stage.agent(NAME);
    // As on a machine with one CPU. All of its files lie on that disk.
    command.env("PICKET_SETUP_TOKEN", token).env("TOKIO_WORKER_THREADS", "1");
    orders.give(&mut command, &stage.path(NAME));
    let agent = stage.start(NAME, &mut command);
    until("the agent records", 9 * LIMIT, || (count(&agent) > 0).then_some(()));
    pause(Duration::from_secs(6));
    let (mut late, mut runs, mut due) = (Vec::new(), 0, 0);
    for time in 0..run.count {
        if time > 0 {
            // Half a minute in which all goes well: failures that follow one another more closely are failures in a row.
            pause(Duration::from_secs(32));
        }
        let (begun, served, syncs) = (Instant::now(), stage.target.served(), orders.syncs());
        let lease = lease(&stage);
        orders.slow(Duration::from_secs(2));
        // Whoever starts anew is greeted anew.
        stage.kill_control();
        stage.start_control();
        until("another lease is on its way to the disk", LIMIT, || {
            (self::lease(&stage) != lease).then_some(())
        });
        pause(Duration::from_secs(10).saturating_sub(begun.elapsed()));
        let seconds = begun.elapsed().as_secs();
        runs += stage.target.served() - served;
        due += seconds * MONITORS as u64;
        assert!(orders.syncs() > syncs + 2, "the disk is hardly used");
        orders.slow(Duration::ZERO);
        pause(Duration::from_secs(2));
    }
    stop(agent);
    let whole = stage.whole(NAME, 3 * LIMIT);
    let stored = stage.stored(NAME);
    late.extend(stored.iter().filter_map(lateness_ms));
    late.sort_unstable();
    let p99 = late[late.len() * 99 / 100];
    assert!(10 * runs >= 9 * due, "{runs} checks where {due} were due");
    assert!(p99 < 250, "one check in a hundred is later than {p99} ms");
    Tally::of(run.count, "times ten seconds")
        .and(runs, "checks")
        .and(due, "due")
        .and(whole.recorded as u64, "recorded")
        .and(whole.missing, "in gaps")
        .and(0, "lost")
        .note(format!("99 of 100 not later than {p99} ms"))
}

/// Every check needs a descriptor, and so does everything else.
fn few_descriptors(run: &Run) -> Tally {
    let stage = Stage::new("D11");
    stage.apply_all(&stage.pages("dc1", 60));
    let token = stage.create_agent(NAME, "dc1");
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=64").env("PICKET_SETUP_TOKEN", token);
    let mut command = wrap(limited, &stage.agent(NAME));
    let mut agent = stage.start(NAME, &mut command);
    until("the agent records", 9 * LIMIT, || (count(&agent) > 0).then_some(()));
    for time in 0..run.count {
        // All at once, each holding its connection for a while.
        stage.target.set(Mood::Slow);
        pause(Duration::from_secs(5));
        stage.target.set(Mood::Up);
        let before = count(&agent);
        until(&format!("time {time}: the agent goes on"), LIMIT, || {
            assert!(agent.runs(), "time {time}: it ended\n{}", agent.output());
            (count(&agent) > before + 60).then_some(())
        });
    }
    assert!(!agent.output().contains("panicked"), "{}", agent.output());
    stop(agent);
    let whole = stage.whole(NAME, 3 * LIMIT);
    let stored = stage.stored(NAME);
    let down: Vec<_> = stored.iter().filter(|r| r["state"] == "down").collect();
    assert!(down.is_empty(), "what the agent lacks is no fault of the target: {:#?}", down[0]);
    let errors = stored.iter().filter(|r| r["state"] == "error").count() as u64;
    Tally::of(run.count, "floods")
        .and(whole.recorded as u64, "recorded")
        .and(errors, "said as errors of the agent")
        .and(0, "said as down")
        .and(0, "lost")
}

fn start(stage: &Stage, orders: &Orders) -> Process {
    let token = stage.create_agent(NAME, "dc1");
    let mut command = stage.agent(NAME);
    command.env("PICKET_SETUP_TOKEN", token);
    orders.give(&mut command, &stage.path(NAME).join("spool"));
    let agent = stage.start(NAME, &mut command);
    until("the agent records", 9 * LIMIT, || (count(&agent) > 0).then_some(()));
    agent
}

fn count(agent: &Process) -> usize {
    recorded(&agent.output()).len()
}

/// What the agent keeps of its lease.
fn lease(stage: &Stage) -> [Option<Vec<u8>>; 2] {
    ["slot.a", "slot.b"].map(|slot| std::fs::read(stage.path(NAME).join("session").join(slot)).ok())
}

/// How long after its time a check began.
fn lateness_ms(result: &Value) -> Option<u64> {
    let at = |key: &str| serde_json::from_value::<wire::Timestamp>(result[key].clone()).ok();
    u64::try_from(at("started_at")?.as_millis() - at("planned_at")?.as_millis()).ok()
}

const NAME: &str = "edge-1";
