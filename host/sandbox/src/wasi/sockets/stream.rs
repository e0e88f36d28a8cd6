//! The two streams of a connection. Both hold it: the component reads one while it waits for the other.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// A connection that both of its streams and its socket hold. Never locked for longer than a poll.
#[derive(Clone)]
pub(super) struct Peer(Arc<Mutex<net::Polled>>);

impl Peer {
    pub(super) fn new(connection: net::Connection) -> Self {
        Peer(Arc::new(Mutex::new(net::Polled::new(connection))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, net::Polled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of one read, and bytes that may wait to be sent.
const READ: usize = 16 << 10;
const SEND: usize = 64 << 10;

pub(super) fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}

/// What the component receives.
pub(super) struct Receiving {
    peer: Peer,
    /// What was read while somebody waited for it, or what came instead.
    next: Option<Result<Bytes, StreamError>>,
    ended: bool,
}

impl Receiving {
    pub(super) fn new(peer: Peer) -> Self {
        Receiving { peer, next: None, ended: false }
    }

    fn keep(&mut self, read: Result<Bytes, net::Failure>) {
        self.next = Some(match read {
            Ok(bytes) if bytes.is_empty() => Err(StreamError::Closed),
            Ok(bytes) => Ok(bytes),
            Err(failure) => Err(StreamError::LastOperationFailed(failure.into())),
        });
    }
}

#[async_trait::async_trait]
impl Pollable for Receiving {
    async fn ready(&mut self) {
        if self.next.is_none() && !self.ended {
            let peer = self.peer.clone();
            let read = poll_fn(|cx| peer.lock().poll_read(cx, READ)).await;
            self.keep(read);
        }
    }
}

impl InputStream for Receiving {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.ended {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        if self.next.is_none()
            && let Poll::Ready(read) = now(|cx| self.peer.lock().poll_read(cx, READ))
        {
            self.keep(read);
        }
        match self.next.take() {
            None => Ok(Bytes::new()),
            Some(Ok(mut bytes)) => {
                let first = bytes.split_to(size.min(bytes.len()));
                self.next = (!bytes.is_empty()).then_some(Ok(bytes));
                Ok(first)
            }
            Some(Err(error)) => {
                self.ended = true;
                Err(error)
            }
        }
    }
}

/// What the component sends.
pub(super) struct Sending {
    peer: Peer,
    failed: Option<StreamError>,
    ended: bool,
}

impl Sending {
    pub(super) fn new(peer: Peer) -> Self {
        Sending { peer, failed: None, ended: false }
    }

    /// Whether everything so far is sent; remembers why it cannot be.
    fn is_sent(&mut self, sent: Poll<Result<(), net::Failure>>) -> bool {
        match sent {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(failure)) => {
                self.failed = Some(StreamError::LastOperationFailed(failure.into()));
                true
            }
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Sending {
    async fn ready(&mut self) {
        if self.failed.is_none() && !self.ended {
            let peer = self.peer.clone();
            let sent = poll_fn(|cx| peer.lock().poll_sent(cx)).await;
            self.is_sent(Poll::Ready(sent));
        }
    }
}

impl OutputStream for Sending {
    fn check_write(&mut self) -> StreamResult<usize> {
        if self.ended {
            return Err(StreamError::Closed);
        }
        let sent = now(|cx| self.peer.lock().poll_sent(cx));
        let room = if self.is_sent(sent) { SEND } else { 0 };
        match self.failed.take() {
            Some(error) => {
                self.ended = true;
                Err(error)
            }
            None if self.peer.lock().is_closing() => Err(StreamError::Closed),
            None => Ok(room),
        }
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let room = self.check_write()?;
        if bytes.len() > room {
            return Err(StreamError::trap("more was written than check-write allows"));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.peer.lock().send(bytes);
        // Most of the time there is room for it; what goes wrong is told to the next call.
        let sent = now(|cx| self.peer.lock().poll_sent(cx));
        self.is_sent(sent);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Nothing is held back; whether it is sent is what check-write says.
        self.check_write().map(drop)
    }
}
