//! Hosts: names and addresses in the one spelling that each has. What may be reached is said by `rule`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::Error;

/// A host, spelled in the one way it has: a name in lower-case ASCII without a trailing dot, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name (RFC 1123), internationalised labels in their ASCII form (RFC 5891). Underscores pass.
    Name(String),
    /// An address, never an IPv4-mapped one.
    Address(IpAddr),
}

impl FromStr for Host {
    type Err = Error;

    /// Takes a name, an IPv4 address in four decimal parts, or an IPv6 address with or without brackets. Every other spelling of
    /// an address (octal, hexadecimal, one number, IPv4-mapped, with a zone) is an error that says what to write.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if bare.contains(':') {
            return address_v6(text, bare);
        }
        if bare.len() != text.len() {
            return Err(mistake(text, "brackets hold an IPv6 address only"));
        }
        let name = canonical_name(text)?;
        let last = name.rsplit('.').next().unwrap_or_default();
        if !is_number(last) {
            return Ok(Host::Name(name));
        }
        match text.parse::<Ipv4Addr>() {
            Ok(ip) => Ok(Host::Address(ip.into())),
            Err(_) => Err(odd(text)),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(ip) => ip.fmt(f),
        }
    }
}

/// The name in lower-case ASCII without its trailing dot; "." for the root.
pub(crate) fn canonical_name(text: &str) -> Result<String, Error> {
    if text == "." {
        return Ok(text.to_owned());
    }
    let ascii = idna::domain_to_ascii(text).map_err(|_| mistake(text, "not a host name"))?;
    let name = ascii.strip_suffix('.').unwrap_or(&ascii);
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    match name.len() <= 253 && name.split('.').all(label) {
        true => Ok(name.to_owned()),
        false => {
            Err(mistake(text, "a host name is made of letters, digits, - and _, 63 at most between two dots"))
        }
    }
}

/// The host of a URL as it was written, before any parser made an address of it; none in a relative one.
pub(crate) fn raw_host(url: &str) -> Option<&str> {
    let (scheme, behind) = url.split_once("://")?;
    if !scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c)) {
        return None;
    }
    let authority = behind.split(['/', '\\', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let end = match host.starts_with('[') {
        true => host.find(']')? + 1,
        false => host.find(':').unwrap_or(host.len()),
    };
    Some(&host[..end]).filter(|host| !host.is_empty())
}

/// "host:port" and its forms; more than one colon without brackets is an IPv6 address alone.
pub(crate) fn split_port(text: &str) -> Result<(&str, Option<u16>), Error> {
    let (host, port) = match text.rfind(']') {
        Some(end) => match text[end + 1..].strip_prefix(':') {
            Some(port) => (&text[..=end], port),
            None if end + 1 == text.len() => return Ok((text, None)),
            None => return Err(mistake(text, "behind the bracket stands :PORT or nothing")),
        },
        None if text.matches(':').count() > 1 => return Ok((text, None)),
        None => match text.rsplit_once(':') {
            Some(parts) => parts,
            None => return Ok((text, None)),
        },
    };
    match port.parse() {
        Ok(number) if number > 0 && port.bytes().all(|c| c.is_ascii_digit()) => Ok((host, Some(number))),
        _ => Err(mistake(text, "a port is a number from 1 to 65535")),
    }
}

fn address_v6(text: &str, bare: &str) -> Result<Host, Error> {
    if let Some((address, _)) = bare.split_once('%') {
        return Err(mistake(text, &format!("an address with a zone cannot be reached; write {address}")));
    }
    let ip: Ipv6Addr = bare.parse().map_err(|_| match (bare.split_once("://"), bare.split_once(':')) {
        (Some(_), _) => mistake(text, "a URL is no host; write the name or the address in it"),
        (None, Some((host, rest))) if !host.is_empty() && !rest.contains(':') => {
            mistake(text, &format!("a port does not belong to a host; write {host}"))
        }
        _ => mistake(text, "not an IPv6 address"),
    })?;
    match ip.to_ipv4_mapped() {
        Some(inner) => Err(mistake(text, &format!("write {inner}"))),
        None => Ok(Host::Address(ip.into())),
    }
}

/// Whether a resolver or a URL parser would read the last label as a number, and with it the name as an address.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || label.bytes().all(|b| b.is_ascii_digit())
}

fn odd(text: &str) -> Error {
    match url::Host::parse(text) {
        Ok(url::Host::Ipv4(ip)) => mistake(text, &format!("an odd spelling of an address; write {ip}")),
        _ => mistake(text, "a name does not end in a number"),
    }
}

pub(crate) fn mistake(found: &str, reason: &str) -> Error {
    Error::Rule { found: found.to_owned(), reason: reason.to_owned() }
}
