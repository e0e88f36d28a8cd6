//! The sockets that names are asked through: tokio's, and a memory of what this machine lacked for them. The resolver's library tries
//! the next server then and in the end says that none could be reached, or what another one said; only here it is known why.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider, TokioTime};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::errno::{io_failure, way_failure};
use crate::types::{Failure, Phase};

/// What the resolver's library opens its sockets by. Clones share the memory.
#[derive(Clone, Default)]
pub(super) struct Sockets {
    tokio: TokioRuntimeProvider,
    lacks: Lacks,
}

impl Sockets {
    /// What this machine lacked at that time or later, in words of the last try.
    pub(super) fn lack_since(&self, begun: Instant) -> Option<Failure> {
        let last = self.lacks.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(at, _)| *at >= begun).map(|(_, failure)| failure.clone())
    }
}

impl RuntimeProvider for Sockets {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = TokioTime;
    type Udp = Watched;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        time: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        let (connecting, lacks) = (self.tokio.connect_tcp(server, local, time), self.lacks.clone());
        Box::pin(async move {
            let connected = connecting.await;
            connected.inspect_err(|e| lacks.note(way_failure(e, Phase::Resolve, server, &named(server))))
        })
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        let lacks = self.lacks.clone();
        Box::pin(async move {
            match UdpSocket::bind(local).await {
                Ok(socket) => Ok(Watched { socket, lacks }),
                // The library chose a port that is taken, and takes another; in the end it leaves the choice to the system.
                Err(error) if local.port() != 0 && error.kind() == io::ErrorKind::AddrInUse => Err(error),
                Err(error) => {
                    lacks.note(io_failure(&error, Phase::Resolve, &named(server)));
                    Err(error)
                }
            }
        })
    }
}

/// A socket whose failures to send are remembered.
pub(super) struct Watched {
    socket: UdpSocket,
    lacks: Lacks,
}

impl DnsUdpSocket for Watched {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        DnsUdpSocket::poll_recv_from(&self.socket, cx, buffer)
    }

    fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        server: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let sent = self.socket.poll_send_to(cx, bytes, server);
        if let Poll::Ready(Err(error)) = &sent {
            self.lacks.note(way_failure(error, Phase::Resolve, server, &named(server)));
        }
        sent
    }
}

/// The last failure that says nothing about the server, and when it was.
#[derive(Clone, Default)]
struct Lacks(Arc<Mutex<Option<(Instant, Failure)>>>);

impl Lacks {
    fn note(&self, failure: Failure) {
        if failure.cause.is_ours() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), failure));
        }
    }
}

fn named(server: SocketAddr) -> String {
    format!("the name server {server}")
}

type Opening<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;
