//! What ties a login to its TLS session: tls-server-end-point (RFC 5929, section 4.1), the only binding that PostgreSQL speaks,
//! also over TLS 1.3, for which RFC 9266 would have another one.

use sdk::tls;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// What there is to tie a login to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Binding {
    /// No TLS.
    NoTls,
    /// The hash of the server's certificate.
    EndPoint(Vec<u8>),
    /// A certificate signed with this, for which the RFC knows no hash.
    Unknown(String),
}

/// The binding of a session.
pub(crate) fn of(session: &tls::Session) -> Binding {
    match session.served().first() {
        Some(certificate) => end_point(&certificate.signature_algorithm(), &certificate.der()),
        None => Binding::Unknown("something unreadable".into()),
    }
}

/// The hash that the certificate was signed with, but SHA-256 in the place of MD5 and SHA-1.
fn end_point(algorithm: &str, der: &[u8]) -> Binding {
    let name = algorithm.to_ascii_lowercase();
    let has = |hash: &str| name.contains(hash);
    if has("md5") || has("sha1") || has("sha256") {
        Binding::EndPoint(Sha256::digest(der).to_vec())
    } else if has("sha384") {
        Binding::EndPoint(Sha384::digest(der).to_vec())
    } else if has("sha512") {
        Binding::EndPoint(Sha512::digest(der).to_vec())
    } else {
        // RSASSA-PSS says its hash in its parameters, and Ed25519 has none: PostgreSQL itself fails with either before 16.
        Binding::Unknown(algorithm.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_signature_and_never_a_weak_one() {
        let length = |algorithm: &str| match end_point(algorithm, b"certificate") {
            Binding::EndPoint(hash) => Some(hash.len()),
            _ => None,
        };
        assert_eq!(length("ecdsa-with-SHA256"), Some(32));
        assert_eq!(length("sha1WithRSAEncryption"), Some(32));
        assert_eq!(length("md5WithRSAEncryption"), Some(32));
        assert_eq!(length("ecdsa-with-SHA384"), Some(48));
        assert_eq!(length("sha512WithRSAEncryption"), Some(64));
        assert_eq!(length("Ed25519"), None);
        assert_eq!(length("rsassaPss"), None);
    }
}
