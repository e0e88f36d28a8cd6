//! Agents that are silent: who is told about, and in how few events. Pure; who is expected and for how long each was silent comes in.
//!
//! One agent that is gone is one event. The last agents of a location are one event for the location. More than a fifth of all agents
//! at once is one event for the operator: then it is more likely our own network. The control plane's own downtime is the caller's
//! matter: nobody is called before it has been up for a full window.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wire::{AgentId, HEARTBEAT_S, Timestamp};

use crate::clock::Now;

/// An agent that should be heard from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Who.
    pub(crate) id: AgentId,
    /// Its name.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) location: String,
    /// How long it was silent, on the clock that never jumps; since our own start at most.
    pub(crate) silent_ms: u64,
    /// When it was last heard from, also before our own start; none when that is not known.
    pub(crate) seen_at: Option<Timestamp>,
    /// Whether it said hello since our own start, and everything that it had recorded until then is stored.
    pub(crate) drained: bool,
}

/// Agents that are gone together, told with one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Absence {
    /// The alert.
    pub(crate) alert: Uuid,
    /// The event that began it.
    pub(crate) event: Uuid,
    /// Whom it is about.
    pub(crate) scope: Scope,
    /// Who is still gone.
    pub(crate) members: BTreeSet<AgentId>,
    /// When the first was heard from last.
    pub(crate) since: Timestamp,
    /// When the first of several came back.
    #[serde(skip)]
    first_back_ms: Option<u64>,
}

/// Whom an absence is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// One agent.
    Agent {
        /// Its name.
        name: String,
        /// Where it is.
        location: String,
        /// Whether nobody else is left there.
        last: bool,
    },
    /// All agents of a location, the last of them at once.
    Location(String),
    /// So many of so many.
    Fleet(usize, usize),
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// An absence began; the names of its agents.
    Gone(Absence, Vec<String>),
    /// It ended; so many are still gone and are told about on their own.
    Back(Absence, usize),
    /// It ended because nobody expects its agents any more.
    Dropped(Absence),
}

/// Calls the roll: changes the absences and gives what is to be told.
pub(crate) fn call(
    absences: &mut Vec<Absence>,
    roll: &[Expected],
    now: Now,
    fresh: &mut dyn FnMut() -> Uuid,
) -> Vec<News> {
    let mut news = returned(absences, roll, now.up_ms);
    let covered: BTreeSet<_> = absences.iter().flat_map(|a| a.members.iter().copied()).collect();
    let silent: Vec<_> =
        roll.iter().filter(|e| e.silent_ms >= SUSPECT_MS && !covered.contains(&e.id)).collect();
    if silent.iter().any(|e| e.silent_ms > GONE_MS) {
        for (scope, members) in grouped(&silent, roll, &covered) {
            let ago = |ms| now.wall.plus_millis(-i64::try_from(ms).unwrap_or(i64::MAX));
            let seen = members.iter().map(|e| e.seen_at.unwrap_or_else(|| ago(e.silent_ms)));
            let absence = Absence {
                alert: fresh(),
                event: fresh(),
                scope,
                members: members.iter().map(|e| e.id).collect(),
                since: seen.min().unwrap_or(now.wall),
                first_back_ms: None,
            };
            absences.push(absence.clone());
            news.push(News::Gone(absence, members.iter().map(|e| e.name.clone()).collect()));
        }
    }
    news
}

