//! The two signatures: the agent's over each request, the control plane's over each answer.
//!
//! A request is bound to the lease and to a counter that only grows within it, so a recorded one is worth nothing and no clock is
//! involved. An answer is bound to the request that it answers, method, path and body included, so neither an old one nor the answer
//! to another request that shows the same stamp can stand in for it.

use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::AgentId;

/// Headers that carry the signatures.
pub mod header {
    /// The agent's id.
    pub const AGENT: &str = "picket-agent";
    /// Generation of the active token.
    pub const GENERATION: &str = "picket-generation";
    /// The lease; at hello, the nonce.
    pub const LEASE: &str = "picket-lease";
    /// Grows with every request of the lease.
    pub const COUNTER: &str = "picket-counter";
    /// Ed25519, lower-case hexadecimal; in both directions.
    pub const SIGNATURE: &str = "picket-signature";
}

/// What identifies one request of one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Who asks.
    pub agent: AgentId,
    /// Generation of the token in the `authorization` header.
    pub generation: u64,
    /// The lease; at hello, the nonce; at enrolment, the enrolment's id.
    pub lease: String,
    /// From 1 within a lease; 0 at hello and at enrolment.
    pub counter: u64,
}

/// The request that an answer is given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    method: String,
    path: String,
    /// SHA-256, lower-case hexadecimal.
    digest: String,
}

impl Asked {
    /// What was asked; `path` includes the query.
    pub fn new(method: &str, path: &str, body: &[u8]) -> Self {
        let digest = hex::encode(Sha256::digest(body));
        Self { method: method.to_owned(), path: path.to_owned(), digest }
    }
}

impl Stamp {
    /// The agent's signature over a request. `path` includes the query.
    pub fn sign_request(&self, key: &SigningKey, method: &str, path: &str, body: &[u8]) -> String {
        hex::encode(key.sign(self.request(method, path, body).as_bytes()).to_bytes())
    }

    /// Whether the request was signed by the holder of `key`.
    pub fn verify_request(
        &self,
        key: &VerifyingKey,
        method: &str,
        path: &str,
        body: &[u8],
        signature: &str,
    ) -> bool {
        verify(key, &self.request(method, path, body), signature)
    }

    /// The control plane's signature over the answer to what was `asked` with this stamp.
    pub fn sign_answer(
        &self,
        key: &SigningKey,
        asked: &Asked,
        status: u16,
        etag: &str,
        body: &[u8],
    ) -> String {
        hex::encode(key.sign(self.answer(asked, status, etag, body).as_bytes()).to_bytes())
    }

    /// Whether the answer was signed by the holder of `key` for what was `asked` with this stamp.
    pub fn verify_answer(
        &self,
        key: &VerifyingKey,
        asked: &Asked,
        status: u16,
        etag: &str,
        body: &[u8],
        signature: &str,
    ) -> bool {
        verify(key, &self.answer(asked, status, etag, body), signature)
    }

    /// The control plane's signature over a push to the agent within the lease; `body` is the push as JSON.
    pub fn sign_push(&self, key: &SigningKey, number: u64, body: &[u8]) -> String {
        hex::encode(key.sign(self.push(number, body).as_bytes()).to_bytes())
    }

    /// Whether the push was signed by the holder of `key` for this agent and this lease.
    pub fn verify_push(&self, key: &VerifyingKey, number: u64, body: &[u8], signature: &str) -> bool {
        verify(key, &self.push(number, body), signature)
    }

    fn request(&self, method: &str, path: &str, body: &[u8]) -> String {
        let Self { agent, generation, lease, counter } = self;
        let digest = hex::encode(Sha256::digest(body));
        format!("picket-request-v1\n{method}\n{path}\n{digest}\n{agent}\n{generation}\n{lease}\n{counter}")
    }

    fn answer(&self, asked: &Asked, status: u16, etag: &str, body: &[u8]) -> String {
        let Self { agent, lease, counter, .. } = self;
        let Asked { method, path, digest: request } = asked;
        let digest = hex::encode(Sha256::digest(body));
        format!(
            "picket-answer-v1\n{method}\n{path}\n{request}\n{agent}\n{lease}\n{counter}\n{status}\n{etag}\n{digest}"
        )
    }

