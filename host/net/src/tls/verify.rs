//! What rustls asks during a handshake. It finds every defect, keeps them, and refuses or goes on as the trust says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use crate::tls::certificate::Certificate;
use crate::tls::chain::{Roots, inspect};
use crate::types::{Defect, Trust};

/// One handshake's verifier.
#[derive(Debug)]
pub(crate) struct Verifier {
    trust: Trust,
    roots: Roots,
    algorithms: WebPkiSupportedAlgorithms,
    found: Mutex<Found>,
    asked: AtomicBool,
    /// What this side shows.
    identity: Option<Arc<CertifiedKey>>,
}

#[derive(Debug, Default)]
struct Found {
    chain: Vec<Arc<Certificate>>,
    defects: Vec<Defect>,
}

impl Verifier {
    pub(crate) fn new(trust: Trust, roots: Roots, identity: Option<Arc<CertifiedKey>>) -> Self {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let asked = AtomicBool::new(false);
        Self { trust, roots, algorithms, found: Mutex::default(), asked, identity }
    }

    /// Every defect found so far.
    pub(crate) fn defects(&self) -> Vec<Defect> {
        self.with(|found| found.defects.clone())
    }

    /// The verified chain, or every defect.
    pub(crate) fn verdict(&self) -> Result<Vec<Arc<Certificate>>, Vec<Defect>> {
        self.with(|found| match found.defects.is_empty() {
            true => Ok(found.chain.clone()),
            false => Err(found.defects.clone()),
        })
    }

    /// Whether the server asked for a client certificate.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// A server that cannot prove that it holds the key; only a recording handshake goes on.
    fn judged(
        &self,
        signature: Result<HandshakeSignatureValid, Error>,
        cert: &CertificateDer<'_>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Err(error) = signature else { return signature };
        let message = match Certificate::read(cert).map(|certificate| certificate.key) {
            Some((kind, bits)) if kind == "RSA" && bits < SHORTEST_RSA => {
                format!(
                    "the server's key is too short to prove anything: RSA with {bits} bits, not {SHORTEST_RSA}"
                )
            }
            _ => format!("the server did not prove that it holds the certificate's key: {error}"),
        };
        self.with(|found| found.defects.push(Defect { code: "bad-signature".to_owned(), message }));
        match self.trust {
            Trust::Recorded => Ok(HandshakeSignatureValid::assertion()),
            Trust::Required | Trust::Unverified => Err(error),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Found) -> T) -> T {
        work(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let served: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        match inspect(&served, server_name, &self.roots, now, self.algorithms.all) {
            Ok(chain) => self.with(|found| found.chain = chain),
            Err(defects) => self.with(|found| found.defects.extend(defects)),
        }
        match self.trust == Trust::Required && !self.defects().is_empty() {
            true => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
            false => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judged(verify_tls12_signature(message, cert, dss, &self.algorithms), cert)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judged(verify_tls13_signature(message, cert, dss, &self.algorithms), cert)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Remembers being asked.
impl ResolvesClientCert for Verifier {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

/// What webpki takes.
const SHORTEST_RSA: u32 = 2048;
