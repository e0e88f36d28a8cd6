//! One monitor: what it is, what it shows where, and its last results with their phases.

use maud::{Markup, html};
use wire::Problem;
use wire::admin::{MonitorView, ResultView, Uptime};
use wire::results::{Delivery, Phases};

use super::frame;
use crate::admin::Wanted;
use crate::control::Control;

/// Renders it.
pub(super) fn render(control: &Control, name: &str) -> Result<Markup, Problem> {
    let view = control.monitor(name)?;
    let now = control.now().wall;
    let registry = control.registry();
    let bar = match registry.monitor_named(name) {
        Some(monitor) => control.bars(&[monitor])?.pop(),
        None => None,
    };
    let wanted = Wanted { monitor: Some(name.to_owned()), limit: RESULTS, ..Wanted::default() };
    let mut results = control.results(&wanted)?.results;
    results.reverse();
    let body = html! {
        div.title { h1 { (view.spec.name) } (frame::state(view.state)) }
        @if let Some(bar) = &bar {
            div.large {
                (frame::bar(bar, now))
                div.quiet.ends { span { "an hour ago" } span { "now" } }
                (frame::legend())
            }
        }
        (facts(&view))
        (uptime(&view))
        section aria-labelledby="locations" {
            h2 #locations { "Locations" }
            div.scroll { table {
                thead { tr { th { "Location" } th { "State" } th { "Agent" } th { "Latest" } th { "When" } } }
                tbody {
                    @for l in &view.by_location {
                        tr {
                            th scope="row" { (l.location) }
                            td { (frame::state(l.state)) }
                            td { @if let Some(agent) = &l.agent { (agent) } }
                            td.summary { @if let Some(summary) = &l.summary { (summary) } @if let Some(code) = &l.code { small.quiet { (code) } } }
                            td.quiet { (frame::ago(l.last_result_at, now)) }
                        }
                    }
                }
            } }
        }
        section aria-labelledby="results" {
            h2 #results { "Last results" }
            @if results.is_empty() { p.notice { "None yet." } } @else { (result_table(&results)) }
        }
    };
    Ok(frame::page(&format!("{name} · Picket"), Some(10), &body))
}

fn facts(view: &MonitorView) -> Markup {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    html! {
        dl.facts {
            div { dt { "Check" } dd { (view.spec.check) } }
            div { dt { "Every" } dd { (text(&view.spec.interval)) } }
            div { dt { "Timeout" } dd { (text(&view.spec.timeout)) } }
            @if let Some(severity) = view.spec.severity { div { dt { "Severity" } dd { (severity) } } }
            @if let Some(url) = &view.spec.runbook_url { div { dt { "When it is down" } dd { (frame::runbook(url)) } } }
            @for (key, value) in &view.spec.labels { div { dt { (key) } dd { (value) } } }
        }
    }
}

fn uptime(view: &MonitorView) -> Markup {
    let title = |figure: &Uptime| match &figure.window[..] {
        "24h" => "Last 24 hours",
        "7d" => "Last 7 days",
        _ => "Last 30 days",
    };
    let several = view.by_location.len() > 1;
    html! {
        section aria-labelledby="uptime" {
            h2 #uptime { "Uptime" }
            ul.totals {
                @for figure in &view.uptime {
                    li { strong { @match figure.percent() { Some(percent) => (percent), None => "–" } } (title(figure)) small { (figure) } }
                }
            }
            @if several {
                p.quiet { "The mean over the locations. Each by itself:" }
                div.scroll { table {
                    thead { tr { th { "Location" } @for figure in &view.uptime { th { (title(figure)) } } } }
                    tbody { @for l in &view.by_location { tr { th scope="row" { (l.location) } @for figure in &l.uptime { td.summary { (figure) } } } } }
                } }
            }
        }
    }
}

fn result_table(results: &[ResultView]) -> Markup {
    html! {
        div.scroll { table {
            thead {
                tr {
                    th { "Started (UTC)" } th { "State" } th { "Agent" } th { "Summary" } th.number { "Took" }
                    @for (name, _) in phases(&Phases::default()) { th.number { (name) } }
                }
            }
            tbody {
                @for view in results {
                    @let result = &view.result;
                    tr {
                        th scope="row" { time datetime=(result.started_at) { (started(view)) } }
                        td { (frame::state(result.state.into())) @if let Some(found) = view.found { small.quiet { (found) } } @if view.delivery != Delivery::Live { small.quiet { (view.delivery) } } }
                        td { (view.agent) }
                        td.summary { (result.summary) small.quiet { (result.code) } }
                        td.number { (result.duration_ms) " ms" }
                        @for (_, seconds) in phases(&result.phases) { td.number.quiet { (milliseconds(seconds)) } }
                    }
                }
            }
        } }
        p.quiet { "Phases in milliseconds." }
    }
}

fn started(view: &ResultView) -> String {
    view.result.started_at.to_string().replace('T', " ").chars().skip(5).take(18).collect()
}

fn phases(phases: &Phases) -> [(&'static str, Option<f64>); 6] {
    let Phases { resolve, connect, tls, send, first_byte, transfer } = *phases;
    [
        ("Resolve", resolve),
        ("Connect", connect),
        ("TLS", tls),
        ("Send", send),
        ("First byte", first_byte),
        ("Transfer", transfer),
    ]
}

fn milliseconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "–".into(), |s| format!("{:.1}", s * 1000.0))
}

/// Rows of the table.
const RESULTS: usize = 60;
