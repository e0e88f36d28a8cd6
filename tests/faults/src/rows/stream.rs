//! N11, N7, T12 on the stream: cut after every byte, and frames that the control plane never sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use super::process::{returns, stop};
use crate::proxy::{Fate, Proxy, text_frame};
use crate::row::row;
use crate::{Row, Run, Stage, Tally, pause, stage, until};

pub(super) const ROWS: &[Row] = &[
    row("N11", "streams cut after every byte", (40, 600), cuts),
    row("N7 T12", "forged frames on the stream", (16, 300), forged),
];

/// Agents side by side; each time the stream is cut after some bytes came down, and what is recorded arrives all the same.
fn cuts(run: &Run) -> Tally {
    let stage = Stage::new("N11s");
    let lanes = 4;
    let monitors: Vec<_> = (0..lanes).flat_map(|lane| stage.pages(&format!("dc{lane}"), 5)).collect();
    stage.apply_all(&monitors);
    let next = AtomicU64::new(0);
    let recorded = run.side_by_side(lanes, |lane, cycles| {
        let name = format!("edge-{lane}");
        let proxy = Proxy::start(stage.port());
        let mut agent = stage.enrol_at(&name, &format!("dc{lane}"), &proxy.url());
        stage.wait_for_result(&name, Duration::from_secs(60), |_| true);
        for _ in 0..cycles {
            let at = next.fetch_add(1, Ordering::SeqCst) * 37 % LONGEST;
            agent.kill();
            let mut cut = false;
            proxy.policy(move |request| {
                if cut || !request.path().starts_with("/v1/stream") {
                    return Fate::Pass;
                }
                cut = true;
                Fate::CutStream(at as usize)
            });
            let (opened, ended) = proxy.streams();
            agent = stage.start(&name, &mut stage.agent_at(&name, &proxy.url()));
            until(&format!("a stream of {name} is cut after {at} bytes"), Duration::from_secs(60), || {
                let now = proxy.streams();
                (now.0 > opened && now.1 > ended).then_some(())
            });
            returns(&stage, &name);
        }
        let whole = stage.whole(&name, Duration::from_secs(60));
        stop(agent);
        whole.recorded as u64
    });
    Tally::of(run.count, "streams cut").and(recorded.iter().sum(), "recorded").and(0, "lost").and(0, "twice")
}

/// Frames in between that look right and are signed by nobody: none is obeyed, and the history stays whole.
fn forged(run: &Run) -> Tally {
    let stage = Stage::new("N7s");
    let lanes = 4;
    let monitors: Vec<_> = (0..lanes).flat_map(|lane| stage.pages(&format!("dc{lane}"), 3)).collect();
    stage.apply_all(&monitors);
    let monitor = stage.get("/v1/monitors")[0]["id"].clone();
    let request = Uuid::from_u128(0xf0_96_ed);
    let signature = "5a".repeat(64);
    let push = |push: serde_json::Value| {
        json!({"kind": "push", "number": 1, "body": push.to_string(), "signature": signature}).to_string()
    };
    let answer = |counter: u64, status: u16, body: &serde_json::Value| {
        json!({"kind": "answer", "counter": counter, "status": status, "body": body.to_string(), "signature": signature})
            .to_string()
    };
    let everything = json!({"cursor": {"epoch": 4_000_000_000_u64, "seq": 4_000_000_000_u64}});
    let revoked = json!({"code": "revoked", "detail": "says somebody else"});
    let frames = [
        push(json!({"kind": "run", "monitors": [monitor], "request": request})),
        push(json!({"kind": "rotate"})),
        push(json!({"kind": "hello"})),
        answer(2, 200, &everything),
        answer(3, 200, &everything),
        answer(2, 403, &revoked),
        answer(3, 403, &revoked),
        "{\"kind\":\"push\"".to_owned(),
    ];
    let recorded = run.side_by_side(lanes, |lane, times| {
        let name = format!("edge-{lane}");
        let proxy = Proxy::start(stage.port());
        let mut agent = stage.enrol_at(&name, &format!("dc{lane}"), &proxy.url());
        stage.wait_for_result(&name, Duration::from_secs(60), |_| true);
        let identity = || stage::files(&stage.path(&name).join("identity"));
        let before = identity();
        for n in 0..times {
            let kind = ((lane + n * lanes) % frames.len() as u64) as usize;
            let forged = text_frame(&frames[kind]);
            agent.kill();
            proxy.policy(move |request| match request.path().starts_with("/v1/stream") {
                true => Fate::Inject(forged.clone()),
                false => Fate::Pass,
            });
            let (opened, begun) = (proxy.streams().0, Instant::now());
            agent = stage.start(&name, &mut stage.agent_at(&name, &proxy.url()));
            until("a stream is opened", Duration::from_secs(60), || {
                (proxy.streams().0 > opened).then_some(())
            });
            pause(Duration::from_millis(300));
            returns(&stage, &name);
            assert!(agent.runs(), "{name} ended after {}, {:?}", frames[kind], begun.elapsed());
            assert!(identity() == before, "{name}: the identity changed after {}", frames[kind]);
        }
        proxy.policy(|_| Fate::Pass);
        let whole = stage.whole(&name, Duration::from_secs(60));
        assert_eq!(whole.missing, 0, "{name}: something was released without the control plane's word");
        let asked = stage.stored(&name).into_iter().filter(|r| r["request"] == request.to_string());
        assert_eq!(asked.count(), 0, "a forged wish was run");
        stop(agent);
        whole.recorded as u64
    });
    Tally::of(run.count, "streams with forged frames")
        .and(frames.len() as u64, "kinds")
        .and(0, "obeyed")
        .and(recorded.iter().sum(), "recorded")
        .and(0, "lost")
        .note("identity files unchanged")
}

/// Bytes after which a stream is cut at most: its opening, and the answers to some batches.
const LONGEST: u64 = 1_200;
