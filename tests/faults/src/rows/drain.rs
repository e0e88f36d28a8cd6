//! N17, N18, P7, C3: much that waits, and what must not hold it up.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use wire::Timestamp;

use crate::busy::Watch;
use crate::fill::{Filling, fill};
use crate::proxy::{Link, Proxy};
use crate::row::row;
use crate::rows::process::stop;
use crate::{Row, Run, Stage, Tally, pause, stage, until};

pub(super) const ROWS: &[Row] = &[
    row("N17", "10,000 buffered at 50 ms round trip", (1, 20), drained).alone(),
    row("P7", "SIGTERM with 10,000 pending", (2, 50), sigterm).alone(),
    row("N18", "a control plane restored from a copy", (1, 20), restored),
    row("C3", "10,000 buffered, half of the monitors deleted", (1, 5), deleted),
];

/// An agent that was enrolled and stopped, and whose spool then got `count` results of its monitors.
pub(super) fn filled(stage: &Stage, name: &str, location: &str, count: usize, state: &str) {
    let agent = stage.enrol_at(name, location, &stage.url());
    stage.wait_for_result(name, Duration::from_secs(60), |_| true);
    stop(agent);
    add(stage, name, location, count, state);
}

/// The same again for an agent that stopped.
pub(super) fn add(stage: &Stage, name: &str, location: &str, count: usize, state: &str) {
    add_in(&stage.path(name), stage, name, location, count, state);
}

