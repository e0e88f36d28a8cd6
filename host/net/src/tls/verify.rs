//! What rustls asks during a handshake. It finds every defect, keeps them, and refuses or goes on as the trust says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use crate::tls::certificate::{self, Certificate};
use crate::tls::chain::{Inspected, defect, inspect};
use crate::tls::roots::Roots;
use crate::tls::rules::weak_key;
use crate::tls::staple;
use crate::types::{Defect, Revocation, Trust};

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

/// What a handshake showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// As served, leaf first; those that cannot be read are left out.
    pub(crate) served: Vec<Arc<Certificate>>,
    /// From the leaf up as far as issuers are known.
    pub(crate) path: Vec<Arc<Certificate>>,
    /// Every reason not to trust the peer, the gravest first.
    pub(crate) defects: Vec<Defect>,
    /// The OCSP response that came with the certificate.
    pub(crate) staple: Option<Vec<u8>>,
    /// What it says, if that can be believed.
    pub(crate) stapled: Revocation,
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

    /// Everything.
    pub(crate) fn found(&self) -> Found {
        self.with(|found| found.clone())
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
        let certificate = Certificate::read(cert).filter(Certificate::has_weak_key);
        self.with(|found| match certificate {
            // It was said with the rest of the chain, unless there was none.
            Some(_) if found.defects.iter().any(|known| known.code == "weak-key") => {}
            Some(certificate) => found.defects.push(weak_key("the certificate", &certificate)),
            // Nor is it news that the certificate cannot be read.
            None if is_unread(&error) && !found.defects.is_empty() => {}
            None => {
                let message =
                    format!("the server did not prove that it holds the certificate's key: {error}");
                found.defects.push(defect("bad-signature", message));
            }
        });
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
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let served: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        let Inspected { path, mut defects } =
            inspect(&served, server_name, &self.roots, now, self.algorithms.all);
        let staple = (!ocsp_response.is_empty()).then(|| ocsp_response.to_vec());
        // Nobody sends a key or a password to a server whose own proof says that it is revoked.
        let (stapled, broken) = staple::judge(staple.as_deref(), &path, now, self.algorithms.all);
        defects.extend(broken);
        let served = certificate::read_beside(&served, &path);
        self.with(|found| *found = Found { served, path, defects, staple, stapled });
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

/// Before a signature is looked at, webpki reads the certificate with all that it demands.
fn is_unread(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::BadEncoding | CertificateError::Other(_)))
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
