//! The first page: what is wrong, then everything.

use maud::{Markup, html};
use wire::Problem;
use wire::admin::{AgentState, AgentView, GapView, MonitorView, Shown, Uptime};
use wire::alert::AlertView;

use super::frame;
use crate::control::Control;
use crate::ingest::REPEATED;
use crate::judge::Bar;
use crate::uptime::Uptimes;

/// Renders it.
pub(super) fn render(control: &Control) -> Result<Markup, Problem> {
    let registry = control.registry();
    let now = control.now().wall;
    let views = control.monitors();
    let known: Vec<_> = views.iter().filter_map(|view| registry.monitor_named(&view.spec.name)).collect();
    let (bars, uptimes) = (control.bars(&known)?, control.uptimes_at_hand(&known)?);
    // A monitor that was made between the two readings is shown at the next one.
    let shown = views.iter().filter(|view| registry.monitors.contains_key(&view.spec.name));
    let monitors: Vec<_> =
        shown.zip(bars).zip(uptimes).map(|((view, bar), up)| Line { view, bar, up }).collect();
    let (agents, mut gaps) = (control.agents(), control.gaps(None, GAPS_READ)?);
    // Of these nothing is missing.
    gaps.retain(|view| view.gap.reason != REPEATED);
    gaps.truncate(GAPS_SHOWN);
    let body = html! {
        h1.hidden { "Overview" }
        (totals(&monitors))
        (alert_list(&control.open_alerts(), now))
        section aria-labelledby="monitors" {
            h2 #monitors { "Monitors" }
            @if monitors.is_empty() {
                p.notice { "None yet. Write a monitors.yaml and apply it: " code { "picket monitors apply -f monitors.yaml" } }
            } @else {
                div.scroll { table {
                    thead { tr { th { "Monitor" } th { "State" } th.wide { "Last hour" } th.number { "Up in 24 h" } th { "Latest" } th { "When" } } }
                    tbody { @for line in &monitors { (monitor_row(line, now)) } }
                } }
                (frame::legend())
            }
        }
        section aria-labelledby="agents" {
            h2 #agents { "Agents" }
            @if agents.is_empty() {
                p.notice { "None yet. Create one: " code { "picket agents create edge-1 --location dc1" } }
            } @else {
                div.scroll { table {
                    thead { tr { th { "Agent" } th { "State" } th { "Location" } th { "Last seen" } th { "Pending" } th { "Version" } } }
                    tbody { @for agent in &agents { (agent_row(agent, now)) } }
                } }
            }
        }
        @if !gaps.is_empty() { (gap_list(&gaps, now)) }
    };
    Ok(frame::page("Picket", Some(5), &body))
}

/// What the page tells of one monitor.
struct Line<'a> {
    view: &'a MonitorView,
    bar: Bar,
    /// None for the moment after a start in which its history is read.
    up: Option<Uptimes>,
}

