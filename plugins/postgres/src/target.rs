//! Which servers a configuration names, and how they are reached and logged in to. What a dsn says is read in `dsn`.

use sdk::{Mistake, Secret};

use crate::choice::{ChannelBinding, Mode, SslMode};
use crate::config::Config;
use crate::dsn::Dsn;

/// The servers of one run.
#[derive(Debug)]
pub(crate) enum Ends {
    One(Target),
    Two { primary: Target, standby: Target },
}

/// One server, with everything that a connection to it needs.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where its keys stand in the configuration, as a JSON pointer: "", "/primary", "/standby".
    pub at: &'static str,
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    pub dbname: String,
    pub sslmode: SslMode,
    pub channel_binding: ChannelBinding,
}

/// The keys of one server as they were written.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    pub host: Option<&'a str>,
    pub port: u16,
    pub dsn: Option<&'a str>,
    pub user: Option<&'a str>,
    pub password: Option<&'a Secret>,
    pub dbname: Option<&'a str>,
    pub sslmode: Option<SslMode>,
    pub channel_binding: Option<ChannelBinding>,
}

impl Ends {
    /// None when something is wrong with the keys; what, is added to the mistakes.
    pub(crate) fn of(config: &Config, mistakes: &mut Vec<Mistake>) -> Option<Ends> {
        let shared = config.keys();
        let ends = [("/primary", &config.primary), ("/standby", &config.standby)];
        if config.mode != Mode::Pair {
            for (at, end) in ends {
                if end.is_some() {
                    mistake(
                        mistakes,
                        at,
                        "only a pair has two ends: write mode: pair, or name the server by host",
                    );
                }
            }
            return Target::read("", shared, shared, mistakes).map(Ends::One);
        }
        if shared.host.is_some() || shared.dsn.is_some() {
            let at = if shared.host.is_some() { "/host" } else { "/dsn" };
            mistake(mistakes, at, "a pair names its servers in primary and standby; move it there");
        }
        let mut found = ends.map(|(at, end)| match end {
            Some(end) => Target::read(at, end.keys(), shared, mistakes),
            None => {
                mistake(mistakes, at, "is missing: a pair needs primary: {host: …} and standby: {host: …}");
                None
            }
        });
        let [primary, standby] = [found[0].take()?, found[1].take()?];
        if (&primary.host, primary.port) == (&standby.host, standby.port) {
            mistake(mistakes, "/standby", "is the same server as primary; name the one that follows");
        }
        Some(Ends::Two { primary, standby })
    }
}

impl Target {
    fn read(
        at: &'static str,
        own: Keys<'_>,
        shared: Keys<'_>,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Target> {
        let before = mistakes.len();
        let dsn = match own.dsn.map(Dsn::read).transpose() {
            Ok(dsn) => dsn.unwrap_or_default(),
            Err(message) => {
                mistake(mistakes, &format!("{at}/dsn"), message);
                return None;
            }
        };
        if own.host.is_some() && own.dsn.is_some() {
            mistake(mistakes, &format!("{at}/dsn"), "stands beside host; write one of the two");
        }
        let host = dsn.host.or(own.host.map(Into::into));
        if host.is_none() {
            mistake(
                mistakes,
                &format!("{at}/host"),
                "is missing: write the server's name or address, or a dsn",
            );
        }
        let user = dsn.user.or(own.user.or(shared.user).map(Into::into));
        if user.is_none() {
            let message = "is missing: write the role to log in as, a member of pg_monitor";
            mistake(mistakes, &format!("{at}/user"), message);
        }
        let sslmode = dsn.sslmode.or(own.sslmode).or(shared.sslmode).unwrap_or_default();
        let channel_binding =
            dsn.channel_binding.or(own.channel_binding).or(shared.channel_binding).unwrap_or_default();
        if channel_binding == ChannelBinding::Require && sslmode == SslMode::Disable {
            let message = "there is nothing to bind to without TLS; set sslmode, or leave it out";
            mistake(mistakes, &format!("{at}/channel_binding"), message);
        }
        if mistakes.len() > before {
            return None;
        }
        Some(Target {
            at,
            host: host?,
            port: dsn.port.unwrap_or(own.port),
            user: user?,
            password: own.password.or(shared.password).cloned(),
            dbname: dsn
                .dbname
                .or(own.dbname.or(shared.dbname).map(Into::into))
                .unwrap_or_else(|| "postgres".into()),
            sslmode,
            channel_binding,
        })
    }
}

