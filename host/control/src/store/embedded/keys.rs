//! The format of every key and of the small values, and nothing else. All numbers are big-endian, so that the order of the bytes is
//! the order of what they mean; times have their sign flipped for the same reason.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `meta` | a name | a number; JSON for `watch` |
//! | `agents`, `monitors` | id | JSON |
//! | `channels` | name | JSON |
//! | `cursors` | agent | epoch, seq, received |
//! | `ahead` | agent, epoch, seq | result |
//! | `rows` | result | arrival, JSON |
//! | `by_monitor` | monitor, at, result | state, delivery, location, agent |
//! | `by_time` | at, result | monitor, agent |
//! | `arrivals` | arrival | received, at, monitor, result, agent |
//! | `latest`, `units` | monitor, location | JSON |
//! | `digests` | agent | JSON |
//! | `alerts` | id of the event, whose first 48 bits are its time | JSON |
//! | `parcels` | event, channel | JSON |
//! | `gaps` | received, agent, epoch, from | JSON |
//! | `agent_events` | agent, number | JSON |

use uuid::Uuid;
use wire::results::{Delivery, State};
use wire::{AgentId, MonitorId, Position, ResultId, Timestamp};

use crate::store::Row;

/// A time whose bytes order as time does.
pub(super) fn time(at: Timestamp) -> [u8; 8] {
    (at.as_millis() ^ i64::MIN).to_be_bytes()
}

pub(super) fn by_monitor(monitor: MonitorId, at: Timestamp, id: ResultId) -> Vec<u8> {
    [&monitor.0.as_bytes()[..], &time(at), id.0.as_bytes()].concat()
}

pub(super) fn by_time(at: Timestamp, id: ResultId) -> Vec<u8> {
    [&time(at)[..], id.0.as_bytes()].concat()
}

pub(super) fn latest(monitor: MonitorId, location: &str) -> Vec<u8> {
    [&monitor.0.as_bytes()[..], location.as_bytes()].concat()
}

pub(super) fn parcel(event: Uuid, channel: &str) -> Vec<u8> {
    [&event.as_bytes()[..], channel.as_bytes()].concat()
}

/// The first id of an event that was made then.
pub(super) fn alert(at: Timestamp) -> [u8; 16] {
    let millis = u128::try_from(at.as_millis()).unwrap_or_default();
    (millis << 80).to_be_bytes()
}

pub(super) fn gap(received: Timestamp, agent: AgentId, epoch: u64, from: u64) -> Vec<u8> {
    [&time(received)[..], agent.0.as_bytes(), &epoch.to_be_bytes(), &from.to_be_bytes()].concat()
}

pub(super) fn event(agent: AgentId, number: u64) -> Vec<u8> {
    [&agent.0.as_bytes()[..], &number.to_be_bytes()].concat()
}

pub(super) fn cursor(at: Position, received: Timestamp) -> Vec<u8> {
    [at.epoch.to_be_bytes(), at.seq.to_be_bytes(), time(received)].concat()
}

pub(super) fn ahead(agent: AgentId, at: Position) -> Vec<u8> {
    [&agent.0.as_bytes()[..], &at.epoch.to_be_bytes(), &at.seq.to_be_bytes()].concat()
}

/// What stands behind an arrival: enough to find and to delete every trace of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) received: Timestamp,
    pub(super) at: Timestamp,
    pub(super) monitor: MonitorId,
    pub(super) id: ResultId,
    pub(super) agent: AgentId,
}

impl Arrival {
    pub(super) fn bytes(&self) -> Vec<u8> {
        [
            &time(self.received)[..],
            &time(self.at),
            self.monitor.0.as_bytes(),
            self.id.0.as_bytes(),
            self.agent.0.as_bytes(),
        ]
        .concat()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        Some(Self {
            received: r.time()?,
            at: r.time()?,
            monitor: MonitorId(r.uuid()?),
            id: ResultId(r.uuid()?),
            agent: AgentId(r.uuid()?),
        })
    }
}

/// Takes values off the front; none when too few bytes are left.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*head))
    }

    pub(super) fn position(&mut self) -> Option<Position> {
        Some(Position { epoch: self.u64()?, seq: self.u64()? })
    }

    pub(super) fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp::from_millis(self.u64()?.cast_signed() ^ i64::MIN))
    }

    pub(super) fn uuid(&mut self) -> Option<Uuid> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(Uuid::from_bytes(*head))
    }

    fn state(&mut self) -> Option<State> {
        let head = self.byte()?;
        STATES.iter().find(|(_, n)| *n == head).map(|(s, _)| *s)
    }

    fn delivery(&mut self) -> Option<Delivery> {
        let head = self.byte()?;
        DELIVERIES.iter().find(|(_, n)| *n == head).map(|(d, _)| *d)
    }

    fn byte(&mut self) -> Option<u8> {
        let (head, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*head)
    }
}

/// What stands behind a result in the history of its monitor.
pub(super) fn heard(row: &Row) -> Vec<u8> {
    let delivery = DELIVERIES.iter().find(|(d, _)| *d == row.delivery).map_or(0, |(_, n)| *n);
    [&[state(row.result.state), delivery], row.location.as_bytes(), row.agent.0.as_bytes()].concat()
}

/// The same read back.
pub(super) fn read_heard(value: &[u8]) -> Option<(State, Delivery, &str, AgentId)> {
    let (head, agent) = value.split_last_chunk()?;
    let mut head = Reader(head);
    let (state, delivery) = (head.state()?, head.delivery()?);
    Some((state, delivery, std::str::from_utf8(head.0).ok()?, AgentId(Uuid::from_bytes(*agent))))
}

/// The byte of a state; for ever the same.
fn state(state: State) -> u8 {
    STATES.iter().find(|(s, _)| *s == state).map_or(0, |(_, n)| *n)
}

const STATES: [(State, u8); 5] =
    [(State::Up, 1), (State::Degraded, 2), (State::Down, 3), (State::Error, 4), (State::Maintenance, 5)];

/// The byte of a delivery; for ever the same.
const DELIVERIES: [(Delivery, u8); 3] = [(Delivery::Live, 1), (Delivery::Buffered, 2), (Delivery::Late, 3)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_order_as_their_bytes_do() {
        let times = [i64::MIN, -1, 0, 1, 1_795_197_600_007, i64::MAX].map(Timestamp::from_millis);
        assert!(times.windows(2).all(|w| time(w[0]) < time(w[1])));
        assert!(times.iter().all(|t| Reader(&time(*t)).time() == Some(*t)));
    }

    #[test]
    fn an_arrival_reads_as_it_was_written() {
        let written = Arrival {
            received: Timestamp::from_millis(5),
            at: Timestamp::from_millis(-5),
            monitor: MonitorId(Uuid::from_u128(1)),
            id: ResultId(Uuid::from_u128(2)),
            agent: AgentId(Uuid::from_u128(3)),
        };
        assert_eq!(Arrival::read(&written.bytes()), Some(written));
        assert_eq!(Arrival::read(&written.bytes()[1..]), None);
    }

    #[test]
    fn what_was_heard_reads_as_it_was_written() {
        let row = crate::store::tests::row(7, 1, 1, Timestamp::default());
        for (state, _) in STATES {
            for delivery in [Delivery::Live, Delivery::Buffered, Delivery::Late] {
                let mut row = Row { delivery, ..row.clone() };
                row.result.state = state;
                assert_eq!(read_heard(&heard(&row)), Some((state, delivery, "dc1", row.agent)));
            }
        }
        assert_eq!(read_heard(&[0; 21]), None);
        assert_eq!(read_heard(&[1; 17]), None);
    }
}
