//! The lease that this agent was given last, on its disk: the next hello names it, and whoever names an older one shows a copy of the
//! data directory. And whether another device may have used this one's positions since. Apart from the identity, whose slots are
//! written seldom.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::slots::{Kind, Slots, Stored};

/// The last lease.
#[derive(Debug)]
pub(crate) struct Lease {
    slots: Slots,
    kept: Kept,
    /// The lease on the disk.
    on_disk: Option<String>,
    /// The disk did not take it yet.
    unsaved: bool,
    /// Whether one of the two files is not there yet.
    new: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    last: Option<String>,
    stood_by: bool,
}

impl Lease {
    /// What `data` holds. Damage costs the memory of it: the agent goes on as one that lost it.
    pub(crate) fn open(data: &Path) -> Result<Self, Error> {
        let path = data.join("session");
        let (slots, stored) = Slots::open(path.clone(), KIND).map_err(|source| Error::NotWritable {
            path,
            remedy: "the agent must be able to read its own files".to_owned(),
            source,
        })?;
        let new = matches!(stored, Stored::Nothing);
        let kept = match stored {
            Stored::Newer { path, format } => return Err(Error::newer(path, format)),
            Stored::Valid(payloads) => {
                payloads.iter().find_map(|payload| serde_json::from_slice(payload).ok())
            }
            Stored::Nothing | Stored::Damaged { .. } => None,
        };
        let kept: Kept = kept.unwrap_or_default();
        Ok(Self { slots, on_disk: kept.last.clone(), kept, unsaved: false, new })
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<&str> {
        self.kept.last.as_deref()
    }

    /// The lease that a restart would name, where the disk did not take the last one; none when it did, or holds no lease.
    pub(crate) fn kept_instead(&self) -> Option<&str> {
        self.on_disk.as_deref().filter(|kept| Some(*kept) != self.last())
    }

    /// Whether this device stood by since it was last welcomed, or has still to give what it holds new positions.
    pub(crate) fn stood_by(&self) -> bool {
        self.kept.stood_by
    }

    /// Another device holds the identity.
    pub(crate) fn stand_by(&mut self) {
        self.put(Kept { stood_by: true, ..self.kept.clone() });
    }

    /// Keeps a new one, before anything is said in it; `renumber` is whether what is held has to get new positions first.
    pub(crate) fn keep(&mut self, lease: &str, renumber: bool) {
        self.put(Kept { last: Some(lease.to_owned()), stood_by: renumber });
    }

    /// What is held has new positions.
    pub(crate) fn renumbered(&mut self) {
        self.put(Kept { stood_by: false, ..self.kept.clone() });
    }

    /// Tries again what the disk did not take; nothing when it took everything.
    pub(crate) fn settle(&mut self) {
        if self.unsaved {
            self.save();
        }
    }

    fn put(&mut self, kept: Kept) {
        if kept != self.kept {
            self.kept = kept;
            self.save();
        }
    }

    fn save(&mut self) {
        let bytes = serde_json::to_vec(&self.kept).expect("texts are always JSON");
        let saved = self.slots.store(&bytes).and_then(|()| {
            // Both files from the beginning: a full disk lets only be written over what is there.
            if std::mem::take(&mut self.new) { self.slots.store(&bytes) } else { Ok(()) }
        });
        if let Err(error) = &saved
            && !self.unsaved
        {
            tracing::warn!(%error, "cannot keep the lease on disk, and tells the control plane so");
        }
        if saved.is_ok() {
            self.on_disk.clone_from(&self.kept.last);
        }
        self.unsaved = saved.is_err();
    }
}

const KIND: Kind = *b"ls";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lease_is_known_after_a_restart_and_damage_costs_only_that() {
        let dir = tempfile::tempdir().unwrap();
        let mut lease = Lease::open(dir.path()).unwrap();
        assert_eq!(lease.last(), None);
        lease.keep("one", false);
        lease.keep("two", false);
        assert_eq!((lease.last(), Lease::open(dir.path()).unwrap().last()), (Some("two"), Some("two")));
        for slot in ["session/slot.a", "session/slot.b"] {
            std::fs::write(dir.path().join(slot), b"torn").unwrap();
        }
        assert_eq!(Lease::open(dir.path()).unwrap().last(), None);
    }

    #[test]
    fn a_device_that_stood_by_knows_it_until_what_it_holds_has_new_positions() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Lease::open(dir.path()).unwrap();
        let mut lease = read();
        lease.keep("one", false);
        lease.stand_by();
        assert!(read().stood_by() && read().last() == Some("one"));
        lease.keep("two", true);
        assert!(read().stood_by() && read().last() == Some("two"), "killed before it renumbered");
        lease.renumbered();
        assert!(!read().stood_by() && read().last() == Some("two"));
    }

    #[test]
    fn what_the_disk_did_not_take_is_written_once_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let mut lease = Lease::open(dir.path()).unwrap();
        lease.keep("one", false);
        let next = dir.path().join("session/slot.a");
        // A directory stands where the file should be.
        std::fs::remove_file(&next).unwrap();
        std::fs::create_dir(&next).unwrap();
        assert_eq!(lease.kept_instead(), None);
        lease.keep("two", false);
        assert_eq!((lease.last(), lease.kept_instead()), (Some("two"), Some("one")));
        std::fs::remove_dir(&next).unwrap();
        assert_eq!(Lease::open(dir.path()).unwrap().last(), Some("one"));
        lease.settle();
        assert_eq!(lease.kept_instead(), None);
        assert_eq!(Lease::open(dir.path()).unwrap().last(), Some("two"));
    }
}