    fn push(&self, number: u64, body: &[u8]) -> String {
        let Self { agent, lease, .. } = self;
        let digest = hex::encode(Sha256::digest(body));
        format!("picket-push-v1\n{agent}\n{lease}\n{number}\n{digest}")
    }
}

/// The signature of `key` over `text`, lower-case hexadecimal.
pub fn sign(key: &SigningKey, text: &str) -> String {
    hex::encode(key.sign(text.as_bytes()).to_bytes())
}

/// Whether `signature` (hexadecimal) over `text` was made by the holder of `key`.
pub fn verify(key: &VerifyingKey, text: &str, signature: &str) -> bool {
    let mut bytes = [0; 64];
    hex::decode_to_slice(signature, &mut bytes).is_ok()
        && key.verify(text.as_bytes(), &Signature::from_bytes(&bytes)).is_ok()
}

/// The Ed25519 key behind 64 hexadecimal digits.
pub fn public_key(text: &str) -> Option<VerifyingKey> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    VerifyingKey::from_bytes(&bytes).ok()
}

/// What is kept of a token: SHA-256, lower-case hexadecimal.
pub fn token_sha256(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp { agent: AgentId(uuid::Uuid::nil()), generation: 1, lease: "l".into(), counter: 7 }
    }

    #[test]
    fn a_request_with_any_altered_part_is_refused() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = key.verifying_key();
        let signature = stamp().sign_request(&key, "POST", "/v1/results", b"{}");
        assert!(stamp().verify_request(&public, "POST", "/v1/results", b"{}", &signature));
        let altered = |change: fn(&mut Stamp)| {
            let mut s = stamp();
            change(&mut s);
            s.verify_request(&public, "POST", "/v1/results", b"{}", &signature)
        };
        assert!(!altered(|s| s.counter = 8));
        assert!(!altered(|s| s.generation = 2));
        assert!(!altered(|s| s.lease = "m".into()));
        assert!(!altered(|s| s.agent = AgentId(uuid::Uuid::max())));
        assert!(!stamp().verify_request(&public, "GET", "/v1/results", b"{}", &signature));
        assert!(!stamp().verify_request(&public, "POST", "/v1/config", b"{}", &signature));
        assert!(!stamp().verify_request(&public, "POST", "/v1/results", b"{ }", &signature));
        assert!(!stamp().verify_request(&public, "POST", "/v1/results", b"{}", "not hexadecimal"));
    }

    #[test]
    fn a_push_counts_only_for_its_agent_its_lease_and_its_number() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let public = key.verifying_key();
        let signature = stamp().sign_push(&key, 3, b"{}");
        assert!(Stamp { counter: 8, ..stamp() }.verify_push(&public, 3, b"{}", &signature));
        assert!(!stamp().verify_push(&public, 4, b"{}", &signature));
        assert!(!stamp().verify_push(&public, 3, b"{ }", &signature));
        assert!(!Stamp { lease: "m".into(), ..stamp() }.verify_push(&public, 3, b"{}", &signature));
        let other = Stamp { agent: AgentId(uuid::Uuid::max()), ..stamp() };
        assert!(!other.verify_push(&public, 3, b"{}", &signature));
    }

    #[test]
    fn an_answer_counts_only_for_the_request_that_it_answers() {
        let key = SigningKey::from_bytes(&[9; 32]);
        let public = key.verifying_key();
        let asked = Asked::new("POST", "/v1/results", b"{}");
        let signature = stamp().sign_answer(&key, &asked, 200, "", b"{}");
        assert!(stamp().verify_answer(&public, &asked, 200, "", b"{}", &signature));
        assert!(!Stamp { counter: 8, ..stamp() }.verify_answer(&public, &asked, 200, "", b"{}", &signature));
        assert!(!stamp().verify_answer(&public, &asked, 304, "", b"{}", &signature));
        assert!(!stamp().verify_answer(&public, &asked, 200, "\"x\"", b"{}", &signature));
        for other in [
            Asked::new("GET", "/v1/results", b"{}"),
            Asked::new("POST", "/v1/config", b"{}"),
            Asked::new("POST", "/v1/results", b"[]"),
        ] {
            assert!(!stamp().verify_answer(&public, &other, 200, "", b"{}", &signature), "{other:?}");
        }
    }
}
