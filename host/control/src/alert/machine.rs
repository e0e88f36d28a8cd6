//! The alert state of one monitor at one location. Pure: results and the time come in, at most one step comes out.
//!
//! *History* moves with every result, the *alert state* only with live ones. Buffered and late results are the `tail`: they say since
//! when something is so, and which monitors are worth asking again, and nothing more. `error` says nothing about the target: it neither
//! begins, nor confirms, nor ends an alert, but whoever asks again because of older results has an answer.

use serde::{Deserialize, Serialize};
use wire::admin::MonitorSpec;
use wire::alert::Confirm;
use wire::results::State;
use wire::{AgentId, Position, Timestamp};

use crate::monitors::thresholds;

/// What alerts tell apart. Later is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Serves.
    #[default]
    Up,
    /// Serves, but needs attention; only where the monitor asks for it.
    Degraded,
    /// Does not serve.
    Down,
}

/// How a monitor is alerted about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    failures: u32,
    successes: u32,
    confirm: Confirm,
    degraded: bool,
}

impl Rule {
    /// The monitor's own; a monitor from before there were alerts has the defaults.
    pub(crate) fn of(spec: &MonitorSpec) -> Self {
        let confirm = spec.confirm.unwrap_or_default();
        let (failures, successes) = thresholds(confirm);
        Self {
            failures: spec.failure_threshold.unwrap_or(failures),
            successes: spec.success_threshold.unwrap_or(successes),
            confirm,
            degraded: spec.alert_degraded,
        }
    }

    /// What a state means here; none for one that says nothing about the target.
    pub(crate) fn level(self, state: State) -> Option<Level> {
        match state {
            State::Up => Some(Level::Up),
            State::Degraded if self.degraded => Some(Level::Degraded),
            State::Degraded => Some(Level::Up),
            State::Down => Some(Level::Down),
            State::Error | State::Maintenance => None,
        }
    }
}

/// Who was there, and since when: another `recorded` is another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Which agent.
    pub(crate) agent: AgentId,
    /// The last result that it had recorded when it said hello.
    pub(crate) recorded: Position,
}

/// One result, as far as alerts care.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) session: Session,
    pub(crate) position: Position,
    /// Otherwise buffered or late.
    pub(crate) live: bool,
    pub(crate) level: Level,
    /// When the run started.
    pub(crate) at: Timestamp,
}

/// What is known about the agent of a unit at the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    /// Whether everything from before its session is stored.
    pub(crate) drained: bool,
    /// When it was last heard from, on the clock that never jumps; none when it is away.
    pub(crate) heard_ms: Option<u64>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Have the monitor run again at once.
    Ask(Whom),
    /// The alert state changed: tell it.
    Turn(Turn),
}

/// Who runs it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The agent that runs the monitor.
    Owner,
    /// Another agent of the location, if one can; else the owner.
    Other,
}

/// A change of the alert state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) from: Level,
    pub(crate) to: Level,
    /// The first result that said so, live or not.
    pub(crate) since: Timestamp,
    /// Whether another agent agreed.
    pub(crate) confirmed: bool,
    /// Whose results turned it.
    pub(crate) agent: AgentId,
}

/// The state of a unit. What is kept beyond a restart is `settled`; the rest begins anew with the sessions, which end with it too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unit {
    settled: Level,
    session: Option<Session>,
    tail: Option<Run>,
    live: Option<Live>,
    /// The newest live result that says nothing about the target.
    unclear: Option<(AgentId, Position)>,
    phase: Phase,
    /// When the owner was last asked because of the tail.
    asked_ms: Option<u64>,
}

/// Results in a row that agree.
#[derive(Clone, Copy, Debug)]
struct Run {
    agent: AgentId,
    level: Level,
    since: Timestamp,
    last: Position,
}

