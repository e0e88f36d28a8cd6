//! T7, T8: identities that are old. A data directory from a backup of any generation, and an agent that was away for weeks: it is
//! back by itself, or says that its owner has to say yes, and nothing that it kept is lost.

use std::time::Duration;

use rand::RngExt as _;
use serde_json::Value;

use super::drain::add;
use super::process::{returns, stop};
use crate::preload::Orders;
use crate::row::row;
use crate::stage::{copy, events};
use crate::{Process, Row, Run, Stage, Tally, pause, until};

pub(super) const ROWS: &[Row] = &[
    row("T7", "a data directory restored at an age of generations", (10, 50), restored),
    row("T8", "away for weeks, by the control plane's clock", (3, 10), away),
];

/// Agents side by side; a backup is made of each of ten generations, then each comes back, without anybody's help.
fn restored(run: &Run) -> Tally {
    let stage = Stage::new("T7");
    let name = |lane| format!("edge-{lane}");
    stage.apply_all(&(0..LANES).flat_map(|lane| stage.pages(&name(lane), 1)).collect::<Vec<_>>());
    let recorded = run.side_by_side(LANES, |lane, times| lane_of_backups(&stage, &name(lane), lane, times));
    let told = |kind: &str| (0..LANES).map(|lane| events(&stage, &name(lane), kind)).sum::<usize>() as u64;
    let recovered = told("recovered");
    // The newest backup is no older than its agent, and the token of the one before is good for a while longer.
    assert!(recovered + 2 >= run.count, "{recovered} recoveries of {} backups", run.count);
    let Ok(Value::Array(all)) = stage.try_get("/v1/agents") else { panic!("agents are a list") };
    assert_eq!(all.len() as u64, LANES, "they are the same agents: {all:#?}");
    Tally::of(run.count, "backups of ten generations")
        .and(recovered, "recoveries told to the owner")
        .and(recorded.iter().sum(), "recorded")
        .and(0, "lost")
        .and(0, "lock-outs")
}

fn lane_of_backups(stage: &Stage, name: &str, lane: u64, times: u64) -> u64 {
    let token = stage.create_agent(name, name);
    let start = |every: &str| {
        let mut command = stage.agent(name);
        command.env("PICKET_SETUP_TOKEN", &token).env("PICKET_ROTATE_EVERY", every);
        stage.start(name, &mut command)
    };
    let backup = |n: u64| stage.path(&format!("{name}-{n}"));
    let mut agent = start("1s");
    for generation in 0..GENERATIONS {
        let rotated = events(stage, name, "rotated");
        until(&format!("{name} rotates"), PATIENCE, || {
            (events(stage, name, "rotated") > rotated).then_some(())
        });
        stop(agent);
        copy(&stage.path(name), &backup(generation));
        agent = start(if generation + 1 < GENERATIONS { "1s" } else { "7d" });
    }
    returns(stage, name);
    for n in 0..times {
        // What it recorded in its last moment would be lost with the directory.
        while {
            stage.whole(name, PATIENCE);
            stop(agent);
            !stage.judge(name).wrong.is_empty()
        } {
            agent = start("7d");
        }
        let data = stage.path(name);
        std::fs::remove_dir_all(&data).expect("it is ours");
        copy(&backup(GENERATIONS - 1 - (lane + n * LANES) % GENERATIONS), &data);
        agent = start("7d");
        returns(stage, name);
    }
    stop(agent);
    stage.whole(name, PATIENCE).recorded as u64
}

/// The clocks of both move on while the agent is off; it comes back with results that wait.
fn away(run: &Run) -> Tally {
    let mut stage = Stage::new("T8");
    stage.apply_all(&stage.pages("dc1", 2));
    let orders = Orders::new(stage.dir(), NAME);
    stage.give("PICKET_RETENTION", "3650d");
    for (name, value) in orders.environment(&stage.path("cp")) {
        stage.give(name, &value);
    }
    stage.kill_control();
    stage.start_control();
    let token = stage.create_agent(NAME, "dc1");
    let start = |stage: &Stage| {
        let mut command = stage.agent(NAME);
        command.env("PICKET_SETUP_TOKEN", &token);
        orders.give(&mut command, &stage.path(NAME));
        stage.start(NAME, &mut command)
    };
    let mut agent: Process = start(&stage);
    stage.wait_for_result(NAME, PATIENCE, |_| true);
    let (mut rng, mut gone, mut approved) = (run.rng(0), 0, 0);
    for n in 0..run.count {
        let days = [30, 89, 91].get(n as usize).copied().unwrap_or_else(|| rng.random_range(1..200));
        stop(agent);
        add(&stage, NAME, "dc1", 600, "up");
        stage.kill_control();
        gone += days * DAY_MS;
        orders.wall(gone);
        // Time in which the control plane was not there counts for nobody: it notes at a start that it is, and that is after the weeks.
        stage.start_control();
        pause(Duration::from_secs(1));
        stage.kill_control();
        stage.start_control();
        let (stored, rotated) = (stage.stored(NAME).len(), events(&stage, NAME, "rotated"));
        let mut returned = start(&stage);
        if days > 90 {
            until(&format!("{days} days: it says that its owner has to approve it"), PATIENCE, || {
                assert!(returned.runs(), "{days} days: it ended\n{}", returned.output());
                (stage.agent_view(NAME)["state"] == "approval").then_some(())
            });
            assert_eq!(stage.stored(NAME).len(), stored, "{days} days: nothing is taken from it before");
            stage.picket(["agents", "approve", NAME]).exits(0);
            approved += 1;
        }
        returns(&stage, NAME);
        assert!(
            days <= 7 || days > 90 || events(&stage, NAME, "rotated") > rotated,
            "{days} days: its token was good for more than a rotation"
        );
        agent = returned;
        stage.whole(NAME, PATIENCE);
    }
    stop(agent);
    let whole = stage.whole(NAME, PATIENCE);
    Tally::of(run.count, "absences of 1 to 199 days")
        .and(approved, "approved by the owner")
        .and(whole.recorded as u64, "recorded")
        .and(0, "lost")
        .and(0, "lock-outs")
}

const NAME: &str = "edge-1";
const LANES: u64 = 5;
const GENERATIONS: u64 = 10;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const PATIENCE: Duration = Duration::from_secs(120);
