//! What is to be told to agents that are connected: a short queue each, in memory. Owns numbers and bounds, and which stream of an
//! agent is the one; how a push travels is `api`'s. A push that does not fit or is lost in a restart costs time, never a result: the
//! configuration is asked for anyway, and a monitor runs at its next planned time. A new token is asked for in each lease until one is
//! in use.

use std::collections::{HashMap, HashSet, VecDeque};

use wire::AgentId;
use wire::push::{Numbered, Push};

use crate::control::{Control, lock};

/// All queues.
#[derive(Debug, Default)]
pub(crate) struct Pushes {
    queues: HashMap<AgentId, Queue>,
    /// Agents that were asked for a new token and have not used one since.
    rotations: HashSet<AgentId>,
    /// The open stream of each agent that has one, by a number that no other has.
    streams: HashMap<AgentId, u64>,
    opened: u64,
}

#[derive(Debug, Default)]
struct Queue {
    last: u64,
    waiting: VecDeque<Numbered>,
    /// ETag of the configuration that the agent was told of last.
    told: Option<String>,
}

impl Pushes {
    /// Adds a push; the oldest goes when there are too many.
    pub(crate) fn add(&mut self, agent: AgentId, push: Push) {
        if push == Push::Rotate {
            self.rotations.insert(agent);
        }
        let queue = self.queues.entry(agent).or_default();
        queue.last += 1;
        queue.waiting.push_back(Numbered { number: queue.last, push });
        if queue.waiting.len() > WAITING {
            queue.waiting.pop_front();
        }
    }

    /// Adds the news of a configuration, once for each.
    pub(crate) fn announce(&mut self, agent: AgentId, version: u64, etag: String) {
        let queue = self.queues.entry(agent).or_default();
        if queue.told.as_ref() != Some(&etag) {
            queue.told = Some(etag);
            self.add(agent, Push::Configuration { version });
        }
    }

    /// What came after this number. Nothing is forgotten: what was sent may be lost on its way.
    pub(crate) fn since(&self, agent: AgentId, number: u64) -> Vec<Numbered> {
        let waiting = self.queues.get(&agent).into_iter().flat_map(|queue| &queue.waiting);
        waiting.filter(|waiting| waiting.number > number).cloned().collect()
    }

    /// The agent has everything up to this number: it is forgotten.
    pub(crate) fn arrived(&mut self, agent: AgentId, number: u64) {
        if let Some(queue) = self.queues.get_mut(&agent) {
            queue.waiting.retain(|waiting| waiting.number > number);
        }
    }

    /// A lease begins: what waited for the one before is moot but for a new token, numbers begin again, and its stream ends.
    pub(crate) fn begin(&mut self, agent: AgentId) {
        self.queues.remove(&agent);
        self.streams.remove(&agent);
        if self.rotations.contains(&agent) {
            self.add(agent, Push::Rotate);
        }
    }

    /// There is no lease any more.
    pub(crate) fn end(&mut self, agent: AgentId) {
        self.rotations.remove(&agent);
        self.begin(agent);
    }

    /// A new token of the agent is in use.
    pub(crate) fn rotated(&mut self, agent: AgentId) {
        self.rotations.remove(&agent);
        if let Some(queue) = self.queues.get_mut(&agent) {
            queue.waiting.retain(|waiting| waiting.push != Push::Rotate);
        }
    }

    /// A stream of the agent opens; the one before ends.
    pub(crate) fn open(&mut self, agent: AgentId) -> u64 {
        self.opened += 1;
        self.streams.insert(agent, self.opened);
        self.opened
    }

    /// Whether this stream is the agent's.
    pub(crate) fn is_open(&self, agent: AgentId, stream: u64) -> bool {
        self.streams.get(&agent) == Some(&stream)
    }

    /// Whether the agent has a stream.
    pub(crate) fn has_stream(&self, agent: AgentId) -> bool {
        self.streams.contains_key(&agent)
    }

