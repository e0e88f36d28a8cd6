//! The network of a process and the session of one run: budget, deadline, what was measured, what was refused. The exchanges
//! themselves are in `dial`, `http` and `lookup`.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::datagram::Datagrams;
use crate::dial::Connection;
use crate::error::Error;
use crate::grant::{Ceiling, Grant, Purpose, Refusal};
use crate::resolve::{Names, Resolver};
use crate::route::{self, Route};
use crate::tls::{self, Named, Roots, TlsSession};
use crate::types::{
    Answer, Budget, Cause, Endpoint, Failure, Family, Hidden, Measured, NoToken, Phase, Question, Request,
    Response, RevocationSource, RevocationStatus, Timings, TokenRequest,
};

/// How a process uses the network.
///
/// # Defaults
/// Nothing opened, no control plane, the system's name servers.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What the operator opened on this machine, and the control plane that stays closed.
    pub ceiling: Ceiling,
    /// Name servers instead of the system's.
    pub resolver: Option<Vec<SocketAddr>>,
}

/// One per process: name servers, certificate authorities, ceiling. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) resolver: Resolver,
    pub(crate) roots: Roots,
    pub(crate) named: Named,
    pub(crate) ceiling: Ceiling,
}

impl Network {
    /// Reads the system's name servers (unless given) and certificate authorities. A machine without authorities is no error
    /// here: handshakes say so. Needs no tokio runtime yet; sessions do.
    pub fn new(settings: Settings) -> Result<Network, Error> {
        let resolver = Resolver::new(settings.resolver)?;
        let shared =
            Shared { resolver, roots: Roots::system(), named: Named::default(), ceiling: settings.ceiling };
        Ok(Network { shared: Arc::new(shared) })
    }

    /// Begins a run that may reach what `grant` says, use what `budget` says, and ends at `deadline`.
    pub fn session(&self, grant: Grant, budget: Budget, deadline: Instant) -> Session {
        self.session_by(Route::default(), grant, budget, deadline)
    }

    /// The same, going its own way.
    pub fn session_by(
        &self,
        route: Route,
        grant: impl Into<Arc<Grant>>,
        budget: Budget,
        deadline: Instant,
    ) -> Session {
        let tally = Tally { limit: budget.received, ..Tally::default() };
        let run = Run {
            shared: self.shared.clone(),
            resolver: Resolver::of(&route),
            route,
            grant: grant.into(),
            budget,
            deadline,
            started: Instant::now(),
            tally: Arc::new(tally),
            names: Names::default(),
            seen: Mutex::default(),
        };
        Session { run: Arc::new(run) }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("ceiling", &self.shared.ceiling).finish_non_exhaustive()
    }
}

/// The network of one run. Clones share budget, deadline and memory of names.
#[derive(Clone)]
pub struct Session {
    run: Arc<Run>,
}

impl Session {
    /// Asks a name server once. An answer with an error RCODE is an answer; a failure means that nobody answered.
    pub async fn ask(&self, question: Question) -> Result<Answer, Failure> {
        crate::lookup::ask(&self.run, question).await
    }

    /// Asks, and validates the answer against the anchors: DNSKEY records as a zone file has them, the root's keys when none.
    pub async fn validate(&self, question: Question, anchors: &[String]) -> Result<Answer, Failure> {
        crate::lookup::validate(&self.run, question, anchors).await
    }

    /// Resolves, asks the grant for every address, and connects to the first that answers (RFC 8305 order).
    pub async fn connect(&self, to: Endpoint, family: Family) -> Result<Connection, Failure> {
        Connection::open(&self.run, &to, family).await
    }

