//! What an error of a socket means, and above all whose it is: the peer's, or this machine's own, which says nothing about the peer.
//! What a TLS error under a stream means is in `tls`.

use std::io::{self, ErrorKind as Kind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;

use crate::session::{Spent, fail};
use crate::tls;
use crate::types::{Cause, Failure, Phase};

/// What an error of a socket means, told apart.
pub(crate) fn io_failure(error: &io::Error, phase: Phase, peer: &impl std::fmt::Display) -> Failure {
    if error.get_ref().and_then(|inner| inner.downcast_ref::<Spent>()).is_some() {
        return fail(Cause::Exhausted, phase, format!("{peer} sent too much: {error}"));
    }
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls::failure(tls, phase, peer);
    }
    if let Some(words) = ours(error) {
        return of_this_machine(error, words, phase, peer);
    }
    let (cause, words) = match error.kind() {
        Kind::ConnectionRefused => (Cause::Refused, "refused the connection"),
        Kind::ConnectionReset | Kind::ConnectionAborted => (Cause::Reset, "reset the connection"),
        Kind::BrokenPipe => (Cause::Reset, "reset the connection while we were sending"),
        Kind::UnexpectedEof => (Cause::Closed, "closed the connection too early"),
        Kind::HostUnreachable => (Cause::Unreachable, "is unreachable: no route to the host"),
        Kind::NetworkUnreachable => {
            (Cause::Unreachable, "is unreachable: this machine has no route to its network")
        }
        Kind::TimedOut => (Cause::Timeout, "did not answer in the system's own time"),
        _ => match Errno::from_io_error(error) {
            // What ICMP says of a host beside the two above (RFC 792, RFC 1122).
            Some(Errno::HOSTDOWN) => (Cause::Unreachable, "is unreachable: the host is down"),
            Some(Errno::NOPROTOOPT) => (Cause::Unreachable, "is unreachable: the host does not speak TCP"),
            // A kernel without IPv6.
            Some(Errno::AFNOSUPPORT) => (Cause::Unreachable, NO_ADDRESS),
            _ => return of_this_machine(error, "the exchange broke off on this side", phase, peer),
        },
    };
    fail(cause, phase, format!("{peer} {words} ({phase})"))
}

/// The same of an attempt to reach an address, with a connection or a datagram: two errors have two meanings there, which the way to
/// the address tells apart.
pub(crate) fn way_failure(
    error: &io::Error,
    phase: Phase,
    to: SocketAddr,
    peer: &impl std::fmt::Display,
) -> Failure {
    let words = match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL) if has_way(to) => return of_this_machine(error, NO_PORT, phase, peer),
        Some(Errno::ADDRNOTAVAIL) => NO_ADDRESS,
        // ICMPv6 says so of what a firewall on the way, or the host's own, does not let pass (RFC 4443, section 3.1).
        Some(Errno::ACCESS) if to.is_ipv6() && has_way(to) => {
            "is unreachable: a router or the host prohibits it"
        }
        _ => return io_failure(error, phase, peer),
    };
    fail(Cause::Unreachable, phase, format!("{peer} {words} ({phase})"))
}

/// What is told of a peer that was tried in several ways: what went wrong here before all else, since the peer may be well then; and
/// whoever was reached says more than a missing route, as half of a name has on a machine without IPv6.
pub(crate) fn told(known: Option<Failure>, next: Failure) -> Failure {
    let weight = |failure: &Failure| match &failure.cause {
        cause if cause.is_ours() => 2,
        Cause::Unreachable => 0,
        _ => 1,
    };
    match known {
        Some(known) if weight(&known) >= weight(&next) => known,
        _ => next,
    }
}

/// What this machine lacks or forbids, and what helps; none where the error may be the peer's.
fn ours(error: &io::Error) -> Option<&'static str> {
    Some(match Errno::from_io_error(error)? {
        Errno::MFILE => "this process has as many files and sockets open as it may: raise LimitNOFILE",
        Errno::NFILE => "this machine has as many files and sockets open as it may: raise fs.file-max",
        Errno::NOBUFS | Errno::NOMEM => "this machine has no memory for a socket",
        Errno::ACCESS | Errno::PERM => {
            "this machine does not let us: look for a firewall rule, a route or a security policy of its own"
        }
        // Nobody names a port to come from: the system found none that is free.
        Errno::ADDRINUSE => NO_PORT,
        Errno::NETDOWN => "the network of this machine is down",
        _ => return None,
    })
}

