//! `picket check`: one run here and now, as an agent would make it. Also a Nagios plugin.
//!
//! Owns how a configuration is put together on the command line and how a report is printed; the run is the sandbox's.

mod config;
mod report;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent::attempt::{self, Attempts};
use sandbox::{Job, Limits, Mistake, Plugin, Secrets, Verdict};
use wire::manner::Manner;

use crate::failure::{Failure, exit};
use crate::output;
use crate::plugin;
use crate::yaml::Document;
pub(crate) use report::Made;

/// Run a check once, here and now, without agent and control plane
///
/// It may reach this machine's loopback, which an agent may not unless told; metadata addresses only with --allow.
/// Secrets, written as {"$secret": "NAME"}, come from the variables PICKET_SECRET_NAME. It reads any file that you may read.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Name of a bundled check, or a file: ./my.wasm
    #[arg(value_name = "NAME|FILE.wasm")]
    check: String,
    /// Set a key of the configuration; dots lead inwards: --set headers.Accept=text/html
    ///
    /// The value is JSON, or text where it is not JSON or where the check wants text. Repeatable; above the keys of --config.
    #[arg(long, value_name = "KEY=VALUE", value_parser = config::setting)]
    set: Vec<config::Setting>,
    /// YAML or JSON file with the configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a field that every monitor may have: --monitor ip_family=v6 --monitor tls.ca=/etc/ssl/ours.pem
    ///
    /// Of degraded_after, ip_family, address_mode, resolver, proxy, tls and invert. A proxy beyond loopback needs --allow. Repeatable.
    #[arg(long, value_name = "KEY=VALUE", value_parser = config::setting)]
    monitor: Vec<config::Setting>,
    /// Also let it reach this target, or an address that is always denied
    ///
    /// A name, an address or a range, with or without a port: "10.0.0.1", "*.example.com:443", "169.254.169.254". Repeatable; separated by commas in the variable.
    #[arg(long, env = "PICKET_ALLOW", hide_env_values = true, value_delimiter = ',', value_name = "RULE")]
    allow: Vec<net::Rule>,
    /// From resolve to verdict
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = timeout)]
    timeout: Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write every call to the host with its answer to this file, for `picket replay`; secrets are left out. One attempt is made
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Directory of the bundled checks. Default: plugins beside the program, beside its directory, or /usr/lib/picket/plugins
    #[arg(long, env = "PICKET_PLUGINS", hide_env_values = true, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Exit status, as for a Nagios plugin:
  0  up
  1  degraded
  2  down
  3  error: the check could not be made, or the command line is wrong";

/// The check could not be made.
pub(crate) const ERROR: u8 = 3;

/// Every way to fail before the run is an error too.
pub(crate) async fn run(args: Args) -> u8 {
    match made(args).await {
        Ok(status) => status,
        Err(failure) => match failure.print() {
            0 => 0,
            _ => ERROR,
        },
    }
}

async fn made(args: Args) -> Result<u8, Failure> {
    let json = args.json;
    let made = once(args).await?;
    if json {
        output::json_pretty(&made)?;
    } else {
        output::line(&made.text(output::terminal_width().is_some()))?;
    }
    Ok(made.exit_status())
}

async fn once(args: Args) -> Result<Made, Failure> {
    let network = network(args.allow.clone())?;
    let manner = manner(&args)?;
    let sandbox = plugin::sandbox(network)?;
    let plugin = plugin::load(&sandbox, &args.check, args.plugins.as_deref()).await?;
    let document = args.config.as_deref().map(Document::read).transpose()?;
    let written = document.as_ref().map_or_else(|| serde_json::json!({}), Document::to_json);
    let written = config::with_settings(written, &args.set, &plugin.description.config_schema)
        .map_err(|mistake| Failure::text(exit::DATA, mistake))?;
    let place = |at: &str| document.as_ref().map(|d| d.place(at));
    match job(&plugin, &written, &manner, &args).await {
        Ok((job, targets)) => {
            let report = match &args.trace {
                Some(path) => traced(&sandbox, &plugin, job, path).await?,
                None => Attempts::new(sandbox).make(&plugin, job, &manner, &targets).await,
            };
            Ok(Made::of(report, &plugin.digest))
        }
        Err(refusal) => Ok(Made::refused(&refusal, &args.set, place, &plugin.digest)),
    }
}

/// A run that is written down. What passed may be confidential, so the file is its owner's alone.
async fn traced(
    sandbox: &sandbox::Sandbox,
    plugin: &Plugin,
    job: Job,
    path: &std::path::Path,
) -> Result<sandbox::Report, Failure> {
    let (report, trace) = sandbox
        .record(plugin, job, |session| Arc::new(session))
        .await
        .map_err(|e| Failure::new(exit::OS, e))?;
    let mut text =
        serde_json::to_string_pretty(&trace).expect("a trace has string keys and no failing serializer");
    text.push('\n');
    let open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Failure::new(exit::GENERAL, e).context(format!("cannot write {}", path.display())))?;
    if !trace.unwritten.is_empty() {
        anstream::eprintln!(
            "picket: {} is not complete: what went through {} is not in it",
            path.display(),
            trace.unwritten.join(", ")
        );
    }
    Ok(report)
}

