//! Releases on their way to the disk. The spool gathers what it writes for a moment; the next batch does not wait for that, because a
//! release that is lost costs only that the same results come again.

use std::collections::VecDeque;

use spool::{Position, Spool};
use tokio::task::JoinSet;

/// Those that are not on the disk yet.
#[derive(Default)]
pub(super) struct Releases {
    tasks: JoinSet<()>,
    /// Up to where, and how many entries that were.
    under_way: VecDeque<(Position, u64)>,
}

impl Releases {
    /// Lets go of everything up to here, which is so many entries more.
    pub(super) fn begin(&mut self, spool: &Spool, upto: Position, entries: u64) {
        while self.tasks.try_join_next().is_some() {}
        self.under_way.push_back((upto, entries));
        let spool = spool.clone();
        self.tasks.spawn(async move {
            if let Err(error) = spool.release(upto).await {
                tracing::warn!(%error, "cannot move the spool's acknowledged position");
            }
        });
    }

    /// Entries that nobody has to send any more although the spool, released up to `acknowledged`, still counts them as pending.
    pub(super) fn beyond(&mut self, acknowledged: Position) -> u64 {
        while self.under_way.front().is_some_and(|(upto, _)| *upto <= acknowledged) {
            self.under_way.pop_front();
        }
        self.under_way.iter().map(|(_, entries)| entries).sum()
    }

    /// Waits until all of them are on the disk: what takes a release back must not be overtaken by one.
    pub(super) async fn end(&mut self) {
        while self.tasks.join_next().await.is_some() {}
        self.under_way.clear();
    }
}
