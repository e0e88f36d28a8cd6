//! A session with a server: TLS, login, read-only, queries; and what an error of the server says about it.
//!
//! A password never enters the sandbox: the host answers SCRAM-SHA-256 (RFC 7677) and md5 with the secret.

use std::time::Duration;

use sdk::net::{Endpoint, Family};
use sdk::tcp::{self, Connection};
use sdk::{At, Failure, Outcome, Stop, tls};

use crate::config::{Config, SslMode};
use crate::wire::{self, Message, Report, Row};

/// A session that is logged in.
pub(crate) struct Session {
    connection: Connection,
    server_version: String,
    role: String,
}

impl Session {
    /// Connects, logs in and makes the session harmless: read-only, and with a time limit below the run's own.
    pub(crate) fn open(config: &Config, budget: Duration) -> Result<Session, Stop> {
        let to = Endpoint { host: config.host.clone(), port: config.port };
        let connection = tcp::connect(&to, Family::Any)?;
        secure(&connection, config)?;
        let mut session = Session { connection, server_version: String::new(), role: config.user.clone() };
        session.log_in(config)?;
        let limit = (budget.as_millis() * 9 / 10).max(1);
        // Names in our queries mean the system's own, whatever the database holds.
        session.query(&format!(
            "SET default_transaction_read_only = on; SET statement_timeout = {limit}; SET search_path = pg_catalog"
        ))?;
        session.check_version()?;
        Ok(session)
    }

