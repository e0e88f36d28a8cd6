//! From *finished* to *recorded*: runs leave their results here and are done, whatever the disk does; the spool gets them as fast as
//! it takes them.
//!
//! While the disk is slow, full or refuses to be written, results wait in memory, a thousand at most; beyond that the oldest go, are
//! counted, and become a gap once the disk takes it. A result in memory has no position yet and is not sent: positions are given by
//! the disk alone, so none is given twice, and an end of the process loses exactly what was never called recorded.

mod waiting;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use spool::{Disk, Entry, Loss, Position, Reason, Spool};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::Error;
use waiting::{Finished, Waiting};

/// Where runs leave their results. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spool: Spool,
    waiting: Mutex<Waiting>,
    /// Something waits.
    come: Notify,
    /// Why the disk took nothing the last time; none when it took something.
    trouble: Mutex<Option<String>>,
    /// The trouble began, changed or ended.
    turned: Notify,
}

/// Hands to the spool what runs left. What is on its way outlives a panic here.
pub(crate) struct Courier {
    recorder: Recorder,
    /// Each says whether the disk took its result.
    under_way: FuturesUnordered<BoxFuture<'static, bool>>,
}

/// A result on its way to the disk: dropped without an answer, it waits again.
struct UnderWay {
    recorder: Recorder,
    finished: Option<Finished>,
}

/// How it stands with what is finished and not recorded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    /// Results in memory.
    pub(crate) results: usize,
    /// Results that did not fit since the start; they are gaps, or become some.
    pub(crate) lost: u64,
    /// Why recording is not as it should be; none when it is.
    pub(crate) degraded: Option<String>,
}

impl Recorder {
    /// Holds nothing yet.
    pub(crate) fn new(spool: Spool) -> Self {
        Self(Arc::new(Shared {
            spool,
            waiting: Mutex::default(),
            come: Notify::new(),
            trouble: Mutex::default(),
            turned: Notify::new(),
        }))
    }

    /// Takes a monitor's result. Never waits.
    pub(crate) fn record(&self, monitor: &str, entry: Entry) {
        let reason = self.reason();
        self.waiting().push(monitor.into(), entry, reason);
        self.0.come.notify_one();
    }

    /// Who hands results to the spool; there is to be one.
    pub(crate) fn courier(&self) -> Courier {
        Courier { recorder: self.clone(), under_way: FuturesUnordered::new() }
    }

    /// How it stands.
    pub(crate) fn held(&self) -> Held {
        let (results, lost) = {
            let waiting = self.waiting();
            (waiting.held(), waiting.lost())
        };
        let status = self.0.spool.status();
        let trouble = lock(&self.0.trouble).clone();
        let degraded = match (trouble, status.disk) {
            (Some(trouble), _) => Some(format!("results are held in memory and not recorded: {trouble}")),
            _ if status.busy >= SLOW => Some(format!(
                "the disk has not answered for {} s: results are held in memory",
                status.busy.as_secs()
            )),
            (None, Disk::Low) => {
                Some("the disk is nearly full: results go into the spool's last reserve".to_owned())
            }
            (None, Disk::Full | Disk::Unusable) => {
                Some("results are held in memory: the disk takes none".to_owned())
            }
            (None, Disk::Good) => None,
        };
        Held { results, lost, degraded }
    }

    /// Comes back when there is trouble with the disk, another one, or none any more.
    pub(crate) async fn turned(&self) {
        self.0.turned.notified().await;
    }

    /// Comes back only when the database hangs although the disk below it answers: then a new process helps, and this one does not. A
    /// thread that hangs in the database keeps its lock, so it cannot be opened a second time in here.
    pub(crate) async fn stuck(&self) -> Error {
        loop {
            sleep(LOOK).await;
            let busy = self.0.spool.status().busy;
            if busy < STUCK {
                continue;
            }
            // Twice: a disk that comes back answers before the database has got what it waits for.
            let answers = async {
                self.0.spool.probe().await?;
                sleep(LOOK / 4).await;
                self.0.spool.probe().await
            };
            match timeout(LOOK, answers).await {
                Ok(Ok(())) if self.0.spool.status().busy > busy => {
                    return Error::Stuck { seconds: self.0.spool.status().busy.as_secs() };
                }
                Ok(Ok(())) => {}
                _ => tracing::warn!(seconds = busy.as_secs(), "the disk of the spool does not answer"),
            }
        }
    }

