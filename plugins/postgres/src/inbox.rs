//! What the server sends, cut into messages. Takes no more than any honest server would send: whatever is at the other end costs
//! a few megabytes and a few thousand reads at most.

use sdk::tcp::Connection;
use sdk::{At, Outcome, Stop};

use crate::wire::{self, Message};

/// Bytes that have come and were not read yet, and what was taken so far.
#[derive(Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    read: usize,
    taken: Taken,
}

/// What a session has cost so far.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    bytes: usize,
    reads: usize,
    messages: usize,
}

impl Inbox {
    /// The next message; waits for it.
    pub(crate) fn next(&mut self, connection: &Connection) -> Result<Message, Stop> {
        let head = self.take(connection, 5)?;
        let (kind, length) = wire::header(&head)
            .ok_or_else(|| broken("the server's answer is no message of PostgreSQL's protocol"))?;
        let body = self.take(connection, length as usize)?;
        self.taken.messages += 1;
        self.taken.judge()?;
        wire::message(kind, &body).ok_or_else(|| broken("a message of the server is cut off"))
    }

    fn take(&mut self, connection: &Connection, length: usize) -> Result<Vec<u8>, Stop> {
        while self.bytes.len() - self.read < length {
            self.bytes.drain(..self.read);
            self.read = 0;
            let more = connection.read(AT_ONCE).at("postgres")?;
            if more.is_empty() {
                let summary = "the server closed the connection in the middle of an answer";
                return Err(Outcome::down("postgres.closed", summary).into());
            }
            self.taken.bytes += more.len();
            self.taken.reads += 1;
            self.taken.judge()?;
            self.bytes.extend(more);
        }
        let end = self.read + length;
        let taken = self.bytes[self.read..end].to_vec();
        self.read = end;
        Ok(taken)
    }
}

impl Taken {
    /// Less than the host's own bounds, so that a server that floods is down and no fault of the check.
    fn judge(self) -> Result<(), Stop> {
        let flood = [
            (self.bytes, MOST_BYTES, "bytes"),
            (self.reads, MOST_READS, "crumbs"),
            (self.messages, MOST_MESSAGES, "messages"),
        ];
        match flood.iter().find(|(taken, most, _)| taken > most) {
            Some((_, most, what)) => {
                Err(broken(&format!("the server sends without end: more than {most} {what}")))
            }
            None => Ok(()),
        }
    }
}

/// A server that breaks the protocol.
pub(crate) fn broken(summary: &str) -> Stop {
    Outcome::down("postgres.protocol", summary).into()
}

const AT_ONCE: u32 = 64 << 10;
/// A thousand standbys answer with a few hundred KiB.
const MOST_BYTES: usize = 4 << 20;
/// Each is one call to the host, which allows 10,000.
const MOST_READS: usize = 4096;
/// A session of ours takes a few dozen, and one for each row.
const MOST_MESSAGES: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_down_by_bytes_by_crumbs_and_by_messages() {
        let most = Taken { bytes: MOST_BYTES, reads: MOST_READS, messages: MOST_MESSAGES };
        assert_eq!(most.judge(), Ok(()));
        for flood in [
            Taken { bytes: MOST_BYTES + 1, ..most },
            Taken { reads: MOST_READS + 1, ..most },
            Taken { messages: MOST_MESSAGES + 1, ..most },
        ] {
            let Err(Stop::Outcome(outcome)) = flood.judge() else { panic!("{flood:?}") };
            assert_eq!(outcome.code, "postgres.protocol");
        }
    }
}
