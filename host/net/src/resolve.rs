//! Names to addresses on the way to a connection: the system's configuration or given name servers, `/etc/hosts`, search list;
//! once per name and session. Which addresses may be used is asked of `grant` here and nowhere else. Questions as the thing that
//! is checked are in `lookup`.

mod sockets;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::net::{DnsError, NetError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::address::canonical;
use crate::errno::io_failure;
use crate::error::Error;
use crate::grant::{Policy, Purpose, Refusal};
use crate::host::Host;
use crate::route::Route;
use crate::session::{Run, control_addresses, fail};
use crate::types::{Cause, Endpoint, Failure, Family, Phase};
use sockets::Sockets;

/// The name servers of the process.
pub(crate) struct Resolver {
    hickory: hickory_resolver::Resolver<Sockets>,
    sockets: Sockets,
    /// In the order of the configuration; asked by `lookup` when a question names no server.
    pub(crate) servers: Vec<SocketAddr>,
    /// Until when the addresses of the control plane are good, and which.
    control: Mutex<Option<(Instant, Vec<IpAddr>)>>,
}

/// What a session has resolved.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<String, Arc<[IpAddr]>>>);

/// Addresses that may be dialled, best first.
pub(crate) struct Resolved {
    pub(crate) host: Host,
    pub(crate) addresses: Vec<SocketAddr>,
    /// None for a host that is an address, and for a name that was remembered.
    pub(crate) time: Option<Duration>,
}

impl Resolver {
    pub(crate) fn new(given: Option<Vec<SocketAddr>>) -> Result<Self, Error> {
        let (config, options) = match given {
            Some(servers) => (asking(servers), ResolverOpts::default()),
            None => system(),
        };
        Self::built(config, options)
    }

    /// That of a session, where its route names name servers: nobody else's word counts then, `/etc/hosts` included.
    pub(crate) fn of(route: &Route) -> Option<Result<Self, Error>> {
        let options = || {
            let mut options = ResolverOpts::default();
            options.use_hosts_file = ResolveHosts::Never;
            options
        };
        let servers = &route.name_servers;
        (!servers.is_empty()).then(|| Self::built(asking(servers.clone()), options()))
    }

    fn built(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, Error> {
        // Every run measures its own lookup, so nothing is cached here; a session remembers what it asked.
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = options.timeout.min(SERVER_TIMEOUT);
        let servers = config.name_servers().iter().filter_map(address).collect();
        let sockets = Sockets::default();
        let builder = hickory_resolver::Resolver::builder_with_config(config, sockets.clone());
        let hickory = builder.with_options(options).build().map_err(Error::Resolver)?;
        Ok(Self { hickory, sockets, servers, control: Mutex::default() })
    }

    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let mut found: Vec<IpAddr> = Vec::new();
        // As it stands: the resolver's own reading of a text refuses an underscore, which names in private networks have.
        for ip in self.hickory.lookup_ip(Name::from_ascii(name)?).await?.iter() {
            if found.len() == MOST_OF_AN_ANSWER {
                break;
            }
            if !found.contains(&ip) {
                found.push(ip);
            }
        }
        Ok(found)
    }

    /// What is told of a lookup that failed: what this machine lacked for it comes before whatever the rest of it came to, be it the answer
    /// to another question of the same lookup.
    fn told(&self, name: &str, begun: Instant, failure: Failure) -> Failure {
        match begun.checked_sub(SERVER_TIMEOUT).and_then(|begun| self.sockets.lack_since(begun)) {
            Some(lack) if !failure.cause.is_ours() => {
                Failure { message: format!("cannot look up {name}: {}", lack.message), ..lack }
            }
            _ => failure,
        }
    }

