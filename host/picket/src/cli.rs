//! The command line: which subcommands there are, and how flag, environment and file become one call.
//!
//! Owns the order of precedence: flag, environment, file, default. What a subcommand takes stands in its own file.

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::failure::{Failure, exit};
use crate::settings_file;

/// Private monitoring: an agent inside your network, a control plane, and checks in a sandbox
#[derive(Debug, Parser)]
#[command(name = "picket", version, max_term_width = 100, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Every option can be given as a flag or as the environment variable named beside it; an empty variable counts as unset.
A flag wins over the environment, and that over the file of --config (agent and control).

Exit status:
  0   success
  1   failure without a status of its own
  64  the command line is wrong
  65  the input has mistakes, each printed with its line
  66  a file cannot be read
  69  the control plane cannot be reached, or is not one
  71  the system refused something ordinary
  77  the control plane refuses the token
`picket check` has those of a Nagios plugin instead, and `picket agent` some more: see their --help.";

/// What every subcommand takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// error, warn, info, debug, trace, or one a crate: "info,picket_agent=debug". Default info for agent and control, else warn
    #[arg(
        long,
        global = true,
        env = "RUST_LOG",
        hide_env_values = true,
        value_name = "LEVEL",
        help_heading = "Logging (to stderr)"
    )]
    pub(crate) log_level: Option<String>,
    /// How log lines look
    #[arg(
        long,
        global = true,
        env = "PICKET_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text",
        value_name = "FORMAT",
        help_heading = "Logging (to stderr)"
    )]
    pub(crate) log_format: LogFormat,
    /// End when the process with this id ends: for children of the demo.
    #[cfg(feature = "demo")]
    #[arg(long, global = true, hide = true)]
    pub(crate) parent: Option<u32>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    // Lines for people. No documentation: it would take the place of three options in every help page.
    Text,
    // One JSON object a line.
    Json,
}

/// The subcommands, in the order in which a newcomer meets them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "demo")]
    Demo(crate::demo::Args),
    Control(crate::control::Args),
    Agents(crate::agents::Args),
    Agent(Box<crate::agent::Args>),
    Monitors(crate::monitors::Args),
    Results(crate::results::Args),
    Gaps(crate::gaps::Args),
    Alerts(crate::alerts::Args),
    Check(crate::check::Args),
    Replay(crate::replay::Args),
    Plugin(crate::plugin::Args),
    Health(crate::health::Args),
    #[command(hide = true)]
    PluginCompile,
}

impl Command {
    /// Runs it; `matches` are those of the innermost subcommand.
    pub(crate) async fn run(self, matches: &ArgMatches) -> Result<u8, Failure> {
        match self {
            #[cfg(feature = "demo")]
            Self::Demo(args) => crate::demo::run(args).await,
            Self::Control(args) => crate::control::run(args).await,
            Self::Agents(args) => crate::agents::run(args, matches).await,
            Self::Agent(args) => crate::agent::run(*args, matches).await,
            Self::Monitors(args) => crate::monitors::run(args, matches).await,
            Self::Results(args) => crate::results::run(args, matches).await,
            Self::Gaps(args) => crate::gaps::run(args, matches).await,
            Self::Alerts(args) => crate::alerts::run(args, matches).await,
            Self::Check(args) => Ok(crate::check::run(args).await),
            Self::Replay(args) => crate::replay::run(args).await,
            Self::Plugin(args) => crate::plugin::run(args).await,
            Self::PluginCompile => crate::plugin_compile::run(),
            Self::Health(args) => crate::health::run(&args),
        }
    }

    /// The level of the log where nothing names one.
    pub(crate) fn log_default(&self) -> &'static str {
        match self {
            Self::Agent(args) if args.command.is_some() => "warn",
            // The store keeps a diary, and what the verifier says comes back as an error anyway.
            Self::Agent(_) | Self::Control(_) => "info,fjall=warn,lsm_tree=warn,rustls_platform_verifier=off",
            _ => "warn,rustls_platform_verifier=off",
        }
    }
}

/// A command line that was understood.
pub(crate) struct Call {
    /// What every subcommand takes.
    pub(crate) global: Global,
    /// The subcommand.
    pub(crate) command: Command,
    /// Where its values came from.
    pub(crate) matches: ArgMatches,
}

/// A command line that ends at once: help, a version, or a mistake.
pub(crate) enum End {
    Clap { error: clap::Error, check: bool },
    Failure(Failure),
}

impl End {
    /// Prints it and gives the exit status.
    pub(crate) fn print(&self) -> std::process::ExitCode {
        let status = match self {
            Self::Failure(failure) => failure.print(),
            Self::Clap { error, check } => {
                // Nobody is left to tell when the terminal cannot be written.
                let _ = error.print();
                match error.kind() {
                    ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
                    _ if *check => crate::check::ERROR,
                    _ => exit::USAGE,
                }
            }
        };
        status.into()
    }
}

/// Reads the command line, the environment and the file of `--config`.
pub(crate) fn read(args: Vec<std::ffi::OsString>) -> Result<Call, End> {
    let check = args.get(1).is_some_and(|arg| arg == "check");
    let clap = |error| End::Clap { error, check };
    let mut command = without_empty_variables(Cli::command());
    let mut matches = command.clone().try_get_matches_from(&args).map_err(clap)?;
    if let Some((name, path)) = settings_file::named_in(&matches) {
        command = settings_file::apply(command, &name, &path).map_err(End::Failure)?;
        matches = command.clone().try_get_matches_from(&args).map_err(clap)?;
    }
    let cli = Cli::from_arg_matches(&matches).map_err(|e| clap(e.format(&mut command)))?;
    while let Some((_, inner)) = matches.remove_subcommand() {
        matches = inner;
    }
    Ok(Call { global: cli.global, command: cli.command, matches })
}

/// `PICKET_ALLOW=` in a compose file means "not set".
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let unset = |arg: clap::Arg| {
        let empty =
            arg.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()));
        if empty { arg.env(clap::builder::Resettable::Reset) } else { arg }
    };
    command.mut_args(unset).mut_subcommands(without_empty_variables)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_and_subcommand_is_documented() {
        fn walk(command: &clap::Command, path: &str) {
            for arg in command.get_arguments().filter(|a| !a.is_hide_set()) {
                assert!(arg.get_help().is_some(), "{path}: {} has no help", arg.get_id());
            }
            for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
                let path = format!("{path} {}", sub.get_name());
                assert!(sub.get_about().is_some(), "{path} has no help");
                walk(sub, &path);
            }
        }
        walk(&Cli::command(), "picket");
    }
}
