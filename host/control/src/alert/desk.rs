//! Where the control plane meets the book: results, the passing of time, deliveries and questions. Each takes the lock once; what is
//! decided is written before it is true.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;
use wire::admin::WarningKind;
use wire::alert::{AlertView, DeliveryView};
use wire::push::Push;
use wire::{AgentId, Position, Problem, Timestamp};

use super::absence::Expected;
use super::book::{Book, Heard};
use super::draft::Draft;
use super::event::Event;
use super::machine::Session;
use super::outbox::{Outbox, Outcome, Parcel};
use super::tick::Moment;
use crate::agents::Agent;
use crate::control::{Control, Registry, failed, lock};
use crate::store::{self, Row, Write};
use crate::uplink::Caller;

/// What a batch comes to, while nobody else changes the book: written with the batch, then kept.
pub(crate) struct Hearing<'a> {
    book: std::sync::MutexGuard<'a, Book>,
    draft: Draft,
}

impl Hearing<'_> {
    /// What is to be written with the results.
    pub(crate) fn writes(&self) -> Vec<Write<'_>> {
        self.draft.writes()
    }

    /// The results are on disk.
    pub(crate) fn keep(self, control: &Control) {
        let Self { mut book, draft } = self;
        control.adopt(&mut book, draft);
    }
}

impl Control {
    /// Hears new results of an agent, all those up to `cursor` stored with them.
    pub(crate) fn hear<'a>(&'a self, caller: &Caller, cursor: Position, rows: &[Row]) -> Hearing<'a> {
        let session = Session { agent: caller.agent.id, recorded: caller.recorded };
        let registry = self.registry();
        let book = lock(&self.alerts);
        let draft = book.hear(&Heard { session, cursor, rows, registry: &registry, now: self.now() });
        Hearing { book, draft }
    }

    /// Looks at what time alone brings. Called every second.
    pub(crate) fn watch(&self) -> Result<(), store::Error> {
        let (registry, now) = (self.registry(), self.now());
        let (roll, clocks) = (self.roll(&registry, now.up_ms), self.clocks(&registry));
        let mut book = lock(&self.alerts);
        let moment = Moment { now, registry: &registry, roll: &roll, clocks: &clocks };
        book.pass(&moment);
        let draft = book.tick(&moment);
        if !draft.is_empty() {
            self.parts.store.commit(&draft.writes())?;
        }
        self.adopt(&mut book, draft);
        Ok(())
    }

    fn adopt(&self, book: &mut Book, mut draft: Draft) {
        let rings = draft.has_parcels();
        for (agent, monitors) in draft.take_asks() {
            self.push(agent, Push::Run { monitors, request: None });
        }
        book.adopt(draft);
        if rings {
            self.rang.send_modify(|n| *n += 1);
        }
    }

    fn roll(&self, registry: &Registry, up_ms: u64) -> Vec<Expected> {
        let drained = self.drained(registry);
        let presence = lock(&self.presence);
        let expected = |agent: &Agent| {
            let presence = presence.get(&agent.id).copied().unwrap_or_default();
            Expected {
                id: agent.id,
                name: agent.name.clone(),
                location: agent.location.clone(),
                silent_ms: up_ms.saturating_sub(presence.seen_up_ms.unwrap_or(0)),
                seen_at: presence.seen_at,
                drained: drained.contains(&agent.id),
            }
        };
        registry.agents.values().filter(|a| a.is_wanted()).map(expected).collect()
    }

    fn drained(&self, registry: &Registry) -> HashSet<AgentId> {
        let cursors = lock(&self.progress).cursors.clone();
        let sessions = lock(&self.sessions);
        let drained = |id: &AgentId| {
            let cursor = cursors.get(id).copied().unwrap_or_default();
            sessions.recorded(*id).is_some_and(|recorded| cursor >= recorded)
        };
        registry.agents.values().map(|agent| agent.id).filter(drained).collect()
    }

    fn clocks(&self, registry: &Registry) -> HashMap<AgentId, String> {
        let warnings = lock(&self.warnings);
        let of = |agent: &Agent| {
            let clock = warnings.of(agent.id).into_iter().find(|w| w.kind == WarningKind::Clock)?;
            Some((agent.id, clock.detail))
        };
        registry.agents.values().filter_map(of).collect()
    }

    /// Deliveries that are to be tried now.
    pub(super) fn due(&self) -> Vec<Parcel> {
        lock(&self.alerts).outbox.due(self.now().up_ms)
    }

    /// Nobody tries anything any more.
    pub(super) fn take_back(&self) {
        lock(&self.alerts).outbox.take_back();
    }

    /// A delivery was tried.
    pub(super) fn tried(&self, parcel: &Parcel, outcome: &Outcome) {
        let now = self.now();
        let tried = Outbox::tried(parcel, outcome, now);
        let mut book = lock(&self.alerts);
        match self.parts.store.commit(&[Write::Parcel(&tried)]) {
            Ok(()) => book.outbox.keep(tried, outcome, now.up_ms, rand::random()),
            Err(error) => {
                failed(&error);
                book.outbox.again(parcel, now.up_ms);
            }
        }
    }

    /// The alerts that go on, oldest first: what a person should look at.
    pub(crate) fn open_alerts(&self) -> Vec<AlertView> {
        let open = lock(&self.alerts).open();
        open.into_iter().map(|event| view(event, vec![])).collect()
    }

    /// Events, newest first; `open`: only those whose alerts go on.
    pub(crate) fn alerts(
        &self,
        open: bool,
        since: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<AlertView>, Problem> {
        let events = if open {
            let mut events = lock(&self.alerts).open();
            events.retain(|e| since.is_none_or(|since| e.notice.at >= since));
            events.reverse();
            events.truncate(limit);
            events
        } else {
            self.parts.store.alerts(since, limit).map_err(|e| failed(&e))?
        };
        events.into_iter().map(|event| self.alert_view(event)).collect()
    }

    /// One event.
    pub(crate) fn alert(&self, id: &str) -> Result<AlertView, Problem> {
        let found = match id.parse::<Uuid>() {
            Ok(id) => self.parts.store.alert(id).map_err(|e| failed(&e))?,
            Err(_) => None,
        };
        let missing = || {
            let detail = format!("there is no event {id:?}: `picket alerts list` shows their ids");
            Problem::new(Problem::NOT_FOUND, detail)
        };
        self.alert_view(found.ok_or_else(missing)?)
    }

    fn alert_view(&self, event: Event) -> Result<AlertView, Problem> {
        let parcels = self.parts.store.parcels(event.notice.id).map_err(|e| failed(&e))?;
        Ok(view(event, parcels))
    }
}

fn view(event: Event, parcels: Vec<Parcel>) -> AlertView {
    let delivery = |parcel: Parcel| DeliveryView {
        channel: parcel.channel,
        state: parcel.state,
        attempts: parcel.attempts,
        error: parcel.error,
        tried_at: parcel.tried_at,
    };
    let deliveries = parcels.into_iter().map(delivery).collect();
    AlertView { notice: event.notice, open: event.open, deliveries }
}