/// Takes those who came back, or are not expected any more, out of the absences.
fn returned(absences: &mut Vec<Absence>, roll: &[Expected], up_ms: u64) -> Vec<News> {
    let silent: BTreeMap<_, _> = roll.iter().map(|e| (e.id, e.silent_ms)).collect();
    let mut news = Vec::new();
    absences.retain_mut(|absence| {
        let mut back = false;
        absence.members.retain(|id| match silent.get(id) {
            None => false,
            Some(ms) if *ms >= SUSPECT_MS => true,
            Some(_) => {
                back = true;
                false
            }
        });
        if back {
            absence.first_back_ms.get_or_insert(up_ms);
        }
        let rest = absence.members.len();
        let waited = absence.first_back_ms.is_some_and(|first| up_ms.saturating_sub(first) >= STRAGGLERS_MS);
        let over = match absence.scope {
            Scope::Agent { .. } | Scope::Location(_) => waited,
            // As long as it is still a fifth, it is still the same trouble.
            Scope::Fleet(..) => waited && !is_mass(rest, roll.len()),
        };
        match (rest, absence.first_back_ms) {
            (0, None) => news.push(News::Dropped(absence.clone())),
            (0, Some(_)) => news.push(News::Back(absence.clone(), 0)),
            (rest, _) if over => news.push(News::Back(absence.clone(), rest)),
            _ => return true,
        }
        false
    });
    news
}

/// Who is told about together. Those who are silent for a little less count too: they went at the same moment, and the last sign of
/// life of each came at another time.
fn grouped<'a>(
    silent: &[&'a Expected],
    roll: &[Expected],
    covered: &BTreeSet<AgentId>,
) -> Vec<(Scope, Vec<&'a Expected>)> {
    let places: BTreeSet<_> = silent.iter().map(|e| e.location.as_str()).collect();
    if is_mass(silent.len(), roll.len()) && places.len() > 1 {
        return vec![(Scope::Fleet(silent.len(), roll.len()), silent.to_vec())];
    }
    let mut groups = Vec::new();
    for place in places {
        let here: Vec<_> = silent.iter().copied().filter(|e| e.location == place).collect();
        let all: Vec<_> = roll.iter().filter(|e| e.location == place).collect();
        let emptied = all.iter().all(|e| covered.contains(&e.id) || here.iter().any(|h| h.id == e.id));
        if emptied && all.len() > 1 && here.iter().any(|e| e.silent_ms > GONE_MS) {
            groups.push((Scope::Location(place.to_owned()), here));
            continue;
        }
        if is_mass(here.len(), roll.len()) {
            groups.push((Scope::Fleet(here.len(), roll.len()), here));
            continue;
        }
        for agent in here.into_iter().filter(|e| e.silent_ms > GONE_MS) {
            let (name, location) = (agent.name.clone(), agent.location.clone());
            groups.push((Scope::Agent { name, location, last: emptied }, vec![agent]));
        }
    }
    groups
}

fn is_mass(gone: usize, all: usize) -> bool {
    gone >= 3 && gone * 5 > all
}

/// Three heartbeats.
const GONE_MS: u64 = 3 * HEARTBEAT_S * 1000;

/// Two heartbeats: who went when somebody else did is silent for at least so long when that one is gone.
const SUSPECT_MS: u64 = 2 * HEARTBEAT_S * 1000;

