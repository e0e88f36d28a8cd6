//! Recording: a world around another one that writes down what passes. What is kept here holds secrets; what leaves it does not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::{
    Answer, Endpoint, Failure, Family, Hidden, Measured, NoToken, Question, Request, Response,
    RevocationSource, RevocationStatus, Timings, TlsOptions, TlsSession, TokenRequest,
};
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::mask::{Mask, written};
use super::{Call, FORMAT, SOCKETS, Subject, Trace};
use crate::Sandbox;
use crate::error::Error;
use crate::job::{Job, Report};
use crate::plugin::Plugin;
use crate::world::{Stream, World};

/// Bytes of randomness that a recorded run has; a component that wants more gets them again.
const RANDOM: usize = 256;

impl Sandbox {
    /// Makes one run in the world that `world` makes of a session, and writes it down.
    ///
    /// # Errors
    /// When the system gives no randomness, which a trace must hold.
    pub async fn record(
        &self,
        plugin: &Plugin,
        job: Job,
        world: impl FnOnce(net::Session) -> Arc<dyn World>,
    ) -> Result<(Report, Trace), Error> {
        let mut random = vec![0; RANDOM];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let mut trace = Trace {
            format: FORMAT.to_owned(),
            picket: env!("CARGO_PKG_VERSION").to_owned(),
            plugin: Subject {
                name: plugin.description.name.clone(),
                version: plugin.description.version.clone(),
                digest: plugin.digest.clone(),
            },
            monitor: job.monitor.clone(),
            attempt: job.attempt,
            timeout_ms: u64::try_from(job.timeout.as_millis()).unwrap_or(u64::MAX),
            config: serde_json::from_str(&job.config).unwrap_or_else(|_| Value::from(job.config.as_str())),
            random: STANDARD.encode(&random),
            calls: Vec::new(),
            unwritten: Vec::new(),
            measured: Measured::default(),
            verdict: Value::Null,
        };
        let secrets = job.secrets.clone();
        let kept = Arc::new(Mutex::new(Kept::default()));
        let report = self
            .run_in(plugin, job, |session| {
                Arc::new(Recording { inner: world(session), random, kept: Arc::clone(&kept) })
            })
            .await;
        trace.measured = report.measured.clone();
        trace.verdict = value(&report.verdict);
        let mut kept = locked(&kept);
        trace.calls = std::mem::take(&mut kept.calls);
        trace.unwritten.extend(kept.sockets.then(|| SOCKETS.to_owned()));
        let mask = Mask::new(&secrets, &kept.proofs);
        mask.calls(&mut trace.calls);
        mask.value(&mut trace.config);
        Ok((report, trace))
    }
}

/// What is written down while a run goes on.
#[derive(Default)]
struct Kept {
    calls: Vec<Call>,
    connections: u32,
    /// Whether somebody reached for the sockets, of which nothing is written down.
    sockets: bool,
    /// What was made with secrets.
    proofs: Vec<Zeroizing<Vec<u8>>>,
}

