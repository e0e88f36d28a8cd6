//! What can be asked of the postgres check, with defaults and bounds.

use regex_lite::Regex;
use schemars::JsonSchema;
use sdk::{Duration, Failure, Mistake, Secret, Stop};
use serde::{Deserialize, Serialize};

/// The configuration of one monitor.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The name or address of the server.
    #[schemars(length(min = 1, max = 253), extend("x-picket-target" = "host"))]
    pub host: String,
    /// The port; 5432 by default.
    #[serde(default = "port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The role to log in as: a member of `pg_monitor`, which sees the replication's columns and nothing else.
    #[schemars(length(min = 1, max = 63))]
    pub user: String,
    /// The role's password. Not needed where the server trusts the agent's address.
    pub password: Option<Secret>,
    /// The database to connect to; `postgres` by default. What is read is the same in each.
    #[serde(default = "dbname")]
    #[schemars(length(min = 1, max = 63))]
    pub dbname: String,
    /// `disable`: no TLS; `require` (default): TLS without knowing the server; `verify-full`: TLS with a trusted certificate that
    /// carries the name `host`. As in libpq.
    #[serde(default)]
    pub sslmode: SslMode,
    /// Certificate authorities instead of the system's, for `verify-full`: PEM text, or the path of a PEM file on the agent.
    #[schemars(length(min = 1))]
    pub ca: Option<String>,
    /// `replica` (default): the server is a standby and says how far it is behind; `primary`: the server says how far each of its
    /// standbys is behind.
    #[serde(default)]
    pub mode: Mode,
    /// The role that the server must have: `standby` (default in mode `replica`, so that a promoted standby is down), `primary`
    /// (default in mode `primary`) or `any`. A cascading standby is a `standby` in mode `primary`.
    pub expect_role: Option<Role>,
    /// Seconds of lag, from 0; degraded above. 30 by default.
    #[serde(default = "warn_seconds")]
    #[schemars(range(min = 0.0))]
    pub warn_seconds: f64,
    /// Seconds of lag, from 0, at least `warn_seconds`; down above. 60 by default.
    #[serde(default = "critical_seconds")]
    #[schemars(range(min = 0.0))]
    pub critical_seconds: f64,
    /// Bytes of WAL, from 0; degraded above. 16777216 (16 MiB) by default: one WAL segment.
    #[serde(default = "warn_bytes")]
    pub warn_bytes: u64,
    /// Bytes of WAL, at least `warn_bytes`; down above. Unset by default: bytes alone take no standby down.
    pub critical_bytes: Option<u64>,
    /// `any` (default): one exceeded bound is enough; `all`: every bound of a level must be exceeded, so that a burst of writes or
    /// a slow night alone says nothing.
    #[serde(default)]
    pub combine: Combine,
    /// Silence between the two servers after which the link counts as cut. By default half of the server's own
    /// `wal_receiver_timeout` (`wal_sender_timeout` in mode `primary`) and 5 s: an idle healthy link is silent for that half.
    pub max_receiver_silence: Option<Duration>,
    /// In mode `replica`: whether a standby without a receiver, which is fed from an archive, is good; false by default.
    #[serde(default)]
    pub allow_no_receiver: bool,
    /// In mode `primary`: how many standbys must stream or catch up, from 0; down with fewer. 1 by default: a primary whose only
    /// standby is gone is what one wants to know.
    #[serde(default = "min_standbys")]
    pub min_standbys: u32,
    /// In mode `primary`: names (`application_name`) of standbys that must be there; down without one of them. None by default.
    #[serde(default)]
    pub expected_standbys: Vec<String>,
    /// In mode `primary`: regular expressions on `application_name`; who matches one is not judged: archivers, logical
    /// subscribers. None by default.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// How the connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum SslMode {
    /// Not at all.
    Disable,
    /// Against listeners.
    #[default]
    Require,
    /// Against listeners and impostors.
    VerifyFull,
}

/// From where the lag is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Mode {
    /// From the standby.
    #[default]
    Replica,
    /// From the primary.
    Primary,
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Role {
    /// It follows another.
    Standby,
    /// It writes.
    Primary,
    /// Either.
    Any,
}

/// How bounds on time and on bytes go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Combine {
    /// One is enough.
    #[default]
    Any,
    /// Every one that is set.
    All,
}

