//! Replaying: a world that answers from a trace and remembers where a component asked something else. It reaches nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::{
    Answer, Cause, Endpoint, Failure, Family, Hidden, Measured, NoToken, Question, Request, Response,
    RevocationSource, RevocationStatus, Timings, TlsOptions, TlsSession, TokenRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::mask::{fits, masked_alike, read, written};
use super::{Call, Trace, is_reading};
use crate::Sandbox;
use crate::job::Report;
use crate::plugin::Plugin;
use crate::world::{Stream, World};

/// What came of a replay.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The run's report; nothing in it was measured anew.
    pub report: Report,
    /// The first place where the component asked something else than the trace says.
    pub divergence: Option<Divergence>,
    /// Calls of the trace that the component did not make.
    pub left: usize,
    /// Whether the verdict is that of the trace.
    pub same: bool,
}

/// Where a component asked something else than the trace says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Divergence {
    /// Which call of the trace, counted from 1; one more than there are when it had ended.
    pub at: usize,
    /// What the trace says; none when it had ended.
    pub expected: Option<Value>,
    /// What the component asked.
    pub found: Value,
}

impl Sandbox {
    /// Runs a plugin again with the answers of a trace and without a network. From where it asks something else, every answer is a
    /// failure.
    pub async fn replay(&self, plugin: &Plugin, trace: &Trace) -> Replayed {
        let played = Arc::new(Replaying {
            random: STANDARD.decode(&trace.random).unwrap_or_default(),
            measured: trace.measured.clone(),
            place: Mutex::new(Place { calls: trace.calls.clone(), ..Place::default() }),
        });
        let world = Arc::clone(&played);
        let report = self.run_in(plugin, trace.job(plugin), |_| Arc::new(world)).await;
        let place = played.place();
        let rest = place.calls.get(place.next..).unwrap_or_default();
        Replayed {
            same: alike(&value(&report.verdict)) == alike(&trace.verdict),
            divergence: place.divergence.clone(),
            left: rest.iter().filter(|call| !is_reading(&call.call)).count(),
            report,
        }
    }
}

/// A world that answers from a trace.
struct Replaying {
    random: Vec<u8>,
    measured: Measured,
    place: Mutex<Place>,
}

/// How far a replay is.
#[derive(Default)]
struct Place {
    calls: Vec<Call>,
    next: usize,
    /// The last readings of the two clocks.
    wall: Duration,
    elapsed: Duration,
    divergence: Option<Divergence>,
}

impl Place {
    /// The next call of the trace that is no reading of a clock, if it is this one.
    fn take(&mut self, name: &str, connection: Option<u32>, asked: &Value) -> Option<Call> {
        if self.divergence.is_some() {
            return None;
        }
        while self.calls.get(self.next).is_some_and(|call| is_reading(&call.call)) {
            self.next += 1;
        }
        let expected = self.calls.get(self.next);
        let fitting = expected.filter(|call| {
            // A connection that was opened has its number from the answer.
            let same = name == "tcp.connect" || call.connection == connection;
            call.call == name && same && fits(&call.asked, asked)
        });
        match fitting {
            Some(call) => {
                self.next += 1;
                Some(call.clone())
            }
            None => {
                self.divergence = Some(Divergence {
                    at: self.next + 1,
                    expected: expected.map(|call| told(&call.call, call.connection, &call.asked)),
                    found: told(name, connection, asked),
                });
                None
            }
        }
    }

    /// The next call, if it is a reading of that clock.
    fn reading(&mut self, name: &str) -> Option<Duration> {
        let call = self.calls.get(self.next).filter(|call| call.call == name)?;
        let time = call.answer.as_ref()?.as_u64()?;
        self.next += 1;
        Some(Duration::from_millis(time))
    }
}

fn alike(verdict: &Value) -> Value {
    let mut verdict = verdict.clone();
    masked_alike(&mut verdict);
    verdict
}

fn told(call: &str, connection: Option<u32>, asked: &Value) -> Value {
    let mut told = json!({ "call": call });
    if let Some(connection) = connection {
        told["connection"] = connection.into();
    }
    if !asked.is_null() {
        told["asked"] = asked.clone();
    }
    told
}

impl Replaying {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer of the trace, and the number of the connection that it was about.
    fn answer(&self, name: &str, connection: Option<u32>, asked: &Value) -> Result<(Value, u32), Failure> {
        let Some(call) = self.place().take(name, connection, asked) else {
            return Err(unknown(format!("the trace has no answer to this {name}")));
        };
        match (call.answer, call.failure) {
            (Some(answer), _) => Ok((answer, call.connection.unwrap_or_default())),
            (None, Some(failure)) => Err(failure),
            (None, None) => Err(unknown(format!("the trace tells of a {name} without an answer"))),
        }
    }

    fn value<T: DeserializeOwned>(
        &self,
        name: &str,
        connection: Option<u32>,
        asked: &Value,
    ) -> Result<T, Failure> {
        let (answer, _) = self.answer(name, connection, asked)?;
        serde_json::from_value(answer)
            .map_err(|e| unknown(format!("the trace's answer to {name} is none: {e}")))
    }
}

