//! What answers in the control plane's place must not hurt: no identity changes, nothing is released, and when the real one is back
//! every result comes.
//!
//! A small control plane stands here that forges its first answers in one way, then becomes honest.

#![expect(clippy::unwrap_used, reason = "a test whose set-up breaks has failed")]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response};
use ed25519_dalek::SigningKey;
use picket_agent as agent;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wire::enroll::EnrollRequest;
use wire::results::{Batch, Lane, Record, State as Verdict};
use wire::signature::{self, Asked, Stamp, header};
use wire::token::Challenge;
use wire::{AgentId, Position, ResultId};

use common::{Running, listen, settings};

/// How the first answers of each kind are forged.
#[derive(Clone, Copy, Debug)]
enum Forgery {
    /// The right answer without a signature: whoever stands between could make it.
    Unsigned,
    /// Signed by another key.
    OtherKey,
    /// The signature of another request.
    Replayed,
    /// The signature of another request that showed the same stamp.
    Elsewhere,
    /// The right signature over a body that was cut.
    Cut,
    /// A proxy's 401, to everything, and a challenge that another server signed.
    Unauthorized,
    /// A proxy's 403.
    Forbidden,
    /// A proxy that wants a password.
    Proxy,
    /// A verdict in the control plane's own words: without a signature, or with another server's.
    Verdict(&'static str, bool),
    /// A captive portal's redirect.
    Redirect,
    /// A captive portal's welcome.
    Portal,
    /// The error of something in between.
    Broken(u16),
    /// The control plane's own error, signed.
    Refused(u16, &'static str),
}

struct Fake {
    key: SigningKey,
    forgery: Forgery,
    /// Where the agent lives.
    data: PathBuf,
    /// Its identity before the first forged answer to an enrolled agent.
    enrolled: Mutex<Option<Vec<Vec<u8>>>>,
    /// Answers forged so far, by path.
    forged: Mutex<HashMap<String, u32>>,
    /// Results in batches that were not.
    unanswered: Mutex<Vec<(u64, ResultId)>>,
    /// Where the honest ones of the backlog end.
    cursor: Mutex<Position>,
    /// Batches that were answered honestly.
    batches: mpsc::UnboundedSender<Batch>,
}

struct Answer {
    status: u16,
    etag: &'static str,
    body: Vec<u8>,
    stamp: Stamp,
}

async fn respond(State(fake): State<Arc<Fake>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body = to_bytes(body, wire::BODY_LIMIT).await.unwrap();
    let asked = Asked::new(parts.method.as_str(), parts.uri.path_and_query().unwrap().as_str(), &body);
    if path == "/v1/nonce" {
        fake.enrolled.lock().unwrap().get_or_insert_with(|| identity(&fake.data));
    }
    if path == "/v1/recover/challenge" {
        let agent = AgentId(uuid::Uuid::from_u128(7));
        let text = Challenge::signed(agent, "00", 2);
        let signature = signature::sign(&SigningKey::from_bytes(&[1; 32]), &text);
        *fake.forged.lock().unwrap().entry(path).or_default() += 1;
        return Response::new(Body::from(
            json!({"challenge": "00", "generation": 2, "signature": signature}).to_string(),
        ));
    }
    if path == "/v1/nonce" && !matches!(fake.forgery, Forgery::Unauthorized) {
        return Response::new(Body::from(r#"{"nonce":"00"}"#));
    }
    let forge = {
        let mut forged = fake.forged.lock().unwrap();
        let times = forged.entry(path.clone()).or_default();
        *times += 1;
        *times <= if ["/v1/results", "/v1/nonce"].contains(&&path[..]) { 2 } else { 1 }
            && path != "/v1/config"
    };
    if path == "/v1/nonce" {
        return if forge { html(401) } else { Response::new(Body::from(r#"{"nonce":"00"}"#)) };
    }
    let answer = honest(&fake, &path, &parts.headers, &body, forge).await;
    let Answer { status, etag, stamp, .. } = &answer;
    let mut body = answer.body.clone();
    let mut signature = stamp.sign_answer(&fake.key, &asked, *status, etag, &body);
    let mut response = Response::builder().status(*status);
    if forge {
        match fake.forgery {
            Forgery::Unsigned => signature.clear(),
            Forgery::OtherKey => {
                signature =
                    stamp.sign_answer(&SigningKey::from_bytes(&[1; 32]), &asked, *status, etag, &body);
            }
            Forgery::Replayed => {
                let other = Stamp { counter: stamp.counter + 1, ..stamp.clone() };
                signature = other.sign_answer(&fake.key, &asked, *status, etag, &body);
            }
            Forgery::Elsewhere => {
                let other = Asked::new("POST", &path, b"another body");
                signature = stamp.sign_answer(&fake.key, &other, *status, etag, &body);
            }
            Forgery::Cut => body.truncate(body.len() / 2),
            Forgery::Unauthorized => return html(401),
            Forgery::Forbidden => return html(403),
            Forgery::Proxy => return html(407),
            Forgery::Verdict(code, signed) => {
                let body = json!({"code": code, "detail": "says who?"}).to_string();
                let other = SigningKey::from_bytes(&[1; 32]);
                let signature = stamp.sign_answer(&other, &asked, 403, "", body.as_bytes());
                let response = Response::builder()
                    .status(403)
                    .header("content-type", "application/problem+json")
                    .header(header::SIGNATURE, if signed { &signature } else { "" });
                return response.body(Body::from(body)).unwrap();
            }
            Forgery::Redirect => return html(302),
            Forgery::Portal => return html(200),
            Forgery::Broken(status) => return html(status),
            Forgery::Refused(status, code) => {
                body = serde_json::to_vec(&wire::Problem::new(code, "not now")).unwrap();
                signature = stamp.sign_answer(&fake.key, &asked, status, "", &body);
                response = Response::builder().status(status).header("retry-after", "1");
            }
        }
    }
    if !etag.is_empty() {
        response = response.header("etag", *etag);
    }
    response.header(header::SIGNATURE, signature).body(Body::from(body)).unwrap()
}

fn html(status: u16) -> Response<Body> {
    let response = Response::builder()
        .status(status)
        .header("content-type", "text/html")
        .header("location", "/v1/results");
    response.body(Body::from("<html>welcome to the hotel</html>")).unwrap()
}

async fn honest(fake: &Fake, path: &str, headers: &HeaderMap, body: &[u8], forged: bool) -> Answer {
    let ok =
        |value: Value, stamp: Stamp| Answer { status: 200, etag: "", body: value.to_string().into(), stamp };
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let stamp = || Stamp {
        agent: AgentId(text(header::AGENT).parse().unwrap()),
        generation: text(header::GENERATION).parse().unwrap(),
        lease: text(header::LEASE).to_owned(),
        counter: text(header::COUNTER).parse().unwrap(),
    };
    match path {
        "/v1/enroll" => {
            let request: EnrollRequest = serde_json::from_slice(body).unwrap();
            let agent = AgentId(uuid::Uuid::from_u128(7));
            let lease = request.enrollment_id.to_string();
            let server_key = hex::encode(fake.key.verifying_key().as_bytes());
            let answer = json!({"agent_id": agent, "name": "edge-1", "location": "dc1", "generation": 1, "server_key": server_key});
            ok(answer, Stamp { agent, generation: 1, lease, counter: 0 })
        }
        "/v1/hello" => ok(json!({"lease": "lease", "cursor": {"epoch": 0, "seq": 0}}), stamp()),
        "/v1/config" if headers.contains_key("if-none-match") => {
            Answer { status: 304, etag: "\"1\"", body: Vec::new(), stamp: stamp() }
        }
        "/v1/pushes" => std::future::pending().await,
        // A control plane that opens no streams.
        "/v1/stream" => {
            let problem = json!({"code": wire::Problem::NOT_FOUND, "detail": "no streams here"});
            Answer { status: 404, ..ok(problem, stamp()) }
        }
        "/v1/config" => {
            let monitor = json!({"id": uuid::Uuid::from_u128(9), "name": "shop", "check": "htp", "interval_ms": 1000,
                "timeout_ms": 500, "config": {}, "digest": "d"});
            Answer { etag: "\"1\"", ..ok(json!({"version": 1, "monitors": [monitor]}), stamp()) }
        }
        "/v1/results" => {
            let batch: Batch = serde_json::from_slice(body).unwrap();
            let mut cursor = fake.cursor.lock().unwrap();
            let reached = match (batch.lane, batch.records.last()) {
                (Lane::Backlog, Some(last)) => last.position(),
                // What comes ahead moves nothing.
                (Lane::Live, _) | (Lane::Backlog, None) => *cursor,
            };
            if forged {
                fake.unanswered.lock().unwrap().extend(ids(&batch));
            } else {
                *cursor = reached;
                let _ = fake.batches.send(batch);
            }
            ok(json!({"cursor": reached}), stamp())
        }
        other => panic!("{other} is no endpoint"),
    }
}

fn ids(batch: &Batch) -> Vec<(u64, ResultId)> {
    let ids = batch.records.iter().filter_map(|record| match record {
        Record::Result { seq, result, .. } => Some((*seq, result.id)),
        Record::Gap(_) => None,
    });
    ids.collect()
}

fn identity(data: &Path) -> Vec<Vec<u8>> {
    ["slot.a", "slot.b"].map(|name| std::fs::read(data.join("data/identity").join(name)).unwrap()).into()
}

/// Lets an agent enrol, say hello and report against forged answers first, and expects every result from the first on.
async fn check(forgery: Forgery) {
    let dir = tempfile::tempdir().unwrap();
    let (batches, mut arrived) = mpsc::unbounded_channel();
    let key = SigningKey::from_bytes(&[9; 32]);
    let fake = Arc::new(Fake {
        key,
        forgery,
        data: dir.path().to_owned(),
        enrolled: Mutex::default(),
        forged: Mutex::default(),
        unanswered: Mutex::default(),
        cursor: Mutex::default(),
        batches,
    });
    let app = Router::new().fallback(respond).with_state(fake.clone());
    let running = Running::start(dir.path(), app).await;

    let (mut seqs, mut arrived_ids) = (Vec::new(), Vec::new());
    while seqs.len() < 3 {
        let batch = arrived.recv().await.expect("the agent reports");
        arrived_ids.extend(ids(&batch));
        if batch.lane == Lane::Live {
            continue;
        }
        for record in batch.records {
            let Record::Result { seq, result, .. } = record else { panic!("{forgery:?} made a gap") };
            assert_eq!((result.state, &result.code[..]), (Verdict::Error, "plugin.unknown"));
            seqs.push(seq);
        }
    }
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "{forgery:?}");
    let again = std::mem::take(&mut *fake.unanswered.lock().unwrap());
    assert!(
        !again.is_empty() && again.iter().all(|id| arrived_ids.contains(id)),
        "{forgery:?}: the same ids again"
    );
    let enrolled = fake.enrolled.lock().unwrap().take().unwrap();
    assert_eq!(enrolled, identity(dir.path()), "{forgery:?}");
    assert!(fake.forged.lock().unwrap()["/v1/enroll"] == 2 && fake.forged.lock().unwrap()["/v1/results"] > 2);
    assert_eq!(agent::health::check(&dir.path().join("data")).unwrap().name, "edge-1");
    if matches!(forgery, Forgery::Unauthorized) {
        let asked = fake.forged.lock().unwrap()["/v1/recover/challenge"];
        assert_eq!(asked, 1, "two refusals in a row, one question, and nothing believed");
    }

    running.stop(Duration::from_secs(5)).await;
    assert!(agent::health::check(&dir.path().join("data")).unwrap_err().contains("stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_answers_change_no_identity_and_release_nothing() {
    use Forgery::{
        Cut, Elsewhere, Forbidden, OtherKey, Portal, Proxy, Redirect, Replayed, Unauthorized, Unsigned,
        Verdict,
    };
    use wire::Problem;
    let codes = [
        Problem::REVOKED,
        Problem::SUPERSEDED,
        Problem::FORKED,
        Problem::APPROVAL_REQUIRED,
        Problem::ROTATE_FIRST,
    ];
    let verdicts = codes.into_iter().flat_map(|code| [Verdict(code, false), Verdict(code, true)]);
    let forgeries =
        [Unsigned, OtherKey, Replayed, Elsewhere, Cut, Unauthorized, Forbidden, Proxy, Redirect, Portal];
    check_all(forgeries.into_iter().chain(verdicts)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_error_answers_a_batch_the_same_results_come_again() {
    use Forgery::{Broken, Refused};
    let refused = [Refused(500, wire::Problem::INTERNAL), Refused(503, wire::Problem::BUSY)];
    check_all([Broken(500), Broken(502), Broken(503), Broken(504)].into_iter().chain(refused)).await;
}

async fn check_all(forgeries: impl IntoIterator<Item = Forgery>) {
    let checks: Vec<_> = forgeries.into_iter().map(|forgery| tokio::spawn(check(forgery))).collect();
    for check in checks {
        check.await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_setup_token_ends_the_agent_and_an_unreachable_control_plane_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let app = Router::new().fallback(async || {
        let problem = json!({"code": wire::Problem::SETUP_TOKEN_EXPIRED, "detail": "the setup token is older than 24 hours"});
        let response = Response::builder().status(410).header("content-type", "application/problem+json");
        response.body(Body::from(problem.to_string())).unwrap()
    });
    let (control, server) = listen(app).await;
    let error = agent::run(settings(dir.path(), &control), std::future::pending()).await.unwrap_err();
    assert_eq!(error.exit_code(), 69);
    assert!(error.to_string().contains("older than 24 hours"), "{error}");
    server.abort();
    let _ = server.await;

    let state = dir.path().join("data/state.json");
    let told = async {
        while !std::fs::read_to_string(&state).is_ok_and(|text| text.contains("cannot reach")) {
            tokio::task::yield_now().await;
        }
    };
    let error = agent::run(settings(dir.path(), &control), told).await.unwrap_err();
    assert_eq!(error.exit_code(), 69);
    assert!(error.to_string().starts_with("not enrolled: cannot reach"), "{error}");
}
