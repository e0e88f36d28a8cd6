//! `picket health`: whether the agent of a data directory lives, for a container's HEALTHCHECK. Reads a file, opens no port.

use std::path::PathBuf;

use crate::failure::{Failure, exit};
use crate::output;

/// Say whether the agent of a data directory lives (for HEALTHCHECK)
///
/// Exit status 0 when it does, 1 when it does not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Data directory of the agent
    #[arg(long, env = "PICKET_DATA", hide_env_values = true, default_value = "/data", value_name = "DIR")]
    data: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    match agent::health::check(&args.data) {
        Ok(healthy) => {
            output::line(&sentence(&healthy))?;
            Ok(0)
        }
        Err(why) => Err(Failure::text(exit::GENERAL, why)),
    }
}

fn sentence(agent: &agent::health::Healthy) -> String {
    let agent::health::Healthy { name, location, monitors, pending, version, transport, .. } = agent;
    let link = match (&agent.trouble, agent.connected) {
        (_, true) => transport.map_or("connected".to_owned(), |way| format!("connected by {way}")),
        (Some(trouble), false) => format!("cut off: {}", output::printable(trouble)),
        (None, false) => "cut off".to_owned(),
    };
    let panics: Vec<_> = agent.panics.iter().map(|(part, n)| format!("{part} {n}")).collect();
    let panics = if panics.is_empty() { String::new() } else { format!("; panicked: {}", panics.join(", ")) };
    let degraded = agent.degraded.as_ref().map(|why| format!("; degraded: {}", output::printable(why)));
    let degraded = degraded.unwrap_or_default();
    format!(
        "{name} in {location}, version {version}: {link}; {monitors} {}, {pending} results to send{degraded}{panics}",
        if *monitors == 1 { "monitor" } else { "monitors" }
    )
}
