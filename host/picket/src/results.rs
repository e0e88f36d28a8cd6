//! `picket results`: what was recorded, newest last, once or as it comes in.

use std::time::Duration;

use clap::ArgMatches;
use serde_json::{Value, json};
use wire::Timestamp;
use wire::admin::{ResultView, ResultsPage};

use crate::client::{Access, Client};
use crate::failure::{Failure, exit};
use crate::output::{self, Columns, Entry};

/// Show results, oldest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with each result as it comes in
    #[arg(long, short)]
    follow: bool,
    /// Only of this monitor
    #[arg(long, value_name = "NAME")]
    monitor: Option<String>,
    /// Only of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only those that started since then: an age ("90s", "1h", "2d") or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Timestamp>,
    /// At most so many, the newest: 1 to 10000. Default 100, with --follow 10
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: Option<u32>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

pub(crate) async fn run(args: Args, matches: &ArgMatches) -> Result<u8, Failure> {
    let query = Query { monitor: args.monitor, agent: args.agent, since: args.since };
    let client = args.access.client(matches)?;
    let limit = args.limit.unwrap_or(if args.follow { 10 } else { 100 });
    let page = query.newest(&client, limit).await?;
    if args.follow {
        return follow(&client, &query, page, args.json).await;
    }
    if args.json {
        page.results.iter().try_for_each(|result| output::json(&machine(result)))?;
    } else if page.results.is_empty() {
        output::line("no results")?;
    } else {
        output::line(&table(&page.results, Columns::new(HEADINGS)))?;
    }
    Ok(0)
}

/// Which results.
#[derive(Default)]
pub(crate) struct Query {
    /// Of one monitor.
    pub(crate) monitor: Option<String>,
    /// Of one agent.
    pub(crate) agent: Option<String>,
    /// Started since.
    pub(crate) since: Option<Timestamp>,
}

impl Query {
    /// The newest that match, oldest first, and the cursor behind everything that is stored.
    pub(crate) async fn newest(&self, client: &Client, limit: u32) -> Result<ResultsPage, Failure> {
        let mut page: ResultsPage =
            client.get("/results", &self.pairs([("limit", limit.to_string())])).await?;
        page.results.sort_by_key(|r| (r.result.started_at, r.epoch, r.seq));
        Ok(page)
    }

    /// What was stored since the cursor; waits up to 20 s for the first.
    pub(crate) async fn after(&self, client: &Client, cursor: &str) -> Result<ResultsPage, Failure> {
        let more = [("after", cursor.to_owned()), ("wait", "20".to_owned()), ("limit", "1000".to_owned())];
        client.get("/results", &self.pairs(more)).await
    }

