//! What the agent is told to do: fetches it when it changes, keeps the last two versions on disk, takes no older one.
//!
//! What is on disk is used from the first moment of a start, so an agent that was killed while cut off goes on checking.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use wire::push::Push;

use crate::Error;
use crate::slots::{Kind, Slots, Stored};
use crate::told::Told;
use crate::uplink::backoff::Backoff;
use crate::uplink::client::{Client, Fetched, Session};
use crate::uplink::pushes::Subscription;

/// The last two good versions on disk.
#[derive(Debug)]
pub(crate) struct Kept {
    slots: Slots,
    used: Option<Used>,
}

/// What is in use: enough to tell another configuration from it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Used {
    version: u64,
    fingerprint: [u8; 32],
}

/// Why a configuration was not taken.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// It is the one that is in use.
    #[error("the configuration is in use already")]
    Same,
    /// It is older than the one in use.
    #[error("refused configuration {offered}: {used} is in use, and versions only grow")]
    Older {
        /// What was offered.
        offered: u64,
        /// What is in use.
        used: u64,
    },
}

impl Kept {
    /// What `data` holds: the newest version that can be read, if any. Damage costs a fetch, nothing else.
    pub(crate) fn open(data: &Path) -> Result<(Self, Option<Told>), Error> {
        let path = data.join("config");
        let (slots, stored) = Slots::open(path.clone(), KIND).map_err(|source| Error::NotWritable {
            path: path.clone(),
            remedy: "the agent must be able to read its own files".to_owned(),
            source,
        })?;
        let newest = match stored {
            Stored::Newer { path, format } => return Err(Error::newer(path, format)),
            Stored::Valid(payloads) => {
                payloads.into_iter().find_map(|mut payload| Told::read(std::mem::take(&mut *payload)).ok())
            }
            Stored::Nothing | Stored::Damaged { .. } => None,
        };
        let used = newest.as_ref().map(Used::of);
        Ok((Self { slots, used }, newest))
    }

    /// Keeps `offered` if it is to be used from now on. The version counts for all agents together: monitors may move here within one.
    /// A disk that refuses costs only what a restart while cut off would need.
    fn take(&mut self, offered: &Told) -> Result<(), NotTaken> {
        let new = Used::of(offered);
        match self.used {
            Some(used) if new == used => return Err(NotTaken::Same),
            Some(used) if new.version < used.version => {
                return Err(NotTaken::Older { offered: new.version, used: used.version });
            }
            _ => self.used = Some(new),
        }
        if let Err(error) = self.slots.store(offered.bytes()) {
            tracing::warn!(%error, version = new.version, "cannot keep the configuration on disk");
        }
        Ok(())
    }
}

impl Used {
    fn of(told: &Told) -> Self {
        Self { version: told.version(), fingerprint: told.fingerprint() }
    }
}

/// Fetches the configuration when a session begins, when a push tells of another one, and from time to time; gives each that is taken
/// to `taken`. Speaks only while there is a session.
pub(crate) async fn follow(
    client: &Client,
    sessions: &mut watch::Receiver<Option<Arc<Session>>>,
    pushes: &mut Subscription,
    kept: &mut Kept,
    taken: &mpsc::Sender<Told>,
) {
    let mut backoff = Backoff::default();
    let mut etag: Option<String> = None;
    loop {
        failpoint::hit("agent.follow");
        let usable =
            |session: &Option<Arc<Session>>| session.as_ref().is_some_and(|session| !session.is_lost());
        let Ok(session) = sessions.wait_for(usable).await.map(|session| session.clone()) else {
            // The uplink ended, and says why itself.
            return std::future::pending().await;
        };
        let Some(session) = session else { continue };
        let begun = Instant::now();
        match client.configuration(&session, etag.as_deref()).await {
            Ok(Fetched { configuration, etag: new }) => {
                if let Some(configuration) = configuration {
                    match kept.take(&configuration) {
                        Ok(()) => drop(taken.send(configuration).await),
                        Err(NotTaken::Same) => {}
                        Err(refused) => {
                            // With its ETag the control plane would not offer it again.
                            etag = None;
                            tracing::warn!("{refused}");
                            sleep(backoff.failed(rand::random())).await;
                            continue;
                        }
                    }
                }
                backoff.succeeded();
                etag = Some(new);
                sleep_until(begun + BETWEEN).await;
                let pushed = async { while !matches!(pushes.next().await, Push::Configuration { .. }) {} };
                tokio::select! {
                    () = pushed => {}
                    Ok(()) = sessions.changed() => {}
                    () = sleep(ANYWAY) => {}
                }
            }
            Err(trouble) => {
                if trouble.wants_hello() {
                    session.lose();
                }
                tracing::debug!(%trouble, "no configuration");
                sleep(backoff.failed_or(trouble.asks(rand::random()), rand::random())).await;
            }
        }
    }
}

const KIND: Kind = *b"cf";
/// Between two requests at least.
const BETWEEN: Duration = Duration::from_millis(100);
/// Between two requests at most: a push may be lost.
const ANYWAY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use wire::config::Configuration;

    use super::*;
    use crate::told::tests::told;

    fn configuration(version: u64) -> Told {
        told(&Configuration { version, common: Default::default(), monitors: Vec::new() })
    }

    fn version(kept: &Option<Told>) -> Option<u64> {
        kept.as_ref().map(Told::version)
    }

    #[test]
    fn versions_only_grow() {
        let dir = tempfile::tempdir().unwrap();
        let (mut kept, none) = Kept::open(dir.path()).unwrap();
        assert_eq!((version(&none), kept.take(&configuration(7))), (None, Ok(())));
        for mut kept in [kept, Kept::open(dir.path()).unwrap().0] {
            assert_eq!(kept.take(&configuration(6)), Err(NotTaken::Older { offered: 6, used: 7 }));
            assert_eq!(kept.take(&configuration(7)), Err(NotTaken::Same));
        }
        assert_eq!(Kept::open(dir.path()).unwrap().0.take(&configuration(8)), Ok(()));
    }

    #[test]
    fn monitors_may_move_between_agents_within_a_version() {
        let dir = tempfile::tempdir().unwrap();
        let (mut kept, _) = Kept::open(dir.path()).unwrap();
        kept.take(&configuration(7)).unwrap();
        let moved: Configuration = serde_json::from_value(serde_json::json!({"version": 7, "monitors": [{
            "id": "00000000-0000-0000-0000-000000000001", "name": "shop", "check": "http", "interval_ms": 5000,
            "timeout_ms": 1000, "config": {}, "digest": "d",
        }]}))
        .unwrap();
        assert_eq!(kept.take(&told(&moved)), Ok(()));
    }

    #[test]
    fn a_damaged_newest_version_leaves_the_one_before_and_two_damaged_ones_a_fetch() {
        let dir = tempfile::tempdir().unwrap();
        let (mut kept, _) = Kept::open(dir.path()).unwrap();
        kept.take(&configuration(1)).unwrap();
        kept.take(&configuration(2)).unwrap();
        assert_eq!(version(&Kept::open(dir.path()).unwrap().1), Some(2));
        std::fs::write(dir.path().join("config/slot.b"), b"torn").unwrap();
        assert_eq!(version(&Kept::open(dir.path()).unwrap().1), Some(1));
        std::fs::write(dir.path().join("config/slot.a"), b"").unwrap();
        let (mut kept, none) = Kept::open(dir.path()).unwrap();
        assert_eq!((version(&none), kept.take(&configuration(2))), (None, Ok(())));
    }
}