/// The same again for one whose data directory is `data`.
pub(super) fn add_in(data: &Path, stage: &Stage, name: &str, location: &str, count: usize, state: &str) {
    let Value::Array(all) = stage.get("/v1/monitors") else { panic!("monitors are a list") };
    let here = all.iter().filter(|m| m["locations"].as_array().is_some_and(|l| l.contains(&location.into())));
    let text = |m: &Value, key: &str| m[key].as_str().unwrap_or_default().to_owned();
    let (monitors, names): (Vec<_>, Vec<_>) = here.map(|m| (text(m, "id"), text(m, "name"))).unzip();
    names.iter().for_each(|name| stage.target.credit(name, count.div_ceil(names.len()) as u64));
    let filling = Filling { monitors: &monitors, count, state, over_ms: 600_000 };
    let lines = fill(data, &filling);
    let log = stage.path(&format!("{name}.log"));
    let text = stage.log(name) + &lines.join("\n") + "\n";
    std::fs::write(log, text).expect("the log can be written");
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

fn received_ms(result: &Value) -> i64 {
    let at: Timestamp = result["received_at"].as_str().and_then(|t| t.parse().ok()).expect("a time");
    at.as_millis()
}

/// How quick one drain was, in milliseconds after the hello, and how much of the machine others used meanwhile.
pub struct Drain {
    /// The last of those that waited.
    pub last_ms: i64,
    /// The first live result.
    pub live_ms: i64,
    recorded: usize,
    others: u64,
}

impl Drain {
    /// The first live result within 2 s of the hello, all that waited within 5 s.
    fn is_quick(&self) -> bool {
        self.live_ms <= 2_000 && self.last_ms <= 5_000
    }
}

/// Each must be quick; one that was not while others used the machine is taken again, a few times.
fn drained(run: &Run) -> Tally {
    let (mut slowest, mut first_live, mut recorded, mut again) = (0, 0, 0, 0);
    for _ in 0..run.count {
        let mut drain = drain();
        for _ in 0..4 {
            if drain.is_quick() || drain.others < BUSY {
                break;
            }
            again += 1;
            drain = self::drain();
        }
        let Drain { last_ms, live_ms, others, .. } = drain;
        assert!(
            drain.is_quick(),
            "the last of 10,000 came {last_ms} ms after the hello, the first live result {live_ms} ms; others used {others} % \
             of the machine"
        );
        (slowest, first_live) = (slowest.max(last_ms), first_live.max(live_ms));
        recorded += drain.recorded;
    }
    let time = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    Tally::of(run.count, "times 10,000")
        .took("drained in at most", time(slowest))
        .took("first live after at most", time(first_live))
        .and(recorded as u64, "recorded")
        .and(0, "lost")
        .and(again, "times measured again, because others used the machine")
}

/// 10,000 wait on an agent of three monitors that is started behind 50 ms of round trip.
pub fn drain() -> Drain {
    let stage = Stage::new("N17");
    stage.apply_all(&stage.pages("dc1", 3));
    filled(&stage, "edge-1", "dc1", 10_000, "up");
    let proxy = Proxy::start(stage.port());
    proxy.delay(Duration::from_millis(25));
    let agent = stage.start("edge-1", &mut stage.agent_at("edge-1", &proxy.url()));
    let hello = until("it says hello", Duration::from_secs(60), || proxy.asked("/v1/hello").first().copied());
    let hello_ms = now_ms() - hello.elapsed().as_millis() as i64;
    // Nothing is asked of the control plane until it must be done: the answers would cost it the time that is measured.
    let watch = Watch::begin([agent.pid(), stage.control().pid()]);
    pause(Duration::from_secs(5).saturating_sub(hello.elapsed()));
    let others = watch.others();
    until("all is sent", Duration::from_secs(60), || {
        (stage.agent_view("edge-1")["pending"].as_u64()? < 100).then_some(())
    });
    stage.wait_for_result("edge-1", Duration::from_secs(60), |r| {
        r["delivery"] == "live" && received_ms(r) >= hello_ms
    });
    let stored = stage.stored("edge-1");
    let after = |delivery: &str| {
        let times = stored.iter().filter(|r| r["delivery"] == delivery).map(received_ms);
        times.filter(|at| *at >= hello_ms).collect::<Vec<_>>()
    };
    let live_ms = after("live").into_iter().min().expect("something is live") - hello_ms;
    let last_ms = after("buffered").into_iter().max().expect("10,000 were buffered") - hello_ms;
    let whole = stage.whole("edge-1", Duration::from_secs(30));
    assert!(whole.stored >= 10_000 && whole.missing == 0, "{whole:?}");
    stop(agent);
    Drain { last_ms, live_ms, recorded: whole.recorded, others }
}

/// The link is frozen, 10,000 wait: it ends within five seconds, and everything arrives later.
fn sigterm(run: &Run) -> Tally {
    let stage = Stage::new("P7");
    stage.apply_all(&stage.pages("dc1", 8));
    filled(&stage, "edge-1", "dc1", 10_000, "up");
    let proxy = Proxy::start(stage.port());
    proxy.delay(Duration::from_millis(25));
    let mut slowest = Duration::ZERO;
    for n in 0..run.count {
        proxy.link(if n % 2 == 0 { Link::Frozen } else { Link::Refused });
        let served = stage.target.served();
        let agent = stage.start("edge-1", &mut stage.agent_at("edge-1", &proxy.url()));
        until("it checks", Duration::from_secs(60), || (stage.target.served() > served).then_some(()));
        let begun = Instant::now();
        stop(agent);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(5), "SIGTERM with 10,000 pending: ended after {slowest:?}");
    proxy.link(Link::Up);
    let agent = stage.start("edge-1", &mut stage.agent_at("edge-1", &proxy.url()));
    let whole = stage.whole("edge-1", Duration::from_secs(120));
    assert!(whole.stored >= 10_000 && whole.missing == 0, "{whole:?}");
    stop(agent);
    Tally::of(run.count, "times SIGTERM")
        .took("ended after at most", slowest)
        .and(whole.recorded as u64, "recorded")
        .and(0, "lost")
}

/// The control plane loses what it stored since a copy was made: the agent sends again what it still has, and says what it has not.
fn restored(run: &Run) -> Tally {
    let mut stage = Stage::new("N18");
    stage.apply_all(&stage.pages("dc1", 5));
    let agent = stage.start_agent("edge-1", "dc1");
    stage.wait_for_result("edge-1", Duration::from_secs(60), |r| r["delivery"] == "live");
    let mut missing = 0;
    for _ in 0..run.count {
        stage.kill_control();
        let (data, backup) = (stage.path("cp"), stage.path("backup"));
        let _ = std::fs::remove_dir_all(&backup);
        stage::copy(&data, &backup);
        stage.start_control();
        let served = stage.target.served();
        until("checks go on", Duration::from_secs(60), || {
            (stage.target.served() > served + 15).then_some(())
        });
        stage.wait_for_result("edge-1", Duration::from_secs(90), |r| r["delivery"] == "live");
        stage.kill_control();
        std::fs::remove_dir_all(&data).expect("it is ours");
        stage::copy(&backup, &data);
        stage.start_control();
        let served = stage.target.served();
        until("checks go on", Duration::from_secs(60), || (stage.target.served() > served + 5).then_some(()));
        missing = stage.accounted("edge-1", Duration::from_secs(120)).missing;
    }
    let whole = stage.accounted("edge-1", Duration::from_secs(60));
    stop(agent);
    Tally::of(run.count, "restores")
        .and(whole.recorded as u64, "recorded")
        .and(missing, "said to be missing")
        .and(0, "lost without a word")
}

/// Monitors are deleted while their results wait: the results arrive all the same, and hold up nothing.
fn deleted(run: &Run) -> Tally {
    let mut stored = 0;
    for _ in 0..run.count {
        let stage = Stage::new("C3");
        let pages = stage.pages("dc1", 8);
        stage.apply_all(&pages);
        filled(&stage, "edge-1", "dc1", 10_000, "up");
        let body = serde_json::json!({ "monitors": &pages[..4], "prune": true });
        let answer = stage.call("POST", "/v1/monitors/apply", &body).expect("it answers");
        assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(&answer.body));
        let agent = stage.restart_agent("edge-1");
        let whole = stage.whole("edge-1", Duration::from_secs(90));
        assert!(whole.stored >= 10_000 && whole.missing == 0, "{whole:?}");
        stop(agent);
        stored += whole.stored;
    }
    Tally::of(stored as u64, "results, of which half had no monitor any more")
        .and(0, "lost")
        .and(0, "rejected")
}

/// A share of the machine, in percent, that others may use without being to blame.
const BUSY: u64 = 10;