    fn pairs<const N: usize>(
        &self,
        more: [(&'static str, String); N],
    ) -> Vec<(&'static str, Option<String>)> {
        let mut pairs = vec![
            ("monitor", self.monitor.clone()),
            ("agent", self.agent.clone()),
            ("since", self.since.map(|t| t.to_string())),
        ];
        pairs.extend(more.map(|(key, value)| (key, Some(value))));
        pairs
    }
}

/// Prints each result as it comes in, until it is interrupted. A control plane that goes away is waited for.
async fn follow(client: &Client, query: &Query, first: ResultsPage, json: bool) -> Result<u8, Failure> {
    let print = |page: &ResultsPage| {
        page.results
            .iter()
            .try_for_each(|r| if json { output::json(&machine(r)) } else { output::line(&row(r)) })
    };
    print(&first)?;
    let mut cursor = first.cursor;
    let mut away = false;
    loop {
        match query.after(client, &cursor).await {
            Ok(page) => {
                print(&page)?;
                cursor = page.cursor;
                away = false;
            }
            Err(failure) if failure.status == exit::UNAVAILABLE => {
                if !std::mem::replace(&mut away, true) {
                    anstream::eprintln!(
                        "picket: {}; waiting for it",
                        failure.message().lines().next().unwrap_or_default()
                    );
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// A result for machines: every member is there, also where the wire leaves an empty one out.
pub(crate) fn machine(result: &ResultView) -> Value {
    let mut value = serde_json::to_value(result).expect("a result is JSON already");
    let members = value.as_object_mut().expect("a result is an object");
    for (name, empty) in [
        ("missed", json!(0)),
        ("remote_address", Value::Null),
        ("metrics", json!([])),
        ("findings", json!([])),
        ("attributes", json!({})),
        ("evidence", Value::Null),
        ("plugin_digest", Value::Null),
    ] {
        members.entry(name).or_insert(empty);
    }
    value
}

const HEADINGS: &[&str] = &["started", "monitor", "agent", "state", "took", "delivery", "code", "summary"];

fn table(results: &[ResultView], mut columns: Columns) -> String {
    for view in results {
        columns.row([
            output::local(view.result.started_at).into(),
            (&view.monitor).into(),
            (&view.agent).into(),
            Entry::state(view.result.state.as_str()),
            format!("{} ms", view.result.duration_ms).into(),
            Entry::state(&view.delivery.to_string()),
            (&view.result.code).into(),
            (&view.result.summary).into(),
        ]);
    }
    columns.text()
}

/// One line while following: the widths are guesses, the rest of the column comes later.
pub(crate) fn row(view: &ResultView) -> String {
    let result = &view.result;
    let state = output::coloured(&format!("{:<8}", result.state));
    let line = format!(
        "{}  {:<20}  {:<10}  {state}  {:>6} ms  {:<8}  {}: {}",
        output::local(result.started_at),
        view.monitor,
        view.agent,
        result.duration_ms,
        view.delivery,
        output::printable(&result.code),
        output::printable(&result.summary),
    );
    line
}

/// An age or a time.
pub(crate) fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let age = humantime::parse_duration(text).map_err(|_| {
        "expected an age such as 90s, 1h or 2d, or a time such as 2026-11-20T18:00:00Z".to_owned()
    })?;
    let millis = i64::try_from(age.as_millis()).map_err(|_| "that is too long ago".to_owned())?;
    Ok(Timestamp::from(jiff::Timestamp::now()).plus_millis(-millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ResultView {
        serde_json::from_value(json!({
            "monitor": "shop", "agent": "edge-1", "location": "dc1", "epoch": 1, "seq": 7,
            "id": "0193a1b2-0000-7000-8000-000000000001", "monitor_id": "0193a1b2-0000-7000-8000-000000000002",
            "planned_at": "2026-11-20T18:00:00.000Z", "started_at": "2026-11-20T18:00:00.004Z", "duration_ms": 12, "attempt": 1,
            "state": "down", "code": "http.status", "summary": "503 Service \u{1b}[2J", "phases": {"connect": 0.001},
            "config_digest": "ab", "agent_version": "0.1.0",
            "received_at": "2026-11-20T18:00:00.100Z", "delivery": "buffered"
        }))
        .unwrap()
    }

    #[test]
    fn a_result_for_machines_has_every_member() {
        let value = machine(&sample());
        for name in [
            "id",
            "monitor",
            "agent",
            "epoch",
            "seq",
            "state",
            "code",
            "summary",
            "planned_at",
            "started_at",
            "duration_ms",
            "received_at",
            "delivery",
            "attempt",
            "phases",
            "metrics",
            "plugin_digest",
        ] {
            assert!(value.get(name).is_some(), "{name} is missing in {value}");
        }
        assert_eq!(value["started_at"], "2026-11-20T18:00:00.004Z");
        assert_eq!(value["delivery"], "buffered");
    }

    #[test]
    fn a_line_of_a_result_says_what_why_and_how_it_came() {
        let line = row(&sample());
        for part in ["shop", "edge-1", "down", "12 ms", "buffered", "http.status: 503 Service \u{fffd}[2J"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn since_takes_an_age_or_a_time() {
        assert_eq!(since("2026-11-20T18:00:00Z").unwrap().to_string(), "2026-11-20T18:00:00.000Z");
        let before = jiff::Timestamp::now().as_millisecond() - 3_600_000;
        let since_then = since("1h").unwrap().as_millis();
        assert!((before..before + 60_000).contains(&since_then), "{since_then}");
        assert!(since("yesterday").unwrap_err().contains("such as 90s"));
    }
}
