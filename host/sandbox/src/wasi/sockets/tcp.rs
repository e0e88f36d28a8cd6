//! `wasi:sockets/tcp`: outgoing connections. Options of a socket are remembered and told back; how it is really dialled is the host's.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Pollable};

use super::local::{Local, set};
use super::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use super::stream::{Peer, Receiving, Sending};
use super::task::Task;
use super::{Answer, Network, code, is_reachable, tcp_create_socket, wit_tcp};
use crate::state::State;
use wit_tcp::ShutdownType;

/// A socket.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Socket {
    local: Local,
    phase: Phase,
    options: Options,
}

enum Phase {
    New,
    Connecting(Box<Task<Result<net::Connection, ErrorCode>>>),
    Connected(Peer),
    Failed,
}

/// What was set, in the units of the interface.
#[derive(Clone, Copy)]
struct Options {
    keep_alive: bool,
    idle: u64,
    interval: u64,
    count: u32,
}

/// Those of Linux.
impl Default for Options {
    fn default() -> Self {
        let second = 1_000_000_000;
        Options { keep_alive: false, idle: 7200 * second, interval: 75 * second, count: 9 }
    }
}

#[async_trait::async_trait]
impl Pollable for Socket {
    async fn ready(&mut self) {
        if let Phase::Connecting(task) = &mut self.phase {
            task.ready().await;
        }
    }
}

impl tcp_create_socket::Host for State {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> Answer<Resource<Socket>> {
        match self.sockets()? {
            Ok(_) => {
                let local = Local::new(family, 131_072, 16_384);
                let socket = Socket { local, phase: Phase::New, options: Options::default() };
                Ok(Ok(self.table.push(socket)?))
            }
            Err(code) => Ok(Err(code)),
        }
    }
}

impl State {
    fn tcp(&mut self, socket: &Resource<Socket>) -> wasmtime::Result<&mut Socket> {
        Ok(self.table.get_mut(socket)?)
    }
}

impl wit_tcp::Host for State {}

impl wit_tcp::HostTcpSocket for State {
    fn start_bind(
        &mut self,
        socket: Resource<Socket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> Answer<()> {
        self.table.get(&network)?;
        let socket = self.tcp(&socket)?;
        Ok(match socket.phase {
            Phase::New => socket.local.start_bind(local.into()),
            _ => Err(ErrorCode::InvalidState),
        })
    }

    fn finish_bind(&mut self, socket: Resource<Socket>) -> Answer<()> {
        let socket = self.tcp(&socket)?;
        Ok(match socket.phase {
            Phase::New => socket.local.finish_bind(),
            _ => Err(ErrorCode::NotInProgress),
        })
    }

    fn start_connect(
        &mut self,
        socket: Resource<Socket>,
        network: Resource<Network>,
        remote: IpSocketAddress,
    ) -> Answer<()> {
        self.table.get(&network)?;
        let session = match self.sockets()? {
            Ok(session) => session,
            Err(code) => return Ok(Err(code)),
        };
        let socket = self.tcp(&socket)?;
        if !matches!(socket.phase, Phase::New) || socket.local.is_binding() {
            return Ok(Err(ErrorCode::InvalidState));
        }
        let remote = remote.into();
        if !is_reachable(remote, socket.local.family) {
            return Ok(Err(ErrorCode::InvalidArgument));
        }
        let connecting = async move { session.dial(remote).await.map_err(|failure| code(&failure)) };
        socket.phase = Phase::Connecting(Box::new(Task::begin(connecting)));
        Ok(Ok(()))
    }

    fn finish_connect(
        &mut self,
        socket: Resource<Socket>,
    ) -> Answer<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let found = self.tcp(&socket)?;
        let Phase::Connecting(task) = &mut found.phase else { return Ok(Err(ErrorCode::NotInProgress)) };
        if task.done().is_none() {
            return Ok(Err(ErrorCode::WouldBlock));
        }
        let Phase::Connecting(task) = std::mem::replace(&mut found.phase, Phase::Failed) else {
            return Ok(Err(ErrorCode::NotInProgress));
        };
        let Task::Done(done) = *task else { return Ok(Err(ErrorCode::WouldBlock)) };
        let peer = match done {
            Ok(connection) => Peer::new(connection),
            Err(code) => return Ok(Err(code)),
        };
        found.phase = Phase::Connected(peer.clone());
        let input: DynInputStream = Box::new(Receiving::new(peer.clone()));
        let output: DynOutputStream = Box::new(Sending::new(peer));
        Ok(Ok((self.table.push_child(input, &socket)?, self.table.push_child(output, &socket)?)))
    }

    fn start_listen(&mut self, socket: Resource<Socket>) -> Answer<()> {
        self.tcp(&socket)?;
        Ok(Err(ErrorCode::AccessDenied))
    }

    fn finish_listen(&mut self, socket: Resource<Socket>) -> Answer<()> {
        self.tcp(&socket)?;
        Ok(Err(ErrorCode::NotInProgress))
    }

