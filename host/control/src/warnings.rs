//! What an owner should look at about an agent although every check goes well. Pure but for the door through which it is told; nothing
//! here moves a monitor's state. In memory: after a restart of the control plane a warning stands again with the agent's next batch.

use std::collections::HashMap;

use wire::AgentId;
use wire::Timestamp;
use wire::admin::{Warning, WarningKind};

use crate::control::{Control, lock};

/// The warnings that stand.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    standing: HashMap<AgentId, HashMap<WarningKind, Warning>>,
}

impl Warnings {
    /// What stands about an agent.
    pub(crate) fn of(&self, agent: AgentId) -> Vec<Warning> {
        self.standing.get(&agent).into_iter().flat_map(HashMap::values).cloned().collect()
    }

    fn stands(&self, agent: AgentId, kind: WarningKind) -> bool {
        self.standing.get(&agent).is_some_and(|of_agent| of_agent.contains_key(&kind))
    }

    /// The agent is no more.
    pub(crate) fn end(&mut self, agent: AgentId) {
        self.standing.remove(&agent);
    }

    fn set(&mut self, agent: AgentId, kind: WarningKind, detail: Option<String>, now: Timestamp) -> bool {
        let of_agent = self.standing.entry(agent).or_default();
        let was = of_agent.remove(&kind);
        let changed = was.is_some() != detail.is_some();
        if let Some(detail) = detail {
            let since = was.map_or(now, |was| was.since);
            of_agent.insert(kind, Warning { kind, since, detail });
        }
        changed
    }
}

impl Control {
    /// Sets a warning about an agent, or lifts it with no `detail`. Gives whether it began or ended with that: whoever tells people
    /// hooks in here. The same warning begins again after a restart of the control plane.
    pub(crate) fn warn(&self, agent: AgentId, kind: WarningKind, detail: Option<String>) -> bool {
        let said = detail.clone().unwrap_or_else(|| "over".to_owned());
        let changed = lock(&self.warnings).set(agent, kind, detail, self.now().wall);
        if changed {
            let name = self.registry().agent(agent).map(|a| a.name.clone());
            tracing::warn!(agent = name, %kind, "{said}");
        }
        changed
    }

    /// Compares the agent's clock with ours. Five minutes apart set the warning, less than four lift it.
    pub(crate) fn compare_clocks(&self, agent: AgentId, sent_at: Timestamp) {
        let ahead_ms = sent_at.as_millis().saturating_sub(self.now().wall.as_millis());
        let stands = lock(&self.warnings).stands(agent, WarningKind::Clock);
        self.warn(agent, WarningKind::Clock, skewed(stands, ahead_ms));
    }
}

/// What to say about a clock that is so far ahead of ours; none when it is good enough.
fn skewed(stands: bool, ahead_ms: i64) -> Option<String> {
    let apart_ms = ahead_ms.saturating_abs();
    let bound_ms = if stands { LIFTED_MS } else { SKEW_MS };
    let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
    (apart_ms > bound_ms).then(|| {
        format!("its clock is {} {side} the control plane's: check the time service of both", span(apart_ms))
    })
}

fn span(ms: i64) -> String {
    match ms / 60_000 {
        minutes if minutes < 120 => format!("{minutes} min"),
        minutes if minutes < 48 * 60 => format!("{} h", minutes / 60),
        minutes => format!("{} days", minutes / (24 * 60)),
    }
}

/// From here on a clock is said to be off.
const SKEW_MS: i64 = 300_000;

/// Below this it is said to be good again, so that one that wanders around the bound does not speak all the time.
const LIFTED_MS: i64 = 240_000;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_clock_is_off_from_five_minutes_on_until_it_is_within_four() {
        for (stands, ahead_s, expected) in [
            (false, 300, None),
            (false, 301, Some("5 min ahead of")),
            (false, -301, Some("5 min behind")),
            (true, 299, Some("4 min ahead of")),
            (true, -240, None),
            (false, 7 * 3600, Some("7 h ahead of")),
            (false, -40 * 365 * 86_400, Some("14600 days behind")),
        ] {
            let said = skewed(stands, ahead_s * 1_000);
            let expected = expected
                .map(|e| format!("its clock is {e} the control plane's: check the time service of both"));
            assert_eq!(said, expected, "{ahead_s} s");
        }
        assert!(skewed(false, i64::MIN).is_some());
    }

    #[test]
    fn a_warning_keeps_its_beginning_and_tells_when_it_begins_and_ends() {
        let (agent, mut warnings) = (AgentId(Uuid::from_u128(1)), Warnings::default());
        let at = Timestamp::from_millis;
        assert!(!warnings.set(agent, WarningKind::Clock, None, at(0)));
        assert!(warnings.set(agent, WarningKind::Clock, Some("a".into()), at(1)));
        assert!(!warnings.set(agent, WarningKind::Clock, Some("b".into()), at(2)));
        assert_eq!(
            warnings.of(agent),
            [Warning { kind: WarningKind::Clock, since: at(1), detail: "b".into() }]
        );
        assert_eq!(warnings.of(AgentId(Uuid::from_u128(2))), []);
        assert!(warnings.set(agent, WarningKind::Clock, None, at(3)));
        assert_eq!(warnings.of(agent), []);
    }
}
