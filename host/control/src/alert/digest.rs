//! What was down for a while, and is over, while an agent was away: one event an outage, however many results. Pure.
//!
//! A digest gathers while the backlog comes in, waits until live results say how each trouble ended, and leaves out what became an
//! alert. It is kept with the results that it tells of, so that a restart in the middle of a backlog forgets nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wire::{AgentId, MonitorId, Timestamp};

use super::machine::Level;

/// The troubles of one agent's outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    /// Whose outage.
    pub(crate) agent: AgentId,
    /// Its name.
    pub(crate) agent_name: String,
    /// Its location.
    pub(crate) location: String,
    /// Buffered results that told of trouble.
    pub(crate) results: u64,
    troubles: Vec<Trouble>,
}

/// One monitor's trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trouble {
    monitor: MonitorId,
    name: String,
    level: Level,
    times: u32,
    first: Timestamp,
    last: Timestamp,
    /// The first result afterwards that was up.
    until: Option<Timestamp>,
}

/// One result on its way into a digest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Old<'a> {
    pub(crate) monitor: MonitorId,
    pub(crate) name: &'a str,
    pub(crate) level: Level,
    pub(crate) at: Timestamp,
}

impl Digest {
    /// An empty one.
    pub(crate) fn new(agent: AgentId, agent_name: String, location: String) -> Self {
        Self { agent, agent_name, location, results: 0, troubles: Vec::new() }
    }

    /// Takes a buffered result in.
    pub(crate) fn add(&mut self, old: Old<'_>) {
        let open = self.troubles.iter_mut().find(|t| t.monitor == old.monitor);
        if old.level == Level::Up {
            if let Some(trouble) = open {
                trouble.until.get_or_insert(old.at);
            }
            return;
        }
        self.results += 1;
        match open {
            Some(trouble) => {
                trouble.times += u32::from(trouble.until.take().is_some());
                trouble.last = trouble.last.max(old.at);
                trouble.level = trouble.level.max(old.level);
            }
            None => self.troubles.push(Trouble {
                monitor: old.monitor,
                name: old.name.to_owned(),
                level: old.level,
                times: 1,
                first: old.at,
                last: old.at,
                until: None,
            }),
        }
    }

    /// A live result says that it is over.
    pub(crate) fn over(&mut self, monitor: MonitorId, at: Timestamp) {
        if let Some(trouble) = self.troubles.iter_mut().find(|t| t.monitor == monitor) {
            trouble.until.get_or_insert(at);
        }
    }

    /// It became an alert, which tells of it.
    pub(crate) fn alerted(&mut self, monitor: MonitorId) {
        self.troubles.retain(|t| t.monitor != monitor || t.until.is_some());
    }

    /// Whether nothing is left to wait for.
    pub(crate) fn is_settled(&self) -> bool {
        self.troubles.iter().all(|t| t.until.is_some())
    }

    /// Since when, a summary and its lines; none when there is nothing to tell.
    pub(crate) fn told(&self) -> Option<(Timestamp, String, Vec<String>)> {
        let since = self.troubles.iter().map(|t| t.first).min()?;
        let names: BTreeSet<_> = self.troubles.iter().map(|t| t.name.as_str()).collect();
        let shown: Vec<_> = names.iter().take(3).copied().collect();
        let more = names.len().saturating_sub(shown.len());
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let summary = format!(
            "while agent {} was away {}{more} had trouble that is told now only: {} result{}",
            self.agent_name,
            shown.join(", "),
            self.results,
            if self.results == 1 { "" } else { "s" },
        );
        let mut lines: Vec<_> = self.troubles.iter().take(LINES).map(|t| line(t, &self.agent_name)).collect();
        if let Some(rest) = self.troubles.len().checked_sub(LINES).filter(|rest| *rest > 0) {
            lines.push(format!("and {rest} more monitors"));
        }
        Some((since, summary, lines))
    }
}

