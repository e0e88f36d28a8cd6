//! What is to be told to agents that are connected: a short queue each, in memory. Owns numbers and bounds; how a push travels is
//! `api`'s. A push that does not fit or is lost in a restart costs time, never a result: the configuration is asked for anyway, and a
//! monitor runs at its next planned time.

use std::collections::{HashMap, VecDeque};

use wire::AgentId;
use wire::push::{Numbered, Push};

use crate::control::{Control, lock};

/// All queues.
#[derive(Debug, Default)]
pub(crate) struct Pushes {
    queues: HashMap<AgentId, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    last: u64,
    waiting: VecDeque<Numbered>,
}

impl Pushes {
    /// Adds a push; the oldest goes when there are too many.
    pub(crate) fn add(&mut self, agent: AgentId, push: Push) {
        let queue = self.queues.entry(agent).or_default();
        queue.last += 1;
        queue.waiting.push_back(Numbered { number: queue.last, push });
        if queue.waiting.len() > WAITING {
            queue.waiting.pop_front();
        }
    }

    /// What came after this number; everything up to it has arrived and is forgotten.
    pub(crate) fn after(&mut self, agent: AgentId, number: u64) -> Vec<Numbered> {
        let Some(queue) = self.queues.get_mut(&agent) else { return Vec::new() };
        queue.waiting.retain(|waiting| waiting.number > number);
        queue.waiting.iter().cloned().collect()
    }

    /// A lease begins: what waited for the one before is moot, and numbers begin again.
    pub(crate) fn begin(&mut self, agent: AgentId) {
        self.queues.remove(&agent);
    }
}

impl Control {
    /// Tells an agent something, if it is there to hear it.
    pub(crate) fn push(&self, agent: AgentId, push: Push) {
        lock(&self.pushes).add(agent, push);
        self.pushed.send_modify(|n| *n += 1);
    }
}

/// Pushes that wait for one agent at most.
const WAITING: usize = 256;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_push_is_given_until_the_agent_has_it_and_the_newest_stay() {
        let (agent, mut pushes) = (AgentId(Uuid::nil()), Pushes::default());
        (1..=300).for_each(|version| pushes.add(agent, Push::Configuration { version }));
        let waiting = pushes.after(agent, 0);
        assert_eq!((waiting.len(), waiting[0].number), (WAITING, 45));
        assert_eq!(pushes.after(agent, 299).len(), 1);
        assert_eq!(pushes.after(agent, 299).len(), 1, "it may have been lost on its way");
        assert_eq!(pushes.after(agent, 300), []);
        pushes.begin(agent);
        pushes.add(agent, Push::Rotate);
        assert_eq!(pushes.after(agent, 0), [Numbered { number: 1, push: Push::Rotate }]);
    }
}
