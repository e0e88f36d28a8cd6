//! What can go wrong before a run: a rule that cannot be read, a machine without name servers. What goes wrong in a run is a
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
    /// The system's resolver configuration could not be read.
    #[error("cannot read the system's name servers; name them with --resolver")]
    Resolver(#[source] hickory_resolver::net::NetError),
    /// The TLS library refused its own settings.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}
