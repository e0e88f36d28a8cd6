//! Who may reach what. One pure function, [`Policy::decide`], answers for every path of this crate: TCP, each hop of an HTTP
//! exchange, a name server that is asked. It never resolves; addresses come in as values.

use std::net::IpAddr;

use crate::address::{Class, Reason, canonical, classify};
use crate::files::Files;
use crate::host::Host;
use crate::rule::{NameRule, Rule};
use crate::types::Endpoint;

/// What one monitor may reach. Computed from its configuration, never by the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// What may be connected to.
    pub targets: Vec<Rule>,
    /// What may be asked of name servers as the thing that is checked. Targets are resolved without it.
    pub names: Vec<NameRule>,
    /// Which name servers may be asked besides the system's own.
    pub resolvers: Vec<Rule>,
    /// Which of the targets are not what is checked, but reached besides: a token endpoint, what the monitor allows for redirects. They
    /// are not shown its client certificate.
    pub beside: Vec<Rule>,
}

impl Grant {
    /// Whether it is what is checked, by the name or the address that it was asked for.
    pub(crate) fn is_own(&self, peer: &Endpoint) -> bool {
        let Ok(host) = peer.host.parse::<Host>() else { return false };
        let own = self.targets.iter().chain(&self.resolvers).filter(|rule| !self.beside.contains(rule));
        own.into_iter().any(|rule| match &host {
            Host::Name(name) => rule.names(name, peer.port),
            Host::Address(ip) => rule.holds(canonical(*ip), peer.port),
        })
    }
}

/// The operator's own word, said on the machine of the agent; nothing that comes over the network may change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// Opens what is always denied: `127.0.0.0/8`, `::1`, `127.0.0.1:5432`. The name `localhost` stands for 127.0.0.1 and ::1;
    /// every other name opens nothing but the control plane's own host. A proxy is used only where one of these rules names it. Metadata addresses are opened only by a rule that is
    /// exactly that address.
    pub allow: Vec<Rule>,
    /// Host and port of the control plane: denied to checks, by name and by each of its addresses, until a rule names exactly
    /// them. A target that shares an address and port with it (behind one CDN) needs such a rule too.
    pub control: Option<(String, u16)>,
    /// Which files of this machine a monitor may name for its handshakes.
    pub files: Files,
}

/// What a connection is for: which list of the grant is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// [`Grant::targets`].
    Target,
    /// [`Grant::resolvers`].
    Resolver,
    /// [`Ceiling::allow`]: where a connection ends that goes through a proxy, only the proxy knows, so only the machine's operator
    /// may name one.
    Proxy,
}

/// A refusal, in words that name the line to add.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// The addresses that may be dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// In the order they came, IPv4-mapped ones as IPv4.
    pub allowed: Vec<IpAddr>,
    /// Why others of the same name were left out.
    pub denials: Vec<Refusal>,
}

/// Everything a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// What the monitor may reach.
    pub grant: &'a Grant,
    /// What the machine's operator opened.
    pub ceiling: &'a Ceiling,
    /// The addresses of the control plane, as far as they are known.
    pub control: &'a [IpAddr],
}

