//! Where a connection string leads, for the grant: a URI (`postgresql://user@host:port/name?…`) or libpq's keywords
//! (`host=… port=…`). A check reads its own; where the two disagree, the grant refuses what the check dials. A password in it is
//! refused here, before a configuration is stored, and never repeated.

/// The host, and the port if it names one.
pub(super) fn target(text: &str) -> Result<(String, Option<u16>), String> {
    let pairs = match text.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+') => {
            uri(rest)?
        }
        _ => keywords(text)?,
    };
    let last = |key: &str| {
        pairs
            .iter()
            .rev()
            .find(|(name, value)| name == key && !value.is_empty())
            .map(|(_, value)| value.clone())
    };
    if ["password", "sslpassword"].into_iter().any(|key| last(key).is_some()) {
        return Err(
            "holds a password; take it out and write password: {\"$secret\": NAME} beside it".to_owned()
        );
    }
    let host = last("host").ok_or("names no host; write postgresql://HOST/DATABASE or host=HOST")?;
    if host.contains(',') {
        return Err("names several hosts; write one".to_owned());
    }
    let port = match last("port") {
        Some(port) => {
            let number = port.parse().ok().filter(|port| *port > 0);
            Some(number.ok_or("names a port that is none; write one from 1 to 65535")?)
        }
        None => None,
    };
    Ok((host, port))
}

fn uri(rest: &str) -> Result<Vec<(String, String)>, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let password = login.split_once(':').map_or("", |(_, password)| password);
    let (host, port) = match place.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or("lacks the ] behind an IPv6 address")?;
            (host, after.strip_prefix(':').unwrap_or(after))
        }
        None => place.split_once(':').unwrap_or((place, "")),
    };
    let mut pairs = Vec::new();
    for (key, value) in [("password", password), ("host", host), ("port", port)] {
        pairs.push((key.to_owned(), decoded(value)?));
    }
    for (key, value) in query.split('&').filter_map(|parameter| parameter.split_once('=')) {
        pairs.push((decoded(key)?, decoded(value)?));
    }
    Ok(pairs)
}

/// A value may stand in single quotes, and a backslash takes the next character as it is.
fn keywords(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or("is neither a URI nor name=value pairs")?;
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
    if quoted { Err("lacks the ' behind a value".to_owned()) } else { Ok((value, "")) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: Option<u16>) {
        assert_eq!(target(text), Ok((host.to_owned(), port)));
    }

    #[track_caller]
    fn refuse(text: &str, words: &str) {
        let message = target(text).unwrap_err();
        assert!(message.contains(words) && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn both_forms_lead_somewhere() {
        check("postgresql://picket@db.test:5433/app?sslmode=require", "db.test", Some(5433));
        check("postgres://db.test", "db.test", None);
        check("postgresql://[::1]:5433/", "::1", Some(5433));
        check("postgresql:///app?host=db.test&port=5433", "db.test", Some(5433));
        check("postgresql://first/app?host=last", "last", None);
        check("host=db.test port = 5433 user=picket", "db.test", Some(5433));
        check("host='db.test'", "db.test", None);
    }

    #[test]
    fn a_password_or_no_single_host_is_refused_and_nothing_is_repeated() {
        refuse("postgresql://picket:hunter2@db.test/app", "holds a password");
        refuse("postgresql://db.test/app?password=hunter2", "holds a password");
        refuse("host=db.test password='hunter2 x'", "holds a password");
        refuse("host=a,b", "several hosts");
        refuse("dbname=hunter2", "no host");
        refuse("hunter2", "neither");
        refuse("host=a port=hunter2", "a port that is none");
        refuse("host='hunter2", "lacks the '");
        refuse("postgres://[hunter2", "lacks the ]");
        refuse("postgres://%zz", "hexadecimal");
    }
}