fn unknown(message: String) -> Failure {
    Failure { cause: Cause::Other(message.clone()), phase: None, message }
}

fn value(what: &impl Serialize) -> Value {
    serde_json::to_value(what).expect("values of the network have string keys and no failing serializer")
}

/// A handle on the world, for streams that outlive a call.
type Shared = Arc<Replaying>;

#[async_trait]
impl World for Shared {
    async fn ask(&self, question: Question) -> Result<Answer, Failure> {
        self.value("dns.ask", None, &value(&question))
    }

    async fn validate(&self, question: Question, anchors: &[String]) -> Result<Answer, Failure> {
        self.value("dns.validate", None, &json!({ "question": value(&question), "anchors": anchors }))
    }

    async fn connect(&self, to: Endpoint, family: Family) -> Result<Box<dyn Stream>, Failure> {
        let asked = json!({ "to": value(&to), "family": value(&family) });
        let (answer, connection) = self.answer("tcp.connect", None, &asked)?;
        let remote = answer.get("remote").and_then(Value::as_str).and_then(|remote| remote.parse().ok());
        let remote = remote.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Ok(Box::new(Replayer { world: Arc::clone(self), connection, remote }))
    }

    async fn send(&self, request: Request) -> Result<Response, Failure> {
        self.value("http.send", None, &value(&request))
    }

    async fn token(&self, request: TokenRequest) -> Result<Hidden, NoToken> {
        let (answer, _) = self.answer("oauth2.token", None, &value(&request))?;
        if let Some(token) = answer.get("made").and_then(read) {
            return Ok(Hidden(token.into()));
        }
        let status =
            answer.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
        let reason = answer.get("refused").and_then(Value::as_str).unwrap_or_default().to_owned();
        Err(NoToken::Refused { status: status.unwrap_or_default(), reason })
    }

    async fn ask_revocation(
        &self,
        _: &TlsSession,
        place: usize,
        source: RevocationSource,
    ) -> RevocationStatus {
        let asked = json!({ "place": place, "source": value(&source) });
        self.value("tls.ask-revocation", None, &asked).unwrap_or_else(|failure: Failure| RevocationStatus {
            revocation: net::Revocation::Unknown,
            named: false,
            denied: false,
            message: failure.message,
        })
    }

    fn measured(&self) -> Measured {
        self.measured.clone()
    }

    fn made(&self, secret: &str, function: &str, _: Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
        let name = format!("secrets.{function}");
        let (answer, _) =
            self.answer(&name, None, &json!({ "secret": secret })).map_err(|failure| failure.message)?;
        match (answer.get("made").and_then(read), answer.get("refused").and_then(Value::as_str)) {
            (Some(made), _) => Ok(made),
            (None, refused) => Err(refused.unwrap_or("the trace does not tell what was made").to_owned()),
        }
    }

    fn wall(&self) -> Duration {
        let mut place = self.place();
        place.wall = place.reading("clock.wall").unwrap_or(place.wall);
        place.wall
    }

    fn elapsed(&self, _: Duration) -> Duration {
        let mut place = self.place();
        place.elapsed = place.reading("clock.elapsed").unwrap_or(place.elapsed);
        place.elapsed
    }

    fn random(&self) -> Option<Vec<u8>> {
        Some(self.random.clone()).filter(|random| !random.is_empty())
    }
}

/// A connection of the trace.
struct Replayer {
    world: Shared,
    connection: u32,
    remote: SocketAddr,
}

impl Replayer {
    fn answer(&self, name: &str, asked: &Value) -> Result<Value, Failure> {
        Ok(self.world.answer(name, Some(self.connection), asked)?.0)
    }

    fn bytes(&self, name: &str, asked: &Value) -> Result<Vec<u8>, Failure> {
        let answer = self.answer(name, asked)?;
        read(&answer).ok_or_else(|| unknown(format!("the trace's answer to {name} is no bytes")))
    }
}

#[async_trait]
impl Stream for Replayer {
    async fn read(&mut self, max: u32) -> Result<Vec<u8>, Failure> {
        self.bytes("tcp.read", &json!({ "max": max }))
    }

    async fn read_exact(&mut self, length: u32) -> Result<Vec<u8>, Failure> {
        self.bytes("tcp.read-exact", &json!({ "length": length }))
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.answer("tcp.write", &json!({ "bytes": written(bytes) })).map(drop)
    }

    async fn write_secret(&mut self, prefix: &[u8], _: &[u8], suffix: &[u8]) -> Result<(), Failure> {
        let asked = json!({ "prefix": written(prefix), "suffix": written(suffix) });
        self.answer("tcp.write-secret", &asked).map(drop)
    }

    async fn secure(&mut self, options: TlsOptions) -> Result<TlsSession, Failure> {
        self.world.value("tcp.secure", Some(self.connection), &value(&options))
    }

    async fn shutdown(&mut self) -> Result<(), Failure> {
        self.answer("tcp.shutdown", &Value::Null).map(drop)
    }

    fn remote(&self) -> SocketAddr {
        self.remote
    }

    fn timings(&self) -> Timings {
        self.world.value("tcp.timings", Some(self.connection), &Value::Null).unwrap_or_default()
    }
}
