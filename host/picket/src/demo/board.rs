//! The demo's table: what each monitor should show, what it shows, how many results there were.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use wire::admin::ResultView;

use super::sample::{Expected, Sample};
use crate::output::{self, Columns, Entry};

/// One row a monitor and location. The default has none: nothing was applied yet.
#[derive(Default)]
pub(super) struct Board {
    rows: Vec<Row>,
    started: Option<Instant>,
    /// From the agents' start to the first result.
    first: Option<Duration>,
}

struct Row {
    expected: Expected,
    latest: Option<ResultView>,
    results: u64,
}

impl Board {
    /// Rows for all that the sample expects; `started` is the agents' start.
    pub(super) fn new(sample: &Sample, started: Instant) -> Self {
        let row = |expected| Row { expected, latest: None, results: 0 };
        Self { rows: sample.expected().into_iter().map(row).collect(), started: Some(started), first: None }
    }

    /// A result came in.
    pub(super) fn take(&mut self, result: ResultView, now: Instant) {
        if let Some(started) = self.started {
            self.first.get_or_insert(now.duration_since(started));
        }
        let belongs = |row: &&mut Row| {
            row.expected.monitor == result.monitor && row.expected.location == result.location
        };
        let Some(row) = self.rows.iter_mut().find(belongs) else { return };
        row.results += 1;
        let newer =
            row.latest.as_ref().is_none_or(|latest| latest.result.started_at <= result.result.started_at);
        if newer {
            row.latest = Some(result);
        }
    }

    /// The rows that are not as they should be, a phrase each.
    pub(super) fn wrong(&self) -> Vec<String> {
        let phrase = |row: &Row| {
            let Expected { monitor, location, state, .. } = &row.expected;
            match &row.latest {
                None => Some(format!("{monitor} in {location} has no result")),
                Some(latest) if latest.result.state != *state => Some(format!(
                    "{monitor} in {location} is {} instead of {state} ({}: {})",
                    latest.result.state,
                    output::printable(&latest.result.code),
                    output::printable(&latest.result.summary)
                )),
                Some(_) => None,
            }
        };
        if self.rows.is_empty() {
            return vec!["it ended before anything was checked".to_owned()];
        }
        self.rows.iter().filter_map(phrase).collect()
    }

    /// The table as it stands.
    pub(super) fn text(&self, now: Instant) -> String {
        let columns =
            Columns::new(&["monitor", "check", "location", "agent", "state", "took", "results", "summary"]);
        let table = self.table(columns);
        let running = self.started.map_or(0, |started| now.duration_since(started).as_secs());
        let first = self.first.map_or_else(
            || "no result yet".to_owned(),
            |f| format!("first result after {:.1} s", f.as_secs_f64()),
        );
        format!("\n{table}\n\nrunning for {running} s, {first}")
    }

    fn table(&self, mut columns: Columns) -> String {
        for Row { expected, latest, results } in &self.rows {
            let state = latest.as_ref().map_or("pending", |l| l.result.state.as_str());
            let summary = latest.as_ref().map_or("", |l| l.result.summary.as_str());
            let on_purpose = if expected.state == wire::results::State::Up { "" } else { " (on purpose)" };
            columns.row([
                (&expected.monitor).into(),
                (&expected.check).into(),
                (&expected.location).into(),
                output::or_dash(latest.as_ref().map(|l| &l.agent)),
                Entry::state(state),
                output::or_dash(latest.as_ref().map(|l| format!("{} ms", l.result.duration_ms))),
                results.into(),
                format!("{summary}{on_purpose}").into(),
            ]);
        }
        columns.text()
    }

    /// All of it for machines.
    pub(super) fn summary(&self) -> Value {
        let row = |row: &Row| {
            let latest = row.latest.as_ref().map(|l| &l.result);
            json!({
                "monitor": row.expected.monitor,
                "check": row.expected.check,
                "location": row.expected.location,
                "expected": row.expected.state,
                "state": latest.map(|r| r.state),
                "code": latest.map(|r| &r.code),
                "summary": latest.map(|r| &r.summary),
                "results": row.results,
            })
        };
        json!({
            "as_expected": self.wrong().is_empty(),
            "first_result_ms": self.first.map(|f| f.as_millis() as u64),
            "results": self.rows.iter().map(|r| r.results).sum::<u64>(),
            "monitors": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}
