//! Certificate authorities: the system's, or those that a check names. Which of them a chain leads to is found in `path`.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::AsyncReadExt;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

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

    /// PEM text, or the path of a PEM file: a regular one of at most 1 MiB, since it is named from outside this machine.
    pub(crate) async fn given(ca: &str) -> Result<Self, String> {
        let (what, pem) = match ca.contains("-----BEGIN") {
            true => ("the text of ca", ca.as_bytes().to_vec()),
            false => match file(ca).await {
                Some(pem) => (ca, pem),
                // One text for every reason: the path is named by whoever wrote the check, who need not learn what is on this disk.
                None => {
                    let wanted = "it must be a readable regular file of at most 1 MiB";
                    return Err(format!("cannot read certificates from {ca}: {wanted}"));
                }
            },
        };
        match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if certificates.is_empty() => Err(format!("{what} holds no certificate in PEM")),
            Ok(certificates) => Ok(Self::new(certificates, true)),
            // The parser's own words quote what it has read.
            Err(_) => Err(format!("{what} is not well-formed PEM")),
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

/// The whole file. The kernel's own (/proc) say that they are empty and are not read at all; the bound holds for what is read,
/// not for what the disk says.
pub(super) async fn file(path: &str) -> Option<Vec<u8>> {
    let about = tokio::fs::metadata(path).await.ok()?;
    if !about.is_file() || about.len() == 0 {
        return None;
    }
    let mut bytes = Vec::new();
    let mut limited = tokio::fs::File::open(path).await.ok()?.take(LARGEST_FILE + 1);
    limited.read_to_end(&mut bytes).await.ok()?;
    (bytes.len() as u64 <= LARGEST_FILE).then_some(bytes)
}

const LARGEST_FILE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(ca: &str, expected: &str) {
        assert_eq!(Roots::given(ca).await.unwrap_err(), expected);
    }

    #[tokio::test]
    async fn what_is_no_regular_file_with_a_length_is_refused_in_one_text() {
        for path in ["/proc/self/environ", "/proc/kmsg", "/dev/zero", "/", "/there/is/no/such/file"] {
            let wanted = "it must be a readable regular file of at most 1 MiB";
            check(path, &format!("cannot read certificates from {path}: {wanted}")).await;
        }
    }

    #[tokio::test]
    async fn broken_pem_is_not_quoted() {
        let pem = "-----BEGIN CERTIFICATE-----\nhunter22!\n-----END CERTIFICATE-----\n";
        check(pem, "the text of ca is not well-formed PEM").await;
    }
}
