//! The lease that this agent was given last, on its disk: the next hello names it, and whoever names an older one shows a copy of the
//! data directory. Apart from the identity, whose slots are written seldom.

use std::path::Path;

use crate::Error;
use crate::slots::{Kind, Slots, Stored};

/// The last lease.
#[derive(Debug)]
pub(crate) struct Lease {
    slots: Slots,
    last: Option<String>,
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
        let last = match stored {
            Stored::Newer { path, format } => return Err(Error::newer(path, format)),
            Stored::Valid(payloads) => payloads.first().and_then(|p| String::from_utf8(p.to_vec()).ok()),
            Stored::Nothing | Stored::Damaged { .. } => None,
        };
        Ok(Self { slots, last })
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Keeps a new one, before anything is said in it.
    pub(crate) fn keep(&mut self, lease: &str) {
        self.last = Some(lease.to_owned());
        if let Err(error) = self.slots.store(lease.as_bytes()) {
            tracing::warn!(%error, "cannot keep the lease on disk: after a restart this agent may be taken for a copy, for half a minute");
        }
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
        lease.keep("one");
        lease.keep("two");
        assert_eq!((lease.last(), Lease::open(dir.path()).unwrap().last()), (Some("two"), Some("two")));
        for slot in ["session/slot.a", "session/slot.b"] {
            std::fs::write(dir.path().join(slot), b"torn").unwrap();
        }
        assert_eq!(Lease::open(dir.path()).unwrap().last(), None);
    }
}
