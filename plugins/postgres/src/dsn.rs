//! A connection string as libpq reads it (PostgreSQL's manual, "Connection Strings"): a URI, or keywords and values. Only what a
//! check can use is taken, and the text is never repeated: it may hold a password. The host reads it too, for the grant; where
//! the two disagree, the connection is refused.

use crate::choice::{ChannelBinding, SslMode};

/// What a connection string names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Dsn {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub dbname: Option<String>,
    pub sslmode: Option<SslMode>,
    pub channel_binding: Option<ChannelBinding>,
}

impl Dsn {
    /// An error says what to write instead.
    pub(crate) fn read(text: &str) -> Result<Dsn, String> {
        let rest = text.strip_prefix("postgresql://").or(text.strip_prefix("postgres://"));
        let pairs = match rest {
            Some(rest) => uri(rest)?,
            None => keywords(text)?,
        };
        let mut dsn = Dsn::default();
        for (key, value) in pairs {
            dsn.set(&key, value)?;
        }
        match dsn.host {
            Some(_) => Ok(dsn),
            None => Err("names no host; write postgresql://HOST/DATABASE or host=HOST".into()),
        }
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), String> {
        if value.is_empty() {
            return Ok(());
        }
        match key {
            "host" if value.contains(',') => {
                return Err("names several hosts; write one, or both ends in mode: pair".into());
            }
            "host" if value.starts_with(['/', '@']) => {
                return Err("names a Unix socket; write a name or an address: a check speaks TCP".into());
            }
            "host" => self.host = Some(value),
            "port" => {
                let port = value.parse().ok().filter(|port| *port > 0);
                self.port = Some(
                    port.ok_or_else(|| "names a port that is none; write one from 1 to 65535".to_owned())?,
                );
            }
            "user" => self.user = Some(value),
            "dbname" => self.dbname = Some(value),
            "sslmode" => self.sslmode = Some(sslmode(&value)?),
            "channel_binding" => self.channel_binding = Some(channel_binding(&value)?),
            "password" | "passfile" | "sslpassword" => {
                return Err(
                    "holds a password; take it out and write password: {\"$secret\": NAME} beside it".into(),
                );
            }
            "sslrootcert" => {
                return Err("names sslrootcert; take it out and write tls: {ca} at the monitor".into());
            }
            "sslcert" | "sslkey" => {
                return Err(
                    "names a client certificate; take it out and write tls: {cert, key} at the monitor"
                        .into(),
                );
            }
            _ => {
                return Err(format!(
                    "names {}, which a check does not use; take it out: known are {}",
                    shown(key),
                    KNOWN.join(", ")
                ));
            }
        }
        Ok(())
    }
}

/// `[user[:password]@][host][:port][/dbname][?name=value&…]`, each part percent-encoded (RFC 3986).
fn uri(rest: &str) -> Result<Vec<(String, String)>, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = match place.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or("lacks the ] behind an IPv6 address")?;
            (host, after.strip_prefix(':').unwrap_or(after))
        }
        None => place.split_once(':').unwrap_or((place, "")),
    };
    let mut pairs = Vec::new();
    for (key, value) in
        [("user", user), ("password", password), ("host", host), ("port", port), ("dbname", dbname)]
    {
        pairs.push((key.to_owned(), decoded(value)?));
    }
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').ok_or("has a parameter without a value")?;
        let (key, value) = (decoded(key)?, decoded(value)?);
        // What JDBC writes.
        let is_jdbc = key == "ssl" && value == "true";
        pairs.push(if is_jdbc { ("sslmode".into(), "require".into()) } else { (key, value) });
    }
    Ok(pairs)
}

