//! `wasi:sockets/udp`: datagrams to peers that the grant names as targets, as far as the client of a small protocol needs them. Name servers
//! of the grant are no targets: what may be asked of them is a grant of its own, which `picket:net/dns` keeps to.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Mutex;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynPollable, Pollable};

use super::local::{Local, set};
use super::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::stream::now;
use super::{Answer, Network, code, is_reachable, udp_create_socket, wit_udp};
use crate::state::State;
use wit_udp::{IncomingDatagram, OutgoingDatagram};

/// A socket.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Socket {
    local: Local,
    /// With the only peer, when there is one.
    open: Option<(Shared, Option<SocketAddr>)>,
}

/// Shared by the socket and its streams; the component uses one at a time.
type Shared = Arc<Mutex<net::Datagrams>>;

/// What comes in.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Incoming {
    socket: Shared,
    peer: Option<SocketAddr>,
    /// What was received while somebody waited for it, or what came instead.
    next: Option<Result<(Vec<u8>, SocketAddr), ErrorCode>>,
}

/// What goes out.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Outgoing {
    socket: Shared,
    family: IpAddressFamily,
    peer: Option<SocketAddr>,
    /// Datagrams that the next `send` may bring; `check-send` gives leave.
    leave: usize,
}

/// Datagrams of one call.
const AT_ONCE: usize = 16;

#[async_trait::async_trait]
impl Pollable for Socket {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        if self.next.is_none() {
            let mut socket = self.socket.lock().await;
            let received = poll_fn(|cx| socket.poll_receive(cx)).await;
            self.next = Some(received.map_err(|failure| code(&failure)));
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Outgoing {
    /// The system nearly always has room, and where it has none `send` sends less.
    async fn ready(&mut self) {}
}

impl udp_create_socket::Host for State {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> Answer<Resource<Socket>> {
        match self.sockets()? {
            Ok(_) => {
                let socket = Socket { local: Local::new(family, 212_992, 212_992), open: None };
                Ok(Ok(self.table.push(socket)?))
            }
            Err(code) => Ok(Err(code)),
        }
    }
}

impl State {
    fn udp(&mut self, socket: &Resource<Socket>) -> wasmtime::Result<&mut Socket> {
        Ok(self.table.get_mut(socket)?)
    }
}

impl wit_udp::Host for State {}

impl wit_udp::HostUdpSocket for State {
    fn start_bind(
        &mut self,
        socket: Resource<Socket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> Answer<()> {
        self.table.get(&network)?;
        Ok(self.udp(&socket)?.local.start_bind(local.into()))
    }

    fn finish_bind(&mut self, socket: Resource<Socket>) -> Answer<()> {
        Ok(self.udp(&socket)?.local.finish_bind())
    }

    async fn stream(
        &mut self,
        socket: Resource<Socket>,
        peer: Option<IpSocketAddress>,
    ) -> Answer<(Resource<Incoming>, Resource<Outgoing>)> {
        let session = match self.sockets()? {
            Ok(session) => session,
            Err(code) => return Ok(Err(code)),
        };
        let found = self.udp(&socket)?;
        let family = found.local.family;
        let peer: Option<SocketAddr> = peer.map(Into::into);
        if peer.is_some_and(|peer| !is_reachable(peer, family)) {
            return Ok(Err(ErrorCode::InvalidArgument));
        }
        let shared = match &found.open {
            Some((shared, _)) => Arc::clone(shared),
            None if !found.local.is_bound() => return Ok(Err(ErrorCode::InvalidState)),
            None => match session.datagrams(family == IpAddressFamily::Ipv6) {
                Ok(datagrams) => Arc::new(Mutex::new(datagrams)),
                Err(failure) => return Ok(Err(code(&failure))),
            },
        };
        if let Some(peer) = peer {
            let permitted = shared.lock().await.permit(peer).await;
            self.meter.waited(std::time::Instant::now());
            if let Err(failure) = permitted {
                return Ok(Err(code(&failure)));
            }
        }
        self.udp(&socket)?.open = Some((Arc::clone(&shared), peer));
        let incoming = Incoming { socket: Arc::clone(&shared), peer, next: None };
        let outgoing = Outgoing { socket: shared, family, peer, leave: 0 };
        Ok(Ok((self.table.push_child(incoming, &socket)?, self.table.push_child(outgoing, &socket)?)))
    }

    fn local_address(&mut self, socket: Resource<Socket>) -> Answer<IpSocketAddress> {
        let socket = self.udp(&socket)?;
        Ok(match &socket.open {
            None => socket.local.address().map(Into::into),
            Some((shared, _)) => {
                let local = shared.try_lock().ok().and_then(|datagrams| datagrams.local());
                local.map(Into::into).ok_or(ErrorCode::InvalidState)
            }
        })
    }

    fn remote_address(&mut self, socket: Resource<Socket>) -> Answer<IpSocketAddress> {
        Ok(match &self.udp(&socket)?.open {
            Some((_, Some(peer))) => Ok((*peer).into()),
            _ => Err(ErrorCode::InvalidState),
        })
    }

    fn address_family(&mut self, socket: Resource<Socket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.udp(&socket)?.local.family)
    }

