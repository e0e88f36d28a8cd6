//! An agent as far as the control plane can tell: enrols, says hello, sends, and lies in whatever way a row asks for.

use std::sync::atomic::{AtomicU64, Ordering};

use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use uuid::Uuid;
use wire::AgentId;
use wire::enroll::EnrollRequest;
use wire::signature::{Asked, Stamp, header, public_key, token_sha256};

use crate::http::{self, Message};

/// The device.
pub struct Device {
    port: u16,
    key: SigningKey,
    /// Its active token.
    pub token: String,
    enrollment_id: Uuid,
    /// Given at enrolment.
    pub id: AgentId,
    /// Given at hello.
    pub lease: String,
    counter: AtomicU64,
    server_key: String,
}

impl Device {
    /// One that is not enrolled, with a key of its own.
    pub fn new(port: u16, seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            port,
            key: SigningKey::from_bytes(&bytes),
            token: format!("active token of {seed}"),
            enrollment_id: Uuid::from_u128(seed.into()),
            id: AgentId(Uuid::nil()),
            lease: String::new(),
            counter: AtomicU64::new(0),
            server_key: String::new(),
        }
    }

    /// Tries to become the agent of that setup token.
    pub fn enroll(&mut self, setup_token: &str) -> Message {
        let public_key = hex::encode(self.key.verifying_key().to_bytes());
        let token_sha256 = token_sha256(&self.token);
        let signed = EnrollRequest::signed(setup_token, self.enrollment_id, &public_key, &token_sha256);
        let request = json!({
            "setup_token": setup_token, "enrollment_id": self.enrollment_id, "public_key": public_key,
            "token_sha256": token_sha256, "version": "0.1.0",
            "signature": hex::encode(self.key.sign(signed.as_bytes()).to_bytes()),
        });
        let headers = [("content-type", "application/json")];
        let answer = http::ask(self.port, "POST", "/v1/enroll", &headers, request.to_string().as_bytes())
            .expect("the control plane answers");
        if answer.status() == 200 {
            let told = answer.json();
            self.id = AgentId(told["agent_id"].as_str().and_then(|id| id.parse().ok()).expect("an id"));
            told["server_key"].as_str().expect("a key").clone_into(&mut self.server_key);
        }
        answer
    }

    /// Takes a lease.
    pub fn hello(&mut self, recorded: &Value) -> Value {
        let (id, bearer) = (self.id.to_string(), format!("Bearer {}", self.token));
        let headers = [(header::AGENT, id.as_str()), ("authorization", bearer.as_str())];
        let nonce =
            http::ask(self.port, "POST", "/v1/nonce", &headers, b"").expect("the control plane answers");
        let nonce = nonce.json()["nonce"].as_str().expect("a nonce").to_owned();
        let previous = (!self.lease.is_empty()).then(|| self.lease.clone());
        let body = json!({
            "version": "0.1.0", "recorded": recorded, "pending": 0, "previous_lease": previous, "boot_id": "b",
        });
        let stamp = Stamp { agent: self.id, generation: 1, lease: nonce, counter: 0 };
        let answer = self.send_as(&stamp, "POST", "/v1/hello", body.to_string().as_bytes());
        let welcome = answer.json();
        assert_eq!(answer.status(), 200, "{welcome}");
        welcome["lease"].as_str().expect("a lease").clone_into(&mut self.lease);
        self.counter.store(0, Ordering::SeqCst);
        welcome
    }

    /// The stamp of its next request.
    pub fn stamp(&self) -> Stamp {
        let counter = self.counter.fetch_add(1, Ordering::SeqCst) + 1;
        Stamp { agent: self.id, generation: 1, lease: self.lease.clone(), counter }
    }

    /// Sends records; the answer must be the control plane's own.
    pub fn results(&self, records: &[Value]) -> Message {
        let body =
            json!({"records": records, "pending": records.len(), "sent_at": "2026-11-20T18:00:00.000Z"});
        let (stamp, body) = (self.stamp(), body.to_string());
        let answer = self.send_as(&stamp, "POST", "/v1/results", body.as_bytes());
        assert!(self.is_signed(&stamp, "/v1/results", body.as_bytes(), &answer), "every answer is signed");
        answer
    }

    /// Sends a request with that stamp, signed.
    pub fn send_as(&self, stamp: &Stamp, method: &str, path: &str, body: &[u8]) -> Message {
        let signature = stamp.sign_request(&self.key, method, path, body);
        self.send_signed(stamp, method, path, body, &signature)
    }

    /// Sends a request with that stamp and whatever signature.
    pub fn send_signed(
        &self,
        stamp: &Stamp,
        method: &str,
        path: &str,
        body: &[u8],
        signature: &str,
    ) -> Message {
        let (agent, generation) = (stamp.agent.to_string(), stamp.generation.to_string());
        let (counter, bearer) = (stamp.counter.to_string(), format!("Bearer {}", self.token));
        let headers = [
            ("authorization", bearer.as_str()),
            (header::AGENT, &agent),
            (header::GENERATION, &generation),
            (header::LEASE, &stamp.lease),
            (header::COUNTER, &counter),
            (header::SIGNATURE, signature),
        ];
        http::ask(self.port, method, path, &headers, body).expect("the control plane answers")
    }

    /// The signature over a request, as the device makes it.
    pub fn sign(&self, stamp: &Stamp, method: &str, path: &str, body: &[u8]) -> String {
        stamp.sign_request(&self.key, method, path, body)
    }

    fn is_signed(&self, stamp: &Stamp, path: &str, body: &[u8], answer: &Message) -> bool {
        let asked = Asked::new("POST", path, body);
        let key = public_key(&self.server_key).expect("the key of the enrolment");
        let (etag, signature) = (answer.header("etag"), answer.header(header::SIGNATURE));
        stamp.verify_answer(&key, &asked, answer.status(), etag, &answer.body, signature)
    }
}
