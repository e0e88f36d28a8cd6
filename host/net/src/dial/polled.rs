//! A connection for whoever does not wait for one thing at a time but polls: `wasi:sockets` does. Timed, counted and bounded by the run's
//! deadline as when it is waited for.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{Connection, reading};
use crate::errno::io_failure;
use crate::stream::Stream;
use crate::types::{Failure, Phase};

/// A connection that is polled. What was handed to it and could not be sent yet goes on whenever it is polled for anything.
pub struct Polled {
    connection: Connection,
    deadline: Pin<Box<Sleep>>,
    pending: Bytes,
    /// When the pending bytes were handed over.
    handed: Instant,
    /// The sending side is to be closed behind them.
    closing: bool,
    closed: bool,
}

impl Polled {
    /// The same connection. Must be called inside a tokio runtime.
    pub fn new(connection: Connection) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(connection.run.deadline));
        let handed = Instant::now();
        Self { connection, deadline, pending: Bytes::new(), handed, closing: false, closed: false }
    }

    /// What is there, at most `max` bytes; empty at the end of the stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Bytes, Failure>> {
        // An error of sending is told to whoever sends.
        let _ = self.poll_sent(cx);
        let phase = reading(&self.connection.timings);
        let mut bytes = vec![0; max];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.connection.stream).poll_read(cx, &mut buffer) {
            Poll::Ready(read) => {
                self.connection.received(phase);
                let length = buffer.filled().len();
                read.map_err(|e| io_failure(&e, phase, &self.connection.peer))?;
                bytes.truncate(length);
                Poll::Ready(Ok(bytes.into()))
            }
            Poll::Pending => self.poll_deadline(cx, phase),
        }
    }

    /// Hands bytes over that are sent as soon as that is possible; only once those before are.
    pub fn send(&mut self, bytes: Bytes) {
        if self.pending.is_empty() {
            self.handed = Instant::now();
            self.pending = bytes;
        } else {
            self.pending = [&self.pending[..], &bytes[..]].concat().into();
        }
    }

    /// Closes the sending side once everything is sent.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Whether the sending side is closed or will be.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Ready once everything that was handed over is sent.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let stream = Pin::new(&mut self.connection.stream);
        let sent = match Self::poll_send(stream, cx, &mut self.pending) {
            Poll::Pending => return self.poll_deadline(cx, Phase::Send),
            Poll::Ready(sent) => sent,
        };
        if let Some(sent) = sent {
            self.connection.spent(Phase::Send, self.handed.elapsed());
            self.connection.last_sent = Instant::now();
            if let Err(error) = sent {
                self.pending = Bytes::new();
                return Poll::Ready(Err(io_failure(&error, Phase::Send, &self.connection.peer)));
            }
        }
        if self.closing && !self.closed {
            match Pin::new(&mut self.connection.stream).poll_shutdown(cx) {
                Poll::Pending => return self.poll_deadline(cx, Phase::Send),
                // A peer that is gone has nothing left to be closed.
                Poll::Ready(_) => self.closed = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What came of sending; none where there was nothing to send.
    fn poll_send(
        mut stream: Pin<&mut Stream>,
        cx: &mut Context<'_>,
        pending: &mut Bytes,
    ) -> Poll<Option<std::io::Result<()>>> {
        if pending.is_empty() {
            return Poll::Ready(None);
        }
        while !pending.is_empty() {
            match ready!(stream.as_mut().poll_write(cx, pending)) {
                Ok(0) => return Poll::Ready(Some(Err(std::io::ErrorKind::WriteZero.into()))),
                Ok(length) => pending.advance(length),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        stream.poll_flush(cx).map(Some)
    }

    fn poll_deadline<T>(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<Result<T, Failure>> {
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(self.connection.run.timeout(phase, &self.connection.peer)))
    }

    /// The peer's address.
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote
    }

    /// Our own end; none once the stream was given up.
    pub fn local(&self) -> Option<SocketAddr> {
        match &self.connection.stream {
            Stream::Plain(metered) => metered.tcp.local_addr().ok(),
            Stream::Tls(_) | Stream::Gone => None,
        }
    }
}
