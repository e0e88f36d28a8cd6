//! The dialogues in front of a handshake. Each ends where the next byte belongs to TLS, and takes nothing that was sent in the clear
//! behind that: whoever is in between could make it look as if it came through TLS (CVE-2011-0411).
//!
//! [`lines`] holds the protocols of lines, [`packets`] those of packets, [`xmpp`] the one of XML.

mod lines;
mod packets;
mod xmpp;

use sdk::{Outcome, Stop, tcp::Connection};

use crate::choice::Starttls;

/// Brings the connection to the point where the handshake begins. `name` is the server's, for protocols that ask for it.
pub(crate) fn speak(dialogue: Starttls, name: &str, connection: &Connection) -> Result<(), Stop> {
    let stream = &mut &*connection;
    match dialogue {
        Starttls::Smtp => lines::smtp(stream),
        Starttls::Imap => lines::imap(stream),
        Starttls::Pop3 => lines::pop3(stream),
        Starttls::Ftp => lines::ftp(stream),
        Starttls::Ldap => packets::ldap(stream),
        Starttls::Xmpp => xmpp::xmpp(stream, name),
        Starttls::Postgres => packets::postgres(stream),
        Starttls::Mysql => packets::mysql(stream),
    }
}

/// What a dialogue needs of a connection.
trait Stream {
    /// At most `max` bytes; empty at the end.
    fn read(&mut self, max: u32) -> Result<Vec<u8>, Stop>;
    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop>;
}

impl Stream for &Connection {
    fn read(&mut self, max: u32) -> Result<Vec<u8>, Stop> {
        Ok(Connection::read(self, max)?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        Ok(Connection::write(self, bytes)?)
    }
}

/// Exactly so many bytes; none where the stream ends before.
fn exactly(stream: &mut impl Stream, length: usize) -> Result<Option<Vec<u8>>, Stop> {
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let more = stream.read(u32::try_from(length - bytes.len()).unwrap_or(u32::MAX))?;
        if more.is_empty() {
            return Ok(None);
        }
        bytes.extend(more);
    }
    Ok(Some(bytes))
}

/// Speaks the protocol, and not TLS in it.
fn not_offered(summary: impl Into<String>) -> Stop {
    Outcome::down("tls.not_offered", summary).into()
}

/// Does not speak the protocol.
fn broken(protocol: &str, summary: impl Into<String>) -> Stop {
    Outcome::down(format!("{protocol}.protocol"), summary).into()
}

/// Bytes. RFC 5321 knows lines of 512, and a server has a dozen extensions; others are no longer.
const LONGEST_ANSWER: usize = 8 * 1024;

#[cfg(test)]
mod script {
    use super::*;

    /// Answers in turn, a piece each time; keeps what was said.
    pub(super) struct Script {
        pub(super) answers: Vec<Vec<u8>>,
        pub(super) said: Vec<u8>,
    }

    impl Script {
        pub(super) fn new(answers: &[&[u8]]) -> Self {
            Self { answers: answers.iter().map(|answer| answer.to_vec()).collect(), said: Vec::new() }
        }
    }

    impl Stream for Script {
        fn read(&mut self, max: u32) -> Result<Vec<u8>, Stop> {
            let Some(answer) = self.answers.first_mut() else { return Ok(Vec::new()) };
            let rest = answer.split_off(answer.len().min(max as usize));
            let piece = std::mem::replace(answer, rest);
            if answer.is_empty() {
                self.answers.remove(0);
            }
            Ok(piece)
        }

        fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
            self.said.extend(bytes);
            Ok(())
        }
    }

    /// Runs the dialogue against the answers: "ok", or the code and the summary of what came of it.
    pub(super) fn outcome(
        answers: &[&[u8]],
        dialogue: impl FnOnce(&mut Script) -> Result<(), Stop>,
    ) -> (String, String, Vec<u8>) {
        let mut script = Script::new(answers);
        match dialogue(&mut script) {
            Ok(()) => {
                assert!(script.answers.is_empty(), "left unread: {:?}", script.answers);
                ("ok".into(), String::new(), script.said)
            }
            Err(Stop::Outcome(outcome)) => (outcome.code, outcome.summary, script.said),
            Err(stop) => panic!("{stop:?}"),
        }
    }
}