    /// Runs one query; its rows in text format.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Vec<Row>, Stop> {
        self.send(&wire::query(sql))?;
        let mut rows = Vec::new();
        let mut failed = None;
        loop {
            match self.receive()? {
                Message::Row(row) => rows.push(row),
                Message::Error(report) => failed = Some(report),
                Message::Parameter(name, value) => self.note(&name, value),
                Message::Ready => break,
                _ => {}
            }
        }
        match failed {
            Some(report) => Err(refusal(&report, &self.role)),
            None => Ok(rows),
        }
    }

    /// "15.7 (Debian 15.7-0+deb12u1)".
    pub(crate) fn server_version(&self) -> &str {
        &self.server_version
    }

    /// The columns are there, but their values are hidden from this role.
    pub(crate) fn lacks_rights(role: &str, what: &str) -> Stop {
        Failure::Permission(format!(
            "role {role} may not read {what}; let a superuser run: GRANT pg_monitor TO {}",
            quoted(role)
        ))
        .into()
    }

    /// Says goodbye, so that the server's log has no aborted connection. Nothing depends on it.
    pub(crate) fn close(&mut self) {
        let _ = self.connection.write(&wire::terminate());
    }

    fn log_in(&mut self, config: &Config) -> Result<(), Stop> {
        self.send(&wire::startup(&[
            ("user", &config.user),
            ("database", &config.dbname),
            ("application_name", "picket"),
            ("client_encoding", "UTF8"),
        ]))?;
        loop {
            match self.receive()? {
                Message::Welcome => break,
                Message::AskSasl(mechanisms) => self.prove_by_scram(config, &mechanisms)?,
                Message::AskMd5(salt) => {
                    let answer = secret(config)?.open()?.postgres_md5(&config.user, &salt);
                    self.send(&wire::password(&answer))?;
                }
                Message::AskCleartext => {
                    return Err(unsupported(
                        "the server asks for the password in clear text, which is not given; write scram-sha-256 into its pg_hba.conf",
                    ));
                }
                Message::AskOther(kind) => {
                    return Err(unsupported(&format!(
                        "the server asks for an authentication of kind {kind}; write scram-sha-256 into its pg_hba.conf"
                    )));
                }
                Message::Error(report) => return Err(refusal(&report, &config.user)),
                Message::Other => {}
                other => return Err(broken(&format!("the server says {} during the login", name(&other)))),
            }
        }
        loop {
            match self.receive()? {
                Message::Ready => return Ok(()),
                Message::Parameter(name, value) => self.note(&name, value),
                Message::Error(report) => return Err(refusal(&report, &config.user)),
                _ => {}
            }
        }
    }

    /// SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677). PostgreSQL takes the user's name from its own startup
    /// message.
    fn prove_by_scram(&mut self, config: &Config, mechanisms: &[String]) -> Result<(), Stop> {
        if mechanisms.iter().all(|mechanism| mechanism != MECHANISM) {
            return Err(unsupported(&format!(
                "the server offers {}, not {MECHANISM}",
                mechanisms.join(", ")
            )));
        }
        let secret = secret(config)?.open()?;
        let first = format!("n=,r={}", nonce()?);
        self.send(&wire::sasl_initial(MECHANISM, &format!("n,,{first}")))?;
        let challenge = match self.receive()? {
            Message::SaslContinue(challenge) => challenge,
            Message::Error(report) => return Err(refusal(&report, &config.user)),
            other => return Err(broken(&format!("the server says {} instead of a challenge", name(&other)))),
        };
        let proof = secret
            .scram_sha256(&first, &challenge, "biws")
            .map_err(|reason| broken(&format!("the server's challenge is none: {reason}")))?;
        let (answer, signature) = proof
            .split_once('\n')
            .ok_or_else(|| Stop::Failure(Failure::Internal("the host gave no server signature".into())))?;
        self.send(&wire::sasl_response(answer))?;
        match self.receive()? {
            Message::SaslFinal(last) if last.strip_prefix("v=") == Some(signature) => Ok(()),
            Message::SaslFinal(_) => Err(Outcome::down(
                "postgres.auth",
                "the server does not know the password either: it failed to prove that it does",
            )
            .into()),
            Message::Error(report) => Err(refusal(&report, &config.user)),
            other => Err(broken(&format!("the server says {} instead of its proof", name(&other)))),
        }
    }

    fn check_version(&self) -> Result<(), Stop> {
        let major: Option<u32> = self
            .server_version
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .and_then(|text| text.parse().ok());
        match major {
            Some(major) if major < OLDEST => Err(unsupported(&format!(
                "the server is PostgreSQL {}; {OLDEST} and newer are understood",
                self.server_version
            ))),
            _ => Ok(()),
        }
    }

    fn note(&mut self, parameter: &str, value: String) {
        if parameter == "server_version" {
            self.server_version = value;
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Stop> {
        self.connection.write(bytes).at("postgres")
    }

    fn receive(&self) -> Result<Message, Stop> {
        let head = self.connection.read_exact(5).at("postgres")?;
        let (kind, length) = wire::header(&head)
            .ok_or_else(|| broken("the server's answer is no message of PostgreSQL's protocol"))?;
        let body =
            if length == 0 { Vec::new() } else { self.connection.read_exact(length).at("postgres")? };
        wire::message(kind, &body).ok_or_else(|| broken("a message of the server is cut off"))
    }
}

/// The SSLRequest dialogue and the handshake, as `sslmode` says.
fn secure(connection: &Connection, config: &Config) -> Result<(), Stop> {
    let trust = match config.sslmode {
        SslMode::Disable => return Ok(()),
        SslMode::Require => tls::Trust::Unverified,
        SslMode::VerifyFull => tls::Trust::Required,
    };
    connection.write(&wire::SSL_REQUEST).at("postgres")?;
    match connection.read_exact(1).at("postgres")?.first() {
        Some(b'S') => {}
        Some(b'N') => {
            let summary = "the server does not offer TLS; set ssl = on there, or sslmode: disable here";
            return Err(Outcome::down("postgres.no_tls", summary).into());
        }
        _ => return Err(broken("the server does not answer an SSLRequest as PostgreSQL does")),
    }
    let options = tls::Options {
        server_name: None,
        alpn: Vec::new(),
        min_version: None,
        max_version: None,
        ca: config.ca.clone(),
        client_identity: None,
        trust,
    };
    connection.secure(&options).at("tls").map(drop)
}

fn secret(config: &Config) -> Result<&sdk::Secret, Stop> {
    config.password.as_ref().ok_or_else(|| {
        Stop::mistake(
            "/password",
            "the server asks for a password: write {\"$secret\": NAME} and give the agent that secret",
        )
    })
}

/// What an ErrorResponse says about the target, by SQLSTATE (PostgreSQL's appendix A).
fn refusal(report: &Report, role: &str) -> Stop {
    let Report { code, message } = report;
    let said = format!("{message} (SQLSTATE {code})");
    let down = |reason: &str| Outcome::down(format!("postgres.{reason}"), said.clone()).into();
    match code.as_str() {
        "42501" => {
            Failure::Permission(format!("{said}; let a superuser run: GRANT pg_monitor TO {}", quoted(role)))
                .into()
        }
        "42883" | "42P01" | "42703" => unsupported(&format!("the server lacks what is asked: {said}")),
        "3D000" => down("database"),
        "53300" => down("too_many_connections"),
        "57014" => down("timeout"),
        "57P01" | "57P02" | "57P03" => down("unavailable"),
        code if code.starts_with("28") => down("auth"),
        _ => down("error"),
    }
}

fn quoted(role: &str) -> String {
    format!("\"{}\"", role.replace('"', "\"\""))
}

/// 18 random bytes as text that SCRAM allows.
fn nonce() -> Result<String, Stop> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Internal(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unsupported(message: &str) -> Stop {
    Failure::Unsupported(message.into()).into()
}

fn broken(summary: &str) -> Stop {
    Outcome::down("postgres.protocol", summary).into()
}

fn name(message: &Message) -> &'static str {
    match message {
        Message::Welcome => "AuthenticationOk",
        Message::AskCleartext | Message::AskMd5(_) | Message::AskSasl(_) | Message::AskOther(_) => {
            "an authentication request"
        }
        Message::SaslContinue(_) => "AuthenticationSASLContinue",
        Message::SaslFinal(_) => "AuthenticationSASLFinal",
        Message::Error(_) => "ErrorResponse",
        Message::Parameter(..) => "ParameterStatus",
        Message::Row(_) => "DataRow",
        Message::Ready => "ReadyForQuery",
        Message::Other => "something else",
    }
}

const MECHANISM: &str = "SCRAM-SHA-256";
/// The oldest version whose functions are asked.
const OLDEST: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, expected: &str) {
        let report = Report { code: code.into(), message: "no".into() };
        let found = match refusal(&report, "picket") {
            Stop::Outcome(outcome) => outcome.code,
            Stop::Failure(Failure::Permission(text)) => {
                assert!(text.ends_with("GRANT pg_monitor TO \"picket\""), "{text}");
                "permission".into()
            }
            Stop::Failure(Failure::Unsupported(_)) => "unsupported".into(),
            Stop::Failure(failure) => panic!("{failure:?}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn an_error_of_the_server_is_sorted_by_its_sqlstate() {
        check("28P01", "postgres.auth");
        check("28000", "postgres.auth");
        check("3D000", "postgres.database");
        check("53300", "postgres.too_many_connections");
        check("57P03", "postgres.unavailable");
        check("57014", "postgres.timeout");
        check("42501", "permission");
        check("42883", "unsupported");
        check("XX000", "postgres.error");
    }

    #[test]
    fn a_nonce_is_never_the_same_and_has_no_comma() {
        let (one, other) = (nonce().unwrap(), nonce().unwrap());
        assert_ne!(one, other);
        assert!(one.len() == 36 && one.chars().all(|c| c.is_ascii_hexdigit()));
    }
}
