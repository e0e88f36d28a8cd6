//! Between the values of `net` and those of the contract, one to one.

use std::time::Duration;

use super::bindings::picket::net::{dns, tls, types};

impl From<net::Phase> for types::Phase {
    fn from(phase: net::Phase) -> Self {
        match phase {
            net::Phase::Resolve => types::Phase::Resolve,
            net::Phase::Connect => types::Phase::Connect,
            net::Phase::Handshake => types::Phase::Handshake,
            net::Phase::Send => types::Phase::Send,
            net::Phase::FirstByte => types::Phase::FirstByte,
            net::Phase::Transfer => types::Phase::Transfer,
        }
    }
}

impl From<net::Cause> for types::Cause {
    fn from(cause: net::Cause) -> Self {
        match cause {
            net::Cause::Timeout => types::Cause::Timeout,
            net::Cause::Denied => types::Cause::Denied,
            net::Cause::Refused => types::Cause::Refused,
            net::Cause::Reset => types::Cause::Reset,
            net::Cause::Unreachable => types::Cause::Unreachable,
            net::Cause::Closed => types::Cause::Closed,
            net::Cause::Exhausted => types::Cause::Exhausted,
            net::Cause::Dns(rcode) => types::Cause::Dns(rcode),
            net::Cause::Tls(reason) => types::Cause::Tls(reason),
            net::Cause::Protocol(reason) => types::Cause::Protocol(reason),
            net::Cause::Proxy(reason) => types::Cause::Proxy(reason),
            net::Cause::Invalid(reason) => types::Cause::Invalid(reason),
            net::Cause::Other(reason) => types::Cause::Other(reason),
        }
    }
}

impl From<net::Failure> for types::Error {
    fn from(failure: net::Failure) -> Self {
        types::Error {
            cause: failure.cause.into(),
            phase: failure.phase.map(Into::into),
            message: failure.message,
        }
    }
}

impl From<net::Timings> for types::Timings {
    fn from(timings: net::Timings) -> Self {
        let us = |phase: Option<Duration>| phase.map(micros);
        types::Timings {
            resolve_us: us(timings.resolve),
            connect_us: us(timings.connect),
            handshake_us: us(timings.handshake),
            send_us: us(timings.send),
            first_byte_us: us(timings.first_byte),
            transfer_us: us(timings.transfer),
            total_us: micros(timings.total),
        }
    }
}

/// Whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<types::Family> for net::Family {
    fn from(family: types::Family) -> Self {
        match family {
            types::Family::Any => net::Family::Any,
            types::Family::V4 => net::Family::V4,
            types::Family::V6 => net::Family::V6,
        }
    }
}

impl From<types::Endpoint> for net::Endpoint {
    fn from(endpoint: types::Endpoint) -> Self {
        net::Endpoint { host: endpoint.host, port: endpoint.port }
    }
}

impl From<dns::Question> for net::Question {
    fn from(question: dns::Question) -> Self {
        net::Question {
            name: question.name,
            kind: question.kind,
            server: question.server,
            transport: match question.transport {
                dns::Transport::Udp => net::Transport::Udp,
                dns::Transport::Tcp => net::Transport::Tcp,
                dns::Transport::Tls => net::Transport::Tls,
                dns::Transport::Https => net::Transport::Https,
            },
            recursion_desired: question.recursion_desired,
            dnssec_ok: question.dnssec_ok,
            tls: net::TlsOptions::default(),
        }
    }
}

impl From<net::Security> for dns::Security {
    fn from(security: net::Security) -> Self {
        match security {
            net::Security::Secure => dns::Security::Secure,
            net::Security::Insecure => dns::Security::Insecure,
            net::Security::Bogus => dns::Security::Bogus,
            net::Security::Indeterminate => dns::Security::Indeterminate,
        }
    }
}

impl From<&net::Entry> for dns::Entry {
    fn from(entry: &net::Entry) -> Self {
        dns::Entry {
            name: entry.name.clone(),
            kind: entry.kind.clone(),
            ttl: entry.ttl,
            data: entry.data.clone(),
            rdata: entry.rdata.clone(),
        }
    }
}

impl From<tls::Options> for net::TlsOptions {
    fn from(options: tls::Options) -> Self {
        net::TlsOptions {
            server_name: options.server_name,
            alpn: options.alpn,
            min_version: options.min_version,
            max_version: options.max_version,
            ca: options.ca,
            client_identity: options.client_identity,
            trust: match options.trust {
                tls::Trust::Required => net::Trust::Required,
                tls::Trust::Recorded => net::Trust::Recorded,
                tls::Trust::Unverified => net::Trust::Unverified,
            },
        }
    }
}

impl From<&net::Defect> for tls::Defect {
    fn from(defect: &net::Defect) -> Self {
        tls::Defect { code: defect.code.clone(), message: defect.message.clone() }
    }
}

impl From<net::Revocation> for tls::Revocation {
    fn from(revocation: net::Revocation) -> Self {
        match revocation {
            net::Revocation::Unknown => tls::Revocation::Unknown,
            net::Revocation::Good => tls::Revocation::Good,
            net::Revocation::Revoked => tls::Revocation::Revoked,
        }
    }
}

impl From<tls::RevocationSource> for net::RevocationSource {
    fn from(source: tls::RevocationSource) -> Self {
        match source {
            tls::RevocationSource::Stapled => net::RevocationSource::Stapled,
            tls::RevocationSource::Ocsp => net::RevocationSource::Ocsp,
            tls::RevocationSource::Crl => net::RevocationSource::Crl,
        }
    }
}

impl From<net::RevocationStatus> for tls::RevocationStatus {
    fn from(status: net::RevocationStatus) -> Self {
        tls::RevocationStatus {
            revocation: status.revocation.into(),
            named: status.named,
            denied: status.denied,
            message: status.message,
        }
    }
}
