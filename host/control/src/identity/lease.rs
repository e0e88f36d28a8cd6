//! Sessions of agents: nonces that sign one hello, leases that sign what follows, and the window that refuses a counter twice. In
//! memory only: after a restart of the control plane every agent says hello again. Pure; randomness and time come in.

use std::collections::HashMap;

use wire::{AgentId, Position};

/// All sessions and the nonces given out for the next ones.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: HashMap<AgentId, Session>,
    nonces: HashMap<String, (AgentId, u64)>,
}

/// The one session of an agent.
#[derive(Debug)]
pub(crate) struct Session {
    /// Stands in every request.
    pub lease: String,
    /// The last result recorded before it began: everything up to here is *buffered*.
    pub recorded: Position,
    window: Window,
}

impl Sessions {
    /// The nonce for the agent's next hello. An agent has at most one: while more than half of its time is left it is given again,
    /// so nobody who asks takes it away from the agent that is about to use it; then `fresh` takes its place.
    pub(crate) fn give_nonce(&mut self, agent: AgentId, fresh: String, up_ms: u64) -> String {
        let good = |(_, (owner, until)): &(&String, &(AgentId, u64))| {
            *owner == agent && *until > up_ms + NONCE_MS / 2
        };
        if let Some((nonce, _)) = self.nonces.iter().find(good) {
            return nonce.clone();
        }
        self.nonces.retain(|_, (owner, until)| *owner != agent && *until > up_ms);
        self.nonces.insert(fresh.clone(), (agent, up_ms + NONCE_MS));
        fresh
    }

    /// Whether the nonce was given to this agent and not used since; uses it.
    pub(crate) fn take_nonce(&mut self, agent: AgentId, nonce: &str, up_ms: u64) -> bool {
        match self.nonces.get(nonce) {
            Some((owner, until)) if *owner == agent => {
                let good = *until > up_ms;
                self.nonces.remove(nonce);
                good
            }
            _ => false,
        }
    }

    /// Begins a session; the one before ends. Gives the lease that ended.
    pub(crate) fn begin(&mut self, agent: AgentId, lease: String, recorded: Position) -> Option<String> {
        let session = Session { lease, recorded, window: Window::default() };
        self.sessions.insert(agent, session).map(|ended| ended.lease)
    }

    /// The agent's session, if this is its lease.
    pub(crate) fn of(&mut self, agent: AgentId, lease: &str) -> Option<&mut Session> {
        self.sessions.get_mut(&agent).filter(|s| s.lease == lease)
    }

    /// Ends whatever this agent has.
    pub(crate) fn end(&mut self, agent: AgentId) {
        self.sessions.remove(&agent);
        self.nonces.retain(|_, (owner, _)| *owner != agent);
    }
}

impl Session {
    /// Whether this counter is new; a counter is accepted once.
    pub(crate) fn accept(&mut self, counter: u64) -> bool {
        self.window.accept(counter)
    }
}

/// The last 1,024 counters: requests may overtake each other, and none is accepted twice.
#[derive(Debug)]
struct Window {
    highest: u64,
    /// Bit `counter % 1,024`, for the counters from `highest - 1,023` on.
    seen: [u64; (WINDOW / 64) as usize],
}

impl Default for Window {
    fn default() -> Self {
        Self { highest: 0, seen: [0; (WINDOW / 64) as usize] }
    }
}

impl Window {
    fn accept(&mut self, counter: u64) -> bool {
        if counter == 0 || self.highest.saturating_sub(counter) >= WINDOW {
            return false;
        }
        if counter > self.highest {
            for passed in self.highest.max(counter.saturating_sub(WINDOW)) + 1..=counter {
                let (word, bit) = place(passed);
                self.seen[word] &= !bit;
            }
            self.highest = counter;
        }
        let (word, bit) = place(counter);
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        new
    }
}

fn place(counter: u64) -> (usize, u64) {
    let at = counter % WINDOW;
    ((at / 64) as usize, 1 << (at % 64))
}

/// Counters that are told apart.
const WINDOW: u64 = 1024;

/// How long a nonce is good.
const NONCE_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;

    fn agent(n: u128) -> AgentId {
        AgentId(Uuid::from_u128(n))
    }

    #[test]
    fn a_counter_is_accepted_once_in_any_order_within_the_window() {
        let mut window = Window::default();
        for counter in [1, 3, 2, 1024, 5, 2000, 1500, 977] {
            assert!(window.accept(counter), "{counter}");
            assert!(!window.accept(counter), "{counter} again");
        }
        assert!(!window.accept(0));
        assert!(!window.accept(976), "1,024 behind the highest");
    }

    #[test]
    fn the_window_agrees_with_a_set_of_all_counters() {
        let (mut window, mut seen, mut random) = (Window::default(), BTreeSet::new(), 1_u64);
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let highest = seen.last().copied().unwrap_or(0_u64);
            let counter = (highest + (random >> 33) % 1_300).saturating_sub(1_200).max(1);
            let fresh = counter + WINDOW > highest && seen.insert(counter);
            assert_eq!(window.accept(counter), fresh, "{counter} with {highest}");
        }
    }

    #[test]
    fn the_largest_counter_ends_the_lease_without_harm() {
        let mut window = Window::default();
        assert!(window.accept(u64::MAX));
        assert!(!window.accept(u64::MAX) && !window.accept(1));
        assert!(window.accept(u64::MAX - 1));
    }

    #[test]
    fn a_nonce_signs_one_hello_of_one_agent_within_a_minute() {
        let mut sessions = Sessions::default();
        sessions.give_nonce(agent(1), "a".into(), 0);
        assert!(!sessions.take_nonce(agent(2), "a", 1), "another agent's");
        assert!(sessions.take_nonce(agent(1), "a", 59_999));
        assert!(!sessions.take_nonce(agent(1), "a", 59_999), "used");
        sessions.give_nonce(agent(1), "b".into(), 0);
        assert!(!sessions.take_nonce(agent(1), "b", 60_000), "too old");
    }

    #[test]
    fn asking_again_does_not_take_a_nonce_away() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.give_nonce(agent(1), "a".into(), 0), "a");
        assert_eq!(sessions.give_nonce(agent(2), "b".into(), 0), "b");
        assert_eq!(sessions.give_nonce(agent(1), "c".into(), 29_999), "a");
        assert_eq!(sessions.give_nonce(agent(1), "d".into(), 30_000), "d", "half of its time is over");
        assert!(sessions.take_nonce(agent(2), "b", 30_000));
    }

    #[test]
    fn a_new_session_ends_the_one_before() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.begin(agent(1), "a".into(), Position::default()), None);
        assert!(sessions.of(agent(1), "a").unwrap().accept(1));
        assert_eq!(sessions.begin(agent(1), "b".into(), Position::default()), Some("a".into()));
        assert!(sessions.of(agent(1), "a").is_none());
        assert!(sessions.of(agent(1), "b").unwrap().accept(1));
        assert!(sessions.of(agent(2), "b").is_none());
    }
}