fn line(trouble: &Trouble, agent: &str) -> String {
    let Trouble { name, times, first, last, until, .. } = trouble;
    let level = if trouble.level == Level::Down { "down" } else { "degraded" };
    let end = until.unwrap_or(*last);
    let span = span(*first, end);
    match (times, until) {
        (1, Some(_)) => format!("{name} was {level} {span} while agent {agent} was away"),
        (n, Some(_)) => format!("{name} was {level} {n} times, {span}, while agent {agent} was away"),
        (_, None) => {
            format!("{name} was {level} {span} while agent {agent} was away, and was not checked since")
        }
    }
}

/// "10:02–10:09 UTC" with seconds, and with the date where it is not one day.
pub(crate) fn span(from: Timestamp, to: Timestamp) -> String {
    let (from, to) = (from.to_string(), to.to_string());
    let second = |t: &str| t.get(11..19).unwrap_or(t).to_owned();
    if from.get(..10) == to.get(..10) {
        return format!("{}–{} UTC", second(&from), second(&to));
    }
    let day = |t: &str| format!("{} {}", t.get(..10).unwrap_or(t), second(t));
    format!("{} – {} UTC", day(&from), day(&to))
}

/// Lines of one event.
const LINES: usize = 50;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_millis(1_795_168_920_000 + s * 1000)
    }

    fn monitor(n: u128) -> MonitorId {
        MonitorId(Uuid::from_u128(n))
    }

    fn digest(results: &[(u128, Level, i64)]) -> Digest {
        let mut digest = Digest::new(AgentId(Uuid::from_u128(1)), "edge-1".into(), "dc1".into());
        for (n, level, s) in results {
            digest.add(Old { monitor: monitor(*n), name: &format!("m{n}"), level: *level, at: at(*s) });
        }
        digest
    }

    use Level::{Down, Up};

    #[test]
    fn a_trouble_that_is_over_is_a_line_with_its_times() {
        let d = digest(&[(1, Up, -10), (1, Down, 0), (1, Down, 60), (1, Up, 420)]);
        let (since, summary, lines) = d.told().unwrap();
        assert_eq!(since, at(0));
        assert_eq!(summary, "while agent edge-1 was away m1 had trouble that is told now only: 2 results");
        assert_eq!(lines, ["m1 was down 10:02:00–10:09:00 UTC while agent edge-1 was away"]);
    }

    #[test]
    fn several_times_are_one_line_and_an_end_that_nobody_saw_is_said() {
        let d = digest(&[(1, Down, 0), (1, Up, 10), (1, Down, 20), (1, Up, 30), (2, Down, 5)]);
        assert!(!d.is_settled());
        let lines = d.told().unwrap().2;
        assert!(lines[0].starts_with("m1 was down 2 times, 10:02:00–10:02:30 UTC"), "{lines:?}");
        assert!(lines[1].ends_with("and was not checked since"), "{lines:?}");
    }

    #[test]
    fn a_live_result_ends_a_trouble_and_an_alert_takes_it_out() {
        let mut d = digest(&[(1, Down, 0), (2, Down, 0)]);
        d.over(monitor(1), at(60));
        d.alerted(monitor(2));
        assert!(d.is_settled());
        assert_eq!(d.told().unwrap().2.len(), 1);
        d.alerted(monitor(1));
        assert_eq!(d.told().unwrap().2.len(), 1, "it was over before");
        assert_eq!(digest(&[(1, Up, 0)]).told(), None);
    }

    #[test]
    fn ten_thousand_results_stay_a_short_text() {
        let results: Vec<_> = (0..10_000).map(|n| (n % 1000, Down, i64::try_from(n).unwrap())).collect();
        let (_, summary, lines) = digest(&results).told().unwrap();
        assert!(summary.contains("997 more") && summary.contains("10000 results"), "{summary}");
        assert_eq!((lines.len(), lines[50].as_str()), (51, "and 950 more monitors"));
    }
}
