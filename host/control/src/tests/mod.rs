//! The control plane as its callers see it: over a real listener, with a store in a directory of its own and a clock that obeys.

mod admin;
mod agent;
mod alerts;
mod growth;
mod identity;
mod openapi;
mod page;
mod process;
mod stream;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;
use wire::enroll::EnrollRequest;
use wire::signature::{Asked, Stamp, header, public_key, token_sha256};
use wire::{AgentId, Timestamp};

use crate::clock::{Clock, Now};
use crate::control::{Control, Parts};
use crate::identity::keys::Keys;
use crate::monitors::tests::Http;
use crate::store::Embedded;

/// A control plane that listens.
struct Plane {
    control: Arc<Control>,
    url: String,
    admin: String,
    now_ms: Arc<AtomicU64>,
    server: tokio::task::JoinHandle<()>,
}

impl Plane {
    async fn start(data: &Path) -> Self {
        Self::start_at(data, 60_000).await
    }

    /// The same, at this time of both clocks.
    async fn start_at(data: &Path, now_ms: u64) -> Self {
        let now_ms = Arc::new(AtomicU64::new(now_ms));
        let clock: Clock = {
            let now_ms = now_ms.clone();
            Arc::new(move || {
                let ms = now_ms.load(Ordering::SeqCst);
                Now { wall: Timestamp::from_millis(START_MS + i64::try_from(ms).unwrap()), up_ms: ms }
            })
        };
        let keys = Keys::open(data).unwrap();
        let admin = std::fs::read_to_string(&keys.admin_path).unwrap().trim().to_owned();
        let parts = Parts {
            store: Arc::new(Embedded::open(&data.join("store")).unwrap()),
            clock,
            keys,
            checks: Box::new(Http),
            plugins: vec![],
            setup_token_ttl: Duration::from_secs(24 * 3600),
            secure: false,
        };
        let control = Arc::new(Control::load(parts).unwrap());
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = crate::api::router(control.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { control, url, admin, now_ms, server }
    }

    fn pass(&self, time: Duration) {
        self.now_ms.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Calls the admin API.
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request =
            reqwest::Client::new().request(method, format!("{}{path}", self.url)).bearer_auth(&self.admin);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let (status, body) = (answer.status(), answer.bytes().await.unwrap());
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    async fn setup_token(&self, name: &str) -> String {
        let body = json!({"agent": name, "location": "dc1"});
        let (status, answer) = self.call(Method::POST, "/v1/agents", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["setup_token"].as_str().unwrap().to_owned()
    }

    async fn apply(&self, monitors: Value) -> Value {
        let body = json!({"monitors": monitors});
        let (status, answer) = self.call(Method::POST, "/v1/monitors/apply", Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    /// An enrolled agent that said hello.
    async fn agent(&self, name: &str) -> Device {
        let mut device = Device::new(&self.url, 1);
        let token = self.setup_token(name).await;
        let (status, answer) = device.enroll(&token).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        device.hello(json!({"epoch": 0, "seq": 0})).await;
        device
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An agent as far as the control plane can tell.
struct Device {
    url: String,
    key: SigningKey,
    token: String,
    enrollment_id: Uuid,
    id: AgentId,
    generation: u64,
    lease: String,
    counter: Mutex<u64>,
    server_key: String,
}

impl Device {
    fn new(url: &str, seed: u8) -> Self {
        Self {
            url: url.to_owned(),
            key: SigningKey::from_bytes(&[seed; 32]),
            token: format!("active token of {seed}"),
            enrollment_id: Uuid::from_u128(seed.into()),
            id: AgentId(Uuid::nil()),
            generation: 1,
            lease: String::new(),
            counter: Mutex::new(0),
            server_key: String::new(),
        }
    }

    async fn enroll(&mut self, setup_token: &str) -> (StatusCode, Value) {
        let public_key = hex::encode(self.key.verifying_key().to_bytes());
        let token_sha256 = token_sha256(&self.token);
        let signed = EnrollRequest::signed(setup_token, self.enrollment_id, &public_key, &token_sha256);
        let request = EnrollRequest {
            setup_token: setup_token.to_owned(),
            enrollment_id: self.enrollment_id,
            public_key,
            token_sha256,
            version: "0.1.0".into(),
            signature: hex::encode(self.key.sign(signed.as_bytes()).to_bytes()),
        };
        let request = serde_json::to_vec(&request).unwrap();
        let asked = Asked::new("POST", "/v1/enroll", &request);
        let answer = reqwest::Client::new()
            .post(format!("{}/v1/enroll", self.url))
            .body(request)
            .send()
            .await
            .unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.unwrap();
        let value: Value = serde_json::from_slice(&body).unwrap();
        if status.is_success() {
            self.id = AgentId(value["agent_id"].as_str().unwrap().parse().unwrap());
            self.server_key = value["server_key"].as_str().unwrap().to_owned();
            let lease = self.enrollment_id.to_string();
            let stamp = Stamp { agent: self.id, generation: 1, lease, counter: 0 };
            assert!(
                self.is_signed(&stamp, &asked, 200, "", &body, &headers),
                "the answer to an enrolment is signed"
            );
        }
        (status, value)
    }

    async fn hello(&mut self, recorded: Value) -> Value {
        let (status, welcome) = self.try_hello(recorded, None).await;
        assert_eq!(status, StatusCode::OK, "{welcome}");
        welcome
    }

    /// Says hello and names the lease that it says it had; goes on with the one it gets.
    async fn try_hello(&mut self, recorded: Value, previous_lease: Option<&str>) -> (StatusCode, Value) {
        let client = reqwest::Client::new();
        let asked = client.post(format!("{}/v1/nonce", self.url)).bearer_auth(&self.token);
        let answer = asked.header(header::AGENT, self.id.to_string()).send().await.unwrap();
        let nonce: wire::session::Nonce = answer.json().await.unwrap();
        let body = json!({"version": "0.1.0", "recorded": recorded, "pending": 0, "previous_lease": previous_lease, "boot_id": "b"});
        let stamp = self.stamp_of(&nonce.nonce, 0);
        let (status, welcome) = self.send(&stamp, Method::POST, "/v1/hello", body.to_string(), None).await;
        if let Some(lease) = welcome["lease"].as_str() {
            self.lease = lease.to_owned();
            *self.counter.lock().unwrap() = 0;
        }
        (status, welcome)
    }

    fn stamp_of(&self, lease: &str, counter: u64) -> Stamp {
        Stamp { agent: self.id, generation: self.generation, lease: lease.to_owned(), counter }
    }

    fn stamp(&self) -> Stamp {
        let mut counter = self.counter.lock().unwrap();
        *counter += 1;
        self.stamp_of(&self.lease, *counter)
    }

    /// Sends a signed request; the answer has to be signed.
    async fn send(
        &self,
        stamp: &Stamp,
        method: Method,
        path: &str,
        body: String,
        etag: Option<&str>,
    ) -> (StatusCode, Value) {
        let signature = stamp.sign_request(&self.key, method.as_str(), path, body.as_bytes());
        let (status, value, signed) = self.send_as(stamp, method, path, body, etag, &signature).await;
        assert!(signed, "every answer to a stamped request is signed: {status} {value}");
        (status, value)
    }

    async fn send_as(
        &self,
        stamp: &Stamp,
        method: Method,
        path: &str,
        body: String,
        etag: Option<&str>,
        signature: &str,
    ) -> (StatusCode, Value, bool) {
        let asked = Asked::new(method.as_str(), path, body.as_bytes());
        let mut request = reqwest::Client::new()
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .header(header::AGENT, stamp.agent.to_string())
            .header(header::GENERATION, stamp.generation)
            .header(header::LEASE, &stamp.lease)
            .header(header::COUNTER, stamp.counter)
            .header(header::SIGNATURE, signature)
            .body(body);
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let tag = headers.get("etag").map_or("", |v| v.to_str().unwrap()).to_owned();
        let body = answer.bytes().await.unwrap();
        let signed = self.is_signed(stamp, &asked, status.as_u16(), &tag, &body, &headers);
        let mut value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if !tag.is_empty() && value.is_object() {
            value["etag"] = tag.into();
        }
        (status, value, signed)
    }

    fn is_signed(
        &self,
        stamp: &Stamp,
        asked: &Asked,
        status: u16,
        etag: &str,
        body: &[u8],
        headers: &reqwest::header::HeaderMap,
    ) -> bool {
        let key = public_key(&self.server_key).unwrap();
        let signature = headers.get(header::SIGNATURE).map_or("", |v| v.to_str().unwrap());
        stamp.verify_answer(&key, asked, status, etag, body, signature)
    }

    async fn results(&self, records: Vec<Value>) -> (StatusCode, Value) {
        let body =
            json!({"records": records, "pending": records.len(), "sent_at": "2026-11-20T18:00:00.000Z"});
        self.send(&self.stamp(), Method::POST, "/v1/results", body.to_string(), None).await
    }
}

/// A result that is live.
fn record(monitor: &str, epoch: u64, seq: u64, state: &str, started_at: Timestamp) -> Value {
    json!({
        "kind": "result", "epoch": epoch, "seq": seq, "age_ms": 0,
        "result": {
            "id": Uuid::from_u128(u128::from(epoch) << 64 | u128::from(seq)), "monitor_id": monitor,
            "planned_at": started_at, "started_at": started_at, "duration_ms": 12, "attempt": 1, "state": state,
            "code": "ok", "summary": "<b>fine</b>", "phases": {"connect": 0.001}, "config_digest": "d", "agent_version": "0.1.0",
        },
    })
}

fn shop() -> Value {
    json!({"name": "shop", "check": "http", "interval": "5s", "locations": ["dc1"], "config": {"url": "http://a/"}})
}

/// 2026-11-20T18:00:00Z, less the minute that every test's control plane has been up for.
const START_MS: i64 = 1_795_197_600_000 - 60_000;
