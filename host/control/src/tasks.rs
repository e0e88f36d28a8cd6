//! What is done beside the server, again and again: moving monitors, keeping that somebody is there, watching who is silent, delivering alerts, reading histories,
//! forgetting.
//!
//! A failure is in the log and the next turn tries again; a task that panics is said in the log and started again, because alerts that
//! nobody delivers any more would look like peace.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use crate::alert;
use crate::api::blocking;
use crate::control::{Control, failed};
use crate::store;

/// Starts all of them; they go on until they are aborted.
pub(crate) fn start(control: &Arc<Control>, retention: Duration) -> Vec<JoinHandle<()>> {
    let [settling, living, watching, delivering, reading, forgetting] =
        std::array::from_fn(|_| control.clone());
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    vec![
        tokio::spawn(keep("settle", PAUSE, async move || every(&settling, SETTLE, Control::settle).await)),
        tokio::spawn(keep("live", PAUSE, async move || every(&living, LIVE, Control::keep_alive).await)),
        tokio::spawn(keep("watch", PAUSE, async move || every(&watching, WATCH, Control::watch).await)),
        tokio::spawn(keep("deliver", PAUSE, async move || alert::deliver(delivering.clone()).await)),
        tokio::spawn(keep("read", PAUSE, async move || every(&reading, READ, Control::read_histories).await)),
        tokio::spawn(keep("forget", PAUSE, async move || {
            every(&forgetting, FORGET, move |c| forget(c, retention_ms)).await;
        })),
    ]
}

/// Does `work` until it ends, again after each panic.
async fn keep(task: &'static str, pause: Duration, mut work: impl AsyncFnMut()) {
    while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
        tracing::error!(task, "panicked, and is started again");
        sleep(pause).await;
    }
}

/// Does it every so often, where it may wait for the disk.
async fn every(
    control: &Arc<Control>,
    time: Duration,
    work: impl Fn(&Control) -> Result<(), store::Error> + Copy + Send + 'static,
) {
    let mut ticks = interval(time);
    loop {
        ticks.tick().await;
        // A failure is in the log, and the next tick tries again.
        let _ = blocking(control, move |c| work(c).map_err(|e| failed(&e))).await;
    }
}

/// Deletes what is older than it should get.
fn forget(control: &Control, retention_ms: i64) -> Result<(), store::Error> {
    let now = control.now().wall;
    let before = now.plus_millis(-retention_ms);
    while control.parts.store.forget(before, now, FORGET_AT_ONCE)? == FORGET_AT_ONCE {}
    control.parts.store.forget_alerts(before)
}

/// How often presence is looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// How often it is kept that the control plane is there.
const LIVE: Duration = Duration::from_secs(600);

/// How often it is looked who is silent and which alerts are due.
const WATCH: Duration = Duration::from_secs(1);

/// How often it is looked for histories that nobody has read.
const READ: Duration = Duration::from_secs(10);

/// How often old results are deleted.
const FORGET: Duration = Duration::from_secs(600);

/// Results deleted in one transaction.
const FORGET_AT_ONCE: usize = 2_000;

/// Between a panic and the next start.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panicked_goes_on() {
        let mut turns = 0;
        keep("deliver", Duration::ZERO, async || {
            turns += 1;
            assert!(turns > 2, "broken on purpose");
        })
        .await;
        assert_eq!(turns, 3);
    }
}
