//! What travels on the stream: the WebSocket that an agent opens with `GET /v1/stream`. Each text frame is one of these as JSON.
//!
//! A frame upwards is a request exactly as it would go by HTTPS, signed with the stream's lease; a frame downwards is the answer to
//! one, signed as it would be there, or a push. So nothing is trusted because it came by the stream.

use serde::{Deserialize, Serialize};

use crate::BODY_LIMIT;

/// From agent to control plane. Agent, generation and lease are those that opened the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Up {
    /// A request.
    Request {
        /// Of its stamp; names the answer.
        counter: u64,
        /// "GET" or "POST".
        method: String,
        /// With the query.
        path: String,
        /// The ETag that the agent has, to be told of a change only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        etag: Option<String>,
        /// What else can be read where the answer is long, as the header of an HTTPS request would say. A long answer is then refused
        /// here as too large, and given by HTTPS.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accept: Option<String>,
        /// JSON, or nothing.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        body: String,
        /// As in the header of an HTTPS request.
        signature: String,
    },
}

/// From control plane to agent. The first one answers the request that opened the stream: status 101, no body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Down {
    /// The answer to a request; answers may overtake each other.
    Answer {
        /// Of the request.
        counter: u64,
        /// HTTP status.
        status: u16,
        /// The ETag, or "".
        #[serde(default, skip_serializing_if = "String::is_empty")]
        etag: String,
        /// Seconds to wait before asking again, as the header of that name would say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
        /// JSON, or nothing.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        body: String,
        /// As in the header of an HTTPS answer.
        signature: String,
    },
    /// A wish of the control plane.
    Push {
        /// Its number within the lease.
        number: u64,
        /// A [`crate::push::Push`] as JSON.
        body: String,
        /// [`crate::signature::Stamp::sign_push`] with the stamp that opened the stream.
        signature: String,
    },
}

/// Where a stream is opened.
pub const PATH: &str = "/v1/stream";

/// The status that the first answer tells: the protocols were switched.
pub const OPEN: u16 = 101;

/// Bytes of a frame: a body may grow to twice its size as a JSON string.
pub const FRAME_LIMIT: usize = 2 * BODY_LIMIT + 64 * 1024;

/// Bytes of an answer that travels on a stream to whoever can be given a packed one by HTTPS: a frame is held whole, more than once.
pub const LONG_ANSWER: usize = 256 * 1024;

/// Seconds between two pings; both sides send them.
pub const PING_S: u64 = 10;

/// A stream on which nothing came for so many seconds is dead for the control plane. Two pings were missed.
pub const DEAD_S: u64 = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let up = Up::Request {
            counter: 7,
            method: "POST".into(),
            path: "/v1/results".into(),
            etag: None,
            accept: None,
            body: r#"{"records":[]}"#.into(),
            signature: "00".into(),
        };
        let text = serde_json::to_string(&up).unwrap();
        assert!(text.starts_with(r#"{"kind":"request","counter":7,"method":"POST""#), "{text}");
        assert_eq!(serde_json::from_str::<Up>(&text).unwrap(), up);
        let down = r#"{"kind":"answer","counter":7,"status":304,"signature":"00"}"#;
        let Down::Answer { status, etag, retry_after, body, .. } = serde_json::from_str(down).unwrap() else {
            panic!("an answer is no push");
        };
        assert_eq!((status, &etag[..], retry_after, &body[..]), (304, "", None, ""));
    }
}
