//! The requests of an enrolled agent: each signed, each answer believed only with the control plane's signature over it.
//!
//! Whatever answers without that signature (a proxy, a captive portal, another server) is a network error, whatever its status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc, watch};
use wire::results::{Ack, Batch};
use wire::session::{Hello, Nonce, Welcome};
use wire::signature::{self, Asked, Stamp, header, token_sha256};
use wire::token::{AskChallenge, Challenge, Recover, Rotate, Rotated};
use wire::{API, Problem};

use super::retry_after;
use super::stream::Stream;
use super::token::Said;
use super::transport::{Answer, Request, Transport};
use crate::disk;
use crate::duty::Duty;
use crate::identity::Identity;
use crate::told::Told;

/// Speaks as one agent.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(super) transport: Transport,
    /// A rotation puts another one there; each request is made with the one that is there when it begins.
    pub(super) identity: watch::Receiver<Arc<Identity>>,
    /// The stream while one is open.
    pub(super) stream: watch::Sender<Option<Arc<Stream>>>,
    /// What answers say about the token, for whoever keeps it. One that does not fit is said again with the next answer.
    said: mpsc::Sender<Said>,
    /// Welcomes so far: what was asked before the last of them says nothing about the duty since.
    welcomes: Arc<AtomicU64>,
}

/// In whose name one request is made.
pub(super) struct Voice {
    pub(super) identity: Arc<Identity>,
    pub(super) stamp: Stamp,
    /// Welcomes before it was asked.
    welcomes: u64,
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
    pub(crate) configuration: Option<Told>,
    /// Of what the control plane holds.
    pub(crate) etag: String,
}

