//! `picket agent`: turns options into the agent's settings and signals into its shutdown.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::{self, Secret};
use crate::failure::{Failure, exit};
use crate::settings_file::stronger;
use crate::signals;
use crate::{size, spool};

/// Run the agent: enrol once, pull monitors, check on time, keep every result, report
///
/// It opens no port. Beside the data directory it writes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Directory for identity, configuration and results; made when it is missing, for one agent only
    #[arg(long, env = "PICKET_DATA", hide_env_values = true, default_value = "/data", value_name = "DIR")]
    data: PathBuf,
    /// Address of the control plane; http:// only for this machine
    #[arg(long, env = "PICKET_CONTROL", hide_env_values = true, value_name = "URL")]
    control: Option<agent::Url>,
    /// Setup token, needed once. Better as variable or file: others on this machine see the command line
    #[arg(long, env = "PICKET_SETUP_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    setup_token: Option<Secret>,
    /// File with the setup token
    #[arg(long, env = "PICKET_SETUP_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    setup_token_file: Option<PathBuf>,
    /// Let checks reach an address that is always denied (loopback, link-local, metadata, multicast, the control plane)
    ///
    /// An address, a range or one with a port: "127.0.0.0/8", "::1", "127.0.0.1:5432". A proxy that monitors may go through is named here
    /// too: "proxy.internal:3128". Repeatable; separated by commas in the variable.
    #[arg(long, env = "PICKET_ALLOW", hide_env_values = true, value_delimiter = ',', value_name = "RULE")]
    allow: Vec<net::Rule>,
    /// Let monitors take certificate authorities, client certificates and keys (PEM) from this directory, or this file
    ///
    /// A monitor names them as tls.ca, tls.cert, tls.key or in the check's own configuration: by their path, or by their name in the directory.
    /// Without it no file of this machine can be named. Links that lead out do not count. Repeatable; separated by commas in the variable.
    #[arg(
        long,
        env = "PICKET_ALLOW_FILES",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "PATH"
    )]
    allow_files: Vec<PathBuf>,
    /// Name server for checks, address:port, instead of the system's; repeatable
    #[arg(
        long,
        env = "PICKET_RESOLVER",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "ADDRESS"
    )]
    resolver: Vec<std::net::SocketAddr>,
    /// PEM file of certificate authorities trusted for the control plane beside the system's
    #[arg(long, env = "PICKET_CA_FILE", hide_env_values = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Proxy on the way to the control plane: http://host:port. Default: HTTPS_PROXY, ALL_PROXY and NO_PROXY, but for this machine
    #[arg(long, env = "PICKET_PROXY", hide_env_values = true, value_name = "URL")]
    proxy: Option<Secret>,
    /// User for the proxy; may stand in its address as well
    #[arg(long, env = "PICKET_PROXY_USER", hide_env_values = true, value_name = "NAME")]
    proxy_user: Option<String>,
    /// Password for the proxy. Better as variable or in the file: others on this machine see the command line
    #[arg(long, env = "PICKET_PROXY_PASSWORD", hide_env_values = true, value_name = "TEXT")]
    proxy_password: Option<Secret>,
    /// Directory of the bundled checks, NAME.wasm each. Default: plugins beside the program, beside its directory, or /usr/lib/picket/plugins
    #[arg(long, env = "PICKET_PLUGINS", hide_env_values = true, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Let a check be larger than 8 MiB, up to 64 MiB: its digest, "sha256:" and 64 hexadecimal digits. Repeatable
    ///
    /// `picket plugin inspect` prints the digest. Interpreters that are packed with a script are as large as that; they take up to a minute to
    /// compile, once.
    #[arg(
        long,
        env = "PICKET_LARGE_PLUGIN",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "DIGEST",
        value_parser = digest
    )]
    large_plugin: Vec<String>,
    /// Runs at the same time, 1 to 1024; three quarters of them at most are of monitors whose last run took longer than a second
    #[arg(long, env = "PICKET_CONCURRENCY", hide_env_values = true, default_value_t = agent::Settings::CONCURRENCY, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(agent::Settings::MOST_CONCURRENCY)))]
    concurrency: u16,
    /// Directory whose files are secrets by name, beside the variables PICKET_SECRET_NAME
    #[arg(
        long,
        env = "PICKET_SECRETS_DIR",
        hide_env_values = true,
        default_value = "/run/secrets",
        value_name = "DIR"
    )]
    secrets_dir: PathBuf,
    /// How often it makes a new token, a tenth more or less; 1m to 30d
    #[arg(long, env = "PICKET_ROTATE_EVERY", hide_env_values = true, default_value = "7d", value_name = "TIME", value_parser = rotate_every)]
    rotate_every: Duration,
    /// Bytes of results kept until they are acknowledged, such as "512MiB", at least 16MiB; then the oldest go and become a gap
    ///
    /// The newest 10000 results that are not acknowledged are kept in any case, here and with the next two.
    #[arg(long, env = "PICKET_SPOOL_BYTES", hide_env_values = true, default_value = "512MiB", value_name = "SIZE", value_parser = size::parse)]
    spool_bytes: u64,
    /// Results kept until they are acknowledged, at least 10000
    #[arg(long, env = "PICKET_SPOOL_RECORDS", hide_env_values = true, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(10_000..))]
    spool_records: u64,
    /// Age of results kept, such as "30d"; without it they are kept at any age
    #[arg(long, env = "PICKET_SPOOL_AGE", hide_env_values = true, value_name = "AGE", value_parser = humantime::parse_duration)]
    spool_age: Option<Duration>,
    /// YAML file with these options as keys, below flag and variable in precedence
    #[arg(long, env = "PICKET_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at what an agent has on its disk
    #[command(subcommand)]
    Spool(spool::Verb),
}

