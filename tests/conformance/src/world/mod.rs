//! A world that plays a script: no packet leaves it, and what it waits for passes at once. It asks the grant as the real
//! one does. Owns what a check is told of the world as a whole; `peer` plays one peer, `script` has the words.

mod peer;
pub mod script;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use net::{
    Answer, Cause, Ceiling, Certificate, Endpoint, Failure, Family, Grant, Hidden, Host, Measured, NoToken,
    Phase, Policy, Purpose, Question, Request, Response, RevocationSource, RevocationStatus, TlsSession,
    TokenRequest, Transport,
};
use sandbox::{Stream, World};

use peer::{Connection, Playing, fail};
use script::{Lookup, Op, Peer, Script, Told};

/// What every wall clock shows when a run begins: a minute after the beginning of 2030.
pub const MORNING: Duration = Duration::from_secs(1_893_456_060);

/// Where a name leads that no script says anything about.
const SOMEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 8, 7));

/// A world that plays a script. Clones are the same world.
#[derive(Clone)]
pub struct Scripted {
    inner: Arc<Inner>,
}

struct Inner {
    script: Script,
    grant: Grant,
    ceiling: Ceiling,
    budget: Duration,
    begun: Instant,
    seen: Mutex<Seen>,
}

/// What has happened in a world.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Time since the run began.
    pub now: Duration,
    /// Calls that came after the time was used up.
    pub late: u32,
    /// What of the script the check has met, by the name of the operation: "refuse", "garbage", "tls".
    pub met: Vec<&'static str>,
    /// Every refusal of the grant.
    pub denials: Vec<String>,
    /// What peers waited for and did not get until the time was up.
    pub waits: Vec<String>,
    /// Calls to the world.
    pub calls: u32,
    measured: Measured,
    /// What is said of every leaf that was served.
    revocation: Vec<(Arc<Certificate>, HashMap<RevocationSource, Told>)>,
}

impl Seen {
    fn meet(&mut self, what: &'static str) {
        if !self.met.contains(&what) {
            self.met.push(what);
        }
    }
}

impl Scripted {
    /// The world of a run that may reach what `grant` says and has `budget` time.
    pub fn new(script: Script, grant: Grant, budget: Duration) -> Self {
        let local = ["127.0.0.0/8", "::1"].map(|rule| rule.parse().expect("a valid rule"));
        let ceiling = Ceiling { allow: local.into(), ..Ceiling::default() };
        let inner = Inner { script, grant, ceiling, budget, begun: Instant::now(), seen: Mutex::default() };
        Scripted { inner: Arc::new(inner) }
    }

    /// What has happened so far.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, what: &'static str) {
        self.lock().meet(what);
    }

    /// Lets time pass, up to the deadline; a failure when it is used up.
    fn pass(&self, time: Duration, phase: Phase, peer: &str) -> Result<(), Failure> {
        let mut seen = self.lock();
        seen.now = (seen.now + time).min(self.inner.budget);
        match seen.now < self.inner.budget {
            true => Ok(()),
            false => Err(timeout(self.inner.budget, phase, peer)),
        }
    }

    /// All the time that is left passes.
    fn wait(&self, phase: Phase, peer: &str) -> Failure {
        self.lock().now = self.inner.budget;
        timeout(self.inner.budget, phase, peer)
    }

    /// Counts a call; a failure when the time was used up before it.
    fn called(&self, phase: Phase, peer: &str) -> Result<(), Failure> {
        let mut seen = self.lock();
        seen.calls += 1;
        if seen.now < self.inner.budget {
            return Ok(());
        }
        seen.late += 1;
        Err(timeout(self.inner.budget, phase, peer))
    }

    fn denied(&self, refusal: net::Refusal) -> Failure {
        let mut seen = self.lock();
        if !seen.denials.contains(&refusal.0) {
            seen.denials.push(refusal.0.clone());
            seen.measured.denials.push(refusal.0.clone());
        }
        Failure { cause: Cause::Denied, phase: None, message: refusal.0 }
    }

    fn policy(&self) -> Policy<'_> {
        Policy { grant: &self.inner.grant, ceiling: &self.inner.ceiling, control: &[] }
    }

    /// The operations of whoever is there.
    fn does(&self, at: &str) -> Vec<Op> {
        let fits = |peer: &&Peer| peer.at == "*" || peer.at.eq_ignore_ascii_case(at);
        self.inner.script.peers.iter().find(fits).map_or_else(|| vec![Op::Oblige], |peer| peer.does.clone())
    }

    /// Resolves, asks the grant, connects.
    fn open(&self, to: &Endpoint, purpose: Purpose) -> Result<(SocketAddr, Playing), Failure> {
        let at = to.to_string();
        self.called(Phase::Connect, &at)?;
        let invalid = |e: net::Error| fail(Cause::Invalid(e.to_string()), Phase::Resolve, e.to_string());
        let host: Host = to.host.parse().map_err(invalid)?;
        let mut playing = Playing::new(self.clone(), at.clone(), self.does(&at));
        let addresses = match &host {
            Host::Address(ip) => {
                playing.skip_lookups();
                vec![*ip]
            }
            Host::Name(name) => {
                self.policy().may_resolve(purpose, name, to.port).map_err(|refusal| self.denied(refusal))?;
                self.addresses(name, &mut playing)?
            }
        };
        let decision = self
            .policy()
            .decide(purpose, &host, to.port, &addresses)
            .map_err(|refusal| self.denied(refusal))?;
        let ip = decision.allowed.first().copied().unwrap_or(SOMEWHERE);
        playing.connect()?;
        let remote = SocketAddr::new(ip, to.port);
        let mut seen = self.lock();
        seen.measured.connections += 1;
        seen.measured.remote = Some(remote);
        Ok((remote, playing))
    }

    /// Asks the grant for name and server, and the server for an answer.
    fn question(&self, question: &Question) -> Result<Answer, Failure> {
        let at = question.server.clone().unwrap_or_else(|| "resolver".to_owned());
        self.called(Phase::Send, &at)?;
        let name = question.name.strip_suffix('.').unwrap_or(&question.name).to_ascii_lowercase();
        self.policy().may_ask(&name).map_err(|refusal| self.denied(refusal))?;
        let mut remote = SocketAddr::new(SOMEWHERE, 53);
        if let Some(server) = &question.server {
            let to = server_of(server, question.transport)?;
            let invalid = |e: net::Error| fail(Cause::Invalid(e.to_string()), Phase::Send, e.to_string());
            let host: Host = to.host.parse().map_err(invalid)?;
            let addresses = match &host {
                Host::Address(ip) => vec![*ip],
                Host::Name(_) => vec![SOMEWHERE],
            };
            let decided = self.policy().decide(Purpose::Resolver, &host, to.port, &addresses);
            let decision = decided.map_err(|refusal| self.denied(refusal))?;
            remote = SocketAddr::new(decision.allowed.first().copied().unwrap_or(SOMEWHERE), to.port);
        }
        self.lock().measured.connections += 1;
        Playing::new(self.clone(), at.clone(), self.does(&at)).answer(question, remote)
    }

    fn addresses(&self, name: &str, playing: &mut Playing) -> Result<Vec<IpAddr>, Failure> {
        let local = name == "localhost" || name.ends_with(".localhost");
        match playing.lookup() {
            Some(Lookup::Addresses(addresses)) => Ok(addresses),
            Some(Lookup::Rcode(rcode)) => {
                self.meet("resolve");
                Err(fail(Cause::Dns(rcode), Phase::Resolve, format!("{name} is answered with RCODE {rcode}")))
            }
            Some(Lookup::Timeout) => {
                self.meet("resolve");
                Err(self.wait(Phase::Resolve, name))
            }
            None if local => Ok(vec![[127, 0, 0, 1].into()]),
            None => Ok(vec![SOMEWHERE]),
        }
    }
}

