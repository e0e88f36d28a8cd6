//! `picket plugin test`: tries a component against the conformance suite. Owns how what came of it is shown; the suite is
//! `conformance`.

use std::path::{Path, PathBuf};

use conformance::{Outcome, Suite, Tried, junit};
use sandbox::Sandbox;
use serde_json::json;

use super::Place;
use crate::failure::{Failure, exit};
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Name of a bundled check, or a file: ./my.wasm
    #[arg(value_name = "NAME|FILE")]
    check: String,
    /// Only the cases with this text in their name, such as failures or config/huge. Repeatable
    #[arg(long, value_name = "TEXT")]
    case: Vec<String>,
    /// Also the cases below this folder: those of this one check
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// Also write a report for CI systems, in JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

const AFTER_HELP: &str = "\
No network is needed: the world of every case is played. docs/conformance.md says what a case is.

Exit status:
  0  every case that applies holds
  1  one does not";

pub(super) async fn run(sandbox: &Sandbox, args: Args) -> Result<u8, Failure> {
    let bytes = super::bytes(&args.check, args.place.plugins.as_deref()).await?;
    let mut suite = Suite::bundled();
    if let Some(folder) = &args.cases {
        suite = suite.with_folder(folder).map_err(|e| Failure::new(exit::DATA, e))?;
    }
    let suite = suite.only(&args.case);
    if suite.cases.is_empty() {
        let wanted = args.case.join(" or ");
        return Err(Failure::text(exit::USAGE, format!("no case has {wanted} in its name"))
            .advice("without --case every one of them is tried and named"));
    }
    let mut unwritten = None;
    let tried = suite
        .try_component(sandbox, &bytes, |one| {
            if !args.json
                && let Err(error) = output::line(&line(one))
            {
                unwritten.get_or_insert(error);
            }
        })
        .await;
    // Whoever reads only the beginning of the output still gets the report, and whether a case failed.
    if let Some(path) = &args.junit {
        save(path, &junit(name(&args.check), &tried))?;
    }
    let count = |wanted: fn(&Outcome) -> bool| tried.iter().filter(|one| wanted(&one.outcome)).count();
    let passed = count(|outcome| *outcome == Outcome::Passed);
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let unfit = tried.len() - passed - failed;
    if let Some(error) = unwritten {
        return if failed > 0 { Ok(1) } else { Err(error.into()) };
    }
    if args.json {
        output::json_pretty(&json!({
            "check": args.check, "passed": passed, "failed": failed, "not_applicable": unfit, "cases": tried,
        }))?;
    } else {
        output::line(&format!("\n{passed} passed, {failed} failed, {unfit} not applicable"))?;
    }
    Ok(u8::from(failed > 0))
}

/// One case, and beneath it why it failed.
fn line(one: &Tried) -> String {
    let (word, about, reasons) = match &one.outcome {
        Outcome::Passed => ("ok", one.about.clone(), Vec::new()),
        Outcome::Failed(reasons) => ("FAIL", one.about.clone(), reasons.clone()),
        Outcome::NotApplicable(reason) => ("-", reason.clone(), Vec::new()),
    };
    let mut text =
        format!("{}  {:26}  {}", output::coloured(&format!("{word:4}")), one.id, output::printable(&about));
    for reason in reasons {
        text.push_str(&format!("\n        {}", output::printable(&reason)));
    }
    text
}

/// The file's name without its ending.
fn name(check: &str) -> &str {
    Path::new(check).file_stem().and_then(|stem| stem.to_str()).unwrap_or(check)
}

fn save(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|e| Failure::new(exit::GENERAL, e).context(format!("cannot write {}", path.display())))
}