const AFTER_HELP: &str = "\
SIGTERM and SIGINT end it within five seconds, with everything recorded on disk.

Exit status:
  0   ended by a signal
  64  the options are wrong, or neither an identity nor a setup token is there
  65  the data directory holds something damaged, or written by a newer version
  69  the control plane refuses the setup token, or was never reached
  70  a part does not start, ended by itself, or panicked too often
  73  the data directory is in use by another agent
  77  the data directory cannot be written
  78  the data directory belongs to another user";

pub(crate) async fn run(args: Args, matches: &ArgMatches) -> Result<u8, Failure> {
    if let Some(Command::Spool(verb)) = args.command {
        return spool::run(verb);
    }
    let control = args.control.ok_or_else(|| {
        Failure::text(exit::USAGE, "no control plane is named")
            .advice("write --control URL, PICKET_CONTROL=URL, or control: URL in the file of --config")
    })?;
    let setup_token = match stronger(matches, "setup_token", "setup_token_file")? {
        Some("setup_token") => args.setup_token,
        Some(_) => args.setup_token_file.as_deref().map(Secret::read).transpose()?,
        None => None,
    };
    let settings = agent::Settings {
        data: args.data,
        control: client::usable(control)?,
        setup_token: setup_token.map(|token| token.0),
        allow: args.allow,
        allow_files: args.allow_files,
        resolver: (!args.resolver.is_empty()).then_some(args.resolver),
        plugins: args.plugins,
        large_plugins: args.large_plugin,
        compiler: crate::plugin_compile::compiler()?,
        concurrency: usize::from(args.concurrency),
        ca_file: args.ca_file,
        proxy: agent::Proxy {
            url: args.proxy.map(|proxy| proxy.0),
            user: args.proxy_user,
            password: args.proxy_password.map(|password| password.0),
        },
        secrets_dir: args.secrets_dir,
        spool: agent::Budget {
            bytes: Some(args.spool_bytes),
            records: Some(args.spool_records),
            age: args.spool_age,
        },
        start_wait: start_wait(),
        rotate_every: args.rotate_every,
    };
    open_many();
    agent::run(settings, signals::shutdown()?).await.map_err(|e| Failure::new(e.exit_code(), e))?;
    Ok(0)
}

/// Lets the agent open as many files and sockets as the machine's owner allows at most: each run has some, and the usual limit of 1,024
/// is one for programs that wait with `select`. Where it stays, a run that finds none left says so.
fn open_many() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        tracing::debug!(?current, ?maximum, "cannot raise the number of files that may be open");
    }
}

fn digest(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    match digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        true => Ok(text.to_owned()),
        false => {
            Err("expected sha256: and 64 digits from 0 to f, as `picket plugin inspect` prints them"
                .to_owned())
        }
    }
}

/// The interval of rotations. Tests rotate every other second: builds with debug assertions obey them.
fn rotate_every(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| "expected a time such as 7d or 12h".to_owned())?;
    let least = Duration::from_secs(if cfg!(debug_assertions) { 1 } else { 60 });
    let bounds = least..=Duration::from_secs(30 * 24 * 3_600);
    if bounds.contains(&time) { Ok(time) } else { Err("expected 1m to 30d".to_owned()) }
}

/// The wait of an agent that is started too often. Tests start agents in loops on purpose: builds with debug assertions obey them.
fn start_wait() -> Duration {
    let wanted = std::env::var("PICKET_START_WAIT_MS").ok().and_then(|ms| ms.parse().ok());
    wanted.filter(|_| cfg!(debug_assertions)).map_or(agent::Settings::START_WAIT, Duration::from_millis)
}
