//! N7, N8, N10, T12, T13: portals, proxies and forgers answer instead of the control plane. None is obeyed, and no file of the identity changes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use rand::RngExt as _;
use servers::{Authority, Inspector};
use wire::signature::header;

use crate::http::{self, Message};
use crate::proxy::{Fate, Proxy};
use crate::row::row;
use crate::rows::process::{returns, stop};
use crate::rows::requests_only;
use crate::{Row, Run, Stage, Tally, stage, until};

pub(super) const ROWS: &[Row] = &[
    row("N7 N8 N10 T12 T13", "forged, proxied, unsigned and broken answers", (40, 1_000), forged),
    row("N6 N7", "a proxy that inspects TLS", (12, 90), inspected),
];

/// Every other answer is somebody else's, of every kind in turn; checks go on, and in the end nothing is missing.
fn forged(run: &Run) -> Tally {
    let stage = Stage::new("forged");
    let lanes = 6;
    let monitors: Vec<_> = (0..lanes).flat_map(|lane| stage.pages(&format!("dc{lane}"), 3)).collect();
    stage.apply_all(&monitors);
    let by_kind = Mutex::new(vec![0_u64; KINDS.len()]);
    let recorded = run
        .side_by_side(lanes, |lane, rounds| lane_of_forgeries(&stage, run, (lane, rounds), &by_kind, None));
    let by_kind = by_kind.into_inner().expect("no lane panicked");
    for (kind, times) in KINDS.iter().zip(&by_kind) {
        assert!(*times > 0, "{kind} was never tried");
    }
    Tally::of(by_kind.iter().sum(), "forged answers")
        .and(KINDS.len() as u64, "kinds")
        .and(0, "obeyed")
        .and(recorded.iter().sum::<usize>() as u64, "recorded")
        .and(0, "lost")
        .note("identity files unchanged")
}

/// One agent, lied to so many times; with an authority by a proxy that it trusts and that inspects its TLS.
fn lane_of_forgeries(
    stage: &Stage,
    run: &Run,
    (lane, rounds): (u64, u64),
    by_kind: &Mutex<Vec<u64>>,
    inspected_by: Option<&Authority>,
) -> usize {
    let name = format!("edge-{lane}");
    let proxy = Proxy::start(stage.port());
    proxy.policy(requests_only(|_| Fate::Pass));
    let inspector = inspected_by.map(|authority| {
        let trusted = stage.write("ca.pem", &authority.pem());
        (Inspector::start(authority, proxy.port()).expect("loopback has free ports"), trusted)
    });
    let token = stage.create_agent(&name, &format!("dc{lane}"));
    let start = || match &inspector {
        Some((inspector, trusted)) => {
            let mut command = stage.agent_at(&name, &inspector.url());
            command.arg("--ca-file").arg(trusted).env("PICKET_SETUP_TOKEN", &token);
            stage.start(&name, &mut command)
        }
        None => stage.start(&name, stage.agent_at(&name, &proxy.url()).env("PICKET_SETUP_TOKEN", &token)),
    };
    let agent = start();
    stage.wait_for_result(&name, Duration::from_secs(60), |_| true);
    let identity = || stage::files(&stage.path(&name).join("identity"));
    let before = identity();
    assert!(!before.is_empty());
    let page = format!("dc{lane}-0");
    let mut agent = agent;
    let mut done = 0;
    while done < rounds {
        // A process for every six: a new one has no patience to lose, so the next forgeries come soon.
        let batch = (rounds - done).min(6);
        let forged = Arc::new(AtomicU64::new(0));
        let old = proxy.exchanges();
        let (count, mut rng, first) = (forged.clone(), run.rng(lane << 32 | done), lane + done);
        let kinds: Vec<usize> = (0..batch).map(|n| (first + n * 7) as usize % KINDS.len()).collect();
        let told = kinds.clone();
        proxy.policy(requests_only(move |request| {
            let n = count.load(Ordering::SeqCst);
            if request.path().starts_with("/v1/recover") {
                // What asks to recover never passes: the control plane would grant it, and that would not be a forgery.
                return Fate::Close;
            }
            if n >= batch || rng.random_ratio(1, 2) {
                return Fate::Pass;
            }
            count.fetch_add(1, Ordering::SeqCst);
            forge(KINDS[told[n as usize]], request, &old, &mut rng)
        }));
        let served = stage.target.served_of(&page);
        until(&format!("{name} was lied to {batch} times"), Duration::from_secs(180), || {
            assert!(agent.runs(), "{name} ended, obeying one of {kinds:?}");
            (forged.load(Ordering::SeqCst) >= batch).then_some(())
        });
        until("checks go on", Duration::from_secs(60), || {
            (stage.target.served_of(&page) > served).then_some(())
        });
        let mut all = by_kind.lock().expect("no lane panicked");
        kinds.iter().for_each(|kind| all[*kind] += 1);
        drop(all);
        assert!(identity() == before, "{name}: a file of the identity changed after one of {kinds:?}");
        done += batch;
        agent.kill();
        agent = start();
    }
    proxy.policy(requests_only(|_| Fate::Pass));
    returns(stage, &name);
    if inspector.is_some() {
        replayed(stage, &proxy);
        // The stream passes too, and carries what the requests did.
        proxy.policy(|_| Fate::Pass);
        agent.kill();
        agent = start();
        until("a stream is opened by the inspecting proxy", Duration::from_secs(60), || {
            (proxy.streams().0 > 0).then_some(())
        });
        returns(stage, &name);
    }
    let whole = stage.whole(&name, Duration::from_secs(90));
    assert_eq!(whole.missing, 0, "{name}: something was released without the control plane's word");
    stop(agent);
    assert!(identity() == before, "{name}: a file of the identity changed");
    whole.recorded
}