    /// The control plane's addresses, at most a minute old; the last known ones while no name server answers.
    pub(crate) async fn control(&self, host: &str) -> Vec<IpAddr> {
        let name = match host.parse() {
            Ok(Host::Name(name)) => name,
            Ok(Host::Address(ip)) => return vec![ip],
            Err(_) => return Vec::new(),
        };
        let mut known = self.control.lock().await;
        if let Some((until, addresses)) = known.as_ref()
            && Instant::now() < *until
        {
            return addresses.clone();
        }
        let last = known.as_ref().map(|(_, addresses)| addresses.clone()).unwrap_or_default();
        // Said before the question: where the answer fails to come, or the run ends while it waits, the next run does not wait too.
        *known = Some((Instant::now() + CONTROL_RETRY, last.clone()));
        match tokio::time::timeout(SERVER_TIMEOUT, self.lookup(&name)).await {
            Ok(Ok(fresh)) => {
                *known = Some((Instant::now() + CONTROL_REMEMBERED, fresh.clone()));
                fresh
            }
            _ => last,
        }
    }
}

/// Parses the host, resolves it, and asks the grant for every address of it.
pub(crate) async fn resolve(
    run: &Run,
    to: &Endpoint,
    family: Family,
    purpose: Purpose,
) -> Result<Resolved, Failure> {
    let host: Host = match to.host.parse() {
        Ok(host) => host,
        // Another program might read an address into it that nobody was asked about.
        Err(e) => return Err(run.denied(Refusal(e.to_string()))),
    };
    let known = Policy { grant: &run.grant, ceiling: &run.shared.ceiling, control: &[] };
    let begun = Instant::now();
    let (all, time): (Arc<[IpAddr]>, _) = match &host {
        Host::Address(ip) => (Arc::from([*ip]), None),
        Host::Name(name) => {
            known.may_resolve(purpose, name, to.port).map_err(|refusal| run.denied(refusal))?;
            let found = remembered(run, name, to.host.ends_with('.')).await;
            let time = found.as_ref().map_or(true, |(_, asked)| *asked).then(|| begun.elapsed());
            time.into_iter().for_each(|time| run.spend(Phase::Resolve, time));
            (found?.0, time)
        }
    };
    let control = run.within(Phase::Resolve, to, control_addresses(run, to.port)).await?;
    let policy = Policy { control: &control, ..known };
    let decision = policy.decide(purpose, &host, to.port, &all).map_err(|refusal| run.denied(refusal))?;
    decision.denials.iter().for_each(|refusal| run.note_denial(refusal));
    let (family, most) = match purpose {
        Purpose::Proxy => (family, MOST_ADDRESSES),
        Purpose::Target | Purpose::Resolver => {
            let most = if run.route.first_only { 1 } else { MOST_ADDRESSES };
            (if family == Family::Any { run.route.family } else { family }, most)
        }
    };
    let best = in_turns(&decision.allowed, family).take(most);
    let addresses: Vec<_> = best.map(|ip| SocketAddr::new(ip, to.port)).collect();
    if addresses.is_empty() {
        let wanted = if family == Family::V4 { "IPv4" } else { "IPv6" };
        return Err(fail(Cause::Dns(0), Phase::Resolve, format!("{host} has no {wanted} address")));
    }
    Ok(Resolved { host, addresses, time })
}

/// The addresses of a name for somebody who dials by address. A name that the grant names on some port, or that may lead into a range
/// of it; which of the addresses may be dialled is asked in [`permit`].
pub(crate) async fn look_up(run: &Run, host: &str) -> Result<Vec<IpAddr>, Failure> {
    let name = match host.parse() {
        Ok(Host::Name(name)) => name,
        Ok(Host::Address(ip)) => return Ok(vec![ip]),
        Err(e) => return Err(run.denied(Refusal(e.to_string()))),
    };
    let policy = Policy { grant: &run.grant, ceiling: &run.shared.ceiling, control: &[] };
    policy.may_look_up(&name).map_err(|refusal| run.denied(refusal))?;
    let begun = Instant::now();
    let found = remembered(run, &name, host.ends_with('.')).await;
    if found.as_ref().map_or(true, |(_, asked)| *asked) {
        run.spend(Phase::Resolve, begun.elapsed());
    }
    let found = found?.0;
    Ok(match (run.route.family, run.route.first_only) {
        (Family::Any, false) => found.to_vec(),
        (family, first_only) => {
            in_turns(&found, family).take(if first_only { 1 } else { MOST_ADDRESSES }).collect()
        }
    })
}

/// Whether an address may be dialled by itself: a rule names it, or a name was looked up in this run that leads to it and may be dialled
/// on that port, with all of its addresses.
pub(crate) async fn permit(run: &Run, to: SocketAddr) -> Result<(), Failure> {
    let ip = canonical(to.ip());
    let control = run.within(Phase::Resolve, &to, control_addresses(run, to.port())).await?;
    let policy = Policy { grant: &run.grant, ceiling: &run.shared.ceiling, control: &control };
    let mut refused = None;
    for (name, addresses) in run.names.0.lock().await.iter() {
        if !addresses.iter().any(|address| canonical(*address) == ip) {
            continue;
        }
        match policy.decide(Purpose::Target, &Host::Name(name.clone()), to.port(), addresses) {
            Ok(decision) if decision.allowed.contains(&ip) => return Ok(()),
            Ok(_) => {}
            Err(refusal) => refused = Some(refusal),
        }
    }
    let decided = policy.decide(Purpose::Target, &Host::Address(ip), to.port(), &[ip]);
    // Whoever looked the name up thinks of it by its name.
    decided.map(drop).map_err(|refusal| run.denied(refused.unwrap_or(refusal)))
}

/// What the session knows of the name; asks when it knows nothing. Says whether it asked.
async fn remembered(run: &Run, name: &str, absolute: bool) -> Result<(Arc<[IpAddr]>, bool), Failure> {
    if let Some((_, ip)) = run.route.pinned.as_ref().filter(|(pinned, _)| pinned == name) {
        let addresses: Arc<[IpAddr]> = Arc::from([*ip]);
        run.names.0.lock().await.insert(name.to_owned(), addresses.clone());
        return Ok((addresses, false));
    }
    let resolver = name_servers(run).await?;
    let begun = Instant::now();
    let looking = run.within(Phase::Resolve, &name, async {
        let mut names = run.names.0.lock().await;
        if let Some(addresses) = names.get(name) {
            return Ok((addresses.clone(), false));
        }
        run.take_lookup(name)?;
        let asked = if absolute { format!("{name}.") } else { name.to_owned() };
        let addresses = resolver.lookup(&asked).await.map_err(|error| lookup_failure(name, &error))?;
        if addresses.is_empty() {
            return Err(fail(Cause::Dns(0), Phase::Resolve, format!("{name} has no address")));
        }
        let addresses: Arc<[IpAddr]> = addresses.into();
        names.insert(name.to_owned(), addresses.clone());
        Ok((addresses, true))
    });
    looking.await.flatten().map_err(|failure| resolver.told(name, begun, failure))
}

/// The name servers of the session: the process' own, or those of its route once the grant was asked for each.
pub(crate) async fn name_servers(run: &Run) -> Result<&Resolver, Failure> {
    let own = match &run.resolver {
        None => return Ok(&run.shared.resolver),
        Some(Ok(own)) => own,
        Some(Err(error)) => {
            let message = format!("the monitor's name servers cannot be asked: {error}");
            return Err(fail(Cause::Other(message.clone()), Phase::Resolve, message));
        }
    };
    for server in &own.servers {
        let control = run.within(Phase::Resolve, server, control_addresses(run, server.port())).await?;
        let policy = Policy { grant: &run.grant, ceiling: &run.shared.ceiling, control: &control };
        policy
            .decide(Purpose::Resolver, &Host::Address(server.ip()), server.port(), &[server.ip()])
            .map_err(|refusal| run.denied(refusal))?;
    }
    Ok(own)
}

fn lookup_failure(name: &str, error: &NetError) -> Failure {
    let code = match error {
        NetError::Dns(DnsError::ResponseCode(code)) => *code,
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
        NetError::Timeout => {
            let message = format!("timeout in resolve: no name server answered for {name}");
            return fail(Cause::Timeout, Phase::Resolve, message);
        }
        // Where a port was missing, the sockets know it.
        NetError::Io(error) if error.kind() != ErrorKind::AddrNotAvailable => {
            let failure = io_failure(error, Phase::Resolve, &"the name server");
            return Failure { message: format!("cannot look up {name}: {}", failure.message), ..failure };
        }
        NetError::Io(_) | NetError::NoConnections => {
            let message = format!("cannot look up {name}: no name server can be reached");
            return fail(Cause::Unreachable, Phase::Resolve, message);
        }
        other => {
            let message = format!("cannot look up {name}: {other}");
            return fail(Cause::Protocol(other.to_string()), Phase::Resolve, message);
        }
    };
    let message = match u16::from(code) {
        0 => format!("{name} exists but has no address"),
        3 => format!("{name} does not exist (NXDOMAIN)"),
        number => {
            format!("the name server could not answer for {name}: {} (RCODE {number})", rcode_name(number))
        }
    };
    fail(Cause::Dns(code.into()), Phase::Resolve, message)
}

pub(crate) fn rcode_name(number: u16) -> &'static str {
    match number {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        _ => "error",
    }
}