fn totals(monitors: &[Line<'_>]) -> Markup {
    let order = [
        Shown::Down,
        Shown::Degraded,
        Shown::Error,
        Shown::Unknown,
        Shown::Maintenance,
        Shown::Up,
        Shown::Pending,
        Shown::Disabled,
    ];
    let counted = order.map(|state| (state, monitors.iter().filter(|line| line.view.state == state).count()));
    html! {
        ul.totals {
            @for (state, count) in counted.iter().filter(|(state, n)| *n > 0 || *state == Shown::Up) {
                li class=(state.as_str()) { strong { (count) } " " (state.as_str()) }
            }
        }
    }
}

/// What somebody was told about and that goes on.
fn alert_list(alerts: &[AlertView], now: wire::Timestamp) -> Markup {
    html! {
        @if !alerts.is_empty() {
            section aria-labelledby="alerts" {
                h2 #alerts { "Open alerts" }
                div.scroll { table {
                    thead { tr { th { "Alert" } th { "Since" } th { "What" } } }
                    tbody {
                        @for alert in alerts.iter().rev().take(ALERTS) {
                            tr {
                                th scope="row" { (alert.notice.event) @if let Some(severity) = alert.notice.severity { small.quiet { (severity) } } }
                                td.quiet { (frame::ago(Some(alert.notice.since), now)) }
                                td.summary {
                                    (alert.notice.summary)
                                    @if let Some(url) = &alert.notice.runbook_url { small { (frame::runbook(url)) } }
                                }
                            }
                        }
                    }
                } }
                @if let Some(more) = alerts.len().checked_sub(ALERTS).filter(|more| *more > 0) {
                    p.quiet { "and " (more) " more: " code { "picket alerts list --open" } }
                }
            }
        }
    }
}

/// Open alerts that the page lists.
const ALERTS: usize = 20;

fn monitor_row(line: &Line<'_>, now: wire::Timestamp) -> Markup {
    let Line { view, bar, up } = line;
    let day = up.as_ref().and_then(|up| up.all.first());
    let percent = day.and_then(Uptime::percent).unwrap_or_else(|| "–".into());
    let worst = view.by_location.iter().find(|l| l.state == view.state);
    let latest = view.by_location.iter().filter_map(|l| l.last_result_at).max();
    html! {
        tr {
            th scope="row" {
                a href={ "/monitors/" (view.spec.name) } { (view.spec.name) }
                small.quiet { (view.spec.check) }
            }
            td { (frame::state(view.state)) }
            td.wide { (frame::bar(bar, now)) }
            td.number title=[day] { (percent) }
            td.summary {
                @if let Some(summary) = worst.and_then(|l| l.summary.as_ref()) { (summary) }
                @if view.by_location.len() > 1 {
                    small.quiet {
                        @for l in &view.by_location { span { (l.location) " " (l.state.as_str()) " " } }
                    }
                } @else if let Some(l) = view.by_location.first() { small.quiet { (l.location) } }
            }
            td.quiet { (frame::ago(latest, now)) }
        }
    }
}

fn agent_row(agent: &AgentView, now: wire::Timestamp) -> Markup {
    let shown = match agent.state {
        AgentState::Connected => "up",
        AgentState::Forked | AgentState::Approval | AgentState::Revoked => "degraded",
        AgentState::Away => "unknown",
        AgentState::Created => "pending",
    };
    html! {
        tr {
            th scope="row" { (agent.agent) }
            td {
                span class={ "state " (shown) } { (agent.state) }
                @for warning in &agent.warnings {
                    small.quiet { (warning.kind) ": " (warning.detail) ", since " (frame::ago(Some(warning.since), now)) }
                }
            }
            td { (agent.location) }
            td.quiet { (frame::ago(agent.last_seen, now)) }
            td.number { @if let Some(pending) = agent.pending { (pending) } }
            td.quiet { @if let Some(version) = &agent.version { (version) } }
        }
    }
}

fn gap_list(gaps: &[GapView], now: wire::Timestamp) -> Markup {
    html! {
        section aria-labelledby="gaps" {
            h2 #gaps { "Latest gaps" }
            p.quiet { "Results that will never come. What they would have said is unknown." }
            div.scroll { table {
                thead { tr { th { "Agent" } th { "Why" } th { "Results" } th { "Down" } th { "Noticed" } } }
                tbody {
                    @for view in gaps {
                        tr {
                            th scope="row" { (view.agent) }
                            td { (view.gap.reason) }
                            td.number { (view.gap.to.saturating_sub(view.gap.from).saturating_add(1)) }
                            td.number { @match view.gap.down { Some(down) => (down), None => "unknown" } }
                            td.quiet { (frame::ago(Some(view.received_at), now)) }
                        }
                    }
                }
            } }
        }
    }
}

/// Gaps on the page.
const GAPS_SHOWN: usize = 5;

/// Gaps that are looked at for it.
const GAPS_READ: usize = 50;
