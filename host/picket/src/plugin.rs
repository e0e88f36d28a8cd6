//! `picket plugin`: which checks are here, what a component is, whether it keeps the contract, and a new one to begin with. Owns
//! how a check is found by its name or its file.

mod inspect;
mod new;
mod reference;
mod test;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use sandbox::bundled::{self, Plugins};
use sandbox::{CompileBudget, Plugin, Sandbox};
use serde_json::{Value, json};

use crate::failure::{Failure, exit};
use crate::output::{self, Columns};
use crate::plugin_compile::compiler;

/// List the bundled checks, look into a component, test it, begin a new one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the bundled checks
    List {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show what a check asks for, its options, size and digest; or why a file is no check
    Inspect {
        /// Name of a bundled check, or a file: ./my.wasm
        #[arg(value_name = "NAME|FILE")]
        check: String,
        /// Print one JSON object
        #[arg(long, conflicts_with = "reference")]
        json: bool,
        /// Print its options, targets, metrics and examples as Markdown
        #[arg(long)]
        reference: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Try a component against the conformance suite: whether it keeps the contract, whatever it is written in
    Test(test::Args),
    /// Write a folder with a check of your own to begin with
    New(new::Args),
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Directory of the bundled checks. Default: plugins beside the program, beside its directory, or /usr/lib/picket/plugins
    #[arg(long, env = "PICKET_PLUGINS", hide_env_values = true, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> Result<u8, Failure> {
    let network = net::Network::new(net::Settings::default()).map_err(|e| Failure::new(exit::OS, e))?;
    let sandbox = sandbox(network)?;
    match args.verb {
        Verb::List { json, place } => {
            let plugins = bundled(&sandbox, place.plugins.as_deref()).await?;
            if json {
                output::json_pretty(&plugins.iter().map(|p| summary(p)).collect::<Vec<_>>())?;
            } else {
                let mut columns = Columns::new(&["check", "version", "size", "digest", "summary"]);
                for plugin in plugins.iter() {
                    let digest = plugin.digest.chars().take(19).collect::<String>();
                    let Plugin { description, size, .. } = &**plugin;
                    columns.row([
                        (&description.name).into(),
                        (&description.version).into(),
                        format!("{} KiB", size.div_ceil(1024)).into(),
                        digest.into(),
                        (&description.summary).into(),
                    ]);
                }
                output::line(&columns.text())?;
            }
            for (path, error) in &plugins.refused {
                anstream::eprintln!("picket: {}: {error}", path.display());
            }
            Ok(if plugins.refused.is_empty() { 0 } else { exit::DATA })
        }
        Verb::Inspect { check, json, reference, place } => {
            let plugin = load(&sandbox, &check, place.plugins.as_deref()).await?;
            if reference {
                output::line(reference::page(&plugin).trim_end())?;
            } else if json {
                output::json_pretty(&inspect::object(&plugin))?;
            } else {
                output::line(&inspect::page(&plugin))?;
            }
            Ok(0)
        }
        Verb::Test(args) => test::run(&sandbox, args).await,
        Verb::New(args) => new::run(&args),
    }
}

/// A sandbox for one command: compiled in a bounded child, because the file may be anybody's; nothing kept. Whoever names a file here permits it,
/// however large it is, and waits for it: an interpreter takes half a minute, and more on a busy machine.
pub(crate) fn sandbox(network: net::Network) -> Result<Sandbox, Failure> {
    let settings = sandbox::Settings {
        slots: 1,
        compiler: compiler()?,
        max_component_bytes: 64 << 20,
        compile_budget: CompileBudget { cpu: Duration::from_secs(300), ..CompileBudget::default() },
        ..sandbox::Settings::default()
    };
    Sandbox::new(settings, network)
        .map_err(|e| Failure::new(exit::OS, e).context("cannot set up the sandbox"))
}

/// A check by its name ("http", "http@0", "sha256:…") or from a file.
pub(crate) async fn load(
    sandbox: &Sandbox,
    check: &str,
    place: Option<&Path>,
) -> Result<Arc<Plugin>, Failure> {
    if check.contains('/') || check.ends_with(".wasm") {
        return load_file(sandbox, Path::new(check)).await;
    }
    // Only the one asked for is compiled, when its file has its name.
    let name = check.split('@').next().unwrap_or(check);
    let directory = bundled::directory(place).map_err(no_plugins)?;
    let file = directory.join(format!("{name}.wasm"));
    let plugins = if file.is_file() {
        let mut one = Plugins::default();
        one.add(load_file(sandbox, &file).await?);
        one
    } else {
        bundled(sandbox, Some(&directory)).await?
    };
    plugins.find(check).cloned().map_err(|e| Failure::new(exit::DATA, e).advice(A_FILE))
}

/// The bytes of a check by its name, which is that of its file, or of a file; whatever they are.
async fn bytes(check: &str, place: Option<&Path>) -> Result<Vec<u8>, Failure> {
    if check.contains('/') || check.ends_with(".wasm") {
        return read(Path::new(check)).await;
    }
    let directory = bundled::directory(place).map_err(no_plugins)?;
    let file = directory.join(format!("{check}.wasm"));
    if !file.is_file() {
        let unknown = format!("unknown check {check:?}: there is no {}", file.display());
        return Err(Failure::text(exit::DATA, unknown).advice(A_FILE));
    }
    read(&file).await
}

async fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    tokio::fs::read(path)
        .await
        .map_err(|e| Failure::new(exit::NO_INPUT, e).context(format!("cannot read {}", path.display())))
}

async fn load_file(sandbox: &Sandbox, path: &Path) -> Result<Arc<Plugin>, Failure> {
    let bytes = read(path).await?;
    let refused = |e| Failure::new(exit::DATA, e).context(format!("{} is not a check", path.display()));
    sandbox.load(&bytes).await.map_err(refused)
}

async fn bundled(sandbox: &Sandbox, place: Option<&Path>) -> Result<Plugins, Failure> {
    let directory = bundled::directory(place).map_err(no_plugins)?;
    bundled::load_all(sandbox, &directory).await.map_err(no_plugins)
}

/// For who meant one.
const A_FILE: &str = "a file is written with a slash or its ending: ./my.wasm";

fn no_plugins(e: bundled::BundledError) -> Failure {
    Failure::new(exit::NO_INPUT, e).advice("`make plugins` builds them into target/plugins")
}

fn summary(plugin: &Plugin) -> Value {
    let description = &plugin.description;
    json!({
        "name": description.name,
        "version": description.version,
        "summary": description.summary,
        "digest": plugin.digest,
        "size": plugin.size,
    })
}
