//! Whatever comes on a stream is believed by its signature alone: a stream that somebody else opened, answers or pushes on changes
//! nothing, and the results go by HTTPS.
//!
//! A small control plane stands here that is honest by HTTPS and forges its streams in one way.

#![expect(clippy::unwrap_used, reason = "a test whose set-up breaks has failed")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, Response};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wire::enroll::EnrollRequest;
use wire::push::Push;
use wire::results::{Batch, Record};
use wire::signature::{Asked, Stamp, header};
use wire::stream::{Down, Up};
use wire::{AgentId, MonitorId};

use common::Running;

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Forgery {
    /// Its first frame has no signature.
    Nobody,
    /// Its first frame is signed by another key.
    Stranger,
    /// Its first frame is an honest answer to another request.
    Replayed,
    /// A push in it is signed by another key.
    Push,
    /// A push in it was made for another lease.
    OldPush,
    /// Its answers are signed by another key.
    Answer,
    /// Nothing: it is honest.
    None,
}

struct Fake {
    key: SigningKey,
    forgery: Forgery,
    streams: AtomicU64,
    pushed: AtomicU64,
    /// Batches that came by a stream and were answered honestly.
    by_stream: AtomicU64,
    batches: mpsc::UnboundedSender<Batch>,
    /// The highest cursor.
    cursor: Mutex<Value>,
}

const MONITOR: MonitorId = MonitorId(uuid::Uuid::from_u128(9));

async fn respond(State(fake): State<Arc<Fake>>, request: Request) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let body = to_bytes(body, wire::BODY_LIMIT).await.unwrap();
    let whole = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let asked = Asked::new(parts.method.as_str(), &whole, &body);
    if parts.uri.path() == "/v1/nonce" {
        return Response::new(Body::from(r#"{"nonce":"00"}"#));
    }
    if let Ok(upgrade) = upgrade {
        fake.streams.fetch_add(1, Ordering::SeqCst);
        let stamp = stamp(&parts.headers);
        return upgrade.on_upgrade(move |socket| stream(fake, socket, stamp, asked));
    }
    let (value, stamp) = match parts.uri.path() {
        "/v1/enroll" => {
            let request: EnrollRequest = serde_json::from_slice(&body).unwrap();
            let agent = AgentId(uuid::Uuid::from_u128(7));
            let lease = request.enrollment_id.to_string();
            let server_key = hex::encode(fake.key.verifying_key().as_bytes());
            let answer = json!({"agent_id": agent, "name": "edge-1", "location": "dc1", "generation": 1, "server_key": server_key});
            (answer, Stamp { agent, generation: 1, lease, counter: 0 })
        }
        path => (honest(&fake, path, &body).await, stamp(&parts.headers)),
    };
    let body = value.to_string();
    let signature = stamp.sign_answer(&fake.key, &asked, 200, "", body.as_bytes());
    Response::builder().header(header::SIGNATURE, signature).body(Body::from(body)).unwrap()
}

fn stamp(headers: &HeaderMap) -> Stamp {
    let text = |name: &str| headers[name].to_str().unwrap();
    Stamp {
        agent: AgentId(text(header::AGENT).parse().unwrap()),
        generation: text(header::GENERATION).parse().unwrap(),
        lease: text(header::LEASE).to_owned(),
        counter: text(header::COUNTER).parse().unwrap(),
    }
}

async fn honest(fake: &Fake, path: &str, body: &[u8]) -> Value {
    match path {
        "/v1/hello" => json!({"lease": "lease", "cursor": {"epoch": 0, "seq": 0}}),
        "/v1/pushes" => std::future::pending().await,
        "/v1/config" => {
            let monitor = json!({"id": MONITOR, "name": "shop", "check": "htp", "interval_ms": 1000, "timeout_ms": 500,
                "config": {}, "digest": "d"});
            json!({"version": 1, "monitors": [monitor]})
        }
        "/v1/results" => {
            let batch: Batch = serde_json::from_slice(body).unwrap();
            let mut cursor = fake.cursor.lock().unwrap();
            if let Some(last) = batch.records.last().filter(|_| batch.lane == wire::results::Lane::Backlog) {
                *cursor = json!(Record::position(last));
            }
            let _ = fake.batches.send(batch);
            json!({"cursor": *cursor})
        }
        other => panic!("{other} is no endpoint"),
    }
}

async fn stream(fake: Arc<Fake>, mut socket: WebSocket, stamp: Stamp, asked: Asked) {
    let stranger = SigningKey::from_bytes(&[1; 32]);
    let first = match fake.forgery {
        Forgery::Nobody => String::new(),
        Forgery::Stranger => stamp.sign_answer(&stranger, &asked, 101, "", b""),
        Forgery::Replayed => {
            let other = Stamp { counter: stamp.counter + 1, ..stamp.clone() };
            other.sign_answer(&fake.key, &asked, 101, "", b"")
        }
        _ => stamp.sign_answer(&fake.key, &asked, 101, "", b""),
    };
    let first =
        json!({"kind": "answer", "counter": stamp.counter, "status": 101, "signature": first}).to_string();
    let body = serde_json::to_string(&Push::Run {
        monitors: vec![MONITOR],
        request: Some(uuid::Uuid::from_u128(666)),
    })
    .unwrap();
    let signature = match fake.forgery {
        Forgery::OldPush => {
            Stamp { lease: "old".into(), ..stamp.clone() }.sign_push(&fake.key, 1, body.as_bytes())
        }
        Forgery::None => stamp.sign_push(&fake.key, 1, body.as_bytes()),
        _ => stamp.sign_push(&stranger, 1, body.as_bytes()),
    };
    let push = serde_json::to_string(&Down::Push { number: 1, body, signature }).unwrap();
    let _ = socket.send(Message::text(first)).await;
    let pushes = !matches!(fake.forgery, Forgery::Answer);
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Text(text) = message else { continue };
        let Up::Request { counter, method, path, body, .. } = serde_json::from_str(&text).unwrap();
        let forged = fake.forgery == Forgery::Answer;
        let answer = match forged {
            // More than was sent: who believes it loses results.
            true => json!({"cursor": {"epoch": 1, "seq": 1_000_000}}),
            false => honest(&fake, &path, body.as_bytes()).await,
        }
        .to_string();
        fake.by_stream.fetch_add(u64::from(!forged), Ordering::SeqCst);
        let (stamp, asked) =
            (Stamp { counter, ..stamp.clone() }, Asked::new(&method, &path, body.as_bytes()));
        let key = if forged { &stranger } else { &fake.key };
        let signature = stamp.sign_answer(key, &asked, 200, "", answer.as_bytes());
        let frame = json!({"kind": "answer", "counter": counter, "status": 200, "body": answer, "signature": signature});
        let _ = socket.send(Message::text(frame.to_string())).await;
        // Results of the plan came, so the monitor is there to be run.
        if pushes && body.contains(r#""kind":"result""#) && fake.pushed.fetch_add(1, Ordering::SeqCst) == 0 {
            let _ = socket.send(Message::text(push.clone())).await;
        }
    }
}

