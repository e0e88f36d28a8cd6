//! What can go wrong before a run: a rule that cannot be read, a resolver that cannot be made. What goes wrong in a run is a
//! [`Failure`](crate::Failure).

/// Why a value or the network itself could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule, a name or an address that has no meaning, or more than one.
    #[error("{found:?} is not a target: {reason}")]
    Rule {
        /// What was written.
        found: String,
        /// What to write instead.
        reason: String,
    },
    /// The resolver refused its configuration.
    #[error("cannot set up the resolver")]
    Resolver(#[source] hickory_resolver::net::NetError),
}
