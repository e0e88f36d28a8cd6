//! The client certificate of a session: matched with its key, and shown to a server that asks for one.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::files::{Files, Unread};
use crate::route::Identity;

/// What a handshake shows. An error is a sentence about the configuration, without anything that was read.
pub(super) async fn certified(identity: &Identity, files: &Files) -> Result<Arc<CertifiedKey>, Unread> {
    let certificates = identity.certificates.read("tls.cert", files).await?;
    let key = identity.key.read("tls.key", files).await?;
    matched(&certificates, &key).map_err(Unread::Unusable)
}

fn matched(certificates: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    let certificates = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| "tls.cert is not well-formed PEM".to_owned())?;
    if certificates.is_empty() {
        return Err("tls.cert holds no certificate in PEM".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        "tls.key holds no private key in PEM; one that is encrypted cannot be used".to_owned()
    })?;
    let key = Zeroizing::new(key);
    let key = any_supported_type(&key).map_err(|_| "tls.key is of a kind that is not spoken".to_owned())?;
    let certified = CertifiedKey::new(certificates, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err("tls.key does not belong to tls.cert".to_owned())
        }
        Err(rustls::Error::InvalidCertificate(_)) => Err("tls.cert cannot be read".to_owned()),
        _ => Ok(Arc::new(certified)),
    }
}
