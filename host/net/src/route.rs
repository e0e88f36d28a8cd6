//! How a session goes to its targets: address family, name servers, proxy, TLS. The monitor's own word, as plain data; it opens
//! nothing, `grant` decides all the same. What a check names itself for an exchange stands above it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use zeroize::Zeroizing;

use crate::files::{Files, Unread};
use crate::types::{Endpoint, Family, TlsOptions, Trust};

/// How a session goes to its targets.
///
/// # Defaults
/// As the machine does it: both families, every address of a name, the process' name servers, no proxy, the system's authorities.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Which addresses of a name may be used, where an exchange does not say.
    pub family: Family,
    /// Only the first address of a name is dialled, and no other when it fails.
    pub first_only: bool,
    /// A name that is not looked up, because this is its address; the grant is asked for it as for any other.
    pub pinned: Option<(String, IpAddr)>,
    /// Asked instead of the process' own, without `/etc/hosts` and search list; each must be in [`Grant::resolvers`].
    ///
    /// [`Grant::resolvers`]: crate::Grant::resolvers
    pub name_servers: Vec<SocketAddr>,
    /// Every TCP connection to a target goes through it; only where the ceiling names it.
    pub proxy: Option<Proxy>,
    /// Where the options of a handshake say nothing.
    pub tls: Tls,
}

/// An HTTP proxy that opens ways (RFC 9110, section 9.3.6).
#[derive(Clone)]
pub struct Proxy {
    /// Where it listens.
    pub at: Endpoint,
    /// "user:password" (RFC 7617), wiped when dropped.
    pub credentials: Option<Zeroizing<Vec<u8>>>,
}

/// What handshakes use where their options say nothing.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificate authorities instead of the system's, where a handshake names none.
    pub ca: Option<Pem>,
    /// What this side shows to a server that asks for a certificate: [`Tls::IDENTITY`].
    pub identity: Option<Identity>,
    /// Name to ask for (SNI) and to verify.
    pub server_name: Option<String>,
    /// [`Trust::Unverified`] where an exchange would verify.
    pub unverified: bool,
    /// "1.2" or "1.3".
    pub min_version: Option<String>,
    /// "1.2" or "1.3".
    pub max_version: Option<String>,
}

/// A client certificate and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, perhaps those of its intermediates behind it.
    pub certificates: Pem,
    /// The certificate's key, not encrypted.
    pub key: Pem,
}

/// PEM, or where it lies.
#[derive(Clone)]
pub enum Pem {
    /// The text itself, wiped when dropped.
    Text(Zeroizing<Vec<u8>>),
    /// The path of a file on this machine that the ceiling opens ([`Files`]); read at each handshake, so a renewed certificate is used
    /// at once.
    File(String),
}

impl Pem {
    /// What a text means that may be either.
    pub fn said(text: &str) -> Self {
        match text.contains("-----BEGIN") {
            true => Pem::Text(Zeroizing::new(text.as_bytes().to_vec())),
            false => Pem::File(text.to_owned()),
        }
    }

    pub(crate) async fn read(&self, what: &'static str, files: &Files) -> Result<Zeroizing<Vec<u8>>, Unread> {
        match self {
            Pem::Text(text) => Ok(text.clone()),
            Pem::File(name) => files.read(what, name).await,
        }
    }
}

impl Tls {
    /// The name under which [`TlsOptions::client_identity`] means the session's own.
    pub const IDENTITY: &str = "monitor";

    /// The options, with what they leave open filled in, but for authorities: the handshake takes these.
    pub(crate) fn beneath(&self, options: TlsOptions) -> TlsOptions {
        let own = || self.identity.as_ref().map(|_| Self::IDENTITY.to_owned());
        TlsOptions {
            server_name: options.server_name.or_else(|| self.server_name.clone()),
            min_version: options.min_version.or_else(|| self.min_version.clone()),
            max_version: options.max_version.or_else(|| self.max_version.clone()),
            client_identity: options.client_identity.or_else(own),
            trust: match options.trust {
                Trust::Required if self.unverified => Trust::Unverified,
                other => other,
            },
            ..options
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.at)
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::Text(_) => f.write_str("***"),
            Pem::File(path) => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_exchange_names_itself_stands_above_the_monitors() {
        let text = |text: &str| Some(text.to_owned());
        let pem = || Pem::Text(Zeroizing::new(b"key".to_vec()));
        let tls = Tls {
            ca: Some(Pem::said("/mine.pem")),
            identity: Some(Identity { certificates: pem(), key: pem() }),
            server_name: text("a.example"),
            unverified: true,
            min_version: text("1.2"),
            max_version: text("1.3"),
        };
        let filled = tls.beneath(TlsOptions::default());
        assert_eq!(filled.server_name, text("a.example"));
        assert_eq!((filled.min_version, filled.max_version), (text("1.2"), text("1.3")));
        assert_eq!((filled.client_identity, filled.trust), (text("monitor"), Trust::Unverified));
        let named = TlsOptions {
            server_name: text("b.example"),
            ca: text("theirs"),
            max_version: text("1.2"),
            trust: Trust::Recorded,
            ..TlsOptions::default()
        };
        let kept = tls.beneath(named);
        assert_eq!((kept.ca, kept.server_name), (text("theirs"), text("b.example")));
        assert_eq!((kept.max_version, kept.trust), (text("1.2"), Trust::Recorded));
        assert_eq!(Tls::default().beneath(TlsOptions::default()), TlsOptions::default());
    }

    #[test]
    fn debug_prints_no_key_and_no_password() {
        let secret = || Zeroizing::new(b"user:hunter22".to_vec());
        let route = Route {
            proxy: Some(Proxy { at: Endpoint::new("proxy.example", 3128), credentials: Some(secret()) }),
            tls: Tls {
                identity: Some(Identity { certificates: Pem::Text(secret()), key: Pem::Text(secret()) }),
                ..Tls::default()
            },
            ..Route::default()
        };
        let shown = format!("{route:?}");
        assert!(shown.contains("proxy.example:3128") && !shown.contains("hunter22"), "{shown}");
    }
}
