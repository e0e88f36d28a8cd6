//! Enrolment: a setup token, seen once, becomes an identity that the agent made itself.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::AgentId;

/// `POST /v1/enroll`. The agent has key, token and `enrollment_id` on disk before it sends this; the same request again gets the
/// same answer, so a lost answer costs nothing.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// As printed by `picket agents create`.
    pub setup_token: String,
    /// Made by the agent, once per attempt to become an agent.
    pub enrollment_id: Uuid,
    /// Ed25519 device key, public half, lower-case hexadecimal.
    pub public_key: String,
    /// SHA-256 of the active token of generation 1, lower-case hexadecimal.
    pub token_sha256: String,
    /// The agent's version.
    pub version: String,
    /// By the device key over [`EnrollRequest::signed`], lower-case hexadecimal.
    pub signature: String,
}

impl EnrollRequest {
    /// What the device key signs: proof that the sender holds it.
    pub fn signed(setup_token: &str, enrollment_id: Uuid, public_key: &str, token_sha256: &str) -> String {
        format!("picket-enroll-v1\n{setup_token}\n{enrollment_id}\n{public_key}\n{token_sha256}")
    }
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnrollAnswer {
    /// The new agent.
    pub agent_id: AgentId,
    /// Its name, as given to `picket agents create`.
    pub name: String,
    /// Its location.
    pub location: String,
    /// Generation of the active token: 1.
    pub generation: u64,
    /// The control plane's Ed25519 key, lower-case hexadecimal. The agent pins it: every later answer must be signed by it.
    pub server_key: String,
}
