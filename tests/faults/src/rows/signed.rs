//! N12, N13, C1, C9: answers that bear the control plane's signature and are wrong. A cursor releases nothing that was not sent, a
//! result that is refused for ever leaves alone, and a configuration that is none leaves the last good one in use.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use serde_json::{Value, json};

use super::drain::add;
use super::process::{returns, stop};
use crate::forger::{Forger, positions};
use crate::http::Message;
use crate::proxy::{Fate, Link, Proxy};
use crate::row::row;
use crate::rows::requests_only;
use crate::{Process, Row, Run, Stage, Tally, stage, until};

pub(super) const ROWS: &[Row] = &[
    row("N12", "signed cursors that are wrong", (14, 210), cursors),
    row("N13", "a result that is refused for ever", (6, 90), poison),
    row("C1 C9", "signed configurations that are none, or old", (10, 100), configurations),
];

/// A cursor that is signed and wrong; where the next batch begins is known to whoever sent the last.
#[derive(Clone, Copy, Debug)]
enum Cursor {
    /// In the epoch of the batch, far beyond everything recorded in it.
    BeyondEpoch,
    /// Beyond the batch, not beyond what waits.
    BeyondBatch,
    /// In an epoch to come.
    LaterEpoch,
    /// The largest there is.
    Largest,
    /// Before the batch.
    BeforeBatch,
    /// In an epoch before, far beyond everything.
    EarlierEpoch,
    /// The beginning of everything.
    Beginning,
}

const CURSORS: [Cursor; 7] = [
    Cursor::BeyondEpoch,
    Cursor::BeyondBatch,
    Cursor::LaterEpoch,
    Cursor::Largest,
    Cursor::BeforeBatch,
    Cursor::EarlierEpoch,
    Cursor::Beginning,
];

impl Cursor {
    fn of(self, batch: &[(u64, u64)]) -> (u64, u64) {
        let (first, last) = (batch[0], batch[batch.len() - 1]);
        match self {
            Self::BeyondEpoch => (last.0, last.1 + 1_000_000),
            Self::BeyondBatch => (last.0, last.1 + 50),
            Self::LaterEpoch => (last.0 + 9, 1),
            Self::Largest => (u64::MAX, u64::MAX),
            Self::BeforeBatch => (first.0, first.1 - 1),
            Self::EarlierEpoch => (first.0 - 1, 1_000_000),
            Self::Beginning => (0, 0),
        }
    }

    /// Whether it claims that something is stored which may be, for the agent is in a later epoch by now: then the control plane must have
    /// the batch, or it is its own loss.
    fn is_credible(self) -> bool {
        matches!(self, Self::BeyondBatch | Self::BeyondEpoch)
    }
}

/// Agents side by side. The first batches of each life are answered with wrong cursors, now with the batch passed on and now without;
/// in the end everything is there, once.
fn cursors(run: &Run) -> Tally {
    let stage = Stage::new("N12");
    let forger = Forger::of(&stage);
    let recorded = run.side_by_side(LANES, |lane, times| {
        let (name, proxy, mut agent) = begun(&stage, lane);
        for n in 0..times {
            stop(agent);
            add(&stage, &name, &format!("dc{lane}"), WAITING, "up");
            let kind = CURSORS[((lane + n * LANES) % CURSORS.len() as u64) as usize];
            let (forger, told) = (forger.clone(), Arc::new(Mutex::new(0)));
            let lies = told.clone();
            let withheld = !kind.is_credible() && n % 2 == 0;
            proxy.policy(requests_only(move |request| {
                // A batch ahead of the backlog begins after all that waits: before it is beyond that.
                let batch = if request.json()["lane"] == "live" { vec![] } else { positions(request) };
                let mut told = lies.lock().expect("nobody panicked");
                if request.path() != "/v1/results" || batch.is_empty() || *told >= 2 {
                    return Fate::Pass;
                }
                *told += 1;
                let lie = forger.cursor(request, kind.of(&batch));
                if withheld { Fate::Answer(lie) } else { Fate::Replace(Box::new(|_| lie)) }
            }));
            agent = stage.start(&name, &mut stage.agent_at(&name, &proxy.url()));
            until(&format!("{name} was told of {kind:?}"), PATIENCE, || {
                (*told.lock().expect("nobody panicked") >= 2).then_some(())
            });
            let whole = stage.whole(&name, PATIENCE);
            assert_eq!(whole.missing, 0, "{name}, {kind:?}: {whole:?}");
            assert!(agent.runs(), "{name} ended after {kind:?}");
        }
        ended(&stage, &name, agent)
    });
    Tally::of(run.count, "lives begun with two wrong cursors")
        .and(CURSORS.len() as u64, "kinds")
        .and(recorded.iter().sum(), "recorded")
        .and(0, "lost")
        .and(0, "twice")
}

