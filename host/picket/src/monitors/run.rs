//! `picket monitors run`: a run beside the plan, on the agents, and what they found, printed as `picket check` prints its own.

use std::time::Duration;

use wire::admin::{NotRun, ResultView, RunAnswer};

use crate::check::{ERROR, Made};
use crate::client::{self, Client};
use crate::failure::Failure;
use crate::output;

/// What to run and where.
pub(super) struct Wanted {
    pub(super) monitor: String,
    pub(super) location: Option<String>,
    pub(super) timeout: Duration,
}

/// Runs it, prints what came and gives the exit status.
pub(super) async fn now(client: &Client, wanted: &Wanted, json: bool) -> Result<u8, Failure> {
    let Wanted { monitor, location, timeout } = wanted;
    let location = location.as_ref().map(|l| format!("&location={}", client::segment(l))).unwrap_or_default();
    let path = format!("/monitors/{}/run?wait={}{location}", client::segment(monitor), timeout.as_secs());
    let answer: RunAnswer = client.post(&path, &serde_json::json!({})).await?;
    if json {
        output::json_pretty(&answer)?;
    } else {
        output::line(&text(&answer, output::terminal_width().is_some()))?;
    }
    Ok(exit_status(&answer))
}

fn text(answer: &RunAnswer, terminal: bool) -> String {
    let found = |view: &ResultView| {
        let ResultView { location, agent, found, .. } = view;
        let window = if found.is_some() { ", in maintenance" } else { "" };
        format!("{}\n  ran at {location} on {agent}{window}", made(view).text(terminal))
    };
    let missing = |NotRun { location, reason, .. }: &NotRun| {
        let reason = output::printable(reason);
        format!("{}: no result from {location}: {reason}", output::coloured("error"))
    };
    let found = answer.results.iter().map(found);
    found.chain(answer.missing.iter().map(missing)).collect::<Vec<_>>().join("\n")
}

/// What was found, also within a maintenance window.
fn made(view: &ResultView) -> Made {
    let mut result = view.result.clone();
    result.state = view.found.unwrap_or(result.state);
    Made::from(result)
}

/// The worst of all, in the order of a Nagios plugin's; what is missing is an error.
fn exit_status(answer: &RunAnswer) -> u8 {
    let found = answer.results.iter().map(|view| made(view).exit_status());
    found.chain(answer.missing.iter().map(|_| ERROR)).max().unwrap_or(ERROR)
}

/// For `--timeout`.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| "expected a time such as 10s".to_owned())?;
    let bounds = Duration::from_secs(1)..=Duration::from_secs(50);
    if bounds.contains(&time) { Ok(time) } else { Err("expected 1s to 50s".to_owned()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NIL: &str = "00000000-0000-0000-0000-000000000000";

    fn result(state: &str) -> serde_json::Value {
        json!({
            "monitor": "shop", "agent": "edge-1", "location": "dc1", "epoch": 1, "seq": 7,
            "id": NIL, "monitor_id": NIL, "planned_at": "2026-11-20T18:00:00.000Z",
            "started_at": "2026-11-20T18:00:00.000Z", "duration_ms": 12, "attempt": 1, "state": state, "code": "ok",
            "summary": "200 in 12 ms", "config_digest": "d", "agent_version": "0.1.0",
            "received_at": "2026-11-20T18:00:00.000Z", "delivery": "live",
        })
    }

    fn answer(states: &[&str], missing: &[&str]) -> RunAnswer {
        let missing: Vec<_> = missing
            .iter()
            .map(|reason| json!({"location": "dc2", "agent": null, "reason": reason}))
            .collect();
        let results: Vec<_> = states.iter().map(|state| result(state)).collect();
        serde_json::from_value(json!({"results": results, "missing": missing})).unwrap()
    }

    #[test]
    fn prints_what_each_agent_found_and_where_nothing_came() {
        let text = text(&answer(&["up"], &["no agent is enrolled at location dc2"]), true);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            text,
            "up: 200 in 12 ms (ok)\n  took 12 ms\n  ran at dc1 on edge-1\n\
             error: no result from dc2: no agent is enrolled at location dc2"
        );
    }

    #[test]
    fn the_exit_status_is_the_worst_and_a_missing_result_is_an_error() {
        for (states, missing, status) in [
            (&["up"][..], &[][..], 0),
            (&["up", "degraded"], &[], 1),
            (&["down", "up"], &[], 2),
            (&["error", "down"], &[], 3),
            (&["up"], &["away"], 3),
            (&[], &[], 3),
        ] {
            assert_eq!(exit_status(&answer(states, missing)), status, "{states:?} {missing:?}");
        }
    }
}