impl Config {
    /// What the schema cannot say; gives `exclude` compiled.
    pub(crate) fn validate(&self) -> Result<Vec<Regex>, Stop> {
        let mut mistakes = Vec::new();
        let mut mistake = |at: &str, message: String| mistakes.push(Mistake { at: at.into(), message });
        if self.critical_seconds < self.warn_seconds {
            mistake(
                "/critical_seconds",
                format!(
                    "{} is below warn_seconds, which is {}; write at least that",
                    self.critical_seconds, self.warn_seconds
                ),
            );
        }
        if let Some(critical) = self.critical_bytes
            && critical < self.warn_bytes
        {
            mistake(
                "/critical_bytes",
                format!("{critical} is below warn_bytes, which is {}; write at least that", self.warn_bytes),
            );
        }
        if self.ca.is_some() && self.sslmode != SslMode::VerifyFull {
            mistake(
                "/ca",
                "authorities are asked only with sslmode verify-full; set that, or leave out ca".into(),
            );
        }
        let mut exclude = Vec::new();
        for (index, pattern) in self.exclude.iter().enumerate() {
            match Regex::new(pattern) {
                Ok(regex) => exclude.push(regex),
                Err(error) => mistake(
                    &format!("/exclude/{index}"),
                    format!("`{pattern}` is not a regular expression: {error}"),
                ),
            }
        }
        if mistakes.is_empty() { Ok(exclude) } else { Err(Failure::InvalidConfig(mistakes).into()) }
    }

    /// The role that the server must have.
    pub(crate) fn expected_role(&self) -> Role {
        self.expect_role.unwrap_or(match self.mode {
            Mode::Replica => Role::Standby,
            Mode::Primary => Role::Primary,
        })
    }

    /// Seconds of silence that are still healthy; `timeout` is the server's own, in seconds, 0 when it has none.
    pub(crate) fn silence_bound(&self, timeout: f64) -> f64 {
        match self.max_receiver_silence {
            Some(bound) => bound.0.as_secs_f64(),
            None if timeout > 0.0 => timeout / 2.0 + MARGIN,
            None => USUAL_TIMEOUT / 2.0 + MARGIN,
        }
    }
}

impl Role {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Role::Standby => "standby",
            Role::Primary => "primary",
            Role::Any => "any",
        }
    }
}

fn port() -> u16 {
    5432
}

fn dbname() -> String {
    "postgres".into()
}

fn warn_seconds() -> f64 {
    30.0
}

fn critical_seconds() -> f64 {
    60.0
}

fn warn_bytes() -> u64 {
    16 << 20
}

fn min_standbys() -> u32 {
    1
}

/// Seconds beside half of the timeout, for a message on its way.
const MARGIN: f64 = 5.0;
/// Seconds: PostgreSQL's default of `wal_receiver_timeout` and `wal_sender_timeout`.
const USUAL_TIMEOUT: f64 = 60.0;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A configuration of these options, host and user filled in.
    pub(crate) fn config(json: &str) -> Config {
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
        object.entry("host").or_insert("db.test".into());
        object.entry("user").or_insert("picket".into());
        serde_json::from_value(object.into()).unwrap()
    }

    #[track_caller]
    fn check_mistake(json: &str, at: &str, message: &str) {
        let Err(Stop::Failure(Failure::InvalidConfig(mistakes))) = config(json).validate() else { panic!() };
        assert_eq!(mistakes[0].at, at);
        assert!(mistakes[0].message.contains(message), "{}", mistakes[0].message);
    }

    #[test]
    fn what_cannot_be_meant_is_a_mistake_that_says_what_to_write() {
        check_mistake(
            r#"{"critical_seconds": 10}"#,
            "/critical_seconds",
            "10 is below warn_seconds, which is 30",
        );
        check_mistake(r#"{"critical_bytes": 10}"#, "/critical_bytes", "10 is below warn_bytes");
        check_mistake(r#"{"ca": "/ca.pem"}"#, "/ca", "verify-full");
        check_mistake(r#"{"exclude": ["a", "("]}"#, "/exclude/1", "`(` is not a regular expression");
    }

    #[test]
    fn a_password_in_the_open_is_refused() {
        let object = serde_json::json!({"host": "db.test", "user": "picket", "password": "hunter2"});
        assert!(serde_json::from_value::<Config>(object).is_err());
    }

    #[test]
    fn silence_is_measured_against_half_of_the_server_s_own_timeout() {
        assert_eq!(config("{}").silence_bound(60.0), 35.0);
        assert_eq!(config("{}").silence_bound(10.0), 10.0);
        assert_eq!(config("{}").silence_bound(0.0), 35.0);
        assert_eq!(config(r#"{"max_receiver_silence": "2s"}"#).silence_bound(60.0), 2.0);
    }
}
