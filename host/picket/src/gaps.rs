//! `picket gaps`: results that will never come, and why.

use clap::ArgMatches;
use wire::admin::GapView;

use crate::client::{Access, Client};
use crate::failure::Failure;
use crate::output::{self, Columns};

/// Show results that are missing and will never come: shown as unknown everywhere else
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// At most so many, the newest: 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

pub(crate) async fn run(args: Args, matches: &ArgMatches) -> Result<u8, Failure> {
    let client: Client = args.access.client(matches)?;
    let query = [("agent", args.agent), ("limit", Some(args.limit.to_string()))];
    let gaps: Vec<GapView> = client.get("/gaps", &query).await?;
    if args.json {
        gaps.iter().try_for_each(output::json)?;
    } else if gaps.is_empty() {
        output::line("no gaps")?;
    } else {
        output::line(&table(&gaps, Columns::new(HEADINGS)))?;
    }
    Ok(0)
}

const HEADINGS: &[&str] =
    &["agent", "epoch", "from", "to", "missing", "of them down", "reason", "first", "last"];

fn table(gaps: &[GapView], mut columns: Columns) -> String {
    for GapView { agent, gap, .. } in gaps {
        columns.row([
            agent.into(),
            gap.epoch.to_string().into(),
            gap.from.to_string().into(),
            gap.to.to_string().into(),
            (gap.to.saturating_sub(gap.from) + 1).to_string().into(),
            output::or_dash(gap.down),
            (&gap.reason).into(),
            output::or_dash(gap.first_at.map(output::local)),
            output::or_dash(gap.last_at.map(output::local)),
        ]);
    }
    columns.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_says_how_much_is_missing_and_why() {
        let gap = serde_json::from_value(serde_json::json!({
            "agent": "edge-1", "epoch": 2, "from": 5, "to": 14, "reason": "evicted", "down": 3,
            "received_at": "2026-11-20T18:00:00.000Z"
        }));
        let text = table(&[gap.unwrap()], Columns::with(HEADINGS, false, None));
        for part in ["edge-1", "evicted", " 10 ", " 3 "] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
