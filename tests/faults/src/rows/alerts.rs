//! I5: nobody is woken for old news. Thousands of buffered downs are one digest; what is still down is one alert; a restart is none.

use std::time::{Duration, Instant};

use picket_e2e::hook::Hook;
use rand::RngExt as _;
use serde_json::{Value, json};

use super::drain::add;
use super::process::stop;
use crate::row::row;
use crate::{Row, Run, Stage, Tally, until};

pub(super) const ROWS: &[Row] = &[row("I5", "buffered downs, some of them still down", (3, 100), outages)];

/// What one outage came to.
#[derive(Default)]
struct Outage {
    buffered: u64,
    over: u64,
    still: u64,
    digests: u64,
    slowest: Duration,
}

/// The first outage is 10,000 downs that are over, the second 10,000 that are not; then as chance has it.
fn outages(run: &Run) -> Tally {
    let told =
        run.side_by_side(3, |lane, count| (0..count).map(|n| outage(run, lane + 3 * n)).collect::<Vec<_>>());
    let told: Vec<Outage> = told.into_iter().flatten().collect();
    let sum = |of: fn(&Outage) -> u64| told.iter().map(of).sum::<u64>();
    Tally::of(run.count, "outages")
        .and(sum(|o| o.buffered), "buffered downs")
        .and(sum(|o| o.over), "monitors up again: 0 alerts")
        .and(sum(|o| o.digests), "digests")
        .and(sum(|o| o.still), "monitors still down: one alert each")
        .took("told after at most", told.iter().map(|o| o.slowest).max().unwrap_or_default())
        .note("0 after restarts of the control plane")
}

fn outage(run: &Run, n: u64) -> Outage {
    let mut rng = run.rng(n);
    let buffered = if n < 2 { 10_000 } else { rng.random_range(50..2_000) };
    let pages: Vec<String> = (0..6).map(|page| format!("dc1-{page}")).collect();
    let still: Vec<&str> = match n {
        0 => vec![],
        1 => pages.iter().map(String::as_str).collect(),
        _ => pages.iter().filter(|_| rng.random_bool(0.4)).map(String::as_str).collect(),
    };
    let hook = Hook::start(SECRET);
    let mut stage = Stage::new("I5");
    stage.kill_control();
    stage.give("PICKET_SECRET_OPS", SECRET);
    stage.start_control();
    let channel = json!({"name": "ops", "kind": "webhook", "url": hook.url(), "secret": {"$secret": "ops"}});
    let body = json!({ "monitors": stage.pages("dc1", pages.len()), "channels": [channel] });
    let answer = stage.call("POST", "/v1/monitors/apply", &body).expect("it answers");
    assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(&answer.body));
    let agent = stage.enrol_at("edge-1", "dc1", &stage.url());
    until("all are up", Duration::from_secs(60), || {
        let all = stage.get("/v1/monitors");
        all.as_array()?.iter().all(|m| m["state"] == "up").then_some(())
    });
    stop(agent);
    add(&stage, "edge-1", "dc1", buffered, "down");
    stage.target.set_down(&still);

    let agent = stage.start("edge-1", &mut stage.agent("edge-1"));
    let begun = Instant::now();
    let downs = |stage: &Stage| events(stage, "down");
    until("what is still down is told", Duration::from_secs(32), || {
        (downs(&stage).len() >= still.len()).then_some(())
    });
    let slowest = begun.elapsed();
    let digests = u64::from(still.len() < pages.len());
    until("what is over is told in a digest", Duration::from_secs(40), || {
        (events(&stage, "digest").len() as u64 >= digests).then_some(())
    });
    stage.whole("edge-1", Duration::from_secs(60));
    // Neither a restart nor more results of the same kind tell anything again.
    stage.kill_control();
    stage.start_control();
    let served = stage.target.served();
    until("checks go on", Duration::from_secs(60), || (stage.target.served() > served + 12).then_some(()));
    stage.wait_for_result("edge-1", Duration::from_secs(60), |r| r["delivery"] == "live");
    let mut told: Vec<String> = downs(&stage).iter().map(|e| text(e, "monitor")).collect();
    told.sort();
    assert_eq!(told, still, "outage {n}: one alert for each that is still down, none for the others");
    for event in downs(&stage) {
        assert!(text(&event, "since") < text(&event, "at"), "down since the first buffered result: {event}");
    }
    assert_eq!(events(&stage, "digest").len() as u64, digests, "outage {n}: {:?}", hook.kinds());
    assert_eq!(hook.kinds().iter().filter(|kind| *kind == "down").count(), still.len(), "outage {n}");
    stage.target.set_down(&[]);
    until("what was down recovers", Duration::from_secs(30), || {
        (events(&stage, "recovered").len() == still.len()).then_some(())
    });
    stop(agent);
    Outage {
        buffered: buffered as u64,
        over: (pages.len() - still.len()) as u64,
        still: still.len() as u64,
        digests,
        slowest,
    }
}

fn events(stage: &Stage, kind: &str) -> Vec<Value> {
    let all = stage.try_get("/v1/alerts?limit=1000").unwrap_or_default();
    all.as_array().cloned().unwrap_or_default().into_iter().filter(|e| e["event"] == kind).collect()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

const SECRET: &str = "correct horse battery staple";
