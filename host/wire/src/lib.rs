//! The types of every message between agent, control plane and command line, and the two signatures over them.
//!
//! Owns shapes and their names in JSON. Does no I/O, reads no clock, makes no randomness: whoever sends fills in the time.

pub mod admin;
pub mod alert;
pub mod config;
pub mod enroll;
pub mod event;
pub mod ids;
pub mod maintenance;
pub mod manner;
pub mod plugin;
pub mod problem;
pub mod push;
pub mod results;
pub mod session;
pub mod signature;
pub mod stream;
pub mod time;
pub mod token;

pub use ids::{AgentId, MonitorId, Position, ResultId};
pub use problem::{Mistake, Problem};
pub use time::Timestamp;

/// The first path segment of every request; a change that old agents cannot read takes the next one.
pub const API: &str = "/v1";

/// Bytes of a request body that the control plane reads, and of an answer that the agent reads.
pub const BODY_LIMIT: usize = 8 * 1024 * 1024;

/// Seconds between two signs of life of an idle agent.
pub const HEARTBEAT_S: u64 = 10;

/// Results in one request.
pub const BATCH_LIMIT: usize = 500;
