//! .
pub(crate) mod backoff;
pub(crate) mod client;
mod machine;
pub(crate) mod transport;