/// `name=value` with spaces between; a value may stand in single quotes, and a backslash takes the next character as it is.
fn keywords(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) =
            rest.split_once('=').ok_or("is neither postgresql://HOST/DATABASE nor name=value pairs")?;
        let (value, after) = value(after.trim_start())?;
        pairs.push((key.trim_end().to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// One value, and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            c if !quoted && c.is_ascii_whitespace() => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted { Err("lacks the ' behind a value".into()) } else { Ok((value, "")) }
}

fn decoded(text: &str) -> Result<String, String> {
    let wrong = || "has a % that is not followed by two hexadecimal digits of UTF-8".to_owned();
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(wrong)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn sslmode(value: &str) -> Result<SslMode, String> {
    match value {
        "disable" => Ok(SslMode::Disable),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        "verify-full" => Ok(SslMode::VerifyFull),
        "allow" | "prefer" => {
            Err(format!("has sslmode {value}, which protects nothing; write disable or require"))
        }
        _ => Err("has an sslmode that is none; write disable, require, verify-ca or verify-full".into()),
    }
}

fn channel_binding(value: &str) -> Result<ChannelBinding, String> {
    match value {
        "disable" => Ok(ChannelBinding::Disable),
        "prefer" => Ok(ChannelBinding::Prefer),
        "require" => Ok(ChannelBinding::Require),
        _ => Err("has a channel_binding that is none; write disable, prefer or require".into()),
    }
}

/// A keyword, if it looks like one: it may be a part of something that was quoted wrongly.
fn shown(key: &str) -> &str {
    let plain = key.len() <= 32 && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if plain && !key.is_empty() { key } else { "a keyword" }
}

const KNOWN: [&str; 6] = ["host", "port", "user", "dbname", "sslmode", "channel_binding"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: Option<u16>, user: Option<&str>, dbname: Option<&str>) {
        let dsn = Dsn::read(text).unwrap();
        assert_eq!((dsn.host.as_deref(), dsn.port), (Some(host), port));
        assert_eq!((dsn.user.as_deref(), dsn.dbname.as_deref()), (user, dbname));
    }

    #[track_caller]
    fn refuse(text: &str, words: &str) {
        let message = Dsn::read(text).unwrap_err();
        assert!(message.contains(words), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn both_forms_are_read_as_libpq_reads_them() {
        check("postgresql://picket@db.test:5433/app", "db.test", Some(5433), Some("picket"), Some("app"));
        check("postgres://db.test", "db.test", None, None, None);
        check("postgresql://[::1]:5433/", "::1", Some(5433), None, None);
        check("postgresql://a%40b@db.test/x%2Fy", "db.test", None, Some("a@b"), Some("x/y"));
        check(
            "postgresql:///app?host=db.test&port=5433&user=p",
            "db.test",
            Some(5433),
            Some("p"),
            Some("app"),
        );
        check(
            "host=db.test port=5433 user=picket dbname=app",
            "db.test",
            Some(5433),
            Some("picket"),
            Some("app"),
        );
        check(r"  host = 'db.test'  user='it\'s me' ", "db.test", None, Some("it's me"), None);
        check(r"host=db.test dbname=a\ b", "db.test", None, None, Some("a b"));
        check("host=::1", "::1", None, None, None);
        assert_eq!(Dsn::read("postgres://a/?sslmode=verify-ca").unwrap().sslmode, Some(SslMode::VerifyCa));
        assert_eq!(Dsn::read("postgres://a/?ssl=true").unwrap().sslmode, Some(SslMode::Require));
        let bound = Dsn::read("host=a channel_binding=require").unwrap().channel_binding;
        assert_eq!(bound, Some(ChannelBinding::Require));
    }

    #[test]
    fn a_password_is_refused_with_what_to_write_instead_and_never_repeated() {
        for text in [
            "postgresql://picket:hunter2@db.test/app",
            "postgresql://db.test/app?password=hunter2",
            "host=db.test password=hunter2",
            "host=db.test password='hunter2 x'",
        ] {
            refuse(text, "write password: {\"$secret\": NAME}");
        }
    }

    #[test]
    fn what_a_check_cannot_do_is_refused() {
        refuse("postgresql://a,b/app", "several hosts");
        refuse("host=a,b", "several hosts");
        refuse("host=/var/run/postgresql", "Unix socket");
        refuse("postgresql://%2Fvar%2Frun/app", "Unix socket");
        refuse("host=a port=0", "a port that is none");
        refuse("host=a port=5432,5433", "a port that is none");
        refuse("host=a sslmode=prefer", "protects nothing");
        refuse("host=a sslrootcert=/ca.pem", "write tls: {ca} at the monitor");
        refuse("host=a target_session_attrs=any", "names target_session_attrs");
        refuse("dbname=app", "names no host");
        refuse("", "names no host");
        refuse("db.test", "neither");
        refuse("host='a", "lacks the '");
        refuse("postgresql://[::1", "lacks the ]");
        refuse("postgresql://%zz/", "two hexadecimal digits");
        refuse("host=a pass word hunter2=x", "names a keyword");
    }
}