/// A proxy that reads everything, and is trusted by the agent: it changes nothing, and what it read is worth nothing to it.
fn inspected(run: &Run) -> Tally {
    let stage = Stage::new("inspected");
    stage.apply_all(&stage.pages("dc0", 3));
    let authority = Authority::new().expect("a key");
    let by_kind = Mutex::new(vec![0_u64; KINDS.len()]);
    let recorded = lane_of_forgeries(&stage, run, (0, run.count), &by_kind, Some(&authority));
    Tally::of(run.count, "answers forged by a proxy that inspects TLS")
        .and(0, "obeyed")
        .and(0, "of the requests that it read accepted again")
        .and(recorded as u64, "recorded")
        .and(0, "lost")
        .note("identity files unchanged")
}

/// Sends every request again that the proxy saw, token and signature included. A nonce and the answer to the same enrolment are no secret.
fn replayed(stage: &Stage, proxy: &Proxy) {
    let seen = proxy.exchanges();
    let signed = seen.iter().filter(|e| !e.request.header(header::SIGNATURE).is_empty());
    let answers: Vec<_> = signed
        .map(|e| {
            assert!(e.request.header("authorization").starts_with("Bearer "), "the proxy reads the token");
            let answer = http::send(stage.port(), &e.request.raw, e.request.method()).expect("it answers");
            (e.request.start.clone(), answer.status())
        })
        .collect();
    assert!(answers.len() > 3, "the proxy saw {} signed requests", answers.len());
    let accepted: Vec<_> = answers.iter().filter(|(_, status)| *status < 400).collect();
    assert!(accepted.is_empty(), "accepted again: {accepted:?}");
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Portal,
    Redirect,
    NetworkAuthentication,
    ProxyUnauthorized,
    ProxyForbidden,
    ProxyAuthentication,
    Empty,
    /// An acknowledgement of everything, unsigned.
    HighCursor,
    /// The control plane's answer, with its signature, saying more.
    AlteredCursor,
    /// Its answer to an earlier request, signature included.
    OldAnswer,
    /// Its answer to the same request, without its signature.
    Unsigned,
    /// A verdict that would end the agent, unsigned.
    Revoked,
    /// The same, signed by somebody else.
    RevokedByAnother,
    Unauthorized,
    Superseded,
    /// A configuration of a far future without monitors.
    NoMonitors,
    BadGateway,
    /// After the control plane did what it was asked.
    GatewayTimeout,
}