/// Every batch with one certain result in it is refused, signed: that one leaves as a gap of its own, and all others are stored.
fn poison(run: &Run) -> Tally {
    const REFUSALS: [(&str, &str); 3] = [
        ("400 Bad Request", "invalid"),
        ("413 Content Too Large", "too_large"),
        ("422 Unprocessable Content", "invalid"),
    ];
    let stage = Stage::new("N13");
    let forger = Forger::of(&stage);
    let told = run.side_by_side(LANES, |lane, times| {
        let (name, proxy, mut agent) = begun(&stage, lane);
        let mut rng = run.rng(lane);
        let (mut slowest, mut refused) = (Duration::ZERO, Vec::new());
        for n in 0..times {
            stop(agent);
            add(&stage, &name, &format!("dc{lane}"), WAITING, "up");
            let (status, code) = REFUSALS[((lane + n * LANES) % 3) as usize];
            let (forger, place) = (forger.clone(), rng.random_range(0.0..1.0));
            let bad = Arc::new(Mutex::new(None));
            let chosen = bad.clone();
            proxy.policy(requests_only(move |request| {
                let batch = positions(request);
                if request.path() != "/v1/results" || batch.is_empty() {
                    return Fate::Pass;
                }
                let mut chosen = chosen.lock().expect("nobody panicked");
                let at = (batch.len() as f64 * place) as usize;
                let (bad, _) = *chosen.get_or_insert((batch[at], Instant::now()));
                if !batch.contains(&bad) {
                    return Fate::Pass;
                }
                let problem = json!({"code": code, "detail": "this one never"}).to_string();
                Fate::Answer(forger.answer(request, status, "", problem.as_bytes()))
            }));
            agent = stage.start(&name, &mut stage.agent_at(&name, &proxy.url()));
            let gap = until(&format!("{name}: one is rejected after {status}"), PATIENCE, || {
                let gaps = stage.gaps_of(&name);
                (gaps.len() > refused.len()).then(|| gaps.into_iter().next_back()).flatten()
            });
            let (at, since) = bad.lock().expect("nobody panicked").expect("it was chosen");
            slowest = slowest.max(since.elapsed());
            refused.push(at);
            refused.sort_unstable();
            let whole = stage.accounted(&name, PATIENCE);
            assert_eq!(whole.lost, refused, "{name}: only what was refused is missing: {gap}");
            assert_eq!(whole.missing, refused.len() as u64, "{name}: each in a gap of its own");
            assert!(stage.gaps_of(&name).iter().all(|gap| gap["reason"] == "rejected"));
        }
        assert!(slowest < Duration::from_secs(5), "{name}: the others waited {slowest:?}");
        proxy.policy(requests_only(|_| Fate::Pass));
        returns(&stage, &name);
        stop(agent);
        (stage.accounted(&name, PATIENCE).recorded as u64, slowest)
    });
    Tally::of(run.count, "refused for ever, each in a gap of its own")
        .and(told.iter().map(|(recorded, _)| recorded).sum(), "recorded")
        .and(0, "others lost")
        .took("longest until it was told as a gap", told.iter().map(|t| t.1).max().unwrap_or_default())
}

/// What a configuration may be that is signed and must not be used.
fn bad_configurations(good: &Message) -> Vec<(&'static str, Vec<u8>)> {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut configuration = good.json();
        let version = configuration["version"].as_u64().unwrap_or(0);
        configuration["version"] = (version + 1).into();
        change(&mut configuration);
        configuration.to_string().into_bytes()
    };
    vec![
        ("empty", Vec::new()),
        ("cut", good.body[..good.body.len() / 2].to_vec()),
        ("no JSON", b"\xff\xfe\x00monitors".to_vec()),
        ("a list", b"[]".to_vec()),
        ("without monitors", with(&|c| drop(c.as_object_mut().map(|c| c.remove("monitors"))))),
        ("a negative interval", with(&|c| c["monitors"][0]["interval_ms"] = (-1).into())),
        ("an interval that is no number", with(&|c| c["monitors"][0]["interval_ms"] = "NaN".into())),
        (
            "a monitor without an id",
            with(&|c| drop(c["monitors"][0].as_object_mut().map(|m| m.remove("id")))),
        ),
        ("deep", [vec![b'['; 100_000], vec![b']'; 100_000]].concat()),
        ("older and empty", with(&|c| *c = json!({"version": 0, "monitors": []}))),
    ]
}

