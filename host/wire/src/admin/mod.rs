//! The API for people and their tools: agents, monitors, results. Every request carries the admin token as a bearer token.

mod agents;
mod monitors;
mod results;
mod uptime;

pub use agents::*;
pub use monitors::*;
pub use results::*;
pub use uptime::*;
