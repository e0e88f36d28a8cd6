//! Sessions of agents: nonces that sign one hello, leases that sign what follows, the window that refuses a counter twice, and whether
//! whoever says hello is the device that holds the identity. In memory only: after a restart of the control plane every agent says
//! hello again. Pure; randomness and time come in.
//!
//! A device names in its hello the lease that it had last and keeps on its disk. It is the holder when that is the lease given out last,
//! or the one that it named when it got that one, while that one was never used: the answer that gave it was lost, or the device died
//! before it was on its disk. A device whose disk takes no lease says in its hello which one it will name after a restart. Whoever names another one shows a copy of the data directory, and gets no lease while the holder is heard from.

use std::collections::HashMap;

use wire::{AgentId, HEARTBEAT_S, Position};

/// All sessions and the nonces given out for the next ones.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: HashMap<AgentId, Session>,
    nonces: Nonces,
    forks: HashMap<AgentId, Fork>,
}

/// The one session of an agent.
#[derive(Debug)]
pub(crate) struct Session {
    /// Stands in every request.
    pub lease: String,
    /// The last result recorded before it began: everything up to here is *buffered*.
    pub recorded: Position,
    /// Good for a rotation only: the agent was silent for too long.
    pub rotate_first: bool,
    /// Who holds it.
    pub device: Device,
    window: Window,
    /// Whether a request was accepted in it.
    used: bool,
    /// The lease that the device named when it got this one, and still names if the answer was lost.
    claimed: Option<String>,
    /// The lease on the device's disk, where that takes none: what it names after a restart.
    kept: Option<String>,
    /// When something was last accepted in it.
    heard_ms: u64,
}

/// Which machine speaks, as far as it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    pub host: String,
    pub boot_id: String,
}

/// A session that is about to begin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beginning {
    pub lease: String,
    /// The lease that the hello named.
    pub claimed: Option<String>,
    /// The lease on the device's disk, where that takes none.
    pub kept: Option<String>,
    pub recorded: Position,
    pub rotate_first: bool,
    pub device: Device,
}

/// A device beside the holder.
#[derive(Debug)]
struct Fork {
    device: Device,
    claimed: Option<String>,
    seen_ms: u64,
}

/// Who says hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The device that holds the identity, as far as anybody knows.
    Holder,
    /// Another device, and the holder is silent, or one that does not know what it had.
    Successor,
    /// Another device, while this one holds the identity.
    Fork(Device),
}

impl Sessions {
    /// The nonce for the agent's next hello.
    pub(crate) fn give_nonce(&mut self, agent: AgentId, fresh: String, up_ms: u64) -> String {
        self.nonces.give_nonce(agent, fresh, up_ms)
    }

    /// Whether the nonce was given to this agent and not used since; uses it.
    pub(crate) fn take_nonce(&mut self, agent: AgentId, nonce: &str, up_ms: u64) -> bool {
        self.nonces.take_nonce(agent, nonce, up_ms)
    }

    /// Who says hello, by the lease that it says it had last.
    pub(crate) fn claim(&self, agent: AgentId, claimed: Option<&str>, up_ms: u64) -> Claim {
        let Some(held) = self.sessions.get(&agent) else { return Claim::Holder };
        let lost_answer = !held.used && held.claimed.as_deref() == claimed;
        let not_kept = claimed.is_some() && held.kept.as_deref() == claimed;
        if claimed == Some(&held.lease) || lost_answer || not_kept {
            return Claim::Holder;
        }
        if claimed.is_none() || up_ms.saturating_sub(held.heard_ms) >= SILENT_MS {
            return Claim::Successor;
        }
        Claim::Fork(held.device.clone())
    }

    /// Remembers a device beside the holder. Gives whether it is news.
    pub(crate) fn forked(
        &mut self,
        agent: AgentId,
        device: Device,
        claimed: Option<String>,
        up_ms: u64,
    ) -> bool {
        let fork = Fork { device, claimed, seen_ms: up_ms };
        let before = self.forks.insert(agent, fork);
        let after = &self.forks[&agent];
        before.is_none_or(|before| (&before.device, &before.claimed) != (&after.device, &after.claimed))
    }

    /// Whether a device stands by beside the holder.
    pub(crate) fn is_forked(&self, agent: AgentId, up_ms: u64) -> bool {
        self.forks.get(&agent).is_some_and(|fork| up_ms.saturating_sub(fork.seen_ms) < SILENT_MS)
    }

    /// The device beside the holder holds the identity now. If the other one still speaks, it is the one that stands by.
    pub(crate) fn reunited(&mut self, agent: AgentId) {
        self.forks.remove(&agent);
    }

    /// Begins a session; the one before ends.
    pub(crate) fn begin(&mut self, agent: AgentId, beginning: Beginning, up_ms: u64) {
        let Beginning { lease, claimed, kept, recorded, rotate_first, device } = beginning;
        let (window, used, heard_ms) = (Window::default(), false, up_ms);
        let session =
            Session { lease, claimed, kept, recorded, rotate_first, device, window, used, heard_ms };
        self.sessions.insert(agent, session);
    }

