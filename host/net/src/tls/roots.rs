//! Certificate authorities: the system's, or those that a check names. Which of them a chain leads to is found in `path`.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::files::{Files, Unread};
use crate::route::Pem;

/// Certificate authorities; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Roots(Arc<Store>);

#[derive(Debug)]
struct Store {
    anchors: RootCertStore,
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

    /// Those that a check or its monitor names.
    pub(crate) async fn given(ca: &Pem, files: &Files) -> Result<Self, Unread> {
        let what = match ca {
            Pem::Text(_) => "the text of ca",
            Pem::File(name) => name,
        };
        let pem = ca.read("certificates", files).await?;
        match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
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
        anchors.add_parsable_certificates(certificates.iter().cloned());
        let mut by_subject: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (i, der) in certificates.iter().enumerate() {
            if let Ok((_, x509)) = X509Certificate::from_der(der) {
                by_subject.entry(x509.subject().as_raw().to_vec()).or_default().push(i);
            }
        }
        Self(Arc::new(Store { anchors, certificates, by_subject, given }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn broken_pem_is_not_quoted() {
        let pem = "-----BEGIN CERTIFICATE-----\nhunter22!\n-----END CERTIFICATE-----\n";
        let refused = Roots::given(&Pem::said(pem), &Files::default()).await.unwrap_err();
        assert!(
            matches!(refused, Unread::Unusable(words) if words == "the text of ca is not well-formed PEM")
        );
    }
}
