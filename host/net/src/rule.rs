//! Rules, parsed once into values that cannot be wrong: `host`, `host:port`, `*.example.com:443`, `10.0.0.0/8:5432`,
//! `[::1]:443`. What a rule opens is decided in `grant`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use url::Url;

use crate::error::Error;
use crate::host::{Host, canonical_name, mistake, raw_host, split_port};

/// What may be reached: one host, the names below a name, or a range of addresses; on one port or on all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Exactly that name.
    Name {
        /// Canonical.
        name: String,
        /// All ports when none.
        port: Option<u16>,
    },
    /// Every name below that one, at any depth, not the name itself: `*.example.com`.
    Below {
        /// Canonical, without the `*.`.
        name: String,
        /// All ports when none.
        port: Option<u16>,
    },
    /// Every address of the range; a single address is a range of one.
    Range {
        /// Host bits are zero.
        range: IpNet,
        /// All ports when none.
        port: Option<u16>,
    },
}

impl Rule {
    /// The rule that opens exactly that target.
    pub fn target(host: &str, port: u16) -> Result<Self, Error> {
        let port = Some(port);
        Ok(match host.parse()? {
            Host::Name(name) => Rule::Name { name, port },
            Host::Address(ip) => Rule::Range { range: ip.into(), port },
        })
    }

    /// The rule that opens what a URL points to; the port is the scheme's own where the URL has none (http, https, ws, wss, ftp,
    /// postgres).
    pub fn url(text: &str) -> Result<Self, Error> {
        // A password may be in it, so an error shows the host alone.
        let host = raw_host(text);
        let shown = host.unwrap_or("the URL");
        let url = Url::parse(text).map_err(|e| mistake(shown, &format!("not a URL: {e}")))?;
        let port = match (url.port_or_known_default(), url.scheme()) {
            (Some(port), _) => port,
            (None, "postgres" | "postgresql") => 5432,
            (None, scheme) => {
                return Err(mistake(shown, &format!("add a port, {scheme} has none of its own")));
            }
        };
        Rule::target(host.ok_or_else(|| mistake(shown, "it names no host"))?, port)
    }

    /// Whether the rule names that name on that port.
    pub fn names(&self, name: &str, port: u16) -> bool {
        match self {
            Rule::Name { name: own, port: p } => own == name && fits(*p, port),
            Rule::Below { name: own, port: p } => is_below(name, own) && fits(*p, port),
            Rule::Range { .. } => false,
        }
    }

    /// Whether the rule's range holds that address on that port.
    pub fn holds(&self, ip: IpAddr, port: u16) -> bool {
        matches!(self, Rule::Range { range, port: p } if range.contains(&ip) && fits(*p, port))
    }

    /// Whether the rule is exactly that address, on that port or all.
    pub fn is_exactly(&self, ip: IpAddr, port: u16) -> bool {
        matches!(self, Rule::Range { range, .. } if range.prefix_len() == range.max_prefix_len())
            && self.holds(ip, port)
    }

    /// The port that the rule is about; all when none.
    pub fn port(&self) -> Option<u16> {
        match self {
            Rule::Name { port, .. } | Rule::Below { port, .. } | Rule::Range { port, .. } => *port,
        }
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (host, port) = split_port(text)?;
        if let Some(below) = host.strip_prefix("*.") {
            return match below.parse()? {
                Host::Name(name) => Ok(Rule::Below { name, port }),
                Host::Address(_) => Err(mistake(text, "a range of addresses is written like 10.0.0.0/8")),
            };
        }
        if host.contains('*') {
            return Err(mistake(text, "a star stands only in front, as in *.example.com"));
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Some((address, bits)) = bare.split_once('/') {
            let Host::Address(ip) = address.parse()? else {
                return Err(mistake(
                    text,
                    "a range is an address and its bits, as in 10.0.0.0/8; a URL is not a rule",
                ));
            };
            let range = bits.parse().ok().and_then(|bits| IpNet::new(ip, bits).ok());
            let range = range
                .ok_or_else(|| mistake(text, "the bits behind the slash are 0 to 32, for IPv6 0 to 128"))?;
            return match range.trunc() == range {
                true => Ok(Rule::Range { range, port }),
                false => Err(mistake(text, &format!("write {}", range.trunc()))),
            };
        }
        Ok(match host.parse()? {
            Host::Name(name) => Rule::Name { name, port },
            Host::Address(ip) => Rule::Range { range: ip.into(), port },
        })
    }
}

/// The text that parses to the same rule.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self {
            Rule::Name { name, .. } => name.clone(),
            Rule::Below { name, .. } => format!("*.{name}"),
            Rule::Range { range, port } => {
                let single = range.prefix_len() == range.max_prefix_len();
                let plain = if single { range.addr().to_string() } else { range.to_string() };
                if range.addr().is_ipv6() && port.is_some() { format!("[{plain}]") } else { plain }
            }
        };
        match self.port() {
            Some(port) => write!(f, "{host}:{port}"),
            None => f.write_str(&host),
        }
    }
}

/// What may be asked of a name server: one name, or every name below one (`*.example.com`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NameRule {
    /// Exactly that name.
    Exactly(String),
    /// Every name below, at any depth, not the name itself.
    Below(String),
}

impl NameRule {
    /// Whether the canonical name may be asked.
    pub fn names(&self, name: &str) -> bool {
        match self {
            NameRule::Exactly(own) => own == name,
            NameRule::Below(own) => is_below(name, own),
        }
    }
}

impl FromStr for NameRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.strip_prefix("*.") {
            Some(below) => Ok(NameRule::Below(canonical_name(below)?)),
            None => Ok(NameRule::Exactly(canonical_name(text)?)),
        }
    }
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameRule::Exactly(name) => f.write_str(name),
            NameRule::Below(name) => write!(f, "*.{name}"),
        }
    }
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).and_then(|front| front.strip_suffix('.')).is_some_and(|front| !front.is_empty())
}

fn fits(rule: Option<u16>, port: u16) -> bool {
    rule.is_none_or(|own| own == port)
}
