//! Something that goes on while the component does something else, and is asked for later.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

/// A task of its own: it needs nobody who polls it, and ends when this is dropped, at the latest with the run.
pub(super) enum Task<T: Send + 'static> {
    Running(AbortOnDropJoinHandle<T>),
    Done(T),
}

impl<T: Send + 'static> Task<T> {
    pub(super) fn begin(future: impl Future<Output = T> + Send + 'static) -> Self {
        Task::Running(spawn(future))
    }

    pub(super) async fn ready(&mut self) {
        if let Task::Running(handle) = self {
            *self = Task::Done(handle.await);
        }
    }

    /// What came of it; none while it goes on.
    pub(super) fn done(&mut self) -> Option<&mut T> {
        if let Task::Running(handle) = self
            && let Poll::Ready(value) = Pin::new(handle).poll(&mut Context::from_waker(Waker::noop()))
        {
            *self = Task::Done(value);
        }
        match self {
            Task::Running(_) => None,
            Task::Done(value) => Some(value),
        }
    }
}
