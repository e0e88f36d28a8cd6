//! What can be asked of the postgres check, with defaults and bounds. Which servers that names is worked out in `target`.

use schemars::JsonSchema;
use sdk::{Duration, Failure, Mistake, Secret, Stop};
use serde::Deserialize;

use crate::choice::{ChannelBinding, Combine, Mode, Role, SslMode};
use crate::target::{Ends, Keys};

/// The configuration of one monitor.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    // A monitor without a server is refused when it is applied, and not only when it runs.
    "if" = {"properties": {"mode": {"const": "pair", "description": "From both ends."}}, "required": ["mode"]},
    "then" = {"required": ["primary", "standby"]},
    "else" = {"if": {"required": ["dsn"]}, "then": true, "else": {"required": ["host", "user"]}}
))]
pub(crate) struct Config {
    /// The name or address of the server. Needed unless `dsn` names it, or `mode` is `pair`.
    #[schemars(length(min = 1, max = 253), extend("x-picket-target" = "host"))]
    pub host: Option<String>,
    /// The port; 5432 by default.
    #[serde(default = "port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The server as libpq writes it, instead of `host`: `postgresql://picket@db.internal:5433/postgres?sslmode=verify-full`, or
    /// `host=db.internal user=picket`. It may name host, port, user, dbname, sslmode and channel_binding, and what it names
    /// counts before the keys beside it. One host; never a password: that is the key `password`.
    #[schemars(length(min = 1, max = 2048), extend("x-picket-target" = "dsn"))]
    pub dsn: Option<String>,
    /// The role to log in as: a member of `pg_monitor`, which sees the replication's columns and nothing else. Needed unless
    /// `dsn` names it.
    #[schemars(length(min = 1, max = 63))]
    pub user: Option<String>,
    /// The role's password. Not needed where the server trusts the agent's address or its client certificate. SCRAM-SHA-256,
    /// with channel binding where the server offers it, and md5 are answered; a password in clear text is never sent.
    pub password: Option<Secret>,
    /// The database to connect to; `postgres` by default. It matters only in mode `logical`: what else is read is the same in
    /// each.
    #[schemars(length(min = 1, max = 63))]
    pub dbname: Option<String>,
    /// `disable`: no TLS; `require` (default): TLS without knowing the server; `verify-ca`: TLS with a trusted certificate,
    /// whatever its name; `verify-full`: TLS with a trusted certificate that carries the name `host`. Only the last two ask the
    /// authorities of the monitor's `tls.ca`; whether they trust the server, the attribute `tls.verified` says always. As in libpq, whose `allow` and `prefer` are missing because they protect nothing.
    pub sslmode: Option<SslMode>,
    /// Whether the login is tied to the TLS session (SCRAM-SHA-256-PLUS, tls-server-end-point), so that nobody in between can
    /// pass it on: `prefer` (default): where the server offers it; `require`: down without it; `disable`: for servers behind
    /// something that ends TLS for them. As in libpq.
    pub channel_binding: Option<ChannelBinding>,
    /// `replica` (default): the server is a standby and says how far it is behind; `primary`: the server says how far each of its
    /// standbys is behind; `pair`: both ends are asked, and the standby is held against the primary's own position and clock;
    /// `slots`: whether replication slots are in use and keep what they should; `logical`: the subscriptions and the logical
    /// slots of the database `dbname`.
    #[serde(default)]
    pub mode: Mode,
    /// In mode `pair`: the server that writes.
    pub primary: Option<End>,
    /// In mode `pair`: the server that follows, straight or through others.
    pub standby: Option<End>,
    /// The role that the server must have: `standby` (default in mode `replica`, so that a promoted standby is down), `primary`
    /// (default in mode `primary`) or `any` (default in modes `slots` and `logical`). A cascading standby is a `standby` in mode
    /// `primary`. In mode `pair` only `any`: the two may have changed places; without it they must be what they are called.
    pub expect_role: Option<Role>,
    /// Seconds of lag, from 0; degraded above. 30 by default.
    #[serde(default = "warn_seconds")]
    #[schemars(range(min = 0.0))]
    pub warn_seconds: f64,
    /// Seconds of lag, from 0, at least `warn_seconds`; down above. 60 by default.
    #[serde(default = "critical_seconds")]
    #[schemars(range(min = 0.0))]
    pub critical_seconds: f64,
    /// Bytes of WAL, from 0; degraded above. 16777216 (16 MiB) by default: one WAL segment. In mode `slots` the bytes that a slot
    /// keeps back, and unset by default: a healthy logical slot keeps more than that back under load.
    pub warn_bytes: Option<u64>,
    /// Bytes of WAL, at least `warn_bytes`; down above. Unset by default: bytes alone take no standby down.
    pub critical_bytes: Option<u64>,
    /// `any` (default): one exceeded bound is enough; `all`: every bound of a level must be exceeded, so that a burst of writes or
    /// a slow night alone says nothing.
    #[serde(default)]
    pub combine: Combine,
    /// Silence between the two servers after which the link counts as cut. By default half of the server's own
    /// `wal_receiver_timeout` (`wal_sender_timeout` where standbys are looked at from their primary) and 5 s: an idle healthy link
    /// is silent for that half. 35 s where that timeout is 0; set it then.
    pub max_receiver_silence: Option<Duration>,
    /// In modes `replica` and `pair`: whether a standby without a receiver, which is fed from an archive, is good; false by
    /// default.
    #[serde(default)]
    pub allow_no_receiver: bool,
    /// In mode `primary`: how many standbys must stream or catch up, from 0; down with fewer. 1 by default: a primary whose only
    /// standby is gone is what one wants to know.
    #[serde(default = "min_standbys")]
    pub min_standbys: u32,
    /// In mode `primary`: names (`application_name`) of standbys that must be there; down without one of them. None by default.
    #[serde(default)]
    pub expected_standbys: Vec<String>,
    /// In modes `slots` and `logical`: names of slots that must be there and in use; down without one of them. None by default:
    /// whatever slots there are.
    #[serde(default)]
    pub expected_slots: Vec<String>,
    /// In mode `logical`: names of subscriptions that must be there and run; down without one of them. None by default: whatever
    /// subscriptions the database has.
    #[serde(default)]
    pub expected_subscriptions: Vec<String>,
    /// Regular expressions (the syntax of Rust's regex crate, Unicode included) on `application_name` in mode `primary`, on the names of slots and subscriptions in modes `slots` and
    /// `logical`; what matches one is not judged. None by default. Archivers, base backups and logical subscribers are no
    /// standbys and need no expression.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// One end of a pair. What it does not name, but for host and port, is taken from the keys beside `mode`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    /// The name or address of this end. Needed unless `dsn` names it.
    #[schemars(length(min = 1, max = 253), extend("x-picket-target" = "host"))]
    pub host: Option<String>,
    /// The port of this end; 5432 by default.
    #[serde(default = "port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// This end as libpq writes it, instead of `host`; without a password.
    #[schemars(length(min = 1, max = 2048), extend("x-picket-target" = "dsn"))]
    pub dsn: Option<String>,
    /// The role to log in as.
    #[schemars(length(min = 1, max = 63))]
    pub user: Option<String>,
    /// The role's password.
    pub password: Option<Secret>,
    /// The database to connect to.
    #[schemars(length(min = 1, max = 63))]
    pub dbname: Option<String>,
    /// How the connection is protected.
    pub sslmode: Option<SslMode>,
    /// Whether the login is tied to the TLS session.
    pub channel_binding: Option<ChannelBinding>,
}

