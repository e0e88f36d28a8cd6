//! The life of a token after the enrolment: its rotation, and its recovery with the device key. The agent makes every token itself and
//! has it on disk before anybody hears of it; only its hash travels.

use serde::{Deserialize, Serialize};

use crate::AgentId;

/// `POST /v1/token/rotate`, signed like every request of a session. The same again gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// Of the new token: one more than that of the active one.
    pub generation: u64,
    /// SHA-256 of the new token, lower-case hexadecimal.
    pub token_sha256: String,
}

/// The answer to a rotation and to a recovery: the token is known. After a rotation its first accepted use makes it the active one,
/// and the one before stays good for ten minutes; after a recovery it is the active one already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rotated {
    /// Of the token that is known now.
    pub generation: u64,
}

/// `POST /v1/recover/challenge`: asked without a token, by an agent whose token is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskChallenge {
    /// Who asks.
    pub agent_id: AgentId,
}

/// Its answer. An agent goes on only when the signature is its control plane's: nobody else makes it write anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Challenge {
    /// 128 random bits, lower-case hexadecimal; good once, for 60 seconds.
    pub challenge: String,
    /// The lowest generation that the recovered token may have.
    pub generation: u64,
    /// By the control plane's key over [`Challenge::signed`], lower-case hexadecimal.
    pub signature: String,
}

impl Challenge {
    /// What the control plane's key signs.
    pub fn signed(agent: AgentId, challenge: &str, generation: u64) -> String {
        format!("picket-challenge-v1\n{agent}\n{challenge}\n{generation}")
    }
}

/// `POST /v1/recover`: the device key takes the place of a token that is refused. The answer, whatever it is, is signed for the agent,
/// this generation, the challenge in the lease's place and counter 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Recover {
    /// Who recovers.
    pub agent_id: AgentId,
    /// As given.
    pub challenge: String,
    /// Of the new token.
    pub generation: u64,
    /// SHA-256 of the new token, lower-case hexadecimal.
    pub token_sha256: String,
    /// By the device key over [`Recover::signed`], lower-case hexadecimal.
    pub signature: String,
}

impl Recover {
    /// What the device key signs.
    pub fn signed(agent: AgentId, challenge: &str, generation: u64, token_sha256: &str) -> String {
        format!("picket-recover-v1\n{agent}\n{challenge}\n{generation}\n{token_sha256}")
    }
}
