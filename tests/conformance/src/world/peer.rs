//! One peer plays its operations on a connection. Owns how far it is and what it says there; what it is to a handshake, a question
//! and a request stands in the files beneath, in the words of `net`.

mod connection;
mod handshake;
mod name_server;
mod web;

use std::collections::VecDeque;

use net::{Cause, Failure, Phase};

pub(super) use self::connection::Connection;
pub(super) use self::handshake::revocation;
pub(super) use self::web::{exchange, token};
use super::Scripted;
use super::script::{Lookup, Op};

/// What whoever grants everything says.
const OBLIGING: &[u8] = b"ok\r\n";
/// How often it says so before it closes: a check that reads to the end shall come to it.
const OBLIGINGLY: u32 = 64;

pub(super) fn fail(cause: Cause, phase: Phase, message: String) -> Failure {
    Failure { cause, phase: Some(phase), message }
}

/// A peer and how far it is.
pub(super) struct Playing {
    world: Scripted,
    at: String,
    ops: VecDeque<Op>,
    heard: Vec<u8>,
    echoed: usize,
    /// Sent, but not read yet.
    sent: VecDeque<u8>,
    obliged: u32,
    noise: u32,
}

impl Playing {
    pub(super) fn new(world: Scripted, at: String, ops: Vec<Op>) -> Self {
        Playing {
            world,
            at,
            ops: ops.into(),
            heard: Vec::new(),
            echoed: 0,
            sent: VecDeque::new(),
            obliged: 0,
            noise: 0x9e37_79b9,
        }
    }

    /// The address was named: nothing is looked up.
    pub(super) fn skip_lookups(&mut self) {
        self.ops.retain(|op| !matches!(op, Op::Resolve(_)));
    }

    /// What the script says about the name.
    pub(super) fn lookup(&mut self) -> Option<Lookup> {
        let at = self.ops.iter().position(|op| matches!(op, Op::Resolve(_)))?;
        match self.ops.remove(at) {
            Some(Op::Resolve(lookup)) => Some(lookup),
            _ => None,
        }
    }

    /// Everything up to the accepted connection.
    pub(super) fn connect(&mut self) -> Result<(), Failure> {
        loop {
            let at = self.at.clone();
            let (name, failure) = match self.ops.front() {
                Some(Op::Dns(_) | Op::Resolve(_)) => {
                    self.ops.pop_front();
                    continue;
                }
                Some(Op::Delay(time)) => {
                    let time = *time;
                    self.ops.pop_front();
                    self.world.pass(time, Phase::Connect, &at)?;
                    continue;
                }
                Some(Op::Refuse) => {
                    let message = format!("{at} refused the connection (connect)");
                    ("refuse", fail(Cause::Refused, Phase::Connect, message))
                }
                Some(Op::Unreachable) => {
                    let message = format!("{at} is unreachable: no route to the host (connect)");
                    ("unreachable", fail(Cause::Unreachable, Phase::Connect, message))
                }
                Some(Op::Drop) => ("drop", self.world.wait(Phase::Connect, &at)),
                Some(Op::Accept) => {
                    self.ops.pop_front();
                    return Ok(());
                }
                _ => return Ok(()),
            };
            self.world.meet(name);
            return Err(failure);
        }
    }

    /// The next bytes, at most `max`; none at the end of the stream.
    fn read(&mut self, max: usize, phase: Phase) -> Result<Vec<u8>, Failure> {
        let at = self.at.clone();
        loop {
            if !self.sent.is_empty() {
                let count = max.min(self.sent.len());
                return Ok(self.sent.drain(..count).collect());
            }
            match self.ops.front().cloned() {
                Some(Op::Send(bytes)) => {
                    self.sent.extend(bytes.0);
                    self.ops.pop_front();
                }
                Some(Op::Delay(time)) => {
                    self.ops.pop_front();
                    self.world.pass(time, phase, &at)?;
                }
                Some(Op::Trickle(every)) => {
                    self.world.meet("trickle");
                    self.world.pass(every, phase, &at)?;
                    self.sent.push_back(b'x');
                }
                Some(Op::Garbage(count)) => {
                    self.world.meet("garbage");
                    let noise: Vec<u8> = (0..count).map(|_| self.noise()).collect();
                    self.sent.extend(noise);
                    self.ops.pop_front();
                }
                Some(Op::Echo) => {
                    let new = self.heard[self.echoed..].to_vec();
                    self.echoed = self.heard.len();
                    if new.is_empty() {
                        return self.oblige(max);
                    }
                    self.world.meet("echo");
                    self.sent.extend(new);
                }
                Some(Op::Oblige) => return self.oblige(max),
                Some(Op::Reset) => {
                    self.world.meet("reset");
                    return Err(fail(Cause::Reset, phase, format!("{at} reset the connection ({phase})")));
                }
                Some(Op::Close) | None => {
                    self.world.meet("close");
                    return Ok(Vec::new());
                }
                // It waits for something that does not come.
                Some(Op::Silence | Op::Expect(_) | Op::Tls(_)) => {
                    self.note_what_does_not_come();
                    self.world.meet("silence");
                    return Err(self.world.wait(phase, &at));
                }
                Some(_) => {
                    self.ops.pop_front();
                }
            }
        }
    }

    /// For whoever wrote the script: a check that says something else than a peer expects comes out as a timeout.
    fn note_what_does_not_come(&self) {
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let what = match self.ops.front() {
            Some(Op::Expect(expected)) => {
                format!("waited for {:?}, and heard {:?}", shown(&expected.0), shown(&self.heard))
            }
            Some(Op::Tls(_)) => "waited for a handshake".to_owned(),
            _ => return,
        };
        self.world.lock().waits.push(format!("{} {what}", self.at));
    }

    fn oblige(&mut self, max: usize) -> Result<Vec<u8>, Failure> {
        self.obliged += 1;
        if self.obliged > OBLIGINGLY || max == 0 {
            return Ok(Vec::new());
        }
        self.sent.extend(OBLIGING);
        let count = max.min(self.sent.len());
        Ok(self.sent.drain(..count).collect())
    }

    fn write(&mut self, bytes: &[u8]) {
        self.heard.extend(bytes);
        self.echoed = self.echoed.min(self.heard.len());
        while let Some(Op::Expect(expected)) = self.ops.front() {
            let Some(at) = memchr::memmem::find(&self.heard, &expected.0) else { return };
            let end = at + expected.0.len();
            self.heard.drain(..end);
            self.echoed = 0;
            self.ops.pop_front();
        }
    }

    /// A xorshift generator (Marsaglia, 2003): the same noise every time, and no text.
    fn noise(&mut self) -> u8 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 17;
        self.noise ^= self.noise << 5;
        self.noise as u8 | 0x80
    }
}
