//! What `net` promises, each against real sockets on port zero or a table.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up shall fail")]

mod dns;
mod grant;
mod http;
mod machine;
mod revocation;
mod route;
mod rule;
mod shown;
mod tcp;
mod tls;

use std::time::Duration;

use picket_net::{Budget, Ceiling, Files, Grant, Network, Session, Settings};
use tokio::time::Instant;

/// A session of ten seconds that may reach what the rules name, on a machine whose operator opened loopback.
pub(crate) fn session(targets: &[&str]) -> Session {
    session_with(targets, &["127.0.0.0/8", "::1"], Budget::default(), Duration::from_secs(10))
}

pub(crate) fn session_with(targets: &[&str], opened: &[&str], budget: Budget, time: Duration) -> Session {
    let grant = Grant { targets: rules(targets), ..Grant::default() };
    let ceiling = Ceiling { allow: rules(opened), files: Files::All, ..Ceiling::default() };
    // Nobody listens there: no test asks the machine's own name servers.
    let resolver = Some(vec!["127.0.0.1:9".parse().unwrap()]);
    Network::new(Settings { ceiling, resolver }).unwrap().session(grant, budget, Instant::now() + time)
}

pub(crate) fn rules(texts: &[&str]) -> Vec<picket_net::Rule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}
