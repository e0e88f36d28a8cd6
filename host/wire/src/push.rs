//! What the control plane asks of an agent that is connected, by the stream or by a long poll. A push is a hint: one that is lost
//! costs time, never a result.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::MonitorId;

/// One wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Push {
    /// There is another configuration: fetch it.
    Configuration {
        /// Its version.
        version: u64,
    },
    /// Run these monitors now, beside their plan, at most 20 a second. Those that the agent does not have are passed over.
    Run {
        /// Which.
        monitors: Vec<MonitorId>,
        /// Stands in the results as [`crate::results::RunResult::request`], so that whoever waits recognises them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<Uuid>,
    },
    /// Make a new token now.
    Rotate,
    /// The session ended here (the agent was revoked or approved): say hello, the signed answer tells.
    Hello,
    /// A wish that this version does not know, from a newer control plane: passed over. Never sent.
    #[serde(other)]
    Unknown,
}

/// A push and its number within the lease, from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Numbered {
    /// Grows by one with each push of a lease.
    pub number: u64,
    /// The wish.
    pub push: Push,
}

/// Answer to `GET /v1/pushes?after=&wait=`: what came after that number, in the order of the numbers; empty when nothing came in
/// time. The way of pushes where no stream can be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Waiting {
    /// The pushes.
    pub pushes: Vec<Numbered>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_of_a_later_version_takes_nothing_away_from_those_beside_it() {
        let text = r#"{"pushes":[{"number":1,"push":{"kind":"dance","steps":3}},{"number":2,"push":{"kind":"rotate"}}]}"#;
        let Waiting { pushes } = serde_json::from_str(text).unwrap();
        let wishes: Vec<_> = pushes.into_iter().map(|numbered| numbered.push).collect();
        assert_eq!(wishes, [Push::Unknown, Push::Rotate]);
    }
}