    /// A stream ended.
    pub(crate) fn close(&mut self, agent: AgentId, stream: u64) {
        if self.is_open(agent, stream) {
            self.streams.remove(&agent);
        }
    }
}

impl Control {
    /// Tells an agent something, if it is there to hear it.
    pub(crate) fn push(&self, agent: AgentId, push: Push) {
        lock(&self.pushes).add(agent, push);
        self.pushed.send_modify(|n| *n += 1);
    }

    /// Tells an agent that its configuration is another one, if it is.
    pub(crate) fn announce(&self, agent: AgentId) {
        let (version, etag) = self.tag(agent);
        lock(&self.pushes).announce(agent, version, etag);
    }

    /// Whether this is still the agent's lease.
    pub(crate) fn is_current(&self, agent: AgentId, lease: &str) -> bool {
        lock(&self.sessions).of(agent, lease, self.now().up_ms).is_some()
    }
}

/// Pushes that wait for one agent at most.
const WAITING: usize = 256;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const AGENT: AgentId = AgentId(Uuid::nil());

    #[test]
    fn a_push_is_given_until_the_agent_has_it_and_the_newest_stay() {
        let mut pushes = Pushes::default();
        (1..=300).for_each(|version| pushes.add(AGENT, Push::Configuration { version }));
        let waiting = pushes.since(AGENT, 0);
        assert_eq!((waiting.len(), waiting[0].number), (WAITING, 45));
        assert_eq!(pushes.since(AGENT, 299).len(), 1);
        assert_eq!(pushes.since(AGENT, 0).len(), WAITING, "they may have been lost on their way");
        pushes.arrived(AGENT, 299);
        assert_eq!(pushes.since(AGENT, 0).len(), 1);
        pushes.begin(AGENT);
        pushes.add(AGENT, Push::Rotate);
        assert_eq!(pushes.since(AGENT, 0), [Numbered { number: 1, push: Push::Rotate }]);
    }

    #[test]
    fn a_new_token_is_asked_for_in_each_lease_until_one_is_in_use() {
        let mut pushes = Pushes::default();
        pushes.add(AGENT, Push::Configuration { version: 1 });
        pushes.add(AGENT, Push::Rotate);
        pushes.arrived(AGENT, 2);
        for _ in 0..2 {
            pushes.begin(AGENT);
            assert_eq!(pushes.since(AGENT, 0), [Numbered { number: 1, push: Push::Rotate }]);
        }
        pushes.rotated(AGENT);
        assert_eq!(pushes.since(AGENT, 0), []);
        pushes.begin(AGENT);
        assert_eq!(pushes.since(AGENT, 0), []);
    }

    #[test]
    fn a_configuration_is_announced_once_in_a_lease() {
        let mut pushes = Pushes::default();
        for (version, etag, waiting) in [(1, "a", 1), (2, "a", 1), (3, "b", 2), (4, "a", 3)] {
            pushes.announce(AGENT, version, etag.to_owned());
            assert_eq!(pushes.since(AGENT, 0).len(), waiting, "{version}");
        }
        pushes.begin(AGENT);
        pushes.announce(AGENT, 5, "a".to_owned());
        assert_eq!(pushes.since(AGENT, 0).len(), 1);
    }

    #[test]
    fn the_newest_stream_of_an_agent_is_the_one() {
        let mut pushes = Pushes::default();
        let (first, second) = (pushes.open(AGENT), pushes.open(AGENT));
        assert!(!pushes.is_open(AGENT, first) && pushes.is_open(AGENT, second));
        pushes.close(AGENT, first);
        assert!(pushes.has_stream(AGENT));
        pushes.close(AGENT, second);
        assert!(!pushes.has_stream(AGENT));
        let third = pushes.open(AGENT);
        pushes.begin(AGENT);
        assert!(!pushes.is_open(AGENT, third));
    }
}