    fn next(&self) -> Option<UnderWay> {
        let finished = self.waiting().next()?;
        Some(UnderWay { recorder: self.clone(), finished: Some(finished) })
    }

    fn recorded(&self, monitor: &str, at: Position) {
        tracing::debug!(monitor, epoch = at.epoch, seq = at.seq, "recorded");
        if lock(&self.0.trouble).take().is_some() {
            tracing::info!("results are recorded again");
            self.0.turned.notify_one();
        }
    }

    /// What did not fit becomes gaps.
    async fn tell_losses(&self) -> Result<(), ()> {
        loop {
            let Some(loss) = self.waiting().loss() else { return Ok(()) };
            match self.0.spool.lost(loss).await {
                Ok(()) => {
                    tracing::warn!(count = loss.count, reason = %loss.reason, "results were lost before they were recorded");
                    self.waiting().told(loss);
                }
                Err(error) => {
                    self.refused(&error);
                    return Err(());
                }
            }
        }
    }

    /// Says why the disk took nothing, once per reason.
    fn refused(&self, error: &spool::Error) {
        let reason = error.to_string();
        let mut trouble = lock(&self.0.trouble);
        if trouble.as_ref() != Some(&reason) {
            tracing::error!("results are held in memory and not recorded: {reason}");
            *trouble = Some(reason);
            self.0.turned.notify_one();
        }
    }

    /// Why a result that does not fit now is lost.
    fn reason(&self) -> Reason {
        let refuses = matches!(self.0.spool.status().disk, Disk::Full | Disk::Unusable);
        if refuses || lock(&self.0.trouble).is_some() { Reason::Enospc } else { Reason::SlowDisk }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.0.waiting)
    }
}

impl Courier {
    /// Hands results over until `stop`, then until nothing is left.
    pub(crate) async fn work(&mut self, stop: &mut oneshot::Receiver<()>) {
        let Self { recorder, under_way } = self;
        let (mut stopping, mut pause) = (false, None);
        loop {
            if pause.is_none() {
                pause = recorder.tell_losses().await.err().map(|()| Instant::now() + RETRY);
            }
            while pause.is_none()
                && under_way.len() < AT_ONCE
                && let Some(next) = recorder.next()
            {
                under_way.push(next.append().boxed());
            }
            if stopping && under_way.is_empty() && recorder.waiting().is_empty() {
                return;
            }
            tokio::select! {
                Some(taken) = under_way.next() => {
                    if !taken {
                        pause = Some(Instant::now() + RETRY);
                    }
                }
                () = recorder.0.come.notified() => {}
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => pause = None,
                _ = &mut *stop, if !stopping => stopping = true,
            }
        }
    }
}

impl UnderWay {
    /// Hands it over; says whether the disk took it.
    async fn append(mut self) -> bool {
        let Some(Finished { monitor, entry, .. }) = self.finished.clone() else { return true };
        let recorder = self.recorder.clone();
        match recorder.0.spool.append(entry.clone()).await {
            Ok(at) => {
                self.answered();
                recorder.recorded(&monitor, at);
                true
            }
            Err(error @ spool::Error::TooLarge { .. }) => {
                self.answered();
                tracing::error!(monitor = &*monitor, %error, "a result cannot be recorded");
                recorder.waiting().lose(Loss::of(&entry, Reason::Rejected));
                true
            }
            Err(error) => {
                recorder.refused(&error);
                false
            }
        }
    }

    fn answered(&mut self) {
        self.finished = None;
        self.recorder.waiting().done();
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(finished) = self.finished.take() {
            let reason = self.recorder.reason();
            self.recorder.waiting().back(finished, reason);
        }
    }
}

