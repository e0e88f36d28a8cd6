//! Asks the disk itself, past the database: one byte, fsynced. One question at a time: a disk that hangs keeps a thread, and not more.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::Arc,
    thread,
};

use tokio::sync::{Semaphore, oneshot};

/// Asks the disk of one directory. Clones share the question.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    dir: Arc<Path>,
    free: Arc<Semaphore>,
}

impl Probe {
    /// Nothing is asked yet.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.into(), free: Arc::new(Semaphore::new(1)) }
    }

    /// Comes back when the disk has taken a byte or refused it: either is an answer. Asks only when an earlier question was
    /// answered. An error when nothing could be asked.
    pub(crate) async fn answer(&self) -> io::Result<()> {
        let path = self.dir.join("probe");
        self.ask(move || drop(write(&path))).await
    }

    async fn ask(&self, question: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let turn = Arc::clone(&self.free).acquire_owned().await.map_err(io::Error::other)?;
        let (sender, answer) = oneshot::channel();
        let asking = move || {
            question();
            drop(turn);
            // Whoever asked may have gone.
            let _ = sender.send(());
        };
        thread::Builder::new().name("spool-probe".to_owned()).spawn(asking)?;
        answer.await.map_err(io::Error::other)
    }
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(b"?")?;
    file.sync_all()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_takes_a_byte_answers_and_keeps_nothing_and_one_that_refuses_it_answers_too() {
        let dir = tempfile::tempdir().unwrap();
        Probe::new(dir.path()).answer().await.unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        Probe::new(&dir.path().join("nowhere")).answer().await.unwrap();
    }

    #[tokio::test]
    async fn as_long_as_a_question_has_no_answer_no_other_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let probe = Probe::new(dir.path());
        let (answer, hanging) = mpsc::channel::<()>();
        let soon = Duration::from_millis(20);
        let hangs = probe.ask(move || hanging.iter().for_each(drop));
        assert!(timeout(soon, hangs).await.is_err());
        for _ in 0..3 {
            assert!(timeout(soon, probe.ask(|| panic!("a second thread"))).await.is_err());
        }
        drop(answer);
        probe.answer().await.unwrap();
    }
}
