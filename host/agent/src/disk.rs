//! Waiting for the disk where everything else must go on: an fsync may take seconds, and a machine may have one worker only. Reading a
//! hundred thousand monitors takes as long.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does what waits for the disk, or computes for as long. The calling task waits for it; the other tasks of its worker go to another thread.
pub(crate) fn wait<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn while_one_task_waits_for_the_disk_the_others_of_its_only_worker_go_on() {
        let (answer, disk) = mpsc::channel();
        let waits = tokio::spawn(async move { super::wait(|| disk.recv()) });
        // Comes to its turn only while the first one waits.
        let goes_on = tokio::spawn(async move { answer.send(7) });
        assert_eq!(waits.await.unwrap(), Ok(7));
        goes_on.await.unwrap().unwrap();
    }
}
