//! Somebody who holds the control plane's signing key and says what it never said: what an agent believes then must still be possible.

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use wire::AgentId;
use wire::signature::{Asked, Stamp, header};

use crate::Stage;
use crate::http::Message;

/// The key.
#[derive(Clone)]
pub struct Forger(SigningKey);

impl Forger {
    /// With the key of that stage's control plane.
    pub fn of(stage: &Stage) -> Self {
        let text = std::fs::read_to_string(stage.path("cp/server.key")).expect("a control plane has a key");
        let mut seed = [0; 32];
        hex::decode_to_slice(text.trim(), &mut seed).expect("64 hexadecimal digits");
        Self(SigningKey::from_bytes(&seed))
    }

    /// An answer to that request, signed.
    pub fn answer(&self, request: &Message, status: &str, etag: &str, body: &[u8]) -> Vec<u8> {
        let number = |name: &str| request.header(name).parse().unwrap_or(0);
        let stamp = Stamp {
            agent: AgentId(request.header(header::AGENT).parse().unwrap_or_default()),
            generation: number(header::GENERATION),
            lease: request.header(header::LEASE).to_owned(),
            counter: number(header::COUNTER),
        };
        let asked = Asked::new(request.method(), request.path(), &request.body);
        let code = status.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(0);
        let signature = stamp.sign_answer(&self.0, &asked, code, etag, body);
        let kind = if code < 400 { "application/json" } else { "application/problem+json" };
        let headers = [("content-type", kind), ("etag", etag), (header::SIGNATURE, &signature)];
        let headers: Vec<_> = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        Message::answer(status, &headers, body)
    }

    /// An acknowledgement up to there.
    pub fn cursor(&self, request: &Message, (epoch, seq): (u64, u64)) -> Vec<u8> {
        let body = json!({"cursor": {"epoch": epoch, "seq": seq}});
        self.answer(request, "200 OK", "", body.to_string().as_bytes())
    }
}

/// The positions of the results in a batch, oldest first.
pub fn positions(batch: &Message) -> Vec<(u64, u64)> {
    let of = |record: &Value| Some((record["epoch"].as_u64()?, record["seq"].as_u64()?));
    batch.json()["records"].as_array().into_iter().flatten().filter_map(of).collect()
}
