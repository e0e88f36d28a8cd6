//! N2–N5, N9, N16: what a network does to a connection, and how soon the agent notices and is back.

use std::time::{Duration, Instant};

use crate::http::Message;
use crate::namespace::{Wall, inside};
use crate::proxy::{Fate, Proxy};
use crate::row::row;
use crate::rows::process::stop;
use crate::rows::requests_only;
use crate::{Process, Row, Run, Stage, Tally, pause, until};

pub(super) const ROWS: &[Row] = &[
    row("N4", "half-open connections", (4, 100), half_open).in_namespace(),
    row("N16", "a flapping link, 2 s up, 2 s down", (1, 20), flapping).in_namespace(),
    row("N2 N3", "refused, then dropped", (1, 10), away).in_namespace(),
    row("N5", "answers of one byte a second", (1, 10), slow_loris),
    row("N9", "503 and Retry-After", (6, 60), retry_after),
];

/// Whether the agent says that it reaches its control plane.
pub(super) fn connected(stage: &Stage, name: &str) -> bool {
    let state = std::fs::read(stage.path(name).join("state.json")).unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&state).is_ok_and(|state| state["connected"] == true)
}

/// Where the faults come from.
fn by_whom() -> &'static str {
    if inside() { "nft in a network namespace" } else { "by the proxy" }
}

/// The other end falls silent with connections open: noticed within 35 s, and back within a minute of the repair.
fn half_open(run: &Run) -> Tally {
    let stage = Stage::new("N4");
    let lanes = run.count.min(10);
    let monitors: Vec<_> = (0..lanes).flat_map(|lane| stage.pages(&format!("dc{lane}"), 1)).collect();
    stage.apply_all(&monitors);
    let proxy = Proxy::start(stage.port());
    let wall = Wall::before(&proxy);
    let name = |lane| format!("edge-{lane}");
    let agents: Vec<Process> =
        (0..lanes).map(|lane| stage.enrol_at(&name(lane), &format!("dc{lane}"), &proxy.url())).collect();
    let (mut slowest, mut back) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..run.count / lanes {
        for lane in 0..lanes {
            until("it is connected", Duration::from_secs(90), || {
                connected(&stage, &name(lane)).then_some(())
            });
        }
        wall.drop();
        let begun = Instant::now();
        for lane in 0..lanes {
            until("it notices that nobody answers", Duration::from_secs(35), || {
                (!connected(&stage, &name(lane))).then_some(())
            });
        }
        slowest = slowest.max(begun.elapsed());
        wall.open();
        let begun = Instant::now();
        for lane in 0..lanes {
            until("it is back", Duration::from_secs(75), || connected(&stage, &name(lane)).then_some(()));
        }
        back = back.max(begun.elapsed());
    }
    let mut recorded = 0;
    for (lane, agent) in (0..lanes).zip(agents) {
        recorded += stage.whole(&name(lane), Duration::from_secs(60)).recorded;
        stop(agent);
    }
    Tally::of(run.count, "half-open links")
        .took("noticed after at most", slowest)
        .took("back after at most", back)
        .and(recorded as u64, "recorded")
        .and(0, "lost")
        .note(by_whom())
}

/// Up for two seconds, down for two: nothing is lost, and the session is not begun anew at every turn.
fn flapping(run: &Run) -> Tally {
    let stage = Stage::new("N16");
    stage.apply_all(&stage.pages("dc1", 4));
    let proxy = Proxy::start(stage.port());
    let wall = Wall::before(&proxy);
    let agent = stage.enrol_at("edge-1", "dc1", &proxy.url());
    stage.wait_for_result("edge-1", Duration::from_secs(60), |r| r["delivery"] == "live");
    let (hellos, connections) = (proxy.asked("/v1/hello").len(), proxy.connections());
    let turns = 8 * run.count;
    for turn in 0..turns {
        if turn % 2 == 0 {
            wall.drop();
        } else {
            wall.reject();
        }
        pause(Duration::from_secs(2));
        wall.open();
        pause(Duration::from_secs(2));
    }
    let hellos = proxy.asked("/v1/hello").len() - hellos;
    assert!(hellos as u64 <= turns / 2 + 1, "{hellos} hellos in {turns} turns: sessions are not resumed");
    let whole = stage.whole("edge-1", Duration::from_secs(90));
    stop(agent);
    Tally::of(turns, "turns")
        .and(hellos as u64, "hellos")
        .and(proxy.connections() - connections, "connections")
        .and(whole.recorded as u64, "recorded")
        .and(0, "lost")
        .and(0, "twice")
        .note(by_whom())
}

