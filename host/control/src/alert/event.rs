//! Events: what is kept of each, and how it is worded. Owns no decision: the pure machines beside decide, this says it.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use uuid::{ContextV7, Uuid};
use wire::Timestamp;
use wire::admin::Shown;
use wire::alert::{EventKind, Notice};

use super::absence::{Absence, Scope};
use super::digest::{Digest, span};
use super::machine::{Level, Turn};
use crate::clock::Now;

/// An event as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// What channels get.
    #[serde(flatten)]
    pub notice: Notice,
    /// Whether the alert that it began goes on.
    pub open: bool,
    /// The channels that get it; none named means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
}

/// The names that an event about a monitor needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) monitor: &'a str,
    pub(crate) location: &'a str,
    pub(crate) agent: &'a str,
    /// What the latest result says.
    pub(crate) reason: &'a str,
}

impl Event {
    /// A monitor's alert state changed. `began` is the event that the alert began with, or its last change.
    pub(crate) fn turned(turn: &Turn, about: About<'_>, began: Option<&Self>, now: Now) -> Self {
        let About { monitor, location, agent, reason } = about;
        let Turn { to, since, confirmed, .. } = *turn;
        let (event, state) = match to {
            Level::Up => (EventKind::Recovered, Shown::Up),
            Level::Degraded => (EventKind::Degraded, Shown::Degraded),
            Level::Down => (EventKind::Down, Shown::Down),
        };
        let summary = match (to, began) {
            (Level::Up, Some(began)) => {
                format!(
                    "{monitor} in {location} is up again, {} {}: {reason}",
                    state_of(began),
                    span(began.notice.since, since)
                )
            }
            (Level::Up, None) => format!("{monitor} in {location} is up again: {reason}"),
            _ => format!("{monitor} in {location} is {} since {}: {reason}", state.as_str(), moment(since)),
        };
        let mut made = Self::new(event, began.map(|b| b.notice.alert), since, summary, now);
        made.open = to != Level::Up;
        made.notice.monitor = Some(monitor.to_owned());
        made.notice.location = Some(location.to_owned());
        made.notice.agent = Some(agent.to_owned());
        made.notice.state = Some(state);
        made.notice.confirmed = confirmed;
        made
    }

    /// Agents are gone.
    pub(crate) fn gone(absence: &Absence, names: Vec<String>, now: Now) -> Self {
        let since = moment(absence.since);
        let summary = match &absence.scope {
            Scope::Agent { name, location, last } => {
                let last = if *last {
                    format!(", and no other is left in {location}: its monitors are unknown")
                } else {
                    String::new()
                };
                format!("agent {name} in {location} is not heard from since {since}{last}")
            }
            Scope::Location(location) => format!(
                "no agent of {location} is heard from since {since}: its monitors are unknown ({})",
                names.join(", ")
            ),
            Scope::Fleet(gone, all) => format!(
                "{gone} of {all} agents went silent at once since {since}: look at the control plane's own network first"
            ),
        };
        let mut made = Self::new(EventKind::AgentDown, Some(absence.alert), absence.since, summary, now);
        made.notice.id = absence.event;
        made.notice.state = Some(Shown::Unknown);
        made.open = true;
        made.about_agents(&absence.scope);
        if !matches!(absence.scope, Scope::Agent { .. }) {
            made.notice.lines = names;
        }
        made
    }

    /// They are back, but for `rest`.
    pub(crate) fn back(absence: &Absence, rest: usize, now: Now) -> Self {
        let span = span(absence.since, now.wall);
        let but = if rest == 0 { String::new() } else { format!(", but {rest} still away") };
        let summary = match &absence.scope {
            Scope::Agent { name, location, .. } => format!("agent {name} in {location} is back, away {span}"),
            Scope::Location(location) => format!("the agents of {location} are back{but}, away {span}"),
            Scope::Fleet(gone, _) => {
                format!("the {gone} agents that went silent at once are back{but}, away {span}")
            }
        };
        let mut made = Self::new(EventKind::AgentUp, Some(absence.alert), now.wall, summary, now);
        made.notice.state = Some(Shown::Up);
        made.about_agents(&absence.scope);
        made
    }

    /// What an outage hid; none when it hid nothing.
    pub(crate) fn digest(digest: &Digest, now: Now) -> Option<Self> {
        let (since, summary, lines) = digest.told()?;
        let mut made = Self::new(EventKind::Digest, None, since, summary, now);
        made.notice.agent = Some(digest.agent_name.clone());
        made.notice.location = Some(digest.location.clone());
        made.notice.lines = lines;
        Some(made)
    }

    /// An agent's clock is off, as this says; or, as the end of an alert, right again.
    pub(crate) fn clock(
        agent: &str,
        location: &str,
        off: Option<&str>,
        alert: Option<Uuid>,
        now: Now,
    ) -> Self {
        let summary = match off {
            Some(detail) => format!("agent {agent} in {location}: {detail}; alerts do not depend on it"),
            None => format!("agent {agent} in {location}: its clock is right again"),
        };
        let mut made = Self::new(EventKind::Clock, alert, now.wall, summary, now);
        made.open = off.is_some();
        made.notice.agent = Some(agent.to_owned());
        made.notice.location = Some(location.to_owned());
        made
    }

