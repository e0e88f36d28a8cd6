//! What befell agents, read.

use std::collections::BinaryHeap;

use wire::AgentId;
use wire::event::AgentEvent;

use super::Embedded;
use super::codec::{json, reading};
use super::keys::Reader;
use crate::store::Error;

/// What befell an agent, newest first.
pub(super) fn events_of(
    store: &Embedded,
    agent: AgentId,
) -> impl Iterator<Item = Result<AgentEvent, Error>> + use<> {
    let events = store.agent_events.prefix(agent.0.as_bytes()).rev();
    events.map(|entry| json(&entry.value().map_err(reading("an event"))?, "an event"))
}

/// The newest of all agents. Those of each are in order, so that no more is read than the newest of each and what is given.
pub(super) fn events_of_all(store: &Embedded, limit: usize) -> Result<Vec<AgentEvent>, Error> {
    let (mut agents, mut next, mut from) = (Vec::new(), BinaryHeap::new(), Some(0));
    while let Some(first) = from.and_then(|from: u128| store.agent_events.range(from.to_be_bytes()..).next())
    {
        let key = first.key().map_err(reading("an event"))?;
        let agent = Reader(&key).uuid().ok_or(Error::Damaged { what: "an event" })?;
        let mut events = events_of(store, AgentId(agent));
        if let Some(newest) = events.next().transpose()? {
            next.push((newest.at, agents.len()));
            agents.push((newest, events));
        }
        from = agent.as_u128().checked_add(1);
    }
    let mut found = Vec::new();
    while found.len() < limit
        && let Some((_, index)) = next.pop()
    {
        let (newest, events) = &mut agents[index];
        match events.next().transpose()? {
            Some(older) => {
                next.push((older.at, index));
                found.push(std::mem::replace(newest, older));
            }
            None => found.push(newest.clone()),
        }
    }
    Ok(found)
}