/// A panic elsewhere leaves numbers, not invariants.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Results on their way to the disk at the same time.
const AT_ONCE: usize = 512;
/// Between two tries while the disk takes nothing. The spool itself waits up to four seconds before it opens its database again.
const RETRY: Duration = Duration::from_secs(1);
/// An answer that takes longer is worth a word to the operator.
const SLOW: Duration = Duration::from_secs(5);
/// A database that takes longer than this, on a disk that answers, will not come back.
const STUCK: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use spool::Stored;

    fn entry(n: i64) -> Entry {
        Entry { at_ms: n, down: false, bytes: n.to_le_bytes().to_vec() }
    }

    async fn seconds_until(mut done: impl AsyncFnMut() -> bool) -> u64 {
        let begun = Instant::now();
        while !done().await {
            assert!(begun.elapsed() < Duration::from_secs(30), "it never came");
            tokio::task::yield_now().await;
        }
        begun.elapsed().as_secs()
    }

    #[tokio::test]
    async fn what_is_left_when_the_agent_stops_is_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let settings = spool::Settings { reserve_bytes: 0, ..spool::Settings::at(dir.path().join("spool")) };
        let recorder = Recorder::new(Spool::open(settings).unwrap());
        (0..900).for_each(|n| recorder.record("shop", entry(n)));
        let (stop, mut stopped) = oneshot::channel();
        drop(stop);
        recorder.courier().work(&mut stopped).await;
        assert_eq!(recorder.0.spool.status().recorded.seq, 900);
        assert_eq!(recorder.held(), Held { results: 0, lost: 0, degraded: None });
    }

    #[tokio::test]
    async fn a_panic_on_the_way_to_the_disk_loses_nothing_and_records_nothing_twice() {
        let dir = tempfile::tempdir().unwrap();
        let settings = spool::Settings { reserve_bytes: 0, ..spool::Settings::at(dir.path().join("spool")) };
        let recorder = Recorder::new(Spool::open(settings).unwrap());
        (0..900).for_each(|n| recorder.record("shop", entry(n)));
        let mut courier = recorder.courier();
        let (stop, mut stopped) = oneshot::channel();
        // What a panic leaves is what a work that was dropped leaves.
        assert!(courier.work(&mut stopped).now_or_never().is_none());
        assert_eq!(recorder.held().results, 900);
        drop(stop);
        courier.work(&mut stopped).await;
        assert_eq!(recorder.0.spool.status().recorded.seq, 900);
        assert_eq!(recorder.held(), Held { results: 0, lost: 0, degraded: None });
    }

    #[tokio::test]
    async fn a_result_that_is_dropped_without_an_answer_waits_again() {
        let dir = tempfile::tempdir().unwrap();
        let settings = spool::Settings { reserve_bytes: 0, ..spool::Settings::at(dir.path().join("spool")) };
        let recorder = Recorder::new(Spool::open(settings).unwrap());
        (0..3).for_each(|n| recorder.record("shop", entry(n)));
        let (first, second) = (recorder.next().unwrap(), recorder.next().unwrap());
        drop(second.append());
        drop(first);
        let order: Vec<_> = std::iter::from_fn(|| recorder.waiting().next()).map(|f| f.entry.at_ms).collect();
        assert_eq!(order, [0, 1, 2]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_directory_that_cannot_be_had_holds_up_nobody_and_costs_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("spool");
        // A file stands where the directory should be: nobody can write there, whoever the test runs as.
        std::fs::write(&place, b"in the way").unwrap();
        let settings = spool::Settings { reserve_bytes: 0, ..spool::Settings::at(&place) };
        let recorder = Recorder::new(Spool::open_or_wait(settings).unwrap());
        let working = recorder.clone();
        let (_stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move { working.courier().work(&mut stopped).await });
        recorder.record("shop", entry(0));
        seconds_until(async || recorder.held().degraded.is_some()).await;
        (1..1_030).for_each(|n| recorder.record("shop", entry(n)));
        let held = recorder.held();
        assert_eq!((held.results, held.lost), (1_000, 30));
        assert!(held.degraded.is_some_and(|why| why.contains("held in memory")));

        std::fs::remove_file(&place).unwrap();
        let seconds = seconds_until(async || recorder.held().results == 0).await;
        assert!(seconds < 10, "recorded after {seconds} s");
        let found = recorder.0.spool.peek(Position::START, usize::MAX).await.unwrap();
        let Stored::Gap(gap) = &found[0] else { panic!("{:?}", found[0]) };
        assert_eq!((gap.from, gap.to, gap.reason), (1, 30, Reason::Enospc));
        assert_eq!(found.len(), 1_001);
        assert_eq!(recorder.held().degraded, None);
        task.abort();
    }
}