impl Client {
    /// Speaks as `identity`, and tells whoever keeps its token what answers say about it.
    pub(crate) fn new(
        transport: Transport,
        identity: watch::Receiver<Arc<Identity>>,
        said: mpsc::Sender<Said>,
    ) -> Self {
        Self { transport, identity, said, stream: watch::Sender::new(None), welcomes: Arc::default() }
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
            status => {
                if status == 401 {
                    self.tell(Said::Unknown(identity.generation));
                }
                Err(Trouble::unsigned(&answer, format!("asked for a nonce, was answered {status}")))
            }
        }
    }

    /// Says hello.
    pub(crate) async fn hello(&self, nonce: Nonce, hello: &Hello) -> Result<(Session, Welcome), Trouble> {
        let voice = self.voice(nonce.nonce, 0);
        let answer = self.stamped(&voice, Method::POST, &path("/hello"), json(hello), EXCHANGE).await?;
        let welcome: Welcome = read(&success(answer)?)?;
        let number = self.welcomes.fetch_add(1, Ordering::AcqRel) + 1;
        // It waits where it does not fit: it is not said again, and what was said before may bar the agent from its work.
        let _ = self.said.send(Said::Welcomed { generation: voice.stamp.generation, number }).await;
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
        let answer = self.within(session, Method::POST, &path("/results"), json(batch)).await?;
        read(&success(answer)?)
    }

    /// Fetches the configuration, if it is another one than that with `etag`.
    pub(crate) async fn configuration(
        &self,
        session: &Session,
        etag: Option<&str>,
    ) -> Result<Fetched, Trouble> {
        let answer = self.fetch_configuration(session, &path("/config"), etag).await?;
        let etag = answer.etag.clone();
        if answer.status == 304 {
            return Ok(Fetched { configuration: None, etag });
        }
        let body = success(answer)?.body;
        let told = disk::wait(|| Told::read(body))
            .map_err(|e| Trouble::Network(format!("was given an unreadable configuration: {e}")))?;
        Ok(Fetched { configuration: Some(told), etag })
    }

    /// Makes the token of `next` known, in the name of `identity`: with the one before, or by its own first use.
    pub(crate) async fn rotate(
        &self,
        session: &Session,
        identity: &Arc<Identity>,
        next: &Identity,
    ) -> Result<Rotated, Trouble> {
        let rotate = Rotate { generation: next.generation, token_sha256: token_sha256(&next.token) };
        let voice = self.voice_of(identity.clone(), session.lease.clone(), session.next());
        let path = path("/token/rotate");
        let answer = self.stamped(&voice, Method::POST, &path, json(&rotate), EXCHANGE).await?;
        read(&success(answer)?)
    }

    /// Asks for a challenge; whatever is not signed by our control plane is a network error.
    pub(crate) async fn challenge(&self) -> Result<Challenge, Trouble> {
        let identity = self.identity();
        let body = json(&AskChallenge { agent_id: identity.agent });
        let request = Request::new(Method::POST, &path("/recover/challenge"), body, EXCHANGE);
        let answer = self.transport.exchange(request).await.map_err(Trouble::Network)?;
        if answer.status != 200 {
            return Err(Trouble::Network(format!("asked for a challenge, was answered {}", answer.status)));
        }
        let challenge: Challenge = read(&answer)?;
        let text = Challenge::signed(identity.agent, &challenge.challenge, challenge.generation);
        match signature::verify(&identity.server_key, &text, &challenge.signature) {
            true => Ok(challenge),
            false => Err(Trouble::Network("was given a challenge that another server signed".to_owned())),
        }
    }

    /// Proves with the device key who this is, so that the token of `next` takes the place of the one that is refused.
    pub(crate) async fn recover(
        &self,
        challenge: &Challenge,
        next: &Arc<Identity>,
    ) -> Result<Rotated, Trouble> {
        let (agent_id, generation) = (next.agent, next.generation);
        let token_sha256 = token_sha256(&next.token);
        let text = Recover::signed(agent_id, &challenge.challenge, generation, &token_sha256);
        let signature = signature::sign(&next.key, &text);
        let challenge = challenge.challenge.clone();
        let voice = self.voice_of(next.clone(), challenge.clone(), 0);
        let recover = Recover { agent_id, challenge, generation, token_sha256, signature };
        let (path, body) = (path("/recover"), json(&recover));
        let asked = Asked::new(Method::POST.as_str(), &path, &body);
        let request = Request::new(Method::POST, &path, body, EXCHANGE);
        let answer = self.transport.exchange(request).await.map_err(Trouble::Network)?;
        read(&success(self.believe(&voice, &asked, answer)?)?)
    }

    /// A signed exchange by HTTPS. `Ok` is an answer that our control plane gave to this very request.
    pub(super) async fn stamped(
        &self,
        voice: &Voice,
        method: Method,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Answer, Trouble> {
        let (request, asked) = voice.request(method, path, body, within);
        let answer = self.transport.exchange(request).await.map_err(Trouble::Network)?;
        self.believe(voice, &asked, answer)
    }

    /// The answer, if our control plane gave it to what was asked. What it says about the token goes to whoever keeps it.
    pub(super) fn believe(&self, voice: &Voice, asked: &Asked, answer: Answer) -> Result<Answer, Trouble> {
        let Voice { identity, stamp, welcomes } = voice;
        let Answer { status, etag, signature, body, .. } = &answer;
        if stamp.verify_answer(&identity.server_key, asked, *status, etag, body, signature) {
            self.tell(said(&answer, stamp.generation, *welcomes));
            return Ok(answer);
        }
        let who = match (status, signature.is_empty()) {
            // The control plane signs only for those whose token it knows.
            (401, true) => {
                self.tell(Said::Unknown(stamp.generation));
                "without a signature: this agent was deleted there, or it is another server"
            }
            (_, true) => "without a signature: a proxy, a portal or another server",
            (_, false) => "with a wrong signature: a proxy, a portal or another server",
        };
        Err(Trouble::unsigned(&answer, format!("answered {status} {who}")))
    }

    fn tell(&self, said: Said) {
        let _ = self.said.try_send(said);
    }

    pub(super) fn voice(&self, lease: String, counter: u64) -> Voice {
        self.voice_of(self.identity(), lease, counter)
    }

    fn voice_of(&self, identity: Arc<Identity>, lease: String, counter: u64) -> Voice {
        let stamp = Stamp { agent: identity.agent, generation: identity.generation, lease, counter };
        Voice { identity, stamp, welcomes: self.welcomes.load(Ordering::Acquire) }
    }

    fn identity(&self) -> Arc<Identity> {
        self.identity.borrow().clone()
    }
}

