//! `picket plugin inspect`: what a component is, for whoever is about to trust it. The table of its options as Markdown is
//! `reference`'s.

use sandbox::Plugin;
use serde_json::{Value, json};

use super::reference::{self, Marked};
use crate::output::{self, Columns};

/// One object for machines.
pub(super) fn object(plugin: &Plugin) -> Value {
    let mut value = super::summary(plugin);
    value["contract"] = json!(contract(plugin));
    value["imports"] = json!(plugin.imports);
    value["exports"] = json!(plugin.exports);
    let marked = reference::marked(&plugin.description.config_schema);
    let places = |list: Vec<&Marked>| {
        list.into_iter().map(|one| json!({"at": one.at, "kind": one.kind})).collect::<Vec<_>>()
    };
    value["targets"] = json!(places(marked.iter().filter(|one| one.kind != "secret").collect()));
    value["secrets"] =
        json!(marked.iter().filter(|one| one.kind == "secret").map(|one| &one.at).collect::<Vec<_>>());
    value["metrics"] = json!(plugin.description.metrics);
    value["config_schema"] = plugin.description.config_schema.clone();
    value
}

/// A page for people.
pub(super) fn page(plugin: &Plugin) -> String {
    let description = &plugin.description;
    let marked = reference::marked(&description.config_schema);
    let mut asks = Columns::new(&["asks for", "which is"]);
    for import in &plugin.imports {
        asks.row([import.into(), meaning(import).into()]);
    }
    let lines = |kept: &dyn Fn(&&Marked) -> bool| -> Vec<String> {
        marked.iter().filter(kept).map(|one| format!("  {} ({})", one.at, one.kind)).collect()
    };
    let metrics: Vec<String> =
        description.metrics.iter().map(|m| format!("  {} ({}): {}", m.name, m.unit, m.description)).collect();
    let exports: Vec<String> = plugin.exports.iter().map(|name| format!("  {name}")).collect();
    let mut options = Columns::new(&["option", "type", "default", "what it does"]);
    for option in reference::options(&description.config_schema) {
        let sentence = option.text.split_once(". ").map_or(option.text.as_str(), |(first, _)| first);
        options.row([
            option.name.into(),
            option.kind.into(),
            option.default.into(),
            sentence.trim_end_matches('.').into(),
        ]);
    }
    format!(
        "{} {}: {}\n{}, {} bytes, contract {}\n\n{}\n\noffers\n{}\n\nmay reach, and nothing else\n{}\n\nmay use as secrets\n{}\n\nmetrics\n{}\n\n{}",
        description.name,
        description.version,
        output::printable(&description.summary),
        plugin.digest,
        plugin.size,
        contract(plugin),
        asks.text(),
        listed(&exports),
        listed(&lines(&|one| one.kind != "secret")),
        listed(&lines(&|one| one.kind == "secret")),
        listed(&metrics),
        options.text(),
    )
}

fn listed(lines: &[String]) -> String {
    if lines.is_empty() {
        "  nothing".to_owned()
    } else {
        lines.iter().map(|l| output::printable(l)).collect::<Vec<_>>().join("\n")
    }
}

/// The version of the contract that it was built against.
fn contract(plugin: &Plugin) -> &str {
    let checker = plugin.exports.iter().find(|name| name.starts_with("picket:check/checker@"));
    checker.and_then(|name| name.split_once('@')).map_or("unknown", |(_, version)| version)
}

/// What an import lets a component do, in words. What it may reach is another question: only what is marked.
fn meaning(import: &str) -> &'static str {
    match import.split('@').next().unwrap_or_default() {
        "picket:net/tcp" => "byte streams, plain and TLS",
        "picket:net/http" => "HTTP exchanges",
        "picket:net/dns" => "questions to name servers",
        "picket:net/tls" => "what a handshake told",
        "picket:net/secrets" => "the use of secrets, without their bytes",
        "picket:net/log" => "notes for the author",
        "picket:net/regex" => "patterns, searched by the host",
        "picket:net/oauth2" => "tokens for exchanges, without their bytes",
        "picket:net/types" | "picket:check/verdict" => "types, nothing to do",
        name if name.starts_with("wasi:clocks/") => "the time",
        name if name.starts_with("wasi:random/") => "randomness",
        name if name.starts_with("wasi:io/") => "waiting and streams",
        "wasi:cli/stdout" | "wasi:cli/stderr" => "output, into the log",
        name if name.starts_with("wasi:cli/") => {
            "nothing: arguments, variables, input and terminals are empty"
        }
        name if name.starts_with("wasi:sockets/") => "sockets, under the same grant",
        name if name.starts_with("wasi:http/") => "HTTP exchanges, under the same grant",
        name if name.starts_with("wasi:filesystem/") => "files, of which there are none",
        name if name.starts_with("picket:net/") => "another part of the measured network",
        _ => "something of its own",
    }
}