    fn unicast_hop_limit(&mut self, socket: Resource<Socket>) -> Answer<u8> {
        Ok(Ok(self.udp(&socket)?.local.hops))
    }

    fn set_unicast_hop_limit(&mut self, socket: Resource<Socket>, value: u8) -> Answer<()> {
        Ok(set(&mut self.udp(&socket)?.local.hops, value))
    }

    fn receive_buffer_size(&mut self, socket: Resource<Socket>) -> Answer<u64> {
        Ok(Ok(self.udp(&socket)?.local.receive))
    }

    fn set_receive_buffer_size(&mut self, socket: Resource<Socket>, value: u64) -> Answer<()> {
        Ok(set(&mut self.udp(&socket)?.local.receive, value))
    }

    fn send_buffer_size(&mut self, socket: Resource<Socket>) -> Answer<u64> {
        Ok(Ok(self.udp(&socket)?.local.send))
    }

    fn set_send_buffer_size(&mut self, socket: Resource<Socket>, value: u64) -> Answer<()> {
        Ok(set(&mut self.udp(&socket)?.local.send, value))
    }

    fn subscribe(&mut self, socket: Resource<Socket>) -> wasmtime::Result<Resource<DynPollable>> {
        State::subscribe(self, socket)
    }

    fn drop(&mut self, socket: Resource<Socket>) -> wasmtime::Result<()> {
        self.table.delete(socket)?;
        Ok(())
    }
}

impl wit_udp::HostIncomingDatagramStream for State {
    fn receive(&mut self, stream: Resource<Incoming>, most: u64) -> Answer<Vec<IncomingDatagram>> {
        self.meter.within()?;
        let stream = self.table.get_mut(&stream)?;
        let mut datagrams = Vec::new();
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(AT_ONCE);
        while datagrams.len() < most {
            let received = match stream.next.take() {
                Some(received) => received,
                None => {
                    let Ok(mut socket) = stream.socket.try_lock() else { break };
                    match now(|cx| socket.poll_receive(cx)) {
                        Poll::Pending => break,
                        Poll::Ready(received) => received.map_err(|failure| code(&failure)),
                    }
                }
            };
            match received {
                Ok((data, from)) if stream.peer.is_none_or(|peer| peer == from) => {
                    datagrams.push(IncomingDatagram { data, remote_address: from.into() });
                }
                Ok(_) => {}
                Err(_) if !datagrams.is_empty() => break,
                Err(code) => return Ok(Err(code)),
            }
        }
        Ok(Ok(datagrams))
    }

    fn subscribe(&mut self, stream: Resource<Incoming>) -> wasmtime::Result<Resource<DynPollable>> {
        State::subscribe(self, stream)
    }

    fn drop(&mut self, stream: Resource<Incoming>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

impl wit_udp::HostOutgoingDatagramStream for State {
    fn check_send(&mut self, stream: Resource<Outgoing>) -> Answer<u64> {
        let stream = self.table.get_mut(&stream)?;
        stream.leave = AT_ONCE;
        Ok(Ok(AT_ONCE as u64))
    }

    async fn send(&mut self, stream: Resource<Outgoing>, datagrams: Vec<OutgoingDatagram>) -> Answer<u64> {
        self.meter.within()?;
        let stream = self.table.get_mut(&stream)?;
        if datagrams.len() > stream.leave {
            return Err(wasmtime::Error::msg("more datagrams were sent than check-send allows"));
        }
        stream.leave -= datagrams.len();
        let (shared, only, family) = (Arc::clone(&stream.socket), stream.peer, stream.family);
        let mut socket = shared.lock().await;
        let mut sent = 0;
        for datagram in datagrams {
            let named: Option<SocketAddr> = datagram.remote_address.map(Into::into);
            let to = match (named, only) {
                (Some(named), Some(only)) if named != only => Err(ErrorCode::InvalidArgument),
                (Some(to), _) | (None, Some(to)) if is_reachable(to, family) => Ok(to),
                _ => Err(ErrorCode::InvalidArgument),
            };
            let result = match to {
                Err(code) => Err(code),
                Ok(to) => match socket.permit(to).await {
                    Err(failure) => Err(code(&failure)),
                    Ok(()) => match now(|cx| socket.poll_send(cx, &datagram.data, to)) {
                        Poll::Pending => break,
                        Poll::Ready(sent) => sent.map_err(|failure| code(&failure)),
                    },
                },
            };
            match result {
                Ok(()) => sent += 1,
                // What is sent is sent; the next call hears of the rest.
                Err(_) if sent > 0 => break,
                Err(code) => {
                    self.meter.waited(std::time::Instant::now());
                    return Ok(Err(code));
                }
            }
        }
        self.meter.waited(std::time::Instant::now());
        Ok(Ok(sent))
    }

    fn subscribe(&mut self, stream: Resource<Outgoing>) -> wasmtime::Result<Resource<DynPollable>> {
        State::subscribe(self, stream)
    }

    fn drop(&mut self, stream: Resource<Outgoing>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
