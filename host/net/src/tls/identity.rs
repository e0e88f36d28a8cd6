//! The client certificate of a session: read, matched with its key, and shown to a server that asks for one.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::roots::file;
use crate::route::{Identity, Pem};

/// What a handshake shows. An error is a sentence about the configuration, without anything that was read.
pub(super) async fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, String> {
    let pem = read("cert", &identity.certificates).await?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| "tls.cert is not well-formed PEM".to_owned())?;
    if certificates.is_empty() {
        return Err("tls.cert holds no certificate in PEM".to_owned());
    }
    let pem = read("key", &identity.key).await?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
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

async fn read(which: &str, pem: &Pem) -> Result<Zeroizing<Vec<u8>>, String> {
    match pem {
        Pem::Text(text) => Ok(text.clone()),
        // One text for every reason, as for authorities.
        Pem::File(path) => file(path).await.map(Zeroizing::new).ok_or_else(|| {
            format!(
                "cannot read tls.{which} from {path}: it must be a readable regular file of at most 1 MiB"
            )
        }),
    }
}