/// Each is offered at the start of a life, and again while it lasts; the last good one stays in use and on the disk, also for a life
/// that is cut off, and the next good one is taken.
fn configurations(run: &Run) -> Tally {
    let stage = Stage::new("C1");
    let forger = Forger::of(&stage);
    let kinds = 10;
    run.side_by_side(LANES, |lane, times| {
        let (name, proxy, mut agent) = begun(&stage, lane);
        let location = format!("dc{lane}");
        for n in 0..times {
            let good = proxy.exchanges().into_iter().rev().find(|e| is_configuration(&e.request, &e.answer));
            let good = good.expect("it was given one").answer;
            let all = bad_configurations(&good);
            assert_eq!(all.len() as u64, kinds);
            let (kind, bytes) = all[((lane + n * LANES) % kinds) as usize].clone();
            stop(agent);
            let kept = stage::files(&stage.path(&name).join("config"));
            let (forger, offered) = (forger.clone(), Arc::new(Mutex::new(0)));
            let times_offered = offered.clone();
            proxy.policy(requests_only(move |request| {
                if !request.path().starts_with("/v1/config") {
                    return Fate::Pass;
                }
                *times_offered.lock().expect("nobody panicked") += 1;
                Fate::Answer(forger.answer(request, "200 OK", "\"another\"", &bytes))
            }));
            agent = stage.start(&name, &mut stage.agent_at(&name, &proxy.url()));
            until(&format!("{name} is offered a configuration that is {kind}"), PATIENCE, || {
                (*offered.lock().expect("nobody panicked") >= 2).then_some(())
            });
            checks(&stage, &location, kind);
            assert!(agent.runs(), "{name} ended after a configuration that is {kind}");
            assert!(
                stage::files(&stage.path(&name).join("config")) == kept,
                "{name}: a configuration that is {kind} was kept"
            );
            // Cut off, it goes on with what it has.
            agent.kill();
            proxy.link(Link::Refused);
            agent = stage.start(&name, &mut stage.agent_at(&name, &proxy.url()));
            checks(&stage, &location, kind);
            agent.kill();
            proxy.policy(requests_only(|_| Fate::Pass));
            proxy.link(Link::Up);
            agent = stage.start(&name, &mut stage.agent_at(&name, &proxy.url()));
            returns(&stage, &name);
        }
        let page = format!("{location}-{PAGES}");
        stage.apply_all(&stage.pages(&location, PAGES + 1)[PAGES..]);
        until(&format!("{name} takes the next good one"), PATIENCE, || {
            (stage.target.served_of(&page) > 0).then_some(())
        });
        ended(&stage, &name, agent)
    });
    Tally::of(run.count, "bad configurations").and(kinds, "kinds").and(0, "used").and(0, "kept")
}

fn is_configuration(request: &Message, answer: &Message) -> bool {
    request.path().starts_with("/v1/config") && answer.status() == 200
}

/// Every page of the location goes on being checked.
fn checks(stage: &Stage, location: &str, when: &str) {
    let served =
        || (0..PAGES).map(|n| stage.target.served_of(&format!("{location}-{n}"))).collect::<Vec<_>>();
    let before = served();
    until(&format!("{location}, {when}: checks go on"), PATIENCE, || {
        served().iter().zip(&before).all(|(now, before)| now > before).then_some(())
    });
}

/// An agent of that lane behind a proxy of its own, with monitors, seen once.
fn begun(stage: &Stage, lane: u64) -> (String, Proxy, Process) {
    let (name, location) = (format!("edge-{lane}"), format!("dc{lane}"));
    stage.apply_all(&stage.pages(&location, PAGES));
    let proxy = Proxy::start(stage.port());
    proxy.policy(requests_only(|_| Fate::Pass));
    let agent = stage.enrol_at(&name, &location, &proxy.url());
    stage.wait_for_result(&name, PATIENCE, |_| true);
    (name, proxy, agent)
}

/// It is back, stopped, and whole; gives how much it recorded.
fn ended(stage: &Stage, name: &str, agent: Process) -> u64 {
    returns(stage, name);
    stop(agent);
    stage.whole(name, PATIENCE).recorded as u64
}

const LANES: u64 = 2;
const PAGES: usize = 3;
/// More than a batch.
const WAITING: usize = 700;
const PATIENCE: Duration = Duration::from_secs(90);
