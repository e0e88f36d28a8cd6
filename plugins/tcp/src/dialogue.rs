//! Speaking and listening, step by step. What comes of it is judged in `judge`.

use sdk::net::{Cause, Error};
use sdk::tcp::Connection;
use sdk::{Outcome, Stop, tls};

use crate::config::{Config, Step};
use crate::expectation::Expectations;
use crate::met::Met;
use crate::regexes::Regexes;
use crate::template::{Captures, Payload};

/// A dialogue that goes on.
pub(crate) struct Dialogue<'a> {
    config: &'a Config,
    regexes: &'a Regexes,
    connection: &'a Connection,
    /// What was heard and belongs to no step yet.
    heard: Vec<u8>,
    captures: Captures,
    facts: Facts,
}

/// What a dialogue showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// Steps that heard what they expected, by their place, and what they heard.
    pub(crate) met: Vec<(usize, Vec<u8>)>,
    /// "1.2", "1.3".
    pub(crate) tls_version: Option<String>,
}

/// An answer that is not as expected.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mismatch {
    /// The step's place.
    pub(crate) step: usize,
    /// In words.
    pub(crate) expected: String,
    pub(crate) is_any_reply: bool,
    pub(crate) heard: Vec<u8>,
    pub(crate) end: End,
}

/// Why listening stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `max_bytes` were read.
    Full,
    /// The peer closed.
    Closed,
    /// The time was used up.
    Silent,
}

impl<'a> Dialogue<'a> {
    pub(crate) fn new(config: &'a Config, regexes: &'a Regexes, connection: &'a Connection) -> Self {
        let (heard, captures, facts) = (Vec::new(), Captures::default(), Facts::default());
        Self { config, regexes, connection, heard, captures, facts }
    }

    pub(crate) fn facts(self) -> Facts {
        self.facts
    }

    /// Begins TLS, as the monitor wants it.
    pub(crate) fn secure(&mut self) -> Result<(), Stop> {
        let session = self.connection.secure(&tls::Options::default())?;
        self.facts.tls_version = Some(session.version());
        Ok(())
    }

    /// Takes a step; an answer that is not as expected ends the dialogue.
    pub(crate) fn take(&mut self, place: usize, step: &Step) -> Result<Option<Mismatch>, Stop> {
        if let Some(expect) = &step.expect {
            // Where TLS follows at once, the rest of a line would be taken for the beginning of it.
            let whole_line = step.starttls && step.send.is_none();
            match self.listen(place, expect, whole_line)? {
                Ok(met) => {
                    let rest = self.heard.split_off(met.end);
                    self.facts.met.push((place, std::mem::replace(&mut self.heard, rest)));
                    if let Some(captures) = met.captures {
                        self.captures.numbered = captures.numbered;
                        self.captures.named.extend(captures.named);
                    }
                }
                Err(end) => {
                    return Ok(Some(Mismatch {
                        step: place,
                        expected: expect.words(self.config.matching),
                        is_any_reply: expect.is_any_reply(),
                        heard: std::mem::take(&mut self.heard),
                        end,
                    }));
                }
            }
        }
        match &step.send {
            Some(Payload::Text(text)) => self.connection.write(self.captures.fill(text).as_bytes())?,
            Some(Payload::Bytes(bytes)) => self.connection.write(bytes)?,
            Some(Payload::Secret(secret)) => self.connection.write_secret(&[], &secret.open()?, &[])?,
            None => {}
        }
        if step.starttls {
            // Whoever is in between could make it look as if it came through TLS (CVE-2011-0411).
            if !self.heard.is_empty() {
                let summary = "the target says more in the clear before TLS begins than was expected";
                return Err(Outcome::down("tcp.protocol", summary).evidence(&self.heard).into());
            }
            self.secure()?;
        }
        Ok(None)
    }

    /// Reads until the expectation is met or nothing more can come. Silence before the first byte is an error.
    fn listen(
        &mut self,
        step: usize,
        expect: &Expectations,
        whole_line: bool,
    ) -> Result<Result<Met, End>, Stop> {
        let (matching, most) = (self.config.matching, self.config.max_bytes as usize);
        loop {
            let search = |place: usize, text: &str| self.regexes.search(step, place, text);
            let met = expect.met(&self.heard, matching, &search)?;
            if let Some(met) = met.filter(|met| met.ends_line || !whole_line) {
                return Ok(Ok(met));
            }
            let left = u32::try_from(most.saturating_sub(self.heard.len())).unwrap_or(u32::MAX);
            if left == 0 {
                return Ok(Err(End::Full));
            }
            match self.connection.read(left) {
                Ok(more) if more.is_empty() => return Ok(Err(End::Closed)),
                Ok(more) => self.heard.extend(more),
                Err(error) if is_silence(&error) && !self.heard.is_empty() => return Ok(Err(End::Silent)),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_silence(error: &Error) -> bool {
    error.cause == Cause::Timeout
}
