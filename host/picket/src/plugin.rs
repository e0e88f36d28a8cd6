//! `picket plugin`: which checks are here, and what a component is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use sandbox::bundled::{self, Plugins};
use sandbox::{Plugin, Sandbox};
use serde_json::{Value, json};

use crate::failure::{Failure, exit};
use crate::output::{self, Columns};
use crate::plugin_compile::compiler;

/// List the bundled checks, look into a component
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
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
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
        Verb::Inspect { check, json, place } => {
            let plugin = load(&sandbox, &check, place.plugins.as_deref()).await?;
            if json {
                let mut value = summary(&plugin);
                value["imports"] = json!(plugin.imports);
                value["exports"] = json!(plugin.exports);
                value["metrics"] = json!(plugin.description.metrics);
                value["config_schema"] = plugin.description.config_schema.clone();
                output::json_pretty(&value)?;
            } else {
                output::line(&page(&plugin))?;
            }
            Ok(0)
        }
    }
}

/// A sandbox for one command: compiled in a bounded child, because the file may be anybody's; nothing kept. Whoever names a file here permits it,
/// however large it is.
pub(crate) fn sandbox(network: net::Network) -> Result<Sandbox, Failure> {
    let settings = sandbox::Settings {
        slots: 1,
        compiler: compiler()?,
        max_component_bytes: 64 << 20,
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
    plugins.find(check).cloned().map_err(|e| {
        Failure::new(exit::DATA, e).advice("a file is written with a slash or its ending: ./my.wasm")
    })
}

async fn load_file(sandbox: &Sandbox, path: &Path) -> Result<Arc<Plugin>, Failure> {
    let bytes = tokio::fs::read(path)
        .await
        .map_err(|e| Failure::new(exit::NO_INPUT, e).context(format!("cannot read {}", path.display())))?;
    let refused = |e| Failure::new(exit::DATA, e).context(format!("{} is not a check", path.display()));
    sandbox.load(&bytes).await.map_err(refused)
}

async fn bundled(sandbox: &Sandbox, place: Option<&Path>) -> Result<Plugins, Failure> {
    let directory = bundled::directory(place).map_err(no_plugins)?;
    bundled::load_all(sandbox, &directory).await.map_err(no_plugins)
}

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

fn page(plugin: &Plugin) -> String {
    let description = &plugin.description;
    let mut options = Columns::new(&["option", "type", "default", "what it does"]);
    let schema = &description.config_schema;
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, option) in schema["properties"].as_object().into_iter().flatten() {
        let default = match option.get("default") {
            Some(default) => default.to_string(),
            None if required.contains(&name.as_str()) => "required".to_owned(),
            None => "-".to_owned(),
        };
        let text = option["description"].as_str().unwrap_or_default();
        let text = text.replace('\n', " ");
        let sentence = text.split_once(". ").map_or(text.as_str(), |(first, _)| first);
        options.row([
            name.into(),
            kind(schema, option).into(),
            default.into(),
            sentence.trim_end_matches('.').into(),
        ]);
    }
    let metrics: Vec<String> =
        description.metrics.iter().map(|m| format!("  {} ({}): {}", m.name, m.unit, m.description)).collect();
    let list = |names: &[String]| names.iter().map(|n| format!("  {n}")).collect::<Vec<_>>().join("\n");
    format!(
        "{} {}: {}\n{}, {} bytes\n\nasks for\n{}\n\noffers\n{}\n\nmetrics\n{}\n\n{}",
        description.name,
        description.version,
        output::printable(&description.summary),
        plugin.digest,
        plugin.size,
        list(&plugin.imports),
        list(&plugin.exports),
        output_lines(&metrics),
        options.text(),
    )
}

fn output_lines(lines: &[String]) -> String {
    if lines.is_empty() {
        "  none".to_owned()
    } else {
        lines.iter().map(|l| output::printable(l)).collect::<Vec<_>>().join("\n")
    }
}

/// "string", "integer or null", "object": what may stand there, references followed once.
fn kind(root: &Value, option: &Value) -> String {
    let option = option
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|r| root.pointer(r.strip_prefix('#')?))
        .unwrap_or(option);
    match option.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).filter(|k| *k != "null").collect::<Vec<_>>().join(" or ")
        }
        _ => {
            let branches = ["anyOf", "oneOf"].iter().find_map(|name| option.get(name)?.as_array());
            let kinds: std::collections::BTreeSet<String> =
                branches.into_iter().flatten().map(|b| kind(root, b)).filter(|k| k != "null").collect();
            if kinds.is_empty() {
                "any".to_owned()
            } else {
                kinds.into_iter().collect::<Vec<_>>().join(" or ")
            }
        }
    }
}