/// IPv6 first, then both in turns, each family in its own order; or one family only.
fn in_turns(addresses: &[IpAddr], family: Family) -> impl Iterator<Item = IpAddr> {
    let of = |v6: bool, wanted: bool| {
        addresses.iter().copied().filter(|ip| wanted && ip.is_ipv6() == v6).collect::<Vec<_>>()
    };
    let (v6, v4) = (of(true, family != Family::V4), of(false, family != Family::V6));
    let longest = v6.len().max(v4.len());
    (0..longest).flat_map(move |i| [v6.get(i).copied(), v4.get(i).copied()]).flatten()
}

/// What resolv.conf(5) says; without one, or without a server in it, a server on this machine, as everywhere.
fn system() -> (ResolverConfig, ResolverOpts) {
    hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|error| {
        tracing::warn!(%error, "no name servers in the system's configuration, using 127.0.0.1:53");
        let local = name_server(([127, 0, 0, 1], 53).into());
        (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
    })
}

fn asking(servers: Vec<SocketAddr>) -> ResolverConfig {
    ResolverConfig::from_name_servers(servers.into_iter().map(name_server).collect())
}

fn name_server(at: SocketAddr) -> NameServerConfig {
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = at.port();
        connection
    });
    NameServerConfig::new(at.ip(), true, connections.into())
}

fn address(server: &NameServerConfig) -> Option<SocketAddr> {
    server.connections.first().map(|connection| SocketAddr::new(server.ip, connection.port))
}

/// One server's time for one try; hickory's 5 s are half of a check's usual 10.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
const CONTROL_REMEMBERED: Duration = Duration::from_secs(60);
/// After a lookup that brought nothing.
const CONTROL_RETRY: Duration = Duration::from_secs(5);
/// Each is compared and judged, and a hostile server shall not choose how many.
const MOST_OF_AN_ANSWER: usize = 256;
/// Of one name; nobody gets a scan of a network out of one connection.
const MOST_ADDRESSES: usize = 8;
