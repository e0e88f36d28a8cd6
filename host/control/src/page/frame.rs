//! What every page has: head, header, and the small parts that show a state or a time. A state is told by word and shape, never by
//! colour alone.

use maud::{DOCTYPE, Markup, html};
use wire::Timestamp;
use wire::admin::Shown;

use crate::judge::{self, Bar, SLOTS};

/// A whole page. `refresh` in seconds.
pub(super) fn page(title: &str, refresh: Option<u32>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
                title { (title) }
                link rel="stylesheet" href="/style.css";
            }
            body {
                header {
                    a.brand href="/" { "Picket" }
                    @if refresh.is_some() {
                        form method="post" action="/logout" { button.plain type="submit" { "Leave" } }
                    }
                }
                main { (body) }
            }
        }
    }
}

/// A sentence instead of content.
pub(super) fn notice(text: &str) -> Markup {
    html! { p.notice { (text) } }
}

/// A state as a word with a mark.
pub(super) fn state(state: Shown) -> Markup {
    html! { span class={ "state " (state.as_str()) } { (state.as_str()) } }
}

/// How long ago, with the exact time for whoever wants it.
pub(super) fn ago(at: Option<Timestamp>, now: Timestamp) -> Markup {
    let Some(at) = at else { return html! { span.quiet { "never" } } };
    html! { time datetime=(at) title=(at) { (ago_text(now.as_millis().saturating_sub(at.as_millis()))) } }
}

fn ago_text(ms: i64) -> String {
    match ms / 1000 {
        s if s < -5 => "in the future".into(),
        s if s < 1 => "now".into(),
        s if s < 120 => format!("{s} s ago"),
        s if s < 7200 => format!("{} min ago", s / 60),
        s if s < 172_800 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}

/// The last hour as a bar; equal minutes beside each other are one piece with its own title. A line below marks what was heard later.
pub(super) fn bar(bar: &Bar, now: Timestamp) -> Markup {
    let label = format!("last hour: {}", spoken(bar));
    let span = |from: usize, to: usize| {
        format!("{}–{} UTC", clock(judge::slot_times(from, now).0), clock(judge::slot_times(to - 1, now).1))
    };
    html! {
        svg.bar viewBox="0 0 60 12" preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (from, to) in pieces(&bar.states) {
                @let state = bar.states[from];
                @let height = height(state);
                rect class=(state.as_str()) x=(from) y=(10 - height) width=(to - from) height=(height) {
                    title { (span(from, to)) " " (state.as_str()) }
                }
            }
            @for (from, to) in pieces(&bar.buffered).into_iter().filter(|(from, _)| bar.buffered[*from]) {
                rect.buffered x=(from) y="10.5" width=(to - from) height="1.5" {
                    title { (span(from, to)) " heard later: buffered" }
                }
            }
        }
    }
}

/// Where the monitor's owner wrote down what to do.
pub(super) fn runbook(url: &str) -> Markup {
    html! { a href=(url) rel="noreferrer" { "Runbook" } }
}

/// What the marks of a bar mean.
pub(super) fn legend() -> Markup {
    let states = [Shown::Up, Shown::Degraded, Shown::Down, Shown::Error, Shown::Unknown, Shown::Maintenance];
    html! {
        ul.legend {
            @for state in states { li { (self::state(state)) } }
            li { span.state.buffered { "buffered: heard later" } }
        }
    }
}

/// Equal values are one piece, `[from, to)`.
fn pieces<T: PartialEq>(slots: &[T; SLOTS]) -> Vec<(usize, usize)> {
    let mut pieces: Vec<(usize, usize)> = Vec::new();
    for slot in 0..SLOTS {
        match pieces.last_mut() {
            Some((from, to)) if slots[*from] == slots[slot] => *to = slot + 1,
            _ => pieces.push((slot, slot + 1)),
        }
    }
    pieces
}

fn spoken(bar: &Bar) -> String {
    let all = [Shown::Up, Shown::Degraded, Shown::Down, Shown::Error, Shown::Unknown, Shown::Maintenance];
    let counted = all.map(|s| (s.as_str(), bar.states.iter().filter(|slot| **slot == s).count()));
    let buffered = bar.buffered.iter().filter(|heard_later| **heard_later).count();
    let told = counted.into_iter().chain([("buffered", buffered)]).filter(|(_, n)| *n > 0);
    let told: Vec<_> = told.map(|(what, n)| format!("{n} min {what}")).collect();
    if told.is_empty() { "no results yet".into() } else { told.join(", ") }
}

fn height(state: Shown) -> usize {
    match state {
        Shown::Down => 10,
        Shown::Degraded | Shown::Error => 8,
        Shown::Up | Shown::Maintenance => 6,
        Shown::Unknown => 3,
        Shown::Pending | Shown::Disabled => 1,
    }
}

/// Hours and minutes.
fn clock(at: Timestamp) -> String {
    at.to_string().get(11..16).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_joins_equal_minutes_and_says_in_words_what_it_shows() {
        let mut shown = Bar { states: [Shown::Up; SLOTS], buffered: [false; SLOTS] };
        shown.states[10..13].fill(Shown::Down);
        shown.buffered[9..11].fill(true);
        let svg = bar(&shown, Timestamp::from_millis(3_600_000)).into_string();
        assert_eq!(svg.matches("<rect").count(), 4);
        assert!(svg.contains("last hour: 57 min up, 3 min down, 2 min buffered"), "{svg}");
        assert!(svg.contains("00:10–00:13 UTC down"), "{svg}");
        assert!(svg.contains("00:09–00:11 UTC heard later: buffered"), "{svg}");
    }

    #[test]
    fn how_long_ago_is_told_in_one_unit() {
        for (ms, text) in [
            (-60_000, "in the future"),
            (-1_000, "now"),
            (999, "now"),
            (5_000, "5 s ago"),
            (180_000, "3 min ago"),
            (7_200_000, "2 h ago"),
            (259_200_000, "3 days ago"),
        ] {
            assert_eq!(ago_text(ms), text);
        }
    }
}