/// Lets an agent report until a stream was tried, pushed on where it opens, and some results came; gives whether the push was obeyed.
async fn check(forgery: Forgery) -> (Arc<Fake>, bool) {
    let dir = tempfile::tempdir().unwrap();
    let (batches, mut arrived) = mpsc::unbounded_channel();
    let fake = Arc::new(Fake {
        key: SigningKey::from_bytes(&[9; 32]),
        forgery,
        streams: AtomicU64::new(0),
        pushed: AtomicU64::new(0),
        by_stream: AtomicU64::new(0),
        batches,
        cursor: Mutex::new(json!({"epoch": 0, "seq": 0})),
    });
    let app = Router::new().fallback(respond).with_state(fake.clone());
    let running = Running::start(dir.path(), app).await;
    let (mut seqs, mut obeyed) = (Vec::new(), false);
    let opens = matches!(forgery, Forgery::Push | Forgery::OldPush | Forgery::None);
    let done = |seen: usize, obeyed: bool| {
        let tried = fake.streams.load(Ordering::SeqCst) > 0;
        let pushed = !opens || fake.pushed.load(Ordering::SeqCst) > 0;
        seen > 3 && tried && pushed && (obeyed || forgery != Forgery::None || seen > 20)
    };
    while !done(seqs.len(), obeyed) {
        for record in arrived.recv().await.expect("the agent reports").records {
            let Record::Result { seq, result, .. } = record else { panic!("{forgery:?} made a gap") };
            obeyed |= result.request.is_some();
            seqs.push(seq);
        }
    }
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "{forgery:?}");
    running.stop(Duration::from_secs(10)).await;
    (fake, obeyed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_stream_is_obeyed_in_nothing_and_the_results_go_by_https() {
    use Forgery::{Answer, Nobody, OldPush, Push, Replayed, Stranger};
    let checks: Vec<_> = [Nobody, Stranger, Replayed, Push, OldPush, Answer]
        .map(|forgery| (forgery, tokio::spawn(check(forgery))))
        .into();
    for (forgery, check) in checks {
        let (fake, obeyed) = check.await.unwrap();
        assert!(!obeyed, "{forgery:?}");
        let opens = matches!(forgery, Push | OldPush);
        assert!(opens || fake.by_stream.load(Ordering::SeqCst) == 0, "{forgery:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_stream_carries_the_results_and_its_push_is_obeyed() {
    let (fake, obeyed) = check(Forgery::None).await;
    assert!(obeyed);
    assert!(fake.by_stream.load(Ordering::SeqCst) > 0);
}