/// How long after the first of several the others may take: the longest wait of an agent between two attempts.
const STRAGGLERS_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Agents 0..n, each location holding `per` of them, and what was told.
    struct Bench {
        roll: Vec<Expected>,
        absences: Vec<Absence>,
        now_s: u64,
        told: Vec<String>,
    }

    impl Bench {
        fn new(n: usize, per: usize) -> Self {
            let agent = |n: usize| Expected {
                id: AgentId(Uuid::from_u128(n as u128)),
                name: format!("a{n}"),
                location: format!("dc{}", n / per),
                silent_ms: 0,
                seen_at: None,
                drained: true,
            };
            Self { roll: (0..n).map(agent).collect(), absences: vec![], now_s: 500, told: vec![] }
        }

        /// A second at a time; those of `gone` are not heard from, the others every ten seconds at moments of their own.
        fn pass(&mut self, seconds: u64, gone: &[usize]) -> &mut Self {
            for _ in 0..seconds {
                self.now_s += 1;
                for (n, agent) in self.roll.iter_mut().enumerate() {
                    let heard = !gone.contains(&n) && (self.now_s + n as u64 * 3).is_multiple_of(HEARTBEAT_S);
                    agent.silent_ms = if heard { 0 } else { agent.silent_ms + 1000 };
                }
                let at = Timestamp::from_millis(i64::try_from(self.now_s * 1000).unwrap());
                let now = Now { wall: at, up_ms: self.now_s * 1000 };
                for news in call(&mut self.absences, &self.roll, now, &mut Uuid::nil) {
                    self.told.push(match news {
                        News::Gone(a, names) => format!("{:?} gone: {}", scope(&a), names.join(" ")),
                        News::Back(a, rest) => format!("{:?} back but {rest}", scope(&a)),
                        News::Dropped(a) => format!("{:?} dropped", scope(&a)),
                    });
                }
            }
            self
        }

        #[track_caller]
        fn says(&mut self, expected: &[&str]) -> &mut Self {
            assert_eq!(std::mem::take(&mut self.told), expected);
            self
        }
    }

    fn scope(absence: &Absence) -> String {
        match &absence.scope {
            Scope::Agent { name, last, .. } => format!("{name}{}", if *last { " last" } else { "" }),
            Scope::Location(name) => name.clone(),
            Scope::Fleet(gone, all) => format!("{gone} of {all}"),
        }
    }

    #[test]
    fn one_agent_that_is_silent_for_three_heartbeats_is_told_once_and_once_when_it_is_back() {
        let mut b = Bench::new(10, 5);
        b.pass(30, &[]).says(&[]).pass(20, &[3]).says(&[]);
        b.pass(20, &[3]).says(&["\"a3\" gone: a3"]).pass(300, &[3]).says(&[]);
        b.pass(12, &[]).says(&["\"a3\" back but 0"]).pass(60, &[]).says(&[]);
    }

    #[test]
    fn the_last_agents_of_a_location_are_told_as_the_location() {
        let mut b = Bench::new(20, 2);
        b.pass(20, &[]).pass(60, &[4, 5]).says(&["\"dc2\" gone: a4 a5"]);
        b.pass(30, &[5]).says(&[]).pass(60, &[5]).says(&["\"dc2\" back but 1", "\"a5\" gone: a5"]);
        b.pass(20, &[]).says(&["\"a5\" back but 0"]);
        b.pass(60, &[0]).says(&["\"a0\" gone: a0"]).pass(60, &[0, 1]).says(&["\"dc0\" gone: a1"]);
        let mut alone = Bench::new(20, 1);
        alone.pass(20, &[]).pass(60, &[7]).says(&["\"a7 last\" gone: a7"]);
    }

    #[test]
    fn more_than_a_fifth_at_once_is_one_event_for_the_operator() {
        let mut b = Bench::new(10, 5);
        b.pass(20, &[]).pass(60, &[0, 4, 8]).says(&["\"3 of 10\" gone: a0 a4 a8"]);
        b.pass(20, &[]).says(&["\"3 of 10\" back but 0"]);
        let mut all = Bench::new(40, 4);
        let everybody: Vec<_> = (0..40).collect();
        all.pass(20, &[]).pass(100, &everybody);
        assert_eq!(all.told.len(), 1, "{:?}", all.told);
    }

    #[test]
    fn those_who_do_not_come_back_with_the_others_are_told_on_their_own() {
        let mut b = Bench::new(10, 5);
        b.pass(20, &[]).pass(60, &[0, 4, 8]).says(&["\"3 of 10\" gone: a0 a4 a8"]);
        b.pass(60, &[8]).says(&[]).pass(20, &[8]).says(&["\"3 of 10\" back but 1", "\"a8\" gone: a8"]);
    }

    #[test]
    fn an_agent_that_is_not_expected_any_more_is_dropped() {
        let mut b = Bench::new(10, 5);
        b.pass(20, &[]).pass(60, &[9]).says(&["\"a9\" gone: a9"]);
        b.roll.pop();
        b.pass(5, &[]).says(&["\"a9\" dropped"]);
    }
}
