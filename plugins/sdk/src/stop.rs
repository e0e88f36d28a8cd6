//! Why a run ended before its last line, and what becomes of a failed exchange: a refusal by the host is a failure of the
//! run, everything else says something about the target.

use crate::net::{Cause, Error, Phase};
use crate::{Failure, Mistake, Outcome};

/// Why a run ended early.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// The verdict is clear already.
    Outcome(Outcome),
    /// The check could not be made.
    Failure(Failure),
}

impl Stop {
    /// A mistake that the schema could not catch, at a JSON pointer (RFC 6901).
    pub fn mistake(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failure(Failure::InvalidConfig(vec![Mistake { at: at.into(), message: message.into() }]))
    }

    /// What the host is told.
    pub fn verdict(self) -> Result<Outcome, Failure> {
        match self {
            Self::Outcome(outcome) => Ok(outcome),
            Self::Failure(failure) => Err(failure),
        }
    }
}

/// The mistakes of several readers at once, so that whoever wrote a configuration hears of all of them; or what else stopped one.
pub fn mistakes(read: impl IntoIterator<Item = Result<(), Stop>>) -> Result<(), Stop> {
    let mut all = Vec::new();
    for result in read {
        match result {
            Ok(()) => {}
            Err(Stop::Failure(Failure::InvalidConfig(mistakes))) => all.extend(mistakes),
            Err(other) => return Err(other),
        }
    }
    match all.is_empty() {
        true => Ok(()),
        false => Err(Failure::InvalidConfig(all).into()),
    }
}

impl From<Outcome> for Stop {
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(outcome)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// A failed exchange on a byte stream; for others name the layer with [`At`].
impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        error.stop("tcp")
    }
}

/// Names the layer whose exchange failed: `http::send(&request).at("http")?`.
pub trait At<T> {
    /// `layer` is the first part of the code where the cause alone does not tell it.
    fn at(self, layer: &str) -> Result<T, Stop>;
}

impl<T> At<T> for Result<T, Error> {
    fn at(self, layer: &str) -> Result<T, Stop> {
        self.map_err(|error| error.stop(layer))
    }
}

impl Error {
    /// What went wrong on this side ends the run without a word about the target, so that its state is `error`; everything else is a
    /// target that is down. Every check has its state from here.
    pub fn stop(self, layer: &str) -> Stop {
        match self.cause {
            // A proxy that lets nobody through, or is not there, is between us and the target: it tells nothing about that.
            Cause::Denied | Cause::Proxy(_) => Stop::Failure(Failure::Denied(self.message)),
            Cause::Invalid(_) => Stop::mistake("", self.message),
            // What the run has used up, and what the agent's machine lacks: ports, descriptors, memory.
            Cause::Exhausted | Cause::Other(_) => Stop::Failure(Failure::Internal(self.message)),
            Cause::Timeout
            | Cause::Refused
            | Cause::Reset
            | Cause::Unreachable
            | Cause::Closed
            | Cause::Dns(_)
            | Cause::Tls(_)
            | Cause::Protocol(_) => Stop::Outcome(Outcome::down(self.code(layer), self.message)),
        }
    }

    /// The stable code of a target that failed so: the layer the cause belongs to, and the reason in snake case. `layer` is
    /// the layer of the exchange itself.
    pub fn code(&self, layer: &str) -> String {
        let layer = match self.phase {
            // Whoever asks a name server itself wants to hear of the name server, however it is reached.
            _ if layer == "dns" => "dns",
            Some(Phase::Resolve) => "dns",
            Some(Phase::Connect) => "tcp",
            Some(Phase::Handshake) => "tls",
            Some(Phase::Send | Phase::FirstByte | Phase::Transfer) | None => layer,
        };
        // What happens to packets happens to TCP, unless a name server was the peer.
        let packets = if layer == "dns" { "dns" } else { "tcp" };
        match &self.cause {
            Cause::Timeout => format!("{layer}.timeout"),
            Cause::Denied => "denied".into(),
            Cause::Refused if layer == "dns" => "dns.unreachable".into(),
            Cause::Refused => "tcp.refused".into(),
            Cause::Reset => format!("{packets}.reset"),
            Cause::Unreachable => format!("{packets}.unreachable"),
            Cause::Closed => format!("{layer}.closed"),
            Cause::Exhausted => "exhausted".into(),
            Cause::Dns(rcode) => format!("dns.{}", rcode_reason(*rcode)),
            Cause::Tls(reason) => format!("tls.{}", reason.replace('-', "_")),
            Cause::Protocol(_) => format!("{layer}.protocol"),
            Cause::Proxy(_) => "proxy.refused".into(),
            Cause::Invalid(_) => "config".into(),
            Cause::Other(_) => "internal".into(),
        }
    }
}