fn mistake(mistakes: &mut Vec<Mistake>, at: &str, message: impl Into<String>) {
    mistakes.push(Mistake { at: at.into(), message: message.into() });
}

#[cfg(test)]
mod tests {
    use sdk::{Failure, Stop};

    use super::*;
    use crate::config::tests::config;

    fn one(json: &str) -> Target {
        match config(json).ends().unwrap() {
            Ends::One(target) => target,
            ends => panic!("{ends:?}"),
        }
    }

    #[track_caller]
    fn check_mistake(json: &str, at: &str, message: &str) {
        let config: Config = serde_json::from_str(json).unwrap();
        let Err(Stop::Failure(Failure::InvalidConfig(mistakes))) = config.ends() else { panic!() };
        let found = mistakes.iter().find(|mistake| mistake.at == at);
        assert!(found.is_some_and(|found| found.message.contains(message)), "{mistakes:?}");
    }

    #[test]
    fn what_is_not_written_has_its_default() {
        let target = one(r#"{"host": "db.test", "user": "picket"}"#);
        assert_eq!((target.port, target.dbname.as_str()), (5432, "postgres"));
        assert_eq!((target.sslmode, target.channel_binding), (SslMode::Require, ChannelBinding::Prefer));
    }

    #[test]
    fn what_a_dsn_names_counts_before_the_keys_beside_it() {
        let target =
            one(r#"{"dsn": "postgresql://monitor@db.test:5433/app?sslmode=verify-full", "user": "picket"}"#);
        assert_eq!((target.host.as_str(), target.port, target.user.as_str()), ("db.test", 5433, "monitor"));
        assert_eq!((target.dbname.as_str(), target.sslmode), ("app", SslMode::VerifyFull));
        let target = one(r#"{"dsn": "host=db.test", "user": "picket", "port": 6000}"#);
        assert_eq!((target.port, target.user.as_str()), (6000, "picket"));
    }

    #[test]
    fn the_ends_of_a_pair_take_what_they_lack_from_beside_them() {
        let json = r#"{"mode": "pair", "user": "picket", "sslmode": "disable",
            "primary": {"host": "a"}, "standby": {"dsn": "host=b", "user": "other", "port": 5433, "sslmode": "require"}}"#;
        let Ends::Two { primary, standby } = config(json).ends().unwrap() else { panic!() };
        assert_eq!(
            (primary.user.as_str(), primary.port, primary.sslmode),
            ("picket", 5432, SslMode::Disable)
        );
        assert_eq!((standby.user.as_str(), standby.port, standby.sslmode), ("other", 5433, SslMode::Require));
    }

    #[test]
    fn a_server_that_is_not_named_or_named_twice_is_a_mistake() {
        check_mistake(r#"{"user": "p"}"#, "/host", "is missing");
        check_mistake(r#"{"host": "a"}"#, "/user", "is missing");
        check_mistake(r#"{"host": "a", "dsn": "host=b", "user": "p"}"#, "/dsn", "one of the two");
        check_mistake(r#"{"host": "a", "user": "p", "primary": {"host": "b"}}"#, "/primary", "mode: pair");
        check_mistake(r#"{"mode": "pair", "user": "p", "primary": {"host": "a"}}"#, "/standby", "is missing");
        check_mistake(
            r#"{"mode": "pair", "user": "p", "host": "a", "primary": {"host": "a"}, "standby": {"host": "b"}}"#,
            "/host",
            "move it there",
        );
        check_mistake(
            r#"{"mode": "pair", "user": "p", "primary": {"host": "a"}, "standby": {"host": "a"}}"#,
            "/standby",
            "same server",
        );
        check_mistake(
            r#"{"mode": "pair", "primary": {"host": "a"}, "standby": {"host": "b", "user": "p"}}"#,
            "/primary/user",
            "is missing",
        );
    }

    #[test]
    fn a_login_cannot_be_bound_to_no_tls() {
        let json = r#"{"host": "a", "user": "p", "sslmode": "disable", "channel_binding": "require"}"#;
        check_mistake(json, "/channel_binding", "without TLS");
    }
}