impl Policy<'_> {
    /// Which of the addresses of `host` may be dialled on `port`. For a host that is an address, `addresses` is that one.
    ///
    /// A name needs a rule for the name ([`Policy::may_resolve`]), or each of its addresses a rule for a range. One address that
    /// is always denied condemns the whole name, so that nobody gets a second try by rebinding; only `localhost`, which no
    /// server answers for, may lose single addresses.
    pub fn decide(
        &self,
        purpose: Purpose,
        host: &Host,
        port: u16,
        addresses: &[IpAddr],
    ) -> Result<Decision, Refusal> {
        let named = match host {
            Host::Name(name) => self.may_resolve(purpose, name, port)?,
            Host::Address(_) => false,
        };
        let mut decision = Decision::default();
        for ip in addresses.iter().copied().map(canonical) {
            match self.always_denied(host, ip, port) {
                Some(refusal) if is_localhost(host) => decision.denials.push(refusal),
                Some(refusal) => return Err(refusal),
                None if named || self.rules(purpose).iter().any(|rule| rule.holds(ip, port)) => {
                    decision.allowed.push(ip);
                }
                None => decision.denials.push(self.outside(purpose, host, Some(ip), port)),
            }
        }
        match decision.allowed.is_empty() {
            true => Err(decision
                .denials
                .into_iter()
                .next()
                .unwrap_or_else(|| self.outside(purpose, host, None, port))),
            false => Ok(decision),
        }
    }

    /// Whether the name may be looked up on the way to a connection: true when a rule names it, false when it may only lead
    /// into a granted range. Refused where neither can be: a lookup alone already tells the outside something.
    pub fn may_resolve(&self, purpose: Purpose, name: &str, port: u16) -> Result<bool, Refusal> {
        let host = Host::Name(name.to_owned());
        if self.is_control(&host, None, port) && !self.lifts_control(&host, None) {
            return Err(control_refusal(&host, port));
        }
        let rules = self.rules(purpose);
        if rules.iter().any(|rule| rule.names(name, port)) {
            return Ok(true);
        }
        let wide = |rule: &Rule| matches!(rule, Rule::Range { range, .. } if range.prefix_len() < range.max_prefix_len());
        match rules.iter().any(|rule| wide(rule) && rule.port().is_none_or(|own| own == port)) {
            true => Ok(false),
            false => Err(self.outside(purpose, &host, None, port)),
        }
    }

    /// Whether the name may be looked up by somebody who says only afterwards what for: when it may be on a port of one of the rules.
    pub fn may_look_up(&self, name: &str) -> Result<(), Refusal> {
        // A rule without a port is about every port, so about this one.
        let mut ports = self.grant.targets.iter().map(|rule| rule.port().unwrap_or_default());
        match ports.any(|port| self.may_resolve(Purpose::Target, name, port).is_ok()) {
            true => Ok(()),
            false => Err(Refusal(format!(
                "{name} is not among this monitor's targets; add allow: [\"{name}\"] to the monitor"
            ))),
        }
    }

    /// Whether the canonical name may be asked of a name server.
    pub fn may_ask(&self, name: &str) -> Result<(), Refusal> {
        match self.grant.names.iter().any(|rule| rule.names(name)) {
            true => Ok(()),
            false => Err(Refusal(format!("{name} is not among the names this monitor may look up"))),
        }
    }

    fn always_denied(&self, host: &Host, ip: IpAddr, port: u16) -> Option<Refusal> {
        if self.is_control(host, Some(ip), port) {
            if !self.lifts_control(host, Some(ip)) {
                return Some(control_refusal(host, port));
            }
            // Its rule may be a name, and a name shall not open where credentials are handed out.
            if classify(ip) != Class::Denied(Reason::Metadata) {
                return None;
            }
        }
        match classify(ip) {
            Class::Open => None,
            Class::Denied(reason) if self.ceiling.lifts(ip, port, reason) => None,
            Class::Denied(reason) => Some(Refusal(denied_text(host, ip, port, reason))),
        }
    }

    fn is_control(&self, host: &Host, ip: Option<IpAddr>, port: u16) -> bool {
        let Some((control, control_port)) = &self.ceiling.control else { return false };
        if *control_port != port {
            return false;
        }
        let control = control.parse::<Host>().ok();
        let same = control.as_ref() == Some(host);
        same || ip.is_some_and(|ip| control == Some(Host::Address(ip)) || self.control.contains(&ip))
    }

    fn lifts_control(&self, host: &Host, ip: Option<IpAddr>) -> bool {
        self.ceiling.allow.iter().filter(|rule| rule.port().is_some()).any(|rule| {
            let port = rule.port().unwrap_or_default();
            let is_port = self.ceiling.control.as_ref().is_some_and(|(_, own)| *own == port);
            let by_name = matches!((rule, host), (Rule::Name { name, .. }, Host::Name(own)) if name == own);
            is_port && (by_name || ip.is_some_and(|ip| rule.is_exactly(ip, port)))
        })
    }

    fn rules(&self, purpose: Purpose) -> &[Rule] {
        match purpose {
            Purpose::Target => &self.grant.targets,
            Purpose::Resolver => &self.grant.resolvers,
            Purpose::Proxy => &self.ceiling.allow,
        }
    }

    fn outside(&self, purpose: Purpose, host: &Host, ip: Option<IpAddr>, port: u16) -> Refusal {
        let at = at(host, port);
        let leads = match (host, ip) {
            (Host::Name(_), Some(ip)) => format!("{at} leads to {ip}, which"),
            _ => at.clone(),
        };
        Refusal(match purpose {
            Purpose::Target => {
                format!("{leads} is not among this monitor's targets; add allow: [\"{at}\"] to the monitor")
            }
            Purpose::Resolver => {
                format!(
                    "{leads} is not among this monitor's name servers; name it as server in the monitor's config"
                )
            }
            Purpose::Proxy => {
                format!(
                    "{leads} is not a proxy that this agent's operator opened; start the agent with --allow {at}"
                )
            }
        })
    }
}

impl Ceiling {
    /// Whether a rule opens an address that is denied for that reason.
    fn lifts(&self, ip: IpAddr, port: u16, reason: Reason) -> bool {
        self.allow.iter().any(|rule| match rule {
            Rule::Range { .. } if reason == Reason::Metadata => rule.is_exactly(ip, port),
            Rule::Range { .. } => rule.holds(ip, port),
            Rule::Name { name, .. } => name == "localhost" && is_one_loopback(ip) && rule.names(name, port),
            Rule::Below { .. } => false,
        })
    }
}

fn control_refusal(host: &Host, port: u16) -> Refusal {
    let at = at(host, port);
    Refusal(format!("{at} is this agent's control plane; start the agent with --allow {at} to open it"))
}

fn denied_text(host: &Host, ip: IpAddr, port: u16, reason: Reason) -> String {
    let what = match host {
        Host::Address(_) => format!("{} is always denied ({reason})", at(host, port)),
        Host::Name(_) => format!("{} leads to {ip}, which is always denied ({reason})", at(host, port)),
    };
    format!("{what}; start the agent with --allow {ip} to open it")
}

fn at(host: &Host, port: u16) -> String {
    match host {
        Host::Address(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

fn is_localhost(host: &Host) -> bool {
    matches!(host, Host::Name(name) if name == "localhost" || name.ends_with(".localhost"))
}

fn is_one_loopback(ip: IpAddr) -> bool {
    ip == IpAddr::from([127, 0, 0, 1]) || ip == IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16])
}