/// The second part of the code of a lookup that answered with this RCODE (RFC 1035, RFC 6895); 0 is an answer without
/// addresses.
fn rcode_reason(rcode: u16) -> String {
    match rcode {
        0 => "no_addresses".into(),
        1 => "formerr".into(),
        2 => "servfail".into(),
        3 => "nxdomain".into(),
        4 => "notimp".into(),
        5 => "refused".into(),
        other => format!("rcode_{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cause: Cause, phase: Option<Phase>, layer: &str, code: &str) {
        let error = Error { cause, phase, message: "shop:80 said no".into() };
        match error.stop(layer) {
            Stop::Outcome(outcome) => {
                assert_eq!((outcome.code.as_str(), outcome.summary.as_str()), (code, "shop:80 said no"));
            }
            Stop::Failure(failure) => panic!("{failure:?} instead of {code}"),
        }
    }

    #[test]
    fn a_failed_exchange_is_a_down_target_with_the_code_of_its_layer() {
        check(Cause::Refused, Some(Phase::Connect), "http", "tcp.refused");
        check(Cause::Reset, Some(Phase::Transfer), "http", "tcp.reset");
        check(Cause::Unreachable, None, "tcp", "tcp.unreachable");
        check(Cause::Refused, Some(Phase::Resolve), "tcp", "dns.unreachable");
        check(Cause::Refused, None, "dns", "dns.unreachable");
        check(Cause::Timeout, Some(Phase::FirstByte), "dns", "dns.timeout");
        check(Cause::Timeout, Some(Phase::Resolve), "http", "dns.timeout");
        check(Cause::Timeout, Some(Phase::Connect), "http", "tcp.timeout");
        check(Cause::Timeout, Some(Phase::Handshake), "http", "tls.timeout");
        check(Cause::Timeout, Some(Phase::FirstByte), "http", "http.timeout");
        check(Cause::Closed, Some(Phase::FirstByte), "tcp", "tcp.closed");
        check(Cause::Dns(3), Some(Phase::Resolve), "tcp", "dns.nxdomain");
        check(Cause::Dns(2), Some(Phase::Resolve), "tcp", "dns.servfail");
        check(Cause::Dns(0), Some(Phase::Resolve), "tcp", "dns.no_addresses");
        check(Cause::Tls("wrong-name".into()), Some(Phase::Handshake), "http", "tls.wrong_name");
        check(Cause::Protocol("no status line".into()), Some(Phase::FirstByte), "http", "http.protocol");
    }

    #[test]
    fn the_mistakes_of_all_readers_are_told_together() {
        let (one, other) = (Stop::mistake("/a", "m"), Stop::mistake("/b", "n"));
        let mistake = |at: &str, message: &str| Mistake { at: at.into(), message: message.into() };
        let both = Failure::InvalidConfig(vec![mistake("/a", "m"), mistake("/b", "n")]).into();
        assert_eq!(mistakes([Err(one), Ok(()), Err(other)]), Err(both));
        assert_eq!(mistakes([Ok(())]), Ok(()));
    }

    #[test]
    fn what_the_host_refuses_says_nothing_about_the_target() {
        let refused = |cause| Error { cause, phase: None, message: "m".into() }.stop("tcp");
        assert_eq!(refused(Cause::Denied), Stop::Failure(Failure::Denied("m".into())));
        assert_eq!(refused(Cause::Proxy("407".into())), Stop::Failure(Failure::Denied("m".into())));
        assert_eq!(refused(Cause::Exhausted), Stop::Failure(Failure::Internal("m".into())));
        assert_eq!(
            refused(Cause::Other("no free port".into())),
            Stop::Failure(Failure::Internal("m".into()))
        );
        assert_eq!(refused(Cause::Invalid("no CA".into())), Stop::mistake("", "m"));
    }
}