fn of_this_machine(error: &io::Error, words: &str, phase: Phase, peer: &impl std::fmt::Display) -> Failure {
    let message = format!("nothing is known of {peer}: {words} ({phase}: {error})");
    fail(Cause::Other(error.to_string()), phase, message)
}

/// Whether this machine has a route to that address and an address of its own to go there from. Asks the system alone: connecting a
/// socket for datagrams sends nothing.
fn has_way(to: SocketAddr) -> bool {
    let local: SocketAddr =
        if to.is_ipv6() { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
    match UdpSocket::bind(local) {
        Ok(socket) => socket.connect(to).is_ok(),
        // Where there is no port for that either, ports are what is missing.
        Err(error) => error.kind() == Kind::AddrInUse,
    }
}

const NO_ADDRESS: &str = "is unreachable: this machine has no address of its kind";
const NO_PORT: &str =
    "this machine has no free port to connect from: widen net.ipv4.ip_local_port_range, or check less often";

#[cfg(test)]
mod tests {
    use super::*;

    const TO: &str = "shop:80";

    fn of(errno: Errno) -> Failure {
        io_failure(&io::Error::from_raw_os_error(errno.raw_os_error()), Phase::Connect, &TO)
    }

    #[test]
    fn what_the_network_says_of_a_peer_is_the_peers() {
        for (errno, cause) in [
            (Errno::CONNREFUSED, Cause::Refused),
            (Errno::CONNRESET, Cause::Reset),
            (Errno::CONNABORTED, Cause::Reset),
            (Errno::PIPE, Cause::Reset),
            (Errno::HOSTUNREACH, Cause::Unreachable),
            (Errno::NETUNREACH, Cause::Unreachable),
            (Errno::HOSTDOWN, Cause::Unreachable),
            (Errno::NOPROTOOPT, Cause::Unreachable),
            (Errno::AFNOSUPPORT, Cause::Unreachable),
            (Errno::TIMEDOUT, Cause::Timeout),
        ] {
            let failure = of(errno);
            assert_eq!((&failure.cause, failure.phase), (&cause, Some(Phase::Connect)), "{errno:?}");
            assert!(failure.message.starts_with("shop:80 "), "{failure}");
            assert!(!failure.cause.is_ours());
        }
        assert_eq!(io_failure(&Kind::UnexpectedEof.into(), Phase::Transfer, &TO).cause, Cause::Closed);
    }

    #[test]
    fn what_this_machine_lacks_or_forbids_says_nothing_about_a_peer() {
        for (errno, advice) in [
            (Errno::MFILE, "LimitNOFILE"),
            (Errno::NFILE, "fs.file-max"),
            (Errno::NOBUFS, "memory"),
            (Errno::NOMEM, "memory"),
            (Errno::ACCESS, "firewall"),
            (Errno::PERM, "firewall"),
            (Errno::NETDOWN, "the network of this machine is down"),
            (Errno::ADDRINUSE, "no free port"),
            (Errno::INVAL, "on this side"),
        ] {
            let failure = of(errno);
            assert!(
                matches!(failure.cause, Cause::Other(_)) && failure.cause.is_ours(),
                "{errno:?}: {failure:?}"
            );
            assert!(failure.message.starts_with("nothing is known of shop:80: "), "{failure}");
            assert!(failure.message.contains(advice), "{failure}");
        }
    }

    #[test]
    fn what_went_wrong_here_is_told_before_what_the_peer_did_and_a_missing_route_last() {
        let failure = |cause| fail(cause, Phase::Connect, String::new());
        let other = || Cause::Other("no port".to_owned());
        for (known, next, expected) in [
            (Cause::Refused, Cause::Timeout, Cause::Refused),
            (Cause::Unreachable, Cause::Refused, Cause::Refused),
            (Cause::Refused, Cause::Unreachable, Cause::Refused),
            (Cause::Refused, other(), other()),
            (other(), Cause::Refused, other()),
        ] {
            assert_eq!(told(Some(failure(known)), failure(next)).cause, expected);
        }
        assert_eq!(told(None, failure(Cause::Unreachable)).cause, Cause::Unreachable);
    }
}