    /// The clocks of so many agents are off at once, as the lines say, which is more likely our own; or, as the end of an alert, not any
    /// more.
    pub(crate) fn own_clock(
        off: usize,
        all: usize,
        lines: Vec<String>,
        alert: Option<Uuid>,
        now: Now,
    ) -> Self {
        let summary = match alert {
            None => format!(
                "the clocks of {off} of {all} agents are off: look at the control plane's own first; alerts do not depend on it"
            ),
            Some(_) => "the clocks of most agents and the control plane's agree again".to_owned(),
        };
        let mut made = Self::new(EventKind::Clock, alert, now.wall, summary, now);
        made.open = alert.is_none();
        made.notice.lines = lines;
        made
    }

    /// An alert ends because what it is about is no more.
    pub(crate) fn ended(began: &Self, why: &str, state: Option<Shown>, now: Now) -> Self {
        let event = match began.notice.event {
            EventKind::AgentDown => EventKind::AgentUp,
            EventKind::Clock => EventKind::Clock,
            _ => EventKind::Recovered,
        };
        let summary = format!("{why}, which ends this alert: {}", began.notice.summary);
        let mut made = Self::new(event, Some(began.notice.alert), now.wall, summary, now);
        made.notice.monitor.clone_from(&began.notice.monitor);
        made.notice.location.clone_from(&began.notice.location);
        made.notice.agent.clone_from(&began.notice.agent);
        made.notice.state = state;
        made.notice.severity = began.notice.severity;
        made.notice.runbook_url.clone_from(&began.notice.runbook_url);
        made.channels.clone_from(&began.channels);
        made
    }

    fn new(event: EventKind, alert: Option<Uuid>, since: Timestamp, summary: String, now: Now) -> Self {
        let id = fresh(now);
        let notice = Notice {
            id,
            alert: alert.unwrap_or(id),
            event,
            monitor: None,
            agent: None,
            location: None,
            state: None,
            since,
            at: now.wall,
            summary,
            confirmed: false,
            severity: None,
            runbook_url: None,
            lines: Vec::new(),
        };
        Self { notice, open: false, channels: Vec::new() }
    }

    fn about_agents(&mut self, scope: &Scope) {
        let (agent, location) = match scope {
            Scope::Agent { name, location, .. } => (Some(name.clone()), Some(location.clone())),
            Scope::Location(location) => (None, Some(location.clone())),
            Scope::Fleet(..) => (None, None),
        };
        (self.notice.agent, self.notice.location) = (agent, location);
    }
}

/// An id whose order is the order of making.
pub(crate) fn fresh(now: Now) -> Uuid {
    let millis = u64::try_from(now.wall.as_millis()).unwrap_or_default();
    let nanos = u32::try_from(millis % 1000 * 1_000_000).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(&SEQUENCE, millis / 1000, nanos))
}

/// Orders the ids of one millisecond.
static SEQUENCE: Mutex<ContextV7> = Mutex::new(ContextV7::new());

fn state_of(event: &Event) -> &'static str {
    event.notice.state.map_or("away", Shown::as_str)
}

fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use wire::AgentId;

    use super::*;

    fn now() -> Now {
        Now { wall: "2026-11-20T10:09:00Z".parse().unwrap(), up_ms: 0 }
    }

    #[test]
    fn an_alert_says_since_when_and_its_end_says_how_long() {
        let about = About { monitor: "shop", location: "dc1", agent: "edge-1", reason: "503" };
        let since = "2026-11-20T10:02:00Z".parse().unwrap();
        let agent = AgentId(Uuid::nil());
        let turn = Turn { from: Level::Up, to: Level::Down, since, confirmed: false, agent };
        let down = Event::turned(&turn, about, None, now());
        assert_eq!(down.notice.summary, "shop in dc1 is down since 2026-11-20 10:02:00 UTC: 503");
        assert_eq!((down.open, down.notice.state, down.notice.confirmed), (true, Some(Shown::Down), false));
        let turn = Turn { from: Level::Down, to: Level::Up, since: now().wall, ..turn };
        let up = Event::turned(&turn, About { reason: "200", ..about }, Some(&down), now());
        assert_eq!(up.notice.summary, "shop in dc1 is up again, down 10:02:00–10:09:00 UTC: 200");
        assert_eq!((up.open, up.notice.alert), (false, down.notice.alert));
        assert_ne!(up.notice.id, down.notice.id);
    }

    #[test]
    fn the_body_has_every_member_that_receivers_are_promised() {
        let event = Event::clock("edge-1", "dc1", Some("its clock is 6 min ahead"), None, now());
        let body = serde_json::to_value(&event.notice).unwrap();
        for key in
            ["id", "event", "monitor", "agent", "location", "state", "since", "summary", "confirmed", "at"]
        {
            assert!(body.get(key).is_some(), "{key} in {body}");
        }
        assert!(event.notice.summary.contains("6 min ahead"), "{}", event.notice.summary);
    }

    #[test]
    fn ids_order_as_time_does() {
        let later = Now { wall: now().wall.plus_millis(1), up_ms: 0 };
        assert!(fresh(now()) < fresh(later));
        let ids: Vec<_> = (0..100).map(|_| fresh(now())).collect();
        assert!(ids.is_sorted(), "within a millisecond too");
    }
}