fn locked(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A world that writes down what passes.
struct Recording {
    inner: Arc<dyn World>,
    random: Vec<u8>,
    kept: Arc<Mutex<Kept>>,
}

/// Writes down one call.
fn note<T>(
    kept: &Mutex<Kept>,
    call: &str,
    connection: Option<u32>,
    asked: Value,
    answer: &Result<T, Failure>,
    write: impl FnOnce(&T) -> Value,
) {
    let (answer, failure) = match answer {
        Ok(answer) => (Some(write(answer)), None),
        Err(failure) => (None, Some(failure.clone())),
    };
    locked(kept).calls.push(Call { call: call.to_owned(), connection, asked, answer, failure });
}

fn value(what: &impl Serialize) -> Value {
    serde_json::to_value(what).expect("values of the network have string keys and no failing serializer")
}

#[async_trait]
impl World for Recording {
    async fn ask(&self, question: Question) -> Result<Answer, Failure> {
        let asked = value(&question);
        let answer = self.inner.ask(question).await;
        note(&self.kept, "dns.ask", None, asked, &answer, value);
        answer
    }

    async fn validate(&self, question: Question, anchors: &[String]) -> Result<Answer, Failure> {
        let asked = json!({ "question": value(&question), "anchors": anchors });
        let answer = self.inner.validate(question, anchors).await;
        note(&self.kept, "dns.validate", None, asked, &answer, value);
        answer
    }

    async fn connect(&self, to: Endpoint, family: Family) -> Result<Box<dyn Stream>, Failure> {
        let asked = json!({ "to": value(&to), "family": value(&family) });
        let opened = self.inner.connect(to, family).await;
        let connection = opened.is_ok().then(|| {
            let mut kept = locked(&self.kept);
            kept.connections += 1;
            kept.connections
        });
        note(
            &self.kept,
            "tcp.connect",
            connection,
            asked,
            &opened,
            |stream| json!({ "remote": stream.remote() }),
        );
        let kept = Arc::clone(&self.kept);
        Ok(Box::new(Recorded { inner: opened?, connection: connection.unwrap_or_default(), kept }))
    }

    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let asked = value(&request);
        let response = self.inner.send(request).await;
        note(&self.kept, "http.send", None, asked, &response, value);
        response
    }

    async fn token(&self, request: TokenRequest) -> Result<Hidden, NoToken> {
        let asked = value(&request);
        let token = self.inner.token(request).await;
        let answer = match &token {
            Ok(token) => {
                locked(&self.kept).proofs.push(token.0.clone());
                Ok(json!({ "made": written(&token.0) }))
            }
            Err(NoToken::Refused { status, reason }) => Ok(json!({ "status": status, "refused": reason })),
            Err(NoToken::Failed(failure)) => Err(failure.clone()),
        };
        note(&self.kept, "oauth2.token", None, asked, &answer, Value::clone);
        token
    }

    fn sockets(&self) -> Option<net::Session> {
        let session = self.inner.sockets();
        locked(&self.kept).sockets |= session.is_some();
        session
    }

    async fn ask_revocation(
        &self,
        session: &TlsSession,
        place: usize,
        source: RevocationSource,
    ) -> RevocationStatus {
        let status = self.inner.ask_revocation(session, place, source).await;
        let asked = json!({ "place": place, "source": value(&source) });
        note(&self.kept, "tls.ask-revocation", None, asked, &Ok(&status), value);
        status
    }

    fn measured(&self) -> Measured {
        self.inner.measured()
    }

    fn made(&self, secret: &str, function: &str, made: Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
        let made = self.inner.made(secret, function, made);
        let answer = match &made {
            Ok(proof) => {
                locked(&self.kept).proofs.extend(secret_parts(function, proof));
                json!({ "made": written(proof) })
            }
            Err(reason) => json!({ "refused": reason }),
        };
        let asked = json!({ "secret": secret });
        locked(&self.kept).calls.push(Call {
            call: format!("secrets.{function}"),
            connection: None,
            asked,
            answer: Some(answer),
            failure: None,
        });
        made
    }

    fn wall(&self) -> Duration {
        let now = self.inner.wall();
        note(&self.kept, "clock.wall", None, Value::Null, &Ok(now), |now| millis(*now));
        now
    }

    fn elapsed(&self, real: Duration) -> Duration {
        let elapsed = self.inner.elapsed(real);
        note(&self.kept, "clock.elapsed", None, Value::Null, &Ok(elapsed), |elapsed| millis(*elapsed));
        elapsed
    }

    fn random(&self) -> Option<Vec<u8>> {
        Some(self.random.clone())
    }
}

/// What of a proof lets somebody guess the secret: all of it, but of SCRAM's message only the two proofs in it; a component takes
/// the rest apart, and a replay must too.
fn secret_parts(function: &str, proof: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let text = String::from_utf8_lossy(proof);
    let parts: Vec<&[u8]> = match text.split_once(",p=") {
        Some((_, proofs)) if function == "scram-sha256" => proofs.split('\n').map(str::as_bytes).collect(),
        _ => vec![proof],
    };
    parts.into_iter().map(|part| Zeroizing::new(part.to_vec())).collect()
}

fn millis(time: Duration) -> Value {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into()
}

/// A connection that writes down what passes.
struct Recorded {
    inner: Box<dyn Stream>,
    connection: u32,
    kept: Arc<Mutex<Kept>>,
}

impl Recorded {
    fn note<T>(
        &self,
        call: &str,
        asked: Value,
        answer: &Result<T, Failure>,
        write: impl FnOnce(&T) -> Value,
    ) {
        note(&self.kept, call, Some(self.connection), asked, answer, write);
    }
}

#[async_trait]
impl Stream for Recorded {
    async fn read(&mut self, max: u32) -> Result<Vec<u8>, Failure> {
        let bytes = self.inner.read(max).await;
        self.note("tcp.read", json!({ "max": max }), &bytes, |bytes| written(bytes));
        bytes
    }

    async fn read_exact(&mut self, length: u32) -> Result<Vec<u8>, Failure> {
        let bytes = self.inner.read_exact(length).await;
        self.note("tcp.read-exact", json!({ "length": length }), &bytes, |bytes| written(bytes));
        bytes
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let done = self.inner.write(bytes).await;
        self.note("tcp.write", json!({ "bytes": written(bytes) }), &done, |()| Value::Bool(true));
        done
    }

    async fn write_secret(&mut self, prefix: &[u8], secret: &[u8], suffix: &[u8]) -> Result<(), Failure> {
        let done = self.inner.write_secret(prefix, secret, suffix).await;
        let asked = json!({ "prefix": written(prefix), "suffix": written(suffix) });
        self.note("tcp.write-secret", asked, &done, |()| Value::Bool(true));
        done
    }

    async fn secure(&mut self, options: TlsOptions) -> Result<TlsSession, Failure> {
        let asked = value(&options);
        let session = self.inner.secure(options).await;
        self.note("tcp.secure", asked, &session, value);
        session
    }

    async fn shutdown(&mut self) -> Result<(), Failure> {
        let done = self.inner.shutdown().await;
        self.note("tcp.shutdown", Value::Null, &done, |()| Value::Bool(true));
        done
    }

    fn remote(&self) -> SocketAddr {
        self.inner.remote()
    }

    fn timings(&self) -> Timings {
        let timings = self.inner.timings();
        self.note("tcp.timings", Value::Null, &Ok(timings), value);
        timings
    }
}
