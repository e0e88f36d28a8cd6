//! The control plane's name to addresses: asks the system each time, and when that fails three times in a row, goes by the addresses
//! that were good last. Whoever answers there still has to prove by its certificate who it is. Nothing else is remembered, no answer
//! and no failure, so that a name server that was repaired counts with the next attempt.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Shared by all clients of one agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<Mutex<HashMap<String, Known>>>);

/// What is known of a name. Pure.
#[derive(Debug, Default)]
struct Known {
    /// Of the last answer that had any.
    addresses: Vec<SocketAddr>,
    /// Failures since then.
    failures: u32,
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let all = self.0.clone();
        Box::pin(async move {
            let name = name.as_str();
            let found = match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((name, 0))).await {
                Ok(found) => found.map(Iterator::collect),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no name server answers")),
            };
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            let addresses = all.entry(name.to_owned()).or_default().answered(found)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

impl Known {
    /// The addresses to go to after this answer.
    fn answered(&mut self, found: io::Result<Vec<SocketAddr>>) -> io::Result<Vec<SocketAddr>> {
        let error = match found {
            Ok(found) if !found.is_empty() => {
                *self = Self { addresses: found.clone(), failures: 0 };
                return Ok(found);
            }
            Ok(_) => io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
            Err(error) => error,
        };
        self.failures = self.failures.saturating_add(1);
        if self.failures < PATIENCE || self.addresses.is_empty() {
            return Err(error);
        }
        if self.failures == PATIENCE {
            tracing::warn!(%error, "no address for the control plane's name: trying those that were good last");
        }
        Ok(self.addresses.clone())
    }
}

/// After so many failures in a row the last good addresses are used.
const PATIENCE: u32 = 3;

/// A lookup that takes longer has failed: connecting needs a part of its time too.
const LOOKUP: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other("SERVFAIL"))
    }

    #[test]
    fn after_three_failures_in_a_row_the_last_good_addresses_are_used_until_there_is_an_answer() {
        let (old, new) = ("192.0.2.1:0".parse().unwrap(), "192.0.2.2:0".parse().unwrap());
        let mut known = Known::default();
        assert_eq!(known.answered(Ok(vec![old])).unwrap(), [old]);
        for _ in 0..2 {
            assert!(known.answered(failed()).is_err());
        }
        assert_eq!(known.answered(Ok(vec![])).unwrap(), [old], "no address is a failure too");
        assert_eq!(known.answered(failed()).unwrap(), [old]);
        assert_eq!(known.answered(Ok(vec![new])).unwrap(), [new]);
        assert!(known.answered(failed()).is_err(), "failures are counted from the last answer on");
    }

    #[test]
    fn without_an_answer_ever_there_is_nothing_to_fall_back_to() {
        let mut known = Known::default();
        assert!((0..9).all(|_| known.answered(failed()).is_err()));
    }
}
