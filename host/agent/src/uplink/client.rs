//! The requests of an enrolled agent: each signed, each answer believed only with the control plane's signature over it.
//!
//! Whatever answers without that signature (a proxy, a captive portal, another server) is a network error, whatever its status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use wire::config::Configuration;
use wire::results::{Ack, Batch};
use wire::session::{Hello, Nonce, Welcome};
use wire::signature::{Asked, Stamp, header};
use wire::{API, Problem};

use super::transport::{Answer, Request, Transport};
use crate::identity::Identity;

/// Speaks as one agent.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    transport: Transport,
    /// A rotation puts another one there; each request is made with the one that is there when it begins.
    identity: watch::Receiver<Arc<Identity>>,
}

/// In whose name one request is made.
struct Voice {
    identity: Arc<Identity>,
    stamp: Stamp,
}

/// A lease, shared by everything that speaks within it.
#[derive(Debug)]
pub(crate) struct Session {
    lease: String,
    counter: AtomicU64,
    lost: AtomicBool,
    /// Told when somebody found the lease unknown.
    pub(crate) ended: Notify,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// Nobody answered, or somebody who is not our control plane.
    #[error("{0}")]
    Network(String),
    /// Somebody without its signature asks to come again later.
    #[error("{reason}")]
    Later {
        /// Who, as far as can be told.
        reason: String,
        /// How long that would be.
        asked: Duration,
    },
    /// The control plane itself refuses.
    #[error("the control plane refuses: {problem}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// In its words.
        problem: Problem,
    },
}

/// What a wait for configuration brought.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// None when it did not change.
    pub(crate) configuration: Option<Configuration>,
    /// Of what the control plane holds.
    pub(crate) etag: String,
}

impl Client {
    /// Speaks as `identity`.
    pub(crate) fn new(transport: Transport, identity: watch::Receiver<Arc<Identity>>) -> Self {
        Self { transport, identity }
    }

    /// Fetches a nonce: it signs one hello.
    pub(crate) async fn nonce(&self) -> Result<Nonce, Trouble> {
        let identity = self.identity();
        let request = Request::new(Method::POST, &path("/nonce"), Vec::new(), EXCHANGE)
            .with(header::AGENT, &identity.agent.to_string())
            .with_token(&identity.token);
        let answer = self.transport.exchange(request).await.map_err(Trouble::Network)?;
        // Nothing hangs on the nonce: a forged one only makes the hello fail.
        match answer.status {
            200 => read(&answer),
            status => Err(Trouble::unsigned(&answer, format!("asked for a nonce, was answered {status}"))),
        }
    }

    /// Says hello.
    pub(crate) async fn hello(&self, nonce: Nonce, hello: &Hello) -> Result<(Session, Welcome), Trouble> {
        let voice = self.voice(nonce.nonce, 0);
        let answer = self.stamped(&voice, Method::POST, &path("/hello"), json(hello), EXCHANGE, None).await?;
        let welcome: Welcome = read(&success(answer)?)?;
        let session = Session {
            lease: welcome.lease.clone(),
            counter: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            ended: Notify::new(),
        };
        Ok((session, welcome))
    }

    /// Sends a batch.
    pub(crate) async fn results(&self, session: &Session, batch: &Batch) -> Result<Ack, Trouble> {
        let voice = self.voice(session.lease.clone(), session.next());
        let answer =
            self.stamped(&voice, Method::POST, &path("/results"), json(batch), EXCHANGE, None).await?;
        read(&success(answer)?)
    }

    /// Waits for a configuration other than the one with `etag`.
    pub(crate) async fn configuration(
        &self,
        session: &Session,
        etag: Option<&str>,
    ) -> Result<Fetched, Trouble> {
        let voice = self.voice(session.lease.clone(), session.next());
        let path = path("/config?wait=20");
        let answer = self.stamped(&voice, Method::GET, &path, Vec::new(), CONFIG, etag).await?;
        let etag = answer.etag.clone();
        if answer.status == 304 {
            return Ok(Fetched { configuration: None, etag });
        }
        Ok(Fetched { configuration: Some(read(&success(answer)?)?), etag })
    }

