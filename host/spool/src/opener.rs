//! Opens what may panic, hang or take long, on a thread of its own. Knows nothing of what it opens.

use std::{
    cell::RefCell,
    panic::{self, PanicHookInfo},
    sync::{Once, mpsc},
    thread,
    time::Duration,
};

use crate::store::Fault;

/// Opens one thing at a time: what takes long is not given up and not begun a second time, and is taken when it comes.
pub(crate) struct Opener<T> {
    under_way: Option<mpsc::Receiver<Result<T, Fault>>>,
}

impl<T> Default for Opener<T> {
    fn default() -> Self {
        Self { under_way: None }
    }
}

impl<T: Send + 'static> Opener<T> {
    /// Whether an opening was begun and has no end yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Waits this long for `work`, or looks whether an earlier one has come to its end. A panic is damage.
    ///
    /// Some damage makes the database panic in a state in which unwinding panics again and would end the process, at each start
    /// anew. So the thread is stopped for ever where it panicked, and keeps what it has locked.
    pub(crate) fn open(
        &mut self,
        patience: Duration,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (receiver, patience) = match self.under_way.take() {
            Some(earlier) => (earlier, Duration::ZERO),
            None => (begin(work)?, patience),
        };
        match receiver.recv_timeout(patience) {
            Ok(opened) => opened,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.under_way = Some(receiver);
                Err(Fault::Failed("opening it takes long and is waited for".to_owned()))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(Fault::Failed("the thread that opened it ended".to_owned()))
            }
        }
    }
}

fn begin<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<mpsc::Receiver<Result<T, Fault>>, Fault> {
    let (sender, opened) = mpsc::channel();
    let panicked = sender.clone();
    let work = move || {
        stop_here_on_panic(move |reason| drop(panicked.send(Err(Fault::Damaged(reason)))));
        // Nobody waits any more only if the directory was closed meanwhile: then so is this.
        drop(sender.send(work()));
    };
    let spawned = thread::Builder::new().name("spool-open".to_owned()).spawn(work);
    spawned.map_err(|error| Fault::Failed(error.to_string()))?;
    Ok(opened)
}

/// If the current thread panics from here on, it reports and stops instead of unwinding. Other threads are not concerned.
fn stop_here_on_panic(report: impl FnOnce(String) + 'static) {
    static HOOK: Once = Once::new();
    REPORT.set(Some(Box::new(report)));
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| match REPORT.try_with(RefCell::take).ok().flatten() {
            Some(report) => stop(report, info),
            None => others(info),
        }));
    });
}

fn stop(report: Report, info: &PanicHookInfo<'_>) {
    report(format!("the database panicked: {}", info.payload_as_str().unwrap_or("no message")));
    loop {
        thread::park();
    }
}

type Report = Box<dyn FnOnce(String)>;

thread_local! {
    static REPORT: RefCell<Option<Report>> = const { RefCell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_that_takes_long_is_no_damage_and_is_not_begun_twice_and_is_taken_when_it_comes() {
        let mut opener = Opener::default();
        let (finish, wait) = mpsc::channel();
        let begun = opener.open(Duration::ZERO, move || wait.recv().map_err(|_| Fault::Full));
        assert!(matches!(begun, Err(Fault::Failed(_))), "{begun:?}");
        let again = opener.open(Duration::ZERO, || panic!("a second opening of the same place"));
        assert!(matches!(again, Err(Fault::Failed(_))) && opener.is_busy(), "{again:?}");
        finish.send(7).unwrap();
        let opened = loop {
            match opener.open(Duration::ZERO, || Ok(8)) {
                Err(Fault::Failed(_)) => thread::yield_now(),
                opened => break opened,
            }
        };
        assert_eq!(opened.unwrap(), 7);
        assert!(!opener.is_busy());
    }
}