/// Who is asked: "host", "host:port" or a URL; the port is that of the transport unless one is named.
fn server_of(text: &str, transport: Transport) -> Result<Endpoint, Failure> {
    let usual = match transport {
        Transport::Udp | Transport::Tcp => 53,
        Transport::Tls => 853,
        Transport::Https => 443,
    };
    let invalid = |reason: String| fail(Cause::Invalid(reason.clone()), Phase::Send, reason);
    if text.contains("://") {
        let url = url::Url::parse(text).map_err(|e| invalid(e.to_string()))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        return Ok(Endpoint::new(host, url.port_or_known_default().unwrap_or(usual)));
    }
    let rule: net::Rule = text.parse().map_err(|e: net::Error| invalid(e.to_string()))?;
    let port = rule.port().unwrap_or(usual);
    match rule {
        net::Rule::Range { range, .. } => Ok(Endpoint::new(range.addr().to_string(), port)),
        net::Rule::Name { name, .. } => Ok(Endpoint::new(name, port)),
        net::Rule::Below { .. } => Err(invalid(format!("{text:?} is not one name server"))),
    }
}

fn timeout(budget: Duration, phase: Phase, peer: &str) -> Failure {
    let message = format!("timeout in {phase} with {peer} after {:.1} s", budget.as_secs_f64());
    fail(Cause::Timeout, phase, message)
}

#[async_trait]
impl World for Scripted {
    async fn ask(&self, question: Question) -> Result<Answer, Failure> {
        // Nobody asked what the signatures say.
        Ok(Answer { security: None, ..self.question(&question)? })
    }

    async fn validate(&self, question: Question, _: &[String]) -> Result<Answer, Failure> {
        self.question(&question)
    }

    async fn connect(&self, to: Endpoint, _: Family) -> Result<Box<dyn Stream>, Failure> {
        let (remote, playing) = self.open(&to, Purpose::Target)?;
        Ok(Box::new(Connection::new(playing, to.host, remote)))
    }

    async fn send(&self, request: Request) -> Result<Response, Failure> {
        peer::exchange(self, request)
    }

    async fn token(&self, request: TokenRequest) -> Result<Hidden, NoToken> {
        peer::token(self, &request)
    }

    async fn ask_revocation(
        &self,
        session: &TlsSession,
        place: usize,
        source: RevocationSource,
    ) -> RevocationStatus {
        peer::revocation(self, session, place, source)
    }

    fn measured(&self) -> Measured {
        let seen = self.lock();
        let mut measured = seen.measured.clone();
        measured.phases.total = seen.now;
        measured
    }

    fn wall(&self) -> Duration {
        MORNING + self.elapsed(self.inner.begun.elapsed())
    }

    /// What a check waits or computes for by itself counts too: whoever tries again until the time is up must see it pass.
    fn elapsed(&self, real: Duration) -> Duration {
        self.lock().now + real
    }

    fn random(&self) -> Option<Vec<u8>> {
        // As good as any other: 251 is prime, so the cycle of bytes and that of a word's do not meet soon.
        Some((0..251_u8).map(|n| n.wrapping_mul(167).wrapping_add(13)).collect())
    }
}