    /// Looks a name up for somebody who dials by address afterwards. Asked of the grant, once a run and name; an address is its own.
    pub async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        crate::resolve::look_up(&self.run, host).await
    }

    /// Connects to an address: one that the grant names, or to which a name led in this run that it names.
    pub async fn dial(&self, to: SocketAddr) -> Result<Connection, Failure> {
        Connection::open_at(&self.run, to).await
    }

    /// A socket for datagrams, on a port of the system's choice; who may be sent one is asked of the grant for each peer.
    pub fn datagrams(&self, v6: bool) -> Result<Datagrams, Failure> {
        Datagrams::open(&self.run, v6)
    }

    /// The addresses of a target that may be dialled, best first.
    pub async fn addresses(&self, to: &Endpoint) -> Result<Vec<IpAddr>, Failure> {
        let resolved = crate::resolve::resolve(&self.run, to, Family::Any, Purpose::Target).await?;
        Ok(resolved.addresses.iter().map(SocketAddr::ip).collect())
    }

    /// Makes an HTTP exchange, redirects included; each hop is a fresh connection and asks the grant anew.
    pub async fn send(&self, request: Request) -> Result<Response, Failure> {
        crate::http::send(&self.run, request).await
    }

    /// Asks for an access token; nothing else of the answer is handed out.
    pub async fn token(&self, request: TokenRequest) -> Result<Hidden, NoToken> {
        crate::oauth2::token(&self.run, request).await
    }

    /// Asks whether the certificate at that place of the session's path was revoked; 0 is the leaf. What the certificate names is
    /// reached under this session's grant and budget, for half of the time that is left at most.
    pub async fn ask_revocation(
        &self,
        session: &TlsSession,
        place: usize,
        source: RevocationSource,
    ) -> RevocationStatus {
        tls::revocation::ask(&self.run, session, place, source).await
    }

    /// What was measured and refused so far.
    pub fn measured(&self) -> Measured {
        let seen = self.run.seen();
        Measured {
            phases: seen.phases,
            remote: seen.remote,
            denials: seen.denials.clone(),
            received: self.run.tally.received.load(Ordering::Relaxed),
            connections: self.run.tally.connections.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("grant", &self.run.grant).finish_non_exhaustive()
    }
}

/// What every exchange of a session shares.
pub(crate) struct Run {
    pub(crate) shared: Arc<Shared>,
    /// That of the route's name servers, where it names some.
    pub(crate) resolver: Option<Result<Resolver, Error>>,
    pub(crate) route: Route,
    pub(crate) grant: Arc<Grant>,
    pub(crate) budget: Budget,
    pub(crate) deadline: Instant,
    pub(crate) started: Instant,
    pub(crate) tally: Arc<Tally>,
    pub(crate) names: Names,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    phases: Timings,
    remote: Option<SocketAddr>,
    denials: Vec<String>,
}

impl Run {
    /// A run beside this one, for what is asked about a peer: the same grant and budget, and an end in `time`. What it measures is
    /// not the target's, and what the route says of the target's TLS is not said of whom it asks, but for the authorities.
    pub(crate) fn aside(&self, time: Duration) -> Arc<Run> {
        let tls = route::Tls { ca: self.route.tls.ca.clone(), ..route::Tls::default() };
        Arc::new(Run {
            shared: self.shared.clone(),
            resolver: Resolver::of(&self.route),
            route: Route { tls, ..self.route.clone() },
            grant: self.grant.clone(),
            budget: self.budget,
            deadline: self.deadline.min(Instant::now() + time),
            started: Instant::now(),
            tally: self.tally.clone(),
            names: Names::default(),
            seen: Mutex::default(),
        })
    }

    /// What was refused here was refused to that run.
    pub(crate) fn hand_denials_to(&self, run: &Run) {
        let denials = self.seen().denials.clone();
        denials.into_iter().for_each(|words| run.note_denial(&Refusal(words)));
    }

    /// The future's output, or a timeout that names the phase and the peer.
    pub(crate) async fn within<T>(
        &self,
        phase: Phase,
        peer: &impl fmt::Display,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout_at(self.deadline, future).await {
            Ok(output) => Ok(output),
            Err(_) => Err(self.timeout(phase, peer)),
        }
    }

    pub(crate) fn timeout(&self, phase: Phase, peer: &impl fmt::Display) -> Failure {
        let spent = self.started.elapsed().as_secs_f64();
        fail(Cause::Timeout, phase, format!("timeout in {phase} with {peer} after {spent:.1} s"))
    }

