//! UDP for whoever speaks a protocol of its own over it: each peer is asked of the grant before the first datagram, what nobody was asked
//! about is neither sent nor received. Questions to name servers are in `lookup`.

use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::time::{Instant, Sleep};

use crate::errno::{io_failure, way_failure};
use crate::resolve::permit;
use crate::session::{Run, fail};
use crate::types::{Cause, Failure, Phase};

/// A socket for datagrams; closed when it is dropped.
pub struct Datagrams {
    run: Arc<Run>,
    socket: UdpSocket,
    /// Who may be spoken to.
    peers: Vec<SocketAddr>,
    sent: u32,
    last_sent: Instant,
    deadline: Pin<Box<Sleep>>,
}

impl Datagrams {
    pub(crate) fn open(run: &Arc<Run>, v6: bool) -> Result<Self, Failure> {
        let local: SocketAddr =
            if v6 { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
        let failed = |e: std::io::Error| io_failure(&e, Phase::Connect, &"any peer");
        let socket = std::net::UdpSocket::bind(local).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let socket = UdpSocket::from_std(socket).map_err(failed)?;
        let deadline = Box::pin(tokio::time::sleep_until(run.deadline));
        Ok(Self { run: run.clone(), socket, peers: Vec::new(), sent: 0, last_sent: Instant::now(), deadline })
    }

    /// Asks whether a peer may be spoken to; each counts as a connection of the run.
    pub async fn permit(&mut self, peer: SocketAddr) -> Result<(), Failure> {
        if self.peers.contains(&peer) {
            return Ok(());
        }
        permit(&self.run, peer).await?;
        self.run.take_connection(&peer)?;
        self.peers.push(peer);
        Ok(())
    }

    /// Sends a datagram to a peer that was permitted. Ready at once unless the system has no room for it.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        peer: SocketAddr,
    ) -> Poll<Result<(), Failure>> {
        if !self.peers.contains(&peer) {
            let message = format!("{peer} was not asked about");
            return Poll::Ready(Err(Failure { cause: Cause::Denied, phase: None, message }));
        }
        if self.sent == MOST_SENT {
            let message =
                format!("no datagram left for {peer}: this run has sent the {MOST_SENT} that it may");
            return Poll::Ready(Err(fail(Cause::Exhausted, Phase::Send, message)));
        }
        let sent = ready!(self.socket.poll_send_to(cx, bytes, peer));
        self.sent += 1;
        self.last_sent = Instant::now();
        self.run.note_remote(peer);
        Poll::Ready(sent.map(drop).map_err(|e| way_failure(&e, Phase::Send, peer, &peer)))
    }

    /// The next datagram of a peer that was permitted, at most 64 KiB. Those of others are dropped.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Vec<u8>, SocketAddr), Failure>> {
        let mut bytes = vec![0; usize::from(u16::MAX)];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let Poll::Ready(received) = self.socket.poll_recv_from(cx, &mut buffer) else { break };
            let length = buffer.filled().len();
            let failed = |e: &std::io::Error| io_failure(e, Phase::FirstByte, &"a peer");
            let from = received.map_err(|e| failed(&e))?;
            self.run.tally.receive(length).map_err(|e| failed(&e))?;
            if self.peers.contains(&from) {
                self.run.spend(Phase::FirstByte, self.last_sent.elapsed());
                bytes.truncate(length);
                return Poll::Ready(Ok((bytes, from)));
            }
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(self.run.timeout(Phase::FirstByte, &"a peer")))
    }

    /// Our own end.
    pub fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }
}

impl std::fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Datagrams").field("peers", &self.peers).finish_non_exhaustive()
    }
}

/// Of one socket; a resolver's library sends a handful.
const MOST_SENT: u32 = 1000;