/// The live results of the session.
#[derive(Clone, Copy, Debug)]
struct Live {
    run: Run,
    /// Whether they changed within the session: then the tail does not reach into the run.
    turned: bool,
    /// So many in a row contradict the alert state, in this direction.
    against: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Quiet,
    /// The next live result decides; none when nobody was asked yet.
    Confirming { asked_ms: Option<u64> },
    /// Decided, and told as soon as the backlog says since when.
    Held { since_ms: u64 },
}

impl Unit {
    /// A unit as it was kept; `latest` is what the last result said, if it is known.
    pub(crate) fn kept(settled: Level, latest: Option<(AgentId, Level, Timestamp, Position)>) -> Self {
        let tail = latest.map(|(agent, level, since, last)| Run { agent, level, since, last });
        Self { settled, tail, ..Self::default() }
    }

    /// What alerts said last.
    pub(crate) fn settled(&self) -> Level {
        self.settled
    }

    /// Whose results count.
    pub(crate) fn agent(&self) -> Option<AgentId> {
        self.session.map(|s| s.agent).or(self.tail.map(|t| t.agent))
    }

    /// Whether time alone may bring a step.
    pub(crate) fn is_restless(&self) -> bool {
        self.phase != Phase::Quiet || self.doubt()
    }

    /// Takes a result in.
    pub(crate) fn see(&mut self, seen: &Seen, rule: Rule, now_ms: u64) {
        if seen.live {
            self.begin(seen.session);
            self.see_live(seen, rule, now_ms);
        } else if self.session.is_none_or(|s| s.agent == seen.session.agent) || self.live.is_none() {
            self.begin(seen.session);
            self.see_old(seen);
        }
    }

    /// Takes in that a live result says nothing about the target.
    pub(crate) fn see_unclear(&mut self, agent: AgentId, position: Position) {
        let newest = self.unclear.filter(|(known, newest)| *known == agent && *newest > position);
        self.unclear = newest.or(Some((agent, position)));
    }

    /// Takes in that a result lies within a maintenance window.
    pub(crate) fn see_maintained(&mut self, agent: AgentId, position: Position) {
        let overtaken = self.live.is_some_and(|live| live.run.agent == agent && live.run.last > position);
        if !overtaken {
            self.rest();
        }
    }

    /// A maintenance window holds: what alerts said stays said, whatever was about to change that is dropped, and what comes after the
    /// window begins anew.
    pub(crate) fn rest(&mut self) {
        (self.tail, self.live, self.phase, self.asked_ms) = (None, None, Phase::Quiet, None);
    }

    /// What is to be done now, if anything.
    pub(crate) fn look(&mut self, rule: Rule, about: About, now_ms: u64) -> Option<Step> {
        match self.phase {
            Phase::Confirming { asked_ms: None } => {
                self.phase = Phase::Confirming { asked_ms: Some(now_ms) };
                let whom = if rule.confirm == Confirm::OtherAgent { Whom::Other } else { Whom::Owner };
                return Some(Step::Ask(whom));
            }
            Phase::Confirming { asked_ms: Some(asked) } if now_ms.saturating_sub(asked) >= ANSWER_MS => {
                // An agent that went away meanwhile says nothing more about the target: that is told of the agent.
                match about.heard_ms {
                    None => self.calm(),
                    Some(heard) if heard > asked => self.phase = Phase::Held { since_ms: now_ms },
                    Some(_) => {}
                }
            }
            _ => {}
        }
        if let Phase::Held { since_ms } = self.phase
            && (about.drained || now_ms.saturating_sub(since_ms) >= HELD_MS)
        {
            return self.turn();
        }
        let waited = self.asked_ms.is_none_or(|asked| now_ms.saturating_sub(asked) >= ANSWER_MS);
        if self.phase == Phase::Quiet && self.doubt() && about.drained && about.heard_ms.is_some() && waited {
            self.asked_ms = Some(now_ms);
            return Some(Step::Ask(Whom::Owner));
        }
        None
    }

    fn begin(&mut self, session: Session) {
        if self.session.replace(session) == Some(session) {
            return;
        }
        self.tail = self.run();
        (self.live, self.phase, self.asked_ms) = (None, Phase::Quiet, None);
    }