    /// A signed exchange. `Ok` is an answer that our control plane gave to this very request.
    async fn stamped(
        &self,
        voice: &Voice,
        method: Method,
        path: &str,
        body: Vec<u8>,
        within: Duration,
        etag: Option<&str>,
    ) -> Result<Answer, Trouble> {
        let Voice { identity, stamp } = voice;
        let signature = stamp.sign_request(&identity.key, method.as_str(), path, &body);
        let asked = Asked::new(method.as_str(), path, &body);
        let mut request = Request::new(method, path, body, within)
            .with(header::AGENT, &stamp.agent.to_string())
            .with(header::GENERATION, &stamp.generation.to_string())
            .with(header::LEASE, &stamp.lease)
            .with(header::COUNTER, &stamp.counter.to_string())
            .with(header::SIGNATURE, &signature)
            .with_token(&identity.token);
        if let Some(etag) = etag {
            request = request.if_changed(etag);
        }
        let answer = self.transport.exchange(request).await.map_err(Trouble::Network)?;
        let Answer { status, etag, signature, body, .. } = &answer;
        if stamp.verify_answer(&identity.server_key, &asked, *status, etag, body, signature) {
            return Ok(answer);
        }
        let who = match (status, signature.is_empty()) {
            // The control plane signs only for those whose token it knows.
            (401, true) => "without a signature: this agent was deleted there, or it is another server",
            (_, true) => "without a signature: a proxy, a portal or another server",
            (_, false) => "with a wrong signature: a proxy, a portal or another server",
        };
        Err(Trouble::unsigned(&answer, format!("answered {status} {who}")))
    }

    fn voice(&self, lease: String, counter: u64) -> Voice {
        let identity = self.identity();
        let stamp = Stamp { agent: identity.agent, generation: identity.generation, lease, counter };
        Voice { identity, stamp }
    }

    fn identity(&self) -> Arc<Identity> {
        self.identity.borrow().clone()
    }
}

impl Session {
    /// The counter of the next request.
    fn next(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The lease, to name it in the next hello.
    pub(crate) fn lease(&self) -> &str {
        &self.lease
    }

    /// Somebody found the lease unknown: wakes whoever says hello.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.ended.notify_one();
    }

    /// Whether somebody did.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

impl Trouble {
    /// Of an answer that our control plane did not sign.
    fn unsigned(answer: &Answer, reason: String) -> Self {
        match answer {
            Answer { status: 429 | 503, retry_after: Some(asked), .. } => {
                Self::Later { reason, asked: *asked }
            }
            _ => Self::Network(reason),
        }
    }

    /// Whether a hello is what helps.
    pub(crate) fn wants_hello(&self) -> bool {
        let Self::Refused { problem, .. } = self else { return false };
        [Problem::LEASE_UNKNOWN, Problem::BAD_SIGNATURE].contains(&problem.code.as_str())
    }
}

fn path(end: &str) -> String {
    format!("{API}{end}")
}

/// A signed answer that is a success, or the problem in it.
fn success(answer: Answer) -> Result<Answer, Trouble> {
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    let mut problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_else(|_| {
        Problem::new(Problem::INTERNAL, format!("answered {} without saying why", answer.status))
    });
    problem.retry_after_s = problem.retry_after_s.or(answer.retry_after.map(|asked| asked.as_secs()));
    Err(Trouble::Refused { status: answer.status, problem })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("messages are made of strings, finite numbers and lists")
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Trouble> {
    serde_json::from_slice(&answer.body)
        .map_err(|e| Trouble::Network(format!("answered {} with something unreadable: {e}", answer.status)))
}

/// For an exchange as a whole.
pub(crate) const EXCHANGE: Duration = Duration::from_secs(15);
/// For one that waits for a change.
const CONFIG: Duration = Duration::from_secs(30);
