//! The control plane: who the agents are, what they are told to run, and what they report.
//!
//! Owns identity, configuration, ingest, judgement of the latest states, alerts, the API and the page. Knows plugins by their
//! description only: it never runs a check, and opens no connection but those to the channels that alerts go to.

mod admin;
mod agents;
mod alert;
mod api;
mod assign;
mod checks;
mod clock;
mod common;
mod control;
mod error;
mod events;
mod herd;
mod identity;
mod ingest;
mod judge;
mod maintenance;
mod monitors;
mod page;
mod pushes;
mod runs;
mod serve;
mod settings;
mod store;
mod tasks;
mod uplink;
mod uptime;
mod warnings;

pub use api::openapi;
pub use error::Error;
pub use monitors::manner;
pub use serve::serve;
pub use settings::{Settings, Tls};
pub use store::Error as StoreError;

#[cfg(test)]
mod tests;
