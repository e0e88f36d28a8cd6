//! `wasi:sockets` over the network of Picket: the same grant, the same budget and deadline, and what happens is measured. Outgoing only: a
//! socket is bound to a port of the system's choice, and nobody listens.
//!
//! wasmtime's own sockets would ask the same question at the same door, but count no byte, know no deadline and measure nothing. Owns the
//! generated bindings; tells a component of a refusal by `access-denied`, and whoever reads the report of its words.

mod local;
mod lookup;
mod stream;
mod task;
mod tcp;
mod udp;

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::DynPollable;

use crate::state::State;

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "wasi",
        world: "picket:wasi/sockets",
        imports: {
            "wasi:sockets/udp.[method]udp-socket.stream": async | trappable,
            "wasi:sockets/udp.[method]outgoing-datagram-stream.send": async | trappable,
            default: trappable,
        },
        with: {
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:sockets/network.network": crate::wasi::sockets::Network,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": crate::wasi::sockets::lookup::Addresses,
            "wasi:sockets/tcp.tcp-socket": crate::wasi::sockets::tcp::Socket,
            "wasi:sockets/udp.udp-socket": crate::wasi::sockets::udp::Socket,
            "wasi:sockets/udp.incoming-datagram-stream": crate::wasi::sockets::udp::Incoming,
            "wasi:sockets/udp.outgoing-datagram-stream": crate::wasi::sockets::udp::Outgoing,
        },
        require_store_data_send: true,
    });
}

use bindings::wasi::sockets::{
    instance_network, ip_name_lookup, network, tcp as wit_tcp, tcp_create_socket, udp as wit_udp,
    udp_create_socket,
};
use network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress};

/// An error is for the component, the outer one ends the run.
type Answer<T> = wasmtime::Result<Result<T, ErrorCode>>;

/// The network as a handle. It grants nothing: what may be reached is asked with each name and address.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Network;

/// Selects the part of a store that these interfaces need: all of it.
struct Sockets;

impl HasData for Sockets {
    type Data<'a> = &'a mut State;
}

pub(super) fn add_to_linker(l: &mut Linker<State>) -> wasmtime::Result<()> {
    let options = network::LinkOptions::default();
    network::add_to_linker::<State, Sockets>(l, &options, super::entered)?;
    instance_network::add_to_linker::<State, Sockets>(l, super::entered)?;
    ip_name_lookup::add_to_linker::<State, Sockets>(l, super::entered)?;
    wit_tcp::add_to_linker::<State, Sockets>(l, super::entered)?;
    tcp_create_socket::add_to_linker::<State, Sockets>(l, super::entered)?;
    wit_udp::add_to_linker::<State, Sockets>(l, super::entered)?;
    udp_create_socket::add_to_linker::<State, Sockets>(l, super::entered)
}

impl network::Host for State {
    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(error.downcast_ref::<net::Failure>().map(code))
    }
}

impl network::HostNetwork for State {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl instance_network::Host for State {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<Network>> {
        Ok(self.table.push(Network)?)
    }
}

impl State {
    /// The run's network; none while a component describes itself, which hears `access-denied`.
    fn sockets(&self) -> Answer<net::Session> {
        self.meter.within()?;
        Ok(self.world.as_ref().and_then(|world| world.sockets()).ok_or(ErrorCode::AccessDenied))
    }

    fn subscribe<T: wasmtime_wasi::p2::Pollable>(
        &mut self,
        to: Resource<T>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        wasmtime_wasi::p2::subscribe(&mut self.table, to)
    }
}

/// What a component hears of a failure.
fn code(failure: &net::Failure) -> ErrorCode {
    match &failure.cause {
        net::Cause::Timeout => ErrorCode::Timeout,
        net::Cause::Denied => ErrorCode::AccessDenied,
        net::Cause::Refused => ErrorCode::ConnectionRefused,
        net::Cause::Reset => ErrorCode::ConnectionReset,
        net::Cause::Unreachable => ErrorCode::RemoteUnreachable,
        net::Cause::Closed => ErrorCode::ConnectionAborted,
        net::Cause::Exhausted => ErrorCode::NewSocketLimit,
        // No such name, or one without an address; SERVFAIL may be over in a moment.
        net::Cause::Dns(0 | 3) => ErrorCode::NameUnresolvable,
        net::Cause::Dns(2) => ErrorCode::TemporaryResolverFailure,
        net::Cause::Dns(_) => ErrorCode::PermanentResolverFailure,
        _ => ErrorCode::Unknown,
    }
}

/// Whether an address is one that a socket of that family may be told to reach at all. IPv4 in the clothes of IPv6 and zones are not: each
/// address has one spelling.
fn is_reachable(to: SocketAddr, family: IpAddressFamily) -> bool {
    let fits = match (to, family) {
        (SocketAddr::V4(_), IpAddressFamily::Ipv4) => true,
        (SocketAddr::V6(to), IpAddressFamily::Ipv6) => {
            to.ip().to_ipv4_mapped().is_none() && to.scope_id() == 0
        }
        _ => false,
    };
    fits && to.port() != 0
}

impl From<IpAddr> for IpAddress {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => IpAddress::Ipv4(ip.octets().into()),
            IpAddr::V6(ip) => IpAddress::Ipv6(ip.segments().into()),
        }
    }
}

impl From<IpSocketAddress> for SocketAddr {
    fn from(address: IpSocketAddress) -> Self {
        match address {
            IpSocketAddress::Ipv4(v4) => {
                let octets: [u8; 4] = v4.address.into();
                SocketAddrV4::new(octets.into(), v4.port).into()
            }
            IpSocketAddress::Ipv6(v6) => {
                let segments: [u16; 8] = v6.address.into();
                SocketAddrV6::new(segments.into(), v6.port, v6.flow_info, v6.scope_id).into()
            }
        }
    }
}

impl From<SocketAddr> for IpSocketAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => IpSocketAddress::Ipv4(network::Ipv4SocketAddress {
                port: v4.port(),
                address: v4.ip().octets().into(),
            }),
            SocketAddr::V6(v6) => IpSocketAddress::Ipv6(network::Ipv6SocketAddress {
                port: v6.port(),
                flow_info: v6.flowinfo(),
                address: v6.ip().segments().into(),
                scope_id: v6.scope_id(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_reachable_in_its_one_spelling() {
        for (address, family, expected) in [
            ("10.0.0.1:80", IpAddressFamily::Ipv4, true),
            ("10.0.0.1:80", IpAddressFamily::Ipv6, false),
            ("10.0.0.1:0", IpAddressFamily::Ipv4, false),
            ("[fd00::1]:80", IpAddressFamily::Ipv6, true),
            ("[fd00::1]:80", IpAddressFamily::Ipv4, false),
            ("[::ffff:10.0.0.1]:80", IpAddressFamily::Ipv6, false),
            ("[fe80::1%3]:80", IpAddressFamily::Ipv6, false),
        ] {
            assert_eq!(is_reachable(address.parse().unwrap(), family), expected, "{address}");
        }
    }
}
