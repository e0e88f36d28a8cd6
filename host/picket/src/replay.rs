//! `picket replay`: a run again from its trace, without a network. Owns how a difference is told; the trace is the sandbox's.

use std::path::PathBuf;

use sandbox::trace::{Divergence, Trace};
use serde_json::{Value, json};

use crate::check::Made;
use crate::failure::{Failure, exit};
use crate::output;
use crate::plugin;

/// Repeat a run from its trace, without a network
///
/// The check gets the answers that `picket check --trace` wrote down. Where it asks something else, that is said, and it gets no
/// more answers. The trace holds no secret, and none is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// What `picket check --trace` wrote
    #[arg(value_name = "TRACE.json")]
    trace: PathBuf,
    /// Name of a bundled check, or a file: ./my.wasm
    #[arg(value_name = "NAME|FILE.wasm")]
    check: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Directory of the bundled checks. Default: plugins beside the program, beside its directory, or /usr/lib/picket/plugins
    #[arg(long, env = "PICKET_PLUGINS", hide_env_values = true, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Exit status:
  0  it asked what the trace says, and came to the same verdict
  1  it did not";

pub(crate) async fn run(args: Args) -> Result<u8, Failure> {
    let file = args.trace.display();
    let bytes = tokio::fs::read(&args.trace)
        .await
        .map_err(|e| Failure::new(exit::NO_INPUT, e).context(format!("cannot read {file}")))?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::text(exit::DATA, format!("{file} is not a trace: it is no text"))
            .advice("the trace stands first, the check behind it")
    })?;
    let trace = Trace::read(&text).map_err(|e| Failure::new(exit::DATA, e).context(file.to_string()))?;
    let network = net::Network::new(net::Settings::default()).map_err(|e| Failure::new(exit::OS, e))?;
    let sandbox = plugin::sandbox(network)?;
    let plugin = plugin::load(&sandbox, &args.check, args.plugins.as_deref()).await?;
    let replayed = sandbox.replay(&plugin, &trace).await;
    let faithful = replayed.divergence.is_none() && replayed.left == 0;
    let other = (plugin.digest != trace.plugin.digest).then(|| trace.plugin.digest.clone());
    let made = Made::of(replayed.report, &plugin.digest);
    if args.json {
        output::json_pretty(&json!({
            "same_calls": faithful,
            "same_verdict": replayed.same,
            "divergence": replayed.divergence,
            "calls_left": replayed.left,
            "calls": trace.calls.len(),
            "unwritten": trace.unwritten,
            "traced_plugin_digest": trace.plugin.digest,
            "result": made,
        }))?;
    } else {
        output::line(&made.text(output::terminal_width().is_some()))?;
        output::line("")?;
        if let Some(digest) = other {
            output::line(&format!("the trace is of another component: {digest}"))?;
        }
        if !trace.unwritten.is_empty() {
            let what = trace.unwritten.join(", ");
            output::line(&format!("the trace is not complete: {what} is not in it, and denied here"))?;
        }
        match &replayed.divergence {
            Some(divergence) => output::line(&told(divergence, trace.calls.len()))?,
            None if replayed.left > 0 => {
                output::line(&format!("calls of the trace that were not made: {}", replayed.left))?;
            }
            None => output::line(&format!("the same calls: {}", trace.calls.len()))?,
        }
        output::line(if replayed.same { "the same verdict" } else { "another verdict than the trace's" })?;
    }
    Ok(u8::from(!(faithful && replayed.same)))
}

fn told(divergence: &Divergence, calls: usize) -> String {
    let found = output::printable(&divergence.found.to_string());
    match &divergence.expected {
        Some(expected) => format!(
            "call {} of {calls} differs\n  the trace     {}\n  the component {found}",
            divergence.at,
            output::printable(&Value::to_string(expected)),
        ),
        None => format!("the trace ends after {calls} calls, the component went on with {found}"),
    }
}