impl Voice {
    /// The request with all that it has to show, and what its answer is bound to.
    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> (Request, Asked) {
        let Self { identity, stamp, .. } = self;
        let signature = stamp.sign_request(&identity.key, method.as_str(), path, &body);
        let asked = Asked::new(method.as_str(), path, &body);
        let request = Request::new(method, path, body, within)
            .with(header::AGENT, &stamp.agent.to_string())
            .with(header::GENERATION, &stamp.generation.to_string())
            .with(header::LEASE, &stamp.lease)
            .with(header::COUNTER, &stamp.counter.to_string())
            .with(header::SIGNATURE, &signature)
            .with_token(&identity.token);
        (request, asked)
    }
}

/// What a signed answer says about the token of this generation, asked after so many welcomes.
fn said(answer: &Answer, generation: u64, welcomes: u64) -> Said {
    if (200..400).contains(&answer.status) {
        return Said::Good;
    }
    let problem = serde_json::from_slice::<Problem>(&answer.body);
    match problem.as_ref().map(|problem| problem.code.as_str()) {
        Ok(Problem::SUPERSEDED) => Said::Superseded(generation),
        Ok(Problem::ROTATE_FIRST) => Said::RotateFirst,
        Ok(Problem::REVOKED) => Said::Barred { duty: Duty::Revoked, welcomes },
        Ok(Problem::FORKED) => Said::Barred { duty: Duty::Standby, welcomes },
        _ => Said::Good,
    }
}

impl Session {
    /// The counter of the next request.
    pub(super) fn next(&self) -> u64 {
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

    /// How long whoever answered asks to wait, as far as it is heeded; `chance` in 0..1 spreads those who were told the same.
    pub(crate) fn asks(&self, chance: f64) -> Option<Duration> {
        match self {
            Self::Network(_) => None,
            Self::Later { asked, .. } => Some(retry_after::wait(*asked, false, chance)),
            Self::Refused { problem, .. } => {
                let asked = Duration::from_secs(problem.retry_after_s?);
                Some(retry_after::wait(asked, true, chance))
            }
        }
    }

    /// Whether a hello is what helps.
    pub(crate) fn wants_hello(&self) -> bool {
        self.is(Problem::LEASE_UNKNOWN) || self.is(Problem::BAD_SIGNATURE)
    }

    /// Whether the control plane refuses with this code.
    pub(crate) fn is(&self, code: &str) -> bool {
        matches!(self, Self::Refused { problem, .. } if problem.code == code)
    }
}

pub(super) fn path(end: &str) -> String {
    format!("{API}{end}")
}

/// A signed answer that is a success, or the problem in it. When to come again says the problem: the header is not signed.
pub(super) fn success(answer: Answer) -> Result<Answer, Trouble> {
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_else(|_| {
        Problem::new(Problem::INTERNAL, format!("answered {} without saying why", answer.status))
    });
    Err(Trouble::Refused { status: answer.status, problem })
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("messages are made of strings, finite numbers and lists")
}

pub(super) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Trouble> {
    serde_json::from_slice(&answer.body)
        .map_err(|e| Trouble::Network(format!("answered {} with something unreadable: {e}", answer.status)))
}

/// For an exchange as a whole.
pub(crate) const EXCHANGE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_refusal_says_itself_when_to_come_again_and_a_header_beside_it_says_nothing() {
        let answer = |problem: &Problem| Answer {
            status: 503,
            etag: String::new(),
            signature: String::new(),
            retry_after: Some(Duration::from_secs(3_600)),
            content_type: String::new(),
            body: json(problem),
        };
        for (problem, longest) in
            [(Problem::busy(20), Some(24)), (Problem::new(Problem::INTERNAL, "broken"), None)]
        {
            let Err(trouble) = success(answer(&problem)) else { panic!("503 is no success") };
            assert_eq!(trouble.asks(1.0), longest.map(Duration::from_secs), "{trouble}");
        }
    }
}