/// Refused for a while, then dropped for a while: no thread and no file descriptor more than before, and back within a minute.
fn away(run: &Run) -> Tally {
    let stage = Stage::new("N2");
    stage.apply_all(&stage.pages("dc1", 2));
    let proxy = Proxy::start(stage.port());
    let wall = Wall::before(&proxy);
    let agent = stage.enrol_at("edge-1", "dc1", &proxy.url());
    stage.wait_for_result("edge-1", Duration::from_secs(60), |_| true);
    let count =
        |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", agent.pid())).map_or(0, Iterator::count);
    let mut slowest = Duration::ZERO;
    let before = (count("fd"), count("task"));
    for _ in 0..run.count {
        wall.reject();
        pause(Duration::from_secs(8));
        wall.drop();
        pause(Duration::from_secs(8));
        let now = (count("fd"), count("task"));
        // A check and an attempt to connect may be under way, and the runtime starts threads for blocking work as it likes.
        assert!(now.0 <= before.0 + 8, "{before:?} file descriptors and threads grew to {now:?}");
        assert!(now.1 <= before.1 + 16, "{before:?} file descriptors and threads grew to {now:?}");
        wall.open();
        let begun = Instant::now();
        until("it is back", Duration::from_secs(75), || connected(&stage, "edge-1").then_some(()));
        slowest = slowest.max(begun.elapsed());
    }
    let whole = stage.whole("edge-1", Duration::from_secs(60));
    stop(agent);
    Tally::of(run.count, "outages of each kind")
        .took("back after at most", slowest)
        .and(whole.recorded as u64, "recorded")
        .and(0, "lost")
        .note(by_whom())
}

/// The answer comes at one byte a second: given up after 15 s, and the same batch is sent again.
fn slow_loris(run: &Run) -> Tally {
    let stage = Stage::new("N5");
    stage.apply_all(&stage.pages("dc1", 2));
    let proxy = Proxy::start(stage.port());
    proxy.policy(requests_only(|_| Fate::Pass));
    let agent = stage.enrol_at("edge-1", "dc1", &proxy.url());
    let mut slowest = Duration::ZERO;
    for _ in 0..run.count {
        stage.wait_for_result("edge-1", Duration::from_secs(90), |_| true);
        // Two attempts, up to a minute apart: failures that follow one another this closely are failures in a row.
        until("it is connected", Duration::from_secs(150), || connected(&stage, "edge-1").then_some(()));
        let asked = proxy.asked("/v1/results").len();
        proxy.policy(requests_only(|request| {
            if request.path() == "/v1/results" { Fate::Trickle(1) } else { Fate::Pass }
        }));
        let begun = until("a batch is sent", Duration::from_secs(60), || {
            proxy.asked("/v1/results").get(asked).copied()
        });
        until("it gives up", Duration::from_secs(30), || (!connected(&stage, "edge-1")).then_some(()));
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(16_500), "it gave up after {took:?}; its deadline is 15 s");
        slowest = slowest.max(took);
        proxy.policy(requests_only(|_| Fate::Pass));
    }
    // Two attempts, up to a minute apart: the first may meet a connection that the proxy keeps and nobody serves any more.
    let whole = stage.whole("edge-1", Duration::from_secs(150));
    stop(agent);
    Tally::of(run.count, "slow answers")
        .took("given up after at most", slowest)
        .and(whole.recorded as u64, "recorded")
        .and(0, "lost")
}

/// Somebody in between says 503 with a time: kept when it is one, ignored when it is garbage, and never for long without a signature.
fn retry_after(run: &Run) -> Tally {
    let stage = Stage::new("N9");
    stage.apply_all(&stage.pages("dc1", 2));
    let proxy = Proxy::start(stage.port());
    proxy.policy(requests_only(|_| Fate::Pass));
    let mut agent = stage.enrol_at("edge-1", "dc1", &proxy.url());
    stage.wait_for_result("edge-1", Duration::from_secs(60), |_| true);
    for n in 0..run.count {
        let (value, at_least) =
            [("6", 4.7), ("-5", 0.0), ("soon", 0.0), ("", 0.0), ("4", 3.1), ("1e9", 0.0)][n as usize % 6];
        agent.kill();
        proxy.policy(requests_only(move |_| {
            let headers = [("retry-after", value), ("content-type", "text/plain")];
            Fate::Answer(Message::answer("503 Service Unavailable", &headers, b"come back later"))
        }));
        let asked = proxy.asked("/v1/").len();
        agent = stage.start("edge-1", &mut stage.agent_at("edge-1", &proxy.url()));
        let first = until("it asks", Duration::from_secs(60), || proxy.asked("/v1/").get(asked).copied());
        let second =
            until("it asks again", Duration::from_secs(60), || proxy.asked("/v1/").get(asked + 1).copied());
        let waited = (second - first).as_secs_f64();
        assert!(waited >= at_least, "Retry-After: {value}: asked again after {waited:.1} s");
        proxy.policy(requests_only(|_| Fate::Pass));
        until("it is connected", Duration::from_secs(60), || connected(&stage, "edge-1").then_some(()));
    }
    let whole = stage.whole("edge-1", Duration::from_secs(60));
    stop(agent);
    Tally::of(run.count, "refusals").and(whole.recorded as u64, "recorded").and(0, "lost")
}
