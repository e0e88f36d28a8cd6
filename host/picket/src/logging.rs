//! The log: to stderr, filtered, as text or JSON. What is logged is up to the crates; none logs a secret.

use anstream::ColorChoice;
use tracing_subscriber::EnvFilter;

use crate::cli::{Global, LogFormat};
use crate::failure::{Failure, exit};

/// Starts the log. `default` is the level where neither option nor environment names one; the storage engine's own steps are nobody's
/// news then.
pub(crate) fn start(global: &Global, default: &str) -> Result<(), Failure> {
    let default = format!("{default},fjall=warn,lsm_tree=warn");
    let filter = global.log_level.as_deref().unwrap_or(&default);
    let filter = EnvFilter::try_new(filter).map_err(|e| {
        Failure::new(exit::USAGE, e)
            .context(format!("--log-level (RUST_LOG) does not take {filter:?}"))
            .advice(
                "write error, warn, info, debug or trace, or one for each crate: \"info,picket_agent=debug\"",
            )
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match global.log_format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => {
            log.with_ansi(anstream::AutoStream::choice(&std::io::stderr()) != ColorChoice::Never).init();
        }
    }
    Ok(())
}
