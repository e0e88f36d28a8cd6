//! The binary: reads the command line, hands over to one file per subcommand, turns what comes back into an exit status.
//!
//! Owns words, tables and exit statuses. What the agent, the control plane and the sandbox do stands in their crates.

mod agent;
mod agents;
mod alerts;
mod check;
mod cli;
mod client;
mod control;
#[cfg(feature = "demo")]
mod demo;
mod failure;
mod gaps;
mod health;
mod logging;
mod monitors;
mod output;
mod plugin;
mod plugin_compile;
mod replay;
mod results;
mod settings_file;
mod signals;
mod size;
mod spool;
mod yaml;

use std::process::ExitCode;

use crate::cli::Command;
use crate::failure::{Failure, exit};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    failpoint::setup();
    let call = match cli::read(std::env::args_os().collect()) {
        Ok(call) => call,
        Err(end) => return end.print(),
    };
    let status = match run(call) {
        Ok(status) => status,
        Err(failure) => failure.print(),
    };
    ExitCode::from(status)
}

fn run(call: cli::Call) -> Result<u8, Failure> {
    #[cfg(feature = "demo")]
    if let Some(parent) = call.global.parent {
        demo::end_with_parent(parent)?;
    }
    if matches!(call.command, Command::PluginCompile) {
        return plugin_compile::run();
    }
    logging::start(&call.global, call.command.log_default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(exit::OS, e).context("cannot start the runtime"))?;
    let status = runtime.block_on(call.command.run(&call.matches));
    runtime.shutdown_background();
    status
}
