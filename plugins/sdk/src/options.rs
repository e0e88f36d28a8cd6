//! Options of an exchange of which a check names only some.

use crate::tls::{Options, Trust};

/// A verified peer, and everything else as the `tls` of the monitor says: a check has no options of its own for that.
impl Default for Options {
    fn default() -> Self {
        Self {
            server_name: None,
            alpn: Vec::new(),
            min_version: None,
            max_version: None,
            ca: None,
            client_identity: None,
            trust: Trust::Required,
        }
    }
}
