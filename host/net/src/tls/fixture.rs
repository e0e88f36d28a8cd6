//! An authority for the tests beside `ocsp` and `crl`, which look at bytes. Handshakes are tested from outside this crate.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CrlDistributionPoint, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SerialNumber,
};

use crate::tls::certificate::Certificate;
use crate::tls::signature::Algorithms;

pub(crate) struct Authority {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) certificate: Certificate,
}

impl Authority {
    /// Where its list is.
    pub(crate) const LIST: &'static str = "http://ca.test/1.crl";

    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let certificate = Certificate::read(issuer.der()).unwrap();
        Self { issuer, certificate }
    }

    pub(crate) fn leaf(&self, serial: u64) -> Certificate {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![Self::LIST.to_owned()] }];
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap();
        Certificate::read(leaf.der()).unwrap()
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }
}

pub(crate) fn algorithms() -> Algorithms<'static> {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all
}
