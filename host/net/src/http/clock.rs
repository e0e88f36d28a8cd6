//! When the bytes of an exchange went and came (send, first byte, transfer), and whether the connection was reset. What they say is read
//! in `exchange`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::stream::Stream;
use crate::types::Phase;

/// When the request was sent and when the answer began, in microseconds since the start of the connection; 0 for not yet.
pub(crate) struct Clock {
    started: Instant,
    /// When this request began; a connection may carry more than one.
    begun: AtomicU64,
    sent: AtomicU64,
    first: AtomicU64,
    /// The other side reset the connection. The exchange itself learns this only if it was waiting for the bytes at that moment.
    reset: AtomicBool,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            begun: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            first: AtomicU64::new(0),
            reset: AtomicBool::new(false),
        }
    }

    /// The next request on the same connection begins.
    pub(crate) fn restart(&self) {
        self.begun.store(self.now(), Ordering::Relaxed);
        self.sent.store(0, Ordering::Relaxed);
        self.first.store(0, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    fn wrote(&self) {
        if self.first.load(Ordering::Relaxed) == 0 {
            self.sent.store(self.now(), Ordering::Relaxed);
        }
    }

    pub(crate) fn replied(&self) {
        let _ = self.first.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(crate) fn was_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    fn broke(&self, error: &io::Error) {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        if matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe) {
            self.reset.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match (self.sent.load(Ordering::Relaxed), self.first.load(Ordering::Relaxed)) {
            (0, _) => Phase::Send,
            (_, 0) => Phase::FirstByte,
            _ => Phase::Transfer,
        }
    }

    /// How long each phase took that happened or began.
    pub(crate) fn spent(&self, end: Instant) -> Vec<(Phase, Duration)> {
        let end = u64::try_from((end - self.started).as_micros()).unwrap_or(u64::MAX);
        let (sent, first) = (self.sent.load(Ordering::Relaxed), self.first.load(Ordering::Relaxed));
        let mark = |at: u64| if at == 0 { end } else { at };
        let marks = [
            (Phase::Send, self.begun.load(Ordering::Relaxed), mark(sent)),
            (Phase::FirstByte, sent, mark(first)),
            (Phase::Transfer, first, end),
        ];
        let happened = marks.into_iter().enumerate().filter(|(i, (_, from, _))| *i == 0 || *from > 0);
        happened
            .map(|(_, (phase, from, to))| (phase, Duration::from_micros(to.saturating_sub(from))))
            .collect()
    }
}

/// A stream that tells the clock. Over HTTP/2 the server speaks before it answers, so there a read is no reply.
pub(crate) struct Timed {
    pub(crate) stream: Stream,
    pub(crate) clock: Arc<Clock>,
    pub(crate) replies: bool,
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf)).inspect_err(|e| self.clock.broke(e))?;
        if self.replies && buf.filled().len() > before {
            self.clock.replied();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written =
            ready!(Pin::new(&mut self.stream).poll_write(cx, buf)).inspect_err(|e| self.clock.broke(e))?;
        self.clock.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
