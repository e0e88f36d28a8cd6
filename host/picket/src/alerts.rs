//! `picket alerts`: the events that somebody was told, and whether they arrived.

use std::fmt::Write as _;

use clap::{ArgMatches, Subcommand};
use wire::Timestamp;
use wire::alert::{AlertView, DeliveryState};

use crate::client::{self, Access};
use crate::failure::Failure;
use crate::output::{self, Columns, Entry};

/// Show alerts: the events that the channels were told
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List events, oldest first
    List {
        /// Only those whose alerts go on
        #[arg(long)]
        open: bool,
        /// Only those made since then: an age ("90s", "1h", "2d") or an RFC 3339 time
        #[arg(long, value_name = "WHEN", value_parser = crate::results::since)]
        since: Option<Timestamp>,
        /// At most so many, the newest: 1 to 10000
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: Access,
    },
    /// Show one event: all its lines, and how far it came on its way into each channel
    Show {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        access: Access,
    },
}

pub(crate) async fn run(args: Args, matches: &ArgMatches) -> Result<u8, Failure> {
    match args.verb {
        Verb::List { open, since, limit, json, access } => {
            let query = [
                ("open", open.then(|| "true".to_owned())),
                ("since", since.map(|t| t.to_string())),
                ("limit", Some(limit.to_string())),
            ];
            let mut alerts: Vec<AlertView> = access.client(matches)?.get("/alerts", &query).await?;
            alerts.reverse();
            if json {
                alerts.iter().try_for_each(output::json)?;
            } else if alerts.is_empty() {
                output::line(if open { "no open alerts" } else { "no alerts" })?;
            } else {
                output::line(&table(&alerts, Columns::new(HEADINGS)))?;
            }
        }
        Verb::Show { id, json, access } => {
            let path = format!("/alerts/{}", client::segment(&id));
            let alert: AlertView = access.client(matches)?.get(&path, &[]).await?;
            if json {
                output::json_pretty(&alert)?;
            } else {
                output::line(&page(&alert))?;
            }
        }
    }
    Ok(0)
}

const HEADINGS: &[&str] = &["at", "event", "open", "told", "id", "summary"];

fn table(alerts: &[AlertView], mut columns: Columns) -> String {
    for alert in alerts {
        let AlertView { notice, open, deliveries } = alert;
        let delivered = deliveries.iter().filter(|d| d.state == DeliveryState::Delivered).count();
        columns.row([
            output::local(notice.at).into(),
            Entry::state(notice.event.as_str()),
            if *open { "open" } else { "" }.into(),
            format!("{delivered}/{}", deliveries.len()).into(),
            notice.id.to_string().into(),
            (&notice.summary).into(),
        ]);
    }
    columns.text()
}

fn page(alert: &AlertView) -> String {
    let AlertView { notice, open, deliveries } = alert;
    let mut text = String::new();
    let state = if *open { ", open" } else { "" };
    let _ = writeln!(text, "{}{state}: {}", notice.event, output::printable(&notice.summary));
    for (name, value) in [
        ("at", Some(output::local(notice.at))),
        ("since", Some(output::local(notice.since))),
        ("monitor", notice.monitor.clone()),
        ("agent", notice.agent.clone()),
        ("location", notice.location.clone()),
        ("state", notice.state.map(|s| s.to_string())),
        ("severity", notice.severity.map(|s| s.to_string())),
        ("runbook", notice.runbook_url.clone()),
        ("confirmed", Some(if notice.confirmed { "by another agent" } else { "no" }.to_owned())),
        ("id", Some(notice.id.to_string())),
        ("alert", Some(notice.alert.to_string())),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name:<10}{}", output::printable(&value));
        }
    }
    for line in &notice.lines {
        let _ = writeln!(text, "  - {}", output::printable(line));
    }
    if deliveries.is_empty() {
        text.push_str("\nno channels: name some below `channels:` in the file of the monitors");
        return text;
    }
    let mut columns = Columns::new(&["channel", "delivery", "attempts", "last try", "why not"]);
    for delivery in deliveries {
        columns.row([
            (&delivery.channel).into(),
            Entry::state(&delivery.state.to_string()),
            delivery.attempts.into(),
            output::or_dash(delivery.tried_at.map(output::local)),
            output::or_dash(delivery.error.as_ref()),
        ]);
    }
    format!("{text}\n{}", columns.text())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> AlertView {
        serde_json::from_value(json!({
            "id": "0193a1b2-0000-7000-8000-000000000001", "alert": "0193a1b2-0000-7000-8000-000000000001",
            "event": "down", "monitor": "shop", "agent": "edge-1", "location": "dc1", "state": "down",
            "since": "2026-11-20T10:02:00.000Z", "at": "2026-11-20T10:02:07.000Z",
            "summary": "shop in dc1 is down \u{1b}[2J", "confirmed": false, "open": true,
            "deliveries": [{"channel": "ops", "state": "waiting", "attempts": 2, "error": "the receiver answered 503", "tried_at": null}]
        }))
        .unwrap()
    }

    #[test]
    fn a_line_says_what_happened_and_whether_it_was_told() {
        let text = table(&[sample()], Columns::with(HEADINGS, false, None));
        for part in
            ["down", "open", "0/1", "0193a1b2-0000-7000-8000-000000000001", "shop in dc1 is down \u{fffd}[2J"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn a_page_says_how_far_an_event_came() {
        let text = page(&sample());
        for part in ["down, open", "confirmed no", "edge-1", "ops", "waiting", "the receiver answered 503"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