impl Config {
    /// The servers to ask. An error is the list of all mistakes that the schema cannot see.
    pub(crate) fn ends(&self) -> Result<Ends, Stop> {
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
        if let (Some(critical), Some(warn)) = (self.critical_bytes, self.warn_bytes())
            && critical < warn
        {
            mistake(
                "/critical_bytes",
                format!(
                    "{critical} is below warn_bytes, which is {warn}; write at least that, or warn_bytes too"
                ),
            );
        }
        if self.mode == Mode::Pair && matches!(self.expect_role, Some(Role::Standby | Role::Primary)) {
            mistake(
                "/expect_role",
                "a pair has both roles: leave it out, or write any if the two may change places".into(),
            );
        }
        let ends = Ends::of(self, &mut mistakes);
        match ends {
            Some(ends) if mistakes.is_empty() => Ok(ends),
            _ => Err(Failure::InvalidConfig(mistakes).into()),
        }
    }

    /// The keys that name the server, or those that the ends of a pair fall back to.
    pub(crate) fn keys(&self) -> Keys<'_> {
        Keys {
            host: self.host.as_deref(),
            port: self.port,
            dsn: self.dsn.as_deref(),
            user: self.user.as_deref(),
            password: self.password.as_ref(),
            dbname: self.dbname.as_deref(),
            sslmode: self.sslmode,
            channel_binding: self.channel_binding,
        }
    }

    /// The role that the server must have; of the two of a pair none.
    pub(crate) fn expected_role(&self) -> Role {
        self.expect_role.unwrap_or(match self.mode {
            Mode::Replica => Role::Standby,
            Mode::Primary => Role::Primary,
            Mode::Pair | Mode::Slots | Mode::Logical => Role::Any,
        })
    }

    /// Bytes above which what is judged is degraded.
    pub(crate) fn warn_bytes(&self) -> Option<u64> {
        self.warn_bytes.or((self.mode != Mode::Slots).then_some(WARN_BYTES))
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

impl End {
    /// The keys that name this end.
    pub(crate) fn keys(&self) -> Keys<'_> {
        Keys {
            host: self.host.as_deref(),
            port: self.port,
            dsn: self.dsn.as_deref(),
            user: self.user.as_deref(),
            password: self.password.as_ref(),
            dbname: self.dbname.as_deref(),
            sslmode: self.sslmode,
            channel_binding: self.channel_binding,
        }
    }
}

fn port() -> u16 {
    5432
}

fn warn_seconds() -> f64 {
    30.0
}

fn critical_seconds() -> f64 {
    60.0
}

fn min_standbys() -> u32 {
    1
}

/// One WAL segment.
const WARN_BYTES: u64 = 16 << 20;
/// Seconds beside half of the timeout, for a message on its way.
const MARGIN: f64 = 5.0;
/// Seconds: PostgreSQL's default of `wal_receiver_timeout` and `wal_sender_timeout`.
const USUAL_TIMEOUT: f64 = 60.0;

#[cfg(test)]
#[path = "config_tests.rs"]
pub(crate) mod tests;
