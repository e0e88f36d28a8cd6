//! SIGTERM and SIGINT as a future: what ends agent, control plane and demo in good order.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, exit};

/// Completes with the first SIGTERM or SIGINT from now on. The handlers stay, so that a second one does not cut the shutdown short.
pub(crate) fn shutdown() -> Result<impl Future<Output = ()> + Send, Failure> {
    let watched =
        |kind| signal(kind).map_err(|e| Failure::new(exit::OS, e).context("cannot watch for signals"));
    let (mut terminate, mut interrupt) =
        (watched(SignalKind::terminate())?, watched(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
