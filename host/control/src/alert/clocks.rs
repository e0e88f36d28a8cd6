//! Clocks that are off: who is told about, and in how few events.
//!
//! One agent whose clock is off is one event, and one when it is right again. When the clocks of most agents are off at once, it is more
//! likely our own: that is one event for the operator, and nobody is told of single agents while it goes on.

use super::absence::Expected;
use super::book::Book;
use super::draft::Draft;
use super::event::Event;
use super::tick::Moment;

impl Book {
    /// Tells of clocks that went wrong or right.
    pub(super) fn watch_clocks(&self, draft: &mut Draft, moment: &Moment<'_>) {
        let Moment { now, registry, roll, clocks } = *moment;
        let mut watch = draft.watch.clone().unwrap_or_else(|| self.watch.clone());
        let heard: Vec<_> = roll.iter().filter(|agent| agent.silent_ms < HEARD_MS).collect();
        let off: Vec<_> = heard.iter().filter_map(|agent| Some((*agent, clocks.get(&agent.id)?))).collect();
        for agent in heard.iter().filter(|agent| !clocks.contains_key(&agent.id)) {
            if let Some(alert) = watch.clocks.remove(&agent.id) {
                self.close(draft, Some(alert));
                draft.tell(Event::clock(&agent.name, &agent.location, None, Some(alert), now), registry);
            }
        }
        let most = off.len() * 2 > heard.len();
        if let Some(alert) = watch.own_clock.filter(|_| !most && !heard.is_empty()) {
            watch.own_clock = None;
            self.close(draft, Some(alert));
            draft.tell(Event::own_clock(off.len(), heard.len(), vec![], Some(alert), now), registry);
        }
        // Each agent's next sign of life tells of its clock: whoever is the first waits for the others.
        let waited = |agent: &Expected| {
            self.skewed.get(&agent.id).is_some_and(|since| now.up_ms.saturating_sub(*since) >= OTHERS_MS)
        };
        let mut news = off.iter().filter(|(agent, _)| !watch.clocks.contains_key(&agent.id) && waited(agent));
        let alone = self.watch.own_clock.is_none();
        if alone && most && off.len() > 1 && news.next().is_some() {
            let lines =
                off.iter().map(|(agent, detail)| format!("{} in {}: {detail}", agent.name, agent.location));
            let event = Event::own_clock(off.len(), heard.len(), lines.take(LINES).collect(), None, now);
            watch.own_clock = Some(event.notice.alert);
            draft.tell(event, registry);
        } else if alone {
            for (agent, detail) in news.copied().collect::<Vec<_>>() {
                let event = Event::clock(&agent.name, &agent.location, Some(detail), None, now);
                watch.clocks.insert(agent.id, event.notice.alert);
                draft.tell(event, registry);
            }
        }
        let gone: Vec<_> =
            watch.clocks.keys().copied().filter(|id| !roll.iter().any(|agent| agent.id == *id)).collect();
        for id in gone {
            let alert = watch.clocks.remove(&id);
            self.end(draft, alert, "the agent was deleted or revoked", None, moment);
        }
        draft.watch = (watch != self.watch).then_some(watch);
    }
}

/// An agent that was silent for longer says nothing about its clock.
const HEARD_MS: u64 = 30_000;

/// How long the first waits: within a heartbeat and a half everybody who is there was heard.
const OTHERS_MS: u64 = 15_000;

/// Agents named in one event.
const LINES: usize = 50;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use uuid::Uuid;
    use wire::{AgentId, HEARTBEAT_S, Timestamp};

    use super::*;
    use crate::clock::Now;
    use crate::control::Registry;

    /// So many agents, each heard every ten seconds at a moment of its own, and the summaries of what was told.
    struct Bench {
        book: Book,
        roll: Vec<Expected>,
        clocks: HashMap<AgentId, String>,
        now_s: u64,
        told: Vec<String>,
    }

    impl Bench {
        fn new(n: u128) -> Self {
            let agent = |n| Expected {
                id: AgentId(Uuid::from_u128(n)),
                name: format!("a{n}"),
                location: "dc1".into(),
                silent_ms: 0,
                seen_at: None,
                drained: true,
            };
            let roll = (0..n).map(agent).collect();
            Self { book: Book::default(), roll, clocks: HashMap::new(), now_s: 0, told: vec![] }
        }

        /// A second at a time; the clocks of these agents are off.
        fn pass(&mut self, seconds: u64, off: &[usize]) -> &mut Self {
            for _ in 0..seconds {
                self.now_s += 1;
                for (n, agent) in self.roll.iter().enumerate() {
                    if !(self.now_s + n as u64 * 3).is_multiple_of(HEARTBEAT_S) {
                        continue;
                    }
                    if off.contains(&n) {
                        self.clocks.insert(agent.id, "off".into());
                    } else {
                        self.clocks.remove(&agent.id);
                    }
                }
                let wall = Timestamp::from_millis(i64::try_from(self.now_s * 1000).unwrap());
                let now = Now { wall, up_ms: self.now_s * 1000 };
                let (registry, roll, clocks) = (Registry::default(), &self.roll, &self.clocks);
                let moment = Moment { now, registry: &registry, roll, clocks };
                self.book.pass(&moment);
                let draft = self.book.tick(&moment);
                let told = draft.events.iter().filter(|e| e.notice.at == wall);
                self.told.extend(told.map(|e| e.notice.summary.split([':', ';']).next().unwrap().to_owned()));
                self.book.adopt(draft);
            }
            self
        }

        #[track_caller]
        fn says(&mut self, expected: &[&str]) -> &mut Self {
            assert_eq!(std::mem::take(&mut self.told), expected);
            self
        }
    }

    #[test]
    fn one_clock_that_is_off_is_told_of_its_agent() {
        let mut b = Bench::new(3);
        b.pass(20, &[]).pass(40, &[1]).says(&["agent a1 in dc1"]);
        b.pass(40, &[]).says(&["agent a1 in dc1"]);
    }

    #[test]
    fn a_wrong_clock_of_the_control_plane_is_one_event_and_one_when_it_is_right_again() {
        let everybody: Vec<_> = (0..20).collect();
        let mut b = Bench::new(20);
        b.pass(20, &[]).pass(100, &everybody).says(&["the clocks of 20 of 20 agents are off"]);
        b.pass(40, &[7])
            .says(&["the clocks of most agents and the control plane's agree again", "agent a7 in dc1"]);
        b.pass(40, &[]).says(&["agent a7 in dc1"]);
        assert!(b.book.open().is_empty());
    }

    #[test]
    fn agents_that_are_gone_end_no_alert_about_our_own_clock() {
        let mut b = Bench::new(4);
        b.pass(20, &[]).pass(40, &[0, 1, 2, 3]).says(&["the clocks of 4 of 4 agents are off"]);
        b.roll.iter_mut().for_each(|agent| agent.silent_ms = HEARD_MS);
        b.pass(5, &[0, 1, 2, 3]).says(&[]);
    }

    #[test]
    fn the_alert_of_an_agent_that_is_deleted_ends() {
        let mut b = Bench::new(3);
        b.pass(20, &[]).pass(40, &[1]).says(&["agent a1 in dc1"]);
        b.roll.remove(1);
        b.pass(5, &[]).says(&["the agent was deleted or revoked, which ends this alert"]);
        assert!(b.book.open().is_empty());
    }
}