const KINDS: &[Kind] = &[
    Kind::Portal,
    Kind::Redirect,
    Kind::NetworkAuthentication,
    Kind::ProxyUnauthorized,
    Kind::ProxyForbidden,
    Kind::ProxyAuthentication,
    Kind::Empty,
    Kind::HighCursor,
    Kind::AlteredCursor,
    Kind::OldAnswer,
    Kind::Unsigned,
    Kind::Revoked,
    Kind::RevokedByAnother,
    Kind::Unauthorized,
    Kind::Superseded,
    Kind::NoMonitors,
    Kind::BadGateway,
    Kind::GatewayTimeout,
];

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

fn forge(
    kind: Kind,
    request: &Message,
    old: &[crate::proxy::Exchange],
    rng: &mut rand::rngs::StdRng,
) -> Fate {
    let html: [(&str, &str); 1] = [("content-type", "text/html")];
    let json = [("content-type", "application/json")];
    let problem = |code: &str| format!(r#"{{"code":"{code}","detail":"says somebody else"}}"#);
    let refuse = |status: &str, code: &str, signature: &str| {
        let headers = [("content-type", "application/problem+json"), (header::SIGNATURE, signature)];
        let headers = if signature.is_empty() { &headers[..1] } else { &headers[..] };
        Fate::Answer(Message::answer(status, headers, problem(code).as_bytes()))
    };
    let page = |status: &str, more: (&str, &str)| {
        Fate::Answer(Message::answer(status, &[html[0], more], b"<html><h1>Welcome to the hotel</h1></html>"))
    };
    let everything = br#"{"cursor":{"epoch":4000000000,"seq":4000000000}}"#;
    match kind {
        Kind::Portal => page("200 OK", ("cache-control", "no-store")),
        Kind::Redirect => page("302 Found", ("location", "http://127.0.0.1:9/login")),
        Kind::NetworkAuthentication => page("511 Network Authentication Required", html[0]),
        Kind::ProxyUnauthorized => page("401 Unauthorized", ("www-authenticate", "Basic realm=\"proxy\"")),
        Kind::ProxyForbidden => page("403 Forbidden", ("via", "1.1 proxy")),
        Kind::ProxyAuthentication => {
            page("407 Proxy Authentication Required", ("proxy-authenticate", "Basic realm=\"proxy\""))
        }
        Kind::Empty => Fate::Answer(Message::answer("200 OK", &json, b"")),
        Kind::HighCursor => Fate::Answer(Message::answer("200 OK", &json, everything)),
        Kind::AlteredCursor => Fate::Replace(Box::new(|answer| answer.altered(everything, &[]))),
        Kind::OldAnswer => {
            let earlier: Vec<_> = old.iter().filter(|e| e.request.path() == request.path()).collect();
            match earlier.len() {
                0 => Fate::Close,
                count => Fate::Answer(earlier[rng.random_range(0..count)].answer.raw.clone()),
            }
        }
        Kind::Unsigned => {
            // The nonce is unsigned anyway; nothing hangs on it.
            Fate::Replace(Box::new(|answer| answer.altered(&answer.body, &[(header::SIGNATURE, "")])))
        }
        Kind::Revoked => refuse("403 Forbidden", "revoked", ""),
        Kind::RevokedByAnother => {
            let key = SigningKey::from_bytes(&[rng.random_range(1..9); 32]);
            refuse("403 Forbidden", "revoked", &hex::encode(key.sign(b"revoked").to_bytes()))
        }
        Kind::Unauthorized => refuse("401 Unauthorized", "unauthorized", ""),
        Kind::Superseded => refuse("401 Unauthorized", "superseded", ""),
        Kind::BadGateway => page("502 Bad Gateway", html[0]),
        Kind::GatewayTimeout => {
            Fate::Replace(Box::new(|_| Message::answer("504 Gateway Timeout", &[], b"upstream is slow")))
        }
        Kind::NoMonitors => {
            Fate::Answer(Message::answer("200 OK", &json, br#"{"version":4000000000,"monitors":[]}"#))
        }
    }
}