    fn accept(
        &mut self,
        socket: Resource<Socket>,
    ) -> Answer<(Resource<Socket>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        self.tcp(&socket)?;
        Ok(Err(ErrorCode::InvalidState))
    }

    fn local_address(&mut self, socket: Resource<Socket>) -> Answer<IpSocketAddress> {
        let socket = self.tcp(&socket)?;
        Ok(match &socket.phase {
            Phase::New => socket.local.address().map(Into::into),
            Phase::Connected(peer) => peer.lock().local().map(Into::into).ok_or(ErrorCode::InvalidState),
            _ => Err(ErrorCode::InvalidState),
        })
    }

    fn remote_address(&mut self, socket: Resource<Socket>) -> Answer<IpSocketAddress> {
        Ok(match &self.tcp(&socket)?.phase {
            Phase::Connected(peer) => Ok(peer.lock().remote().into()),
            _ => Err(ErrorCode::InvalidState),
        })
    }

    fn is_listening(&mut self, socket: Resource<Socket>) -> wasmtime::Result<bool> {
        self.tcp(&socket)?;
        Ok(false)
    }

    fn address_family(&mut self, socket: Resource<Socket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.tcp(&socket)?.local.family)
    }

    fn set_listen_backlog_size(&mut self, socket: Resource<Socket>, _value: u64) -> Answer<()> {
        self.tcp(&socket)?;
        Ok(Err(ErrorCode::NotSupported))
    }

    fn keep_alive_enabled(&mut self, socket: Resource<Socket>) -> Answer<bool> {
        Ok(Ok(self.tcp(&socket)?.options.keep_alive))
    }

    fn set_keep_alive_enabled(&mut self, socket: Resource<Socket>, value: bool) -> Answer<()> {
        self.tcp(&socket)?.options.keep_alive = value;
        Ok(Ok(()))
    }

    fn keep_alive_idle_time(&mut self, socket: Resource<Socket>) -> Answer<u64> {
        Ok(Ok(self.tcp(&socket)?.options.idle))
    }

    fn set_keep_alive_idle_time(&mut self, socket: Resource<Socket>, value: u64) -> Answer<()> {
        Ok(set(&mut self.tcp(&socket)?.options.idle, value))
    }

    fn keep_alive_interval(&mut self, socket: Resource<Socket>) -> Answer<u64> {
        Ok(Ok(self.tcp(&socket)?.options.interval))
    }

    fn set_keep_alive_interval(&mut self, socket: Resource<Socket>, value: u64) -> Answer<()> {
        Ok(set(&mut self.tcp(&socket)?.options.interval, value))
    }

    fn keep_alive_count(&mut self, socket: Resource<Socket>) -> Answer<u32> {
        Ok(Ok(self.tcp(&socket)?.options.count))
    }

    fn set_keep_alive_count(&mut self, socket: Resource<Socket>, value: u32) -> Answer<()> {
        Ok(set(&mut self.tcp(&socket)?.options.count, value))
    }

    fn hop_limit(&mut self, socket: Resource<Socket>) -> Answer<u8> {
        Ok(Ok(self.tcp(&socket)?.local.hops))
    }

    fn set_hop_limit(&mut self, socket: Resource<Socket>, value: u8) -> Answer<()> {
        Ok(set(&mut self.tcp(&socket)?.local.hops, value))
    }

    fn receive_buffer_size(&mut self, socket: Resource<Socket>) -> Answer<u64> {
        Ok(Ok(self.tcp(&socket)?.local.receive))
    }

    fn set_receive_buffer_size(&mut self, socket: Resource<Socket>, value: u64) -> Answer<()> {
        Ok(set(&mut self.tcp(&socket)?.local.receive, value))
    }

    fn send_buffer_size(&mut self, socket: Resource<Socket>) -> Answer<u64> {
        Ok(Ok(self.tcp(&socket)?.local.send))
    }

    fn set_send_buffer_size(&mut self, socket: Resource<Socket>, value: u64) -> Answer<()> {
        Ok(set(&mut self.tcp(&socket)?.local.send, value))
    }

    fn subscribe(&mut self, socket: Resource<Socket>) -> wasmtime::Result<Resource<DynPollable>> {
        State::subscribe(self, socket)
    }

    fn shutdown(&mut self, socket: Resource<Socket>, how: ShutdownType) -> Answer<()> {
        let Phase::Connected(peer) = &self.tcp(&socket)?.phase else {
            return Ok(Err(ErrorCode::InvalidState));
        };
        // What the peer still sends is not read by whoever does not want it.
        if how != ShutdownType::Receive {
            let mut peer = peer.lock();
            peer.close();
            let _ = super::stream::now(|cx| peer.poll_sent(cx));
        }
        Ok(Ok(()))
    }

    fn drop(&mut self, socket: Resource<Socket>) -> wasmtime::Result<()> {
        self.table.delete(socket)?;
        Ok(())
    }
}