    fn see_live(&mut self, seen: &Seen, rule: Rule, now_ms: u64) {
        let before = self.live.map(|l| l.run);
        // Requests may overtake each other.
        if before.is_some_and(|run| seen.position <= run.last) {
            return;
        }
        let run = match before {
            Some(run) if run.level == seen.level => Run { last: seen.position, ..run },
            _ => run_of(seen),
        };
        let turned = self.live.is_some_and(|l| l.turned || l.run.level != seen.level);
        let same_side = before.is_some_and(|b| (b.level > self.settled) == (seen.level > self.settled));
        let counted = self.live.filter(|_| same_side).map_or(0, |l| l.against);
        let against = if seen.level == self.settled { 0 } else { counted + 1 };
        self.live = Some(Live { run, turned, against });
        self.asked_ms = None;
        if against == 0 || !same_side {
            self.phase = Phase::Quiet;
        }
        self.phase = match self.phase {
            _ if against == 0 => Phase::Quiet,
            Phase::Confirming { .. } => Phase::Held { since_ms: now_ms },
            Phase::Held { .. } => self.phase,
            // Good news needs no confirmation, and no backlog to say since when.
            Phase::Quiet if seen.level < self.settled && against >= rule.successes => {
                Phase::Held { since_ms: now_ms.saturating_sub(HELD_MS) }
            }
            Phase::Quiet if seen.level > self.settled && against >= rule.failures => match rule.confirm {
                Confirm::None => Phase::Held { since_ms: now_ms },
                Confirm::OtherAgent | Confirm::SameAgent => Phase::Confirming { asked_ms: None },
            },
            Phase::Quiet => Phase::Quiet,
        };
    }

    fn see_old(&mut self, seen: &Seen) {
        self.unclear = self.unclear.filter(|(agent, _)| *agent == seen.session.agent);
        match self.tail {
            Some(tail) if tail.agent == seen.session.agent && seen.position <= tail.last => {}
            Some(tail) if tail.level == seen.level => {
                self.tail = Some(Run { agent: seen.session.agent, last: seen.position, ..tail });
            }
            _ => self.tail = Some(run_of(seen)),
        }
    }

    /// What the newest results say: the live ones, and what they continue.
    fn run(&self) -> Option<Run> {
        match (self.live, self.tail) {
            (Some(live), Some(tail)) if !live.turned && tail.level == live.run.level => {
                Some(Run { since: tail.since.min(live.run.since), ..live.run })
            }
            (Some(live), _) => Some(live.run),
            (None, tail) => tail,
        }
    }

    /// Whether results that were not live, and nothing newer, contradict the alert state.
    fn doubt(&self) -> bool {
        let answered = |tail: &Run| {
            self.unclear.is_some_and(|(agent, position)| agent != tail.agent || position > tail.last)
        };
        let newer = |tail: &Run| {
            self.live.is_none_or(|l| l.run.agent == tail.agent && l.run.last < tail.last) && !answered(tail)
        };
        self.tail.as_ref().is_some_and(|t| t.level != self.settled && newer(t))
    }

    fn calm(&mut self) {
        self.phase = Phase::Quiet;
        if let Some(live) = &mut self.live {
            live.against = 0;
        }
    }

    fn turn(&mut self) -> Option<Step> {
        let run = self.run().filter(|_| self.live.is_some())?;
        let from = std::mem::replace(&mut self.settled, run.level);
        self.calm();
        let turn = Turn { from, to: run.level, since: run.since, confirmed: false, agent: run.agent };
        (from != run.level).then_some(Step::Turn(turn))
    }
}

fn run_of(seen: &Seen) -> Run {
    Run { agent: seen.session.agent, level: seen.level, since: seen.at, last: seen.position }
}

/// How long an answer may take: then the alert is told without it.
const ANSWER_MS: u64 = 15_000;

/// How long an alert waits for the backlog, which may say that it is down for longer.
const HELD_MS: u64 = 10_000;

#[cfg(test)]
mod tests;