    /// The agent's session, if this is its lease and it was not silent for so long that what arrives now may have been under way since.
    pub(crate) fn of(&mut self, agent: AgentId, lease: &str, up_ms: u64) -> Option<&mut Session> {
        let lasts = |s: &&mut Session| s.lease == lease && up_ms.saturating_sub(s.heard_ms) < SILENT_MS;
        self.sessions.get_mut(&agent).filter(lasts)
    }

    /// Whether the agent has a session in which it speaks.
    pub(crate) fn is_live(&self, agent: AgentId, up_ms: u64) -> bool {
        self.sessions.get(&agent).is_some_and(|s| up_ms.saturating_sub(s.heard_ms) < SILENT_MS)
    }

    /// The last result that the agent had recorded when its session began; none before it said hello.
    pub(crate) fn recorded(&self, agent: AgentId) -> Option<Position> {
        self.sessions.get(&agent).map(|session| session.recorded)
    }

    /// Ends whatever this agent has.
    pub(crate) fn end(&mut self, agent: AgentId) {
        self.sessions.remove(&agent);
        self.forks.remove(&agent);
        self.nonces.forget(agent);
    }
}

/// Random texts that were given out, each good once and for a minute.
#[derive(Debug, Default)]
pub(crate) struct Nonces {
    /// Of each agent, and until when it is good.
    given: HashMap<AgentId, (String, u64)>,
}

impl Nonces {
    /// The nonce for an agent. It has at most one: while more than half of its time is left it is given again,
    /// so nobody who asks takes it away from the agent that is about to use it; then `fresh` takes its place.
    pub(crate) fn give_nonce(&mut self, agent: AgentId, fresh: String, up_ms: u64) -> String {
        match self.given.get(&agent) {
            Some((nonce, until)) if *until > up_ms + NONCE_MS / 2 => nonce.clone(),
            _ => {
                self.given.insert(agent, (fresh.clone(), up_ms + NONCE_MS));
                fresh
            }
        }
    }

    /// Whether the nonce was given to this agent and not used since; uses it.
    pub(crate) fn take_nonce(&mut self, agent: AgentId, nonce: &str, up_ms: u64) -> bool {
        let given = self.given.get(&agent).is_some_and(|(given, _)| given == nonce);
        given && self.given.remove(&agent).is_some_and(|(_, until)| until > up_ms)
    }

    /// The agent is no more.
    pub(crate) fn forget(&mut self, agent: AgentId) {
        self.given.remove(&agent);
    }
}

