//! Sessions: how an agent says hello and gets a lease.

use serde::{Deserialize, Serialize};

use crate::Position;

/// Answer to `POST /v1/nonce`: signs exactly one hello. Asked for with the active token; unsigned, because nothing hangs on it.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Nonce {
    /// 128 random bits, lower-case hexadecimal; good for 60 seconds.
    pub nonce: String,
}

/// `POST /v1/hello`, signed with the nonce in the lease's place and counter 0.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Hello {
    /// The agent's version.
    pub version: String,
    /// Everything up to here is *buffered*: the last recorded result; after a silence below 15 s what the session before declared.
    pub recorded: Position,
    /// Results not yet acknowledged.
    pub pending: u64,
    /// The lease that this agent held last, kept on its disk; another one than the last given out means a copied data directory.
    pub previous_lease: Option<String>,
    /// The lease on the agent's disk, where that took none since: after a restart the agent names this one. None when it took the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_lease: Option<String>,
    /// Identifies the boot of the machine, so that ages of results from another boot are not believed.
    pub boot_id: String,
    /// Name of the machine, for the owner, should two of them show one identity.
    #[serde(default)]
    pub host: String,
    /// Whether this device was told to stand by since it was last welcomed, or did not yet do what that welcome asked.
    #[serde(default)]
    pub stood_by: bool,
}

/// Its answer.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Welcome {
    /// The nonce of this session, lower-case hexadecimal: signs every later request.
    pub lease: String,
    /// Everything up to here is stored. The agent sends what comes after.
    pub cursor: Position,
    /// The last position that ever came from this agent, also ahead of the cursor. An agent that recorded less was set back to an
    /// earlier state: what it holds needs positions after this one.
    #[serde(default)]
    pub seen: Position,
    /// Another device spoke as this agent meanwhile and may have used its positions: what is not acknowledged moves to a fresh epoch
    /// after `seen` before it is sent.
    #[serde(default)]
    pub renumber: bool,
}
