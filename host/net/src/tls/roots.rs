//! Certificate authorities: the system's, or those that a check names. Which of them a chain leads to is found in `chain`, and in
//! `path` where it is not trusted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::files::{Files, Unread};
use crate::route::Pem;
use crate::tls::certificate::Certificate;

/// Certificate authorities; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Roots(Arc<Store>);

#[derive(Debug)]
struct Store {
    anchors: RootCertStore,
    /// Of each anchor, which certificate it is.
    anchored: Vec<usize>,
    certificates: Vec<CertificateDer<'static>>,
    by_subject: HashMap<Vec<u8>, Vec<usize>>,
    /// Named by the check, not the system's.
    given: bool,
}

impl Roots {
    /// The system's, and those of SSL_CERT_FILE and SSL_CERT_DIR where these are set.
    pub(crate) fn system() -> Self {
        Self::new(rustls_native_certs::load_native_certs().certs, false)
    }

    /// Those of a text in PEM; an error says what `what` is instead.
    fn given(pem: &[u8], what: &str) -> Result<Self, Unread> {
        match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if certificates.is_empty() => {
                Err(Unread::Unusable(format!("{what} holds no certificate in PEM")))
            }
            Ok(certificates) => Ok(Self::new(certificates, true)),
            // The parser's own words quote what it has read.
            Err(_) => Err(Unread::Unusable(format!("{what} is not well-formed PEM"))),
        }
    }

    /// In the form that webpki takes.
    pub(crate) fn anchors(&self) -> &RootCertStore {
        &self.0.anchors
    }

    /// The certificate of one of these anchors.
    pub(crate) fn of(&self, anchor: &TrustAnchor<'_>) -> Option<Arc<Certificate>> {
        let place = self.0.anchors.roots.iter().position(|own| std::ptr::eq(own, anchor))?;
        Certificate::read(&self.0.certificates[*self.0.anchored.get(place)?]).map(Arc::new)
    }

    /// Whether there are none at all.
    pub(crate) fn are_none(&self) -> bool {
        self.0.certificates.is_empty()
    }

    /// Whether the check named them.
    pub(crate) fn are_given(&self) -> bool {
        self.0.given
    }

    fn new(certificates: Vec<CertificateDer<'static>>, given: bool) -> Self {
        let mut anchors = RootCertStore::empty();
        let anchored = (0..certificates.len()).filter(|i| anchors.add(certificates[*i].clone()).is_ok());
        let anchored = anchored.collect();
        let mut by_subject: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (i, der) in certificates.iter().enumerate() {
            if let Ok((_, x509)) = X509Certificate::from_der(der) {
                by_subject.entry(x509.subject().as_raw().to_vec()).or_default().push(i);
            }
        }
        Self(Arc::new(Store { anchors, anchored, certificates, by_subject, given }))
    }

    /// Those of that subject, which is in DER.
    pub(crate) fn named(&self, subject: &[u8]) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.by_subject.get(subject).into_iter().flatten().map(|i| &self.0.certificates[*i])
    }

    /// Whether that very certificate is among them.
    pub(crate) fn contains(&self, der: &CertificateDer<'_>) -> bool {
        self.0.certificates.iter().any(|own| own == der)
    }
}

/// The authorities that checks named lately, the last first: a monitor names the same ones in every run.
#[derive(Default)]
pub(crate) struct Named(Mutex<Vec<([u8; 32], Roots)>>);

impl Named {
    /// Those that a check or its monitor names. A file is read each time, so that a new one counts at once.
    pub(crate) async fn read(&self, ca: &Pem, files: &Files) -> Result<Roots, Unread> {
        let what = match ca {
            Pem::Text(_) => "the text of ca",
            Pem::File(name) => name,
        };
        let pem = ca.read("certificates", files).await?;
        let digest = Sha256::digest(&pem).into();
        if let Some(known) = self.known(&digest) {
            return Ok(known);
        }
        let roots = Roots::given(&pem, what)?;
        let mut lately = self.lately();
        lately.insert(0, (digest, roots.clone()));
        lately.truncate(MOST_NAMED);
        Ok(roots)
    }

    fn known(&self, digest: &[u8; 32]) -> Option<Roots> {
        let mut lately = self.lately();
        let place = lately.iter().position(|(known, _)| known == digest)?;
        lately[..=place].rotate_right(1);
        Some(lately[0].1.clone())
    }

    fn lately(&self) -> MutexGuard<'_, Vec<([u8; 32], Roots)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bundle of everybody's authorities takes half a megabyte.
const MOST_NAMED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::fixture::Authority;

    #[tokio::test]
    async fn authorities_are_read_once_and_forgotten_when_others_are_named() {
        let named = Named::default();
        let pem = |n: usize| Pem::said(&Authority::new(&format!("authority {n}")).pem());
        let texts: Vec<_> = (0..=MOST_NAMED).map(pem).collect();
        let read = async |n: usize| named.read(&texts[n], &Files::default()).await.unwrap();
        let first = read(0).await;
        for n in 1..MOST_NAMED {
            assert!(!Arc::ptr_eq(&read(n).await.0, &first.0));
        }
        assert!(Arc::ptr_eq(&read(0).await.0, &first.0));
        let second = read(1).await;
        read(MOST_NAMED).await;
        assert!(Arc::ptr_eq(&read(0).await.0, &first.0), "it was named lately");
        assert!(Arc::ptr_eq(&read(1).await.0, &second.0));
        let third = read(2).await;
        assert!(Arc::ptr_eq(&read(2).await.0, &third.0));
        assert_eq!(named.lately().len(), MOST_NAMED);
    }

    #[tokio::test]
    async fn broken_pem_is_not_quoted() {
        let pem = "-----BEGIN CERTIFICATE-----\nhunter22!\n-----END CERTIFICATE-----\n";
        let refused = Named::default().read(&Pem::said(pem), &Files::default()).await.unwrap_err();
        assert!(
            matches!(refused, Unread::Unusable(words) if words == "the text of ca is not well-formed PEM")
        );
    }
}