/// Why there is nothing to run.
struct Refusal {
    code: &'static str,
    mistakes: Vec<Mistake>,
}

impl From<Vec<Mistake>> for Refusal {
    fn from(mistakes: Vec<Mistake>) -> Self {
        Self { code: "config", mistakes }
    }
}

/// What a monitor would say beside its check.
fn manner(args: &Args) -> Result<Manner, Failure> {
    let refused = |words: String| Failure::text(exit::DATA, format!("--monitor: {words}"));
    let fields = config::with_settings(serde_json::json!({}), &args.monitor, &config::of_monitors());
    let fields = fields.map_err(refused)?;
    let fields = fields.as_object().cloned().unwrap_or_default();
    control::manner(&fields, args.timeout).map_err(|mistakes| {
        let sentence = |mistake: wire::Mistake| {
            let key = mistake.at.trim_start_matches('/').replace('/', ".");
            if key.is_empty() { mistake.message } else { format!("{key}: {}", mistake.message) }
        };
        refused(mistakes.into_iter().map(sentence).collect::<Vec<_>>().join("; "))
    })
}

/// What to run, and the names that it dials.
async fn job(
    plugin: &Arc<Plugin>,
    written: &serde_json::Value,
    manner: &Manner,
    args: &Args,
) -> Result<(Job, Vec<net::Endpoint>), Refusal> {
    let config = plugin.schema.complete(written)?;
    let allow: Vec<String> = args.allow.iter().map(ToString::to_string).collect();
    let mut grant = plugin.schema.grant(&config, &allow)?;
    grant.resolvers.extend(attempt::name_servers(manner));
    // A validator that breaks will break in the run too, where a fault has its place.
    let mistakes = plugin.validate(&config).await.unwrap_or_default();
    if !mistakes.is_empty() {
        return Err(mistakes.into());
    }
    let own = secrets(manner.secret_names())?;
    let secrets = secrets(plugin.schema.secret_names(&config))?;
    let job = Job {
        monitor: plugin.description.name.clone(),
        config: config.to_string(),
        attempt: 1,
        timeout: args.timeout,
        grant: grant.into(),
        route: attempt::route(manner, &own),
        secrets,
        limits: Limits::default(),
    };
    Ok((job, attempt::targets(plugin, &config)))
}

/// Loopback is open to a person at this machine.
fn network(allow: Vec<net::Rule>) -> Result<net::Network, Failure> {
    let local = ["127.0.0.0/8", "::1"].map(|rule| rule.parse().expect("a valid rule"));
    let allow = local.into_iter().chain(allow).collect();
    let settings = net::Settings {
        ceiling: net::Ceiling { allow, files: net::Files::All, ..net::Ceiling::default() },
        ..net::Settings::default()
    };
    net::Network::new(settings).map_err(|e| Failure::new(exit::OS, e).context("cannot use the network"))
}

fn secrets(names: impl IntoIterator<Item = String>) -> Result<Secrets, Refusal> {
    let mut secrets = Secrets::new();
    let mut mistakes = Vec::new();
    for name in names {
        let variable = format!("PICKET_SECRET_{}", name.to_uppercase().replace(['-', '.'], "_"));
        match std::env::var(&variable) {
            Ok(secret) => secrets.insert(name, secret.into_bytes()),
            Err(_) => mistakes.push(Mistake {
                at: String::new(),
                message: format!("the secret {name:?} is not there: set the variable {variable}"),
            }),
        }
    }
    if mistakes.is_empty() { Ok(secrets) } else { Err(Refusal { code: "secret.missing", mistakes }) }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let time =
        humantime::parse_duration(text).map_err(|_| "expected a time such as 10s or 500ms".to_owned())?;
    let bounds = Duration::from_millis(100)..=Duration::from_secs(600);
    if bounds.contains(&time) { Ok(time) } else { Err("expected 100ms to 10m".to_owned()) }
}

impl Made {
    pub(crate) fn of(report: sandbox::Report, digest: &str) -> Self {
        let mut made = match report.verdict {
            Verdict::Outcome(outcome) => Self::outcome(outcome),
            Verdict::Failure(failure) => Self::failure(&failure),
            Verdict::Fault(fault) => Self::error(fault.code(), fault.to_string()),
        };
        made.measured(&report.measured);
        made.plugin_digest = digest.to_owned();
        made.duration_ms = u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX);
        made.log = report.log.into_iter().map(|(_, line)| line).collect();
        made
    }
}