    /// Counts one connection, or one question, against the budget.
    pub(crate) fn take_connection(&self, peer: &impl fmt::Display) -> Result<(), Failure> {
        let limit = self.budget.connections;
        let take = |opened: u32| (opened < limit).then_some(opened + 1);
        match self.tally.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => {
                let message =
                    format!("no connection left for {peer}: this run has opened the {limit} that it may");
                Err(fail(Cause::Exhausted, Phase::Connect, message))
            }
        }
    }

    /// Counts one lookup of a name on the way to a connection; not every name that is looked up is connected to.
    pub(crate) fn take_lookup(&self, name: &str) -> Result<(), Failure> {
        let limit = self.budget.connections.saturating_mul(LOOKUPS_PER_CONNECTION);
        match self.tally.lookups.fetch_add(1, Ordering::Relaxed) < limit {
            true => Ok(()),
            false => {
                let message =
                    format!("{name} is not looked up: this run has looked up the {limit} names that it may");
                Err(fail(Cause::Exhausted, Phase::Resolve, message))
            }
        }
    }

    /// Remembers a refusal, without failing for it.
    pub(crate) fn note_denial(&self, refusal: &Refusal) {
        let mut seen = self.seen();
        if seen.denials.len() < DENIALS_KEPT && !seen.denials.contains(&refusal.0) {
            seen.denials.push(refusal.0.clone());
        }
    }

    /// The failure that a refusal becomes.
    pub(crate) fn denied(&self, refusal: Refusal) -> Failure {
        self.note_denial(&refusal);
        Failure { cause: Cause::Denied, phase: None, message: refusal.0 }
    }

    pub(crate) fn note_remote(&self, remote: SocketAddr) {
        self.seen().remote = Some(remote);
    }

    /// Adds one phase of one exchange to the session's sum.
    pub(crate) fn spend(&self, phase: Phase, time: Duration) {
        let mut seen = self.seen();
        add(&mut seen.phases, phase, time);
        seen.phases.total += time;
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to one phase; leaves the total alone.
pub(crate) fn add(timings: &mut Timings, phase: Phase, time: Duration) {
    let slot = match phase {
        Phase::Resolve => &mut timings.resolve,
        Phase::Connect => &mut timings.connect,
        Phase::Handshake => &mut timings.handshake,
        Phase::Send => &mut timings.send,
        Phase::FirstByte => &mut timings.first_byte,
        Phase::Transfer => &mut timings.transfer,
    };
    *slot = Some(slot.unwrap_or_default() + time);
}

/// Counters that the streams of a session share.
#[derive(Default)]
pub(crate) struct Tally {
    limit: u64,
    received: AtomicU64,
    connections: AtomicU32,
    lookups: AtomicU32,
    /// Bytes of bodies that were handed out.
    kept: AtomicU64,
}

impl Tally {
    /// Counts received bytes; an error once they are more than the budget.
    pub(crate) fn receive(&self, bytes: usize) -> io::Result<()> {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.spent()
    }

    /// How many bytes may be read at once: one more than are left, so that a run that exceeds its budget is told from one that meets it.
    pub(crate) fn at_once(&self) -> usize {
        let left = self.limit.saturating_sub(self.received.load(Ordering::Relaxed)).saturating_add(1);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// How much of the budget `body` is left, in bytes.
    pub(crate) fn body_left(&self, body: u32) -> u64 {
        u64::from(body).saturating_sub(self.kept.load(Ordering::Relaxed))
    }

    /// Counts the kept bytes of a body.
    pub(crate) fn keep(&self, bytes: usize) {
        self.kept.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// An error once more was received than the budget allows.
    pub(crate) fn spent(&self) -> io::Result<()> {
        match self.received.load(Ordering::Relaxed) > self.limit {
            true => Err(io::Error::other(Spent(self.limit))),
            false => Ok(()),
        }
    }
}

/// The budget of received bytes is used up.
#[derive(Debug, thiserror::Error)]
#[error("this run has received the {0} bytes that it may")]
pub(crate) struct Spent(u64);

pub(crate) fn fail(cause: Cause, phase: Phase, message: String) -> Failure {
    Failure { cause, phase: Some(phase), message }
}

/// The control plane's addresses are asked for only where its port is.
pub(crate) async fn control_addresses(run: &Run, port: u16) -> Vec<IpAddr> {
    match &run.shared.ceiling.control {
        Some((host, own)) if *own == port => run.shared.resolver.control(host).await,
        _ => Vec::new(),
    }
}

const DENIALS_KEPT: usize = 16;
const LOOKUPS_PER_CONNECTION: u32 = 4;
