//! A session with a server: connection, TLS, queries. Logging in is in `login`, what an error of the server means in `refusal`.
//!
//! Each query is a transaction of its own, read-only and with a time limit, and leaves nothing behind: behind a pooler the next
//! query may meet another server session, and other people's queries this one.

use std::time::{Duration, Instant};

use sdk::net::{Endpoint, Family};
use sdk::tcp::{self, Connection};
use sdk::{At, Outcome, Stop, tls};

use crate::binding::{self, Binding};
use crate::choice::SslMode;
use crate::inbox::{Inbox, broken};
use crate::login;
use crate::refusal;
use crate::target::Target;
use crate::wire::{self, Message, Row};

/// A session that is logged in.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) inbox: Inbox,
    server_version: String,
    tls: Option<Tls>,
    role: String,
    time: Time,
}

/// What the handshake told, whether or not `sslmode` asked for it.
#[derive(Clone, Debug)]
struct Tls {
    /// "1.2", "1.3".
    version: String,
    /// The first reason not to trust the server's certificate.
    defect: Option<String>,
}

/// When the run began and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    pub begun: Instant,
    pub budget: Duration,
}

impl Session {
    /// Connects and logs in.
    pub(crate) fn open(target: &Target, time: Time) -> Result<Session, Stop> {
        let to = Endpoint { host: target.host.clone(), port: target.port };
        let connection = tcp::connect(&to, Family::Any)?;
        let (binding, tls) = secure(&connection, target)?;
        let mut session = Session {
            connection,
            inbox: Inbox::default(),
            server_version: String::new(),
            tls,
            role: target.user.clone(),
            time,
        };
        login::log_in(&mut session, target, &binding)?;
        match session.major() {
            Some(major) if major < OLDEST => Err(refusal::unsupported(&format!(
                "the server is PostgreSQL {}; {OLDEST} and newer are understood",
                session.server_version
            ))),
            _ => Ok(session),
        }
    }

    /// Runs one query; its rows in text format. Once more, when a standby's replay was in its way.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Vec<Row>, Stop> {
        let mut attempts = 1..ATTEMPTS;
        loop {
            let left = self.time.budget.saturating_sub(self.time.begun.elapsed());
            let limit = (left.as_millis() * 9 / 10).max(1);
            // Serializable, where somebody made that the default, is an error on a standby; and names in our queries mean the
            // system's own, whatever the database holds.
            let transaction = format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL statement_timeout = {limit}; \
                 SET LOCAL search_path = pg_catalog; {sql}; COMMIT"
            );
            self.send(&wire::query(&transaction))?;
            match self.rows()? {
                Ok(rows) => return Ok(rows),
                Err(report) if refusal::is_conflict(&report) && attempts.next().is_some() => {
                    self.send(&wire::query("ROLLBACK"))?;
                    let _ = self.rows()?;
                }
                Err(report) => return Err(refusal::of(&report, &self.role)),
            }
        }
    }

    /// The rows up to ReadyForQuery, or the error that stands in their place.
    fn rows(&mut self) -> Result<Result<Vec<Row>, wire::Report>, Stop> {
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            let message = match self.receive() {
                Ok(message) => message,
                // Behind an error that ends the session nothing follows, and the error says more than that.
                Err(stop) => return failed.map_or(Err(stop), |report| Ok(Err(report))),
            };
            match message {
                Message::Row(row) => rows.push(row),
                Message::Error(report) => failed = failed.or(Some(report)),
                Message::Parameter(name, value) => self.note(&name, value),
                Message::Ready => return Ok(failed.map_or(Ok(rows), Err)),
                _ => {}
            }
        }
    }

    /// Waits between two looks; the server is left alone meanwhile.
    pub(crate) fn pause(&self, time: Duration) {
        #[expect(
            clippy::disallowed_methods,
            reason = "in the sandbox this is a wait that the host ends; there is no tokio"
        )]
        std::thread::sleep(time);
    }

    /// Whether another look may be taken: half of the time is for what comes before and after.
    pub(crate) fn may_wait(&self, time: Duration) -> bool {
        self.time.begun.elapsed() + time <= self.time.budget / 2
    }

    /// Seconds since the run began.
    pub(crate) fn elapsed(&self) -> f64 {
        self.time.begun.elapsed().as_secs_f64()
    }

    /// The outcome with what is known about the server beside the verdict.
    pub(crate) fn tell(&self, outcome: Outcome) -> Outcome {
        let outcome = outcome.attribute("server_version", &self.server_version);
        let Some(Tls { version, defect }) = &self.tls else { return outcome };
        let verified = defect.as_ref().map_or("yes".to_owned(), |defect| format!("no: {defect}"));
        outcome.attribute("tls.version", version).attribute("tls.verified", verified)
    }

    /// The first number of the version, which decides what there is to ask; none where the server does not say.
    pub(crate) fn major(&self) -> Option<u32> {
        self.server_version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// Whether the server is at least that version; one that does not say is taken for the oldest.
    pub(crate) fn is_at_least(&self, major: u32) -> bool {
        self.major().unwrap_or(OLDEST) >= major
    }

    /// Who is logged in.
    pub(crate) fn role(&self) -> &str {
        &self.role
    }

    /// Says goodbye, so that the server's log has no aborted connection. Nothing depends on it.
    pub(crate) fn close(&mut self) {
        let _ = self.connection.write(&wire::terminate());
    }

    pub(crate) fn note(&mut self, parameter: &str, value: String) {
        if parameter == "server_version" {
            self.server_version = value;
        }
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), Stop> {
        self.connection.write(bytes).at("postgres")
    }

    pub(crate) fn receive(&mut self) -> Result<Message, Stop> {
        self.inbox.next(&self.connection)
    }
}

/// The SSLRequest dialogue and the handshake, as `sslmode` says; what a login may be tied to.
fn secure(connection: &Connection, target: &Target) -> Result<(Binding, Option<Tls>), Stop> {
    let trust = match target.sslmode {
        SslMode::Disable => return Ok((Binding::NoTls, None)),
        SslMode::Require | SslMode::VerifyCa => tls::Trust::Unverified,
        SslMode::VerifyFull => tls::Trust::Required,
    };
    connection.write(&wire::SSL_REQUEST).at("postgres")?;
    // One byte and no more: what somebody in between slips in behind it must meet the handshake, not the login.
    match connection.read_exact(1).at("postgres")?.first() {
        Some(b'S') => {}
        Some(b'N') => {
            let summary = "the server does not offer TLS; set ssl = on there, or sslmode: disable here";
            return Err(Outcome::down("postgres.no_tls", summary).into());
        }
        _ => return Err(broken("the server does not answer an SSLRequest as PostgreSQL does")),
    }
    let options = tls::Options { trust, ..tls::Options::default() };
    let session = connection.secure(&options).at("tls")?;
    let defects = session.verified().err().unwrap_or_default();
    if target.sslmode == SslMode::VerifyCa
        && let Some(defect) = defects.iter().find(|defect| defect.code != WRONG_NAME)
    {
        let code = format!("tls.{}", defect.code.replace('-', "_"));
        let summary = format!("{}:{} cannot be trusted: {}", target.host, target.port, defect.message);
        return Err(Outcome::down(code, summary).into());
    }
    let defect = defects.into_iter().next().map(|defect| defect.message);
    Ok((binding::of(&session), Some(Tls { version: session.version(), defect })))
}

/// The oldest version whose functions are asked.
const OLDEST: u32 = 12;
const ATTEMPTS: u32 = 3;
/// The defect that `verify-ca` puts up with.
const WRONG_NAME: &str = "wrong-name";