impl Session {
    /// Whether this counter is new; a counter is accepted once.
    pub(crate) fn accept(&mut self, counter: u64, up_ms: u64) -> bool {
        let accepted = self.window.accept(counter);
        if accepted {
            self.used = true;
            self.heard_ms = up_ms;
        }
        accepted
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

/// Three heartbeats: from then on another device may take over, and the lease is over. Agents say hello after half of it, and what they
/// sent before a suspend tells an age that does not count it.
const SILENT_MS: u64 = 3 * HEARTBEAT_S * 1000;

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

    fn begin(sessions: &mut Sessions, lease: &str, up_ms: u64) {
        begin_as(sessions, None, lease, up_ms);
    }

    /// Gives a lease to the device that names the one before.
    fn begin_as(sessions: &mut Sessions, claimed: Option<&str>, lease: &str, up_ms: u64) {
        let (lease, claimed) = (lease.into(), claimed.map(str::to_owned));
        sessions.begin(agent(1), Beginning { lease, claimed, ..Beginning::default() }, up_ms);
    }

    /// Uses a lease once.
    fn speak(sessions: &mut Sessions, lease: &str, up_ms: u64) {
        let session = sessions.of(agent(1), lease, up_ms).unwrap();
        let counter = session.window.highest + 1;
        assert!(session.accept(counter, up_ms));
    }

    fn is_fork(sessions: &Sessions, claimed: &str, up_ms: u64) -> bool {
        matches!(sessions.claim(agent(1), Some(claimed), up_ms), Claim::Fork(_))
    }

    #[test]
    fn a_new_session_ends_the_one_before() {
        let mut sessions = Sessions::default();
        begin(&mut sessions, "a", 0);
        speak(&mut sessions, "a", 0);
        begin(&mut sessions, "b", 0);
        assert!(sessions.of(agent(1), "a", 0).is_none());
        speak(&mut sessions, "b", 0);
        assert!(sessions.of(agent(2), "b", 0).is_none());
        assert!(sessions.of(agent(1), "b", SILENT_MS - 1).is_some());
        assert!(sessions.of(agent(1), "b", SILENT_MS).is_none(), "what comes now was sent before a suspend");
    }

    #[test]
    fn whoever_names_the_lease_given_last_holds_the_identity() {
        let mut sessions = Sessions::default();
        assert_eq!(
            sessions.claim(agent(1), Some("any"), 0),
            Claim::Holder,
            "after a restart nothing is known"
        );
        begin(&mut sessions, "a", 0);
        assert_eq!(sessions.claim(agent(1), Some("a"), 0), Claim::Holder, "given and not used");
        speak(&mut sessions, "a", 0);
        assert_eq!(sessions.claim(agent(1), Some("a"), 0), Claim::Holder);
        assert!(is_fork(&sessions, "other", 0));
    }

    #[test]
    fn a_welcome_that_was_lost_or_never_kept_makes_no_fork() {
        let mut sessions = Sessions::default();
        begin(&mut sessions, "a", 0);
        speak(&mut sessions, "a", 0);
        for lost in ["b", "c", "d"] {
            begin_as(&mut sessions, Some("a"), lost, 0);
            assert_eq!(sessions.claim(agent(1), Some("a"), 0), Claim::Holder, "{lost} never arrived");
            assert_eq!(sessions.claim(agent(1), Some(lost), 0), Claim::Holder, "{lost} arrived");
        }
        speak(&mut sessions, "d", 0);
        assert!(is_fork(&sessions, "a", 0), "d was used: whoever names a is another device");
        assert!(is_fork(&sessions, "c", 0));
    }

    #[test]
    fn a_welcome_lost_after_a_restart_or_before_its_first_use_makes_no_fork() {
        let mut restarted = Sessions::default();
        begin_as(&mut restarted, Some("before the restart"), "a", 0);
        assert_eq!(restarted.claim(agent(1), Some("before the restart"), 0), Claim::Holder);
        let mut sessions = Sessions::default();
        begin(&mut sessions, "a", 0);
        speak(&mut sessions, "a", 0);
        begin_as(&mut sessions, Some("a"), "b", 0);
        // It has b on its disk, and could not use it.
        begin_as(&mut sessions, Some("b"), "c", 0);
        assert_eq!(sessions.claim(agent(1), Some("b"), 0), Claim::Holder);
        assert!(is_fork(&sessions, "a", 0), "b was received: whoever names a is another device");
    }

    #[test]
    fn a_lease_that_no_disk_took_makes_no_fork_and_a_copy_is_found_all_the_same() {
        let mut sessions = Sessions::default();
        begin(&mut sessions, "a", 0);
        speak(&mut sessions, "a", 0);
        begin_as(&mut sessions, Some("a"), "b", 0);
        // Its disk did not take b: it says hello again before b is used.
        let (lease, claimed, kept) = ("c".into(), Some("b".into()), Some("a".into()));
        sessions.begin(agent(1), Beginning { lease, claimed, kept, ..Beginning::default() }, 0);
        speak(&mut sessions, "c", 0);
        assert_eq!(sessions.claim(agent(1), Some("a"), 0), Claim::Holder, "started again on the same disk");
        assert_eq!(sessions.claim(agent(1), Some("c"), 0), Claim::Holder, "it goes on");
        assert!(is_fork(&sessions, "b", 0));
        // It was a copy, on another disk.
        begin_as(&mut sessions, Some("a"), "d", 0);
        speak(&mut sessions, "d", 0);
        assert!(is_fork(&sessions, "c", 0) && is_fork(&sessions, "a", 0));
    }

    #[test]
    fn a_copy_is_found_at_the_second_hello_and_takes_over_once_the_holder_is_silent() {
        let mut sessions = Sessions::default();
        begin(&mut sessions, "a", 0);
        speak(&mut sessions, "a", 0);
        // The copy is first: the original's lease is gone, and its hello names the one before.
        begin(&mut sessions, "b", 1_000);
        speak(&mut sessions, "b", 1_000);
        assert!(is_fork(&sessions, "a", 2_000));
        speak(&mut sessions, "b", 11_000);
        assert!(is_fork(&sessions, "a", 40_999) && sessions.is_live(agent(1), 40_999));
        assert!(!sessions.is_live(agent(1), 41_000) && !sessions.is_live(agent(2), 0));
        assert_eq!(sessions.claim(agent(1), Some("a"), 41_000), Claim::Successor);
        begin(&mut sessions, "c", 41_000);
        speak(&mut sessions, "c", 41_000);
        assert!(is_fork(&sessions, "b", 41_000), "and the one that was silent stands by in its turn");
    }

    #[test]
    fn a_device_that_lost_its_memory_goes_on_as_a_successor() {
        let mut sessions = Sessions::default();
        begin(&mut sessions, "a", 0);
        assert_eq!(sessions.claim(agent(1), None, 0), Claim::Holder, "the first welcome was lost");
        speak(&mut sessions, "a", 0);
        assert_eq!(sessions.claim(agent(1), None, 0), Claim::Successor);
    }

    #[test]
    fn a_fork_is_news_once_and_is_over_when_it_is_not_seen_any_more() {
        let mut sessions = Sessions::default();
        let device = || Device { host: "b".into(), boot_id: "2".into() };
        assert!(sessions.forked(agent(1), device(), Some("a".into()), 0));
        assert!(!sessions.forked(agent(1), device(), Some("a".into()), 10_000));
        assert!(sessions.is_forked(agent(1), 39_999) && !sessions.is_forked(agent(1), 40_000));
        assert!(!sessions.is_forked(agent(2), 0));
        assert!(sessions.forked(agent(1), Device::default(), Some("a".into()), 0), "a third device");
    }
}
