//! One X.509 certificate (RFC 5280), read for people and for checks. Whether it is trusted is found in `chain`.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::asn1_rs;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{AttributeTypeAndValue, SubjectPublicKeyInfo, X509Name};

use crate::written;

/// An X.509 certificate as served or as kept by the trust store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    /// As served.
    #[serde(with = "written::bytes")]
    pub der: Vec<u8>,
    /// Distinguished name (RFC 4514).
    pub subject: String,
    /// Distinguished name (RFC 4514).
    pub issuer: String,
    /// Lower-case hexadecimal, without the sign byte.
    pub serial: String,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub not_before: i64,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub not_after: i64,
    /// dNSName entries of subjectAltName.
    pub dns_names: Vec<String>,
    /// iPAddress entries of subjectAltName.
    pub ip_addresses: Vec<String>,
    /// "sha256WithRSAEncryption", "ecdsa-with-SHA256"; the dotted OID when it has no name.
    pub signature_algorithm: String,
    /// Kind and bits: ("RSA", 2048), ("EC", 256), ("Ed25519", 256).
    pub key: (String, u32),
    /// Lower-case hexadecimal, over the certificate.
    pub sha256: String,
    /// Lower-case hexadecimal, over the subjectPublicKeyInfo (RFC 7469).
    pub spki_sha256: String,
    /// basicConstraints says CA.
    pub is_ca: bool,
    /// Asks for a stapled OCSP response with every handshake (RFC 7633).
    pub must_staple: bool,
    /// URLs of its OCSP responders (RFC 6960, section 3.1), in its own order.
    pub ocsp_responders: Vec<String>,
    /// URLs of the lists that it would stand in (RFC 5280, section 4.2.1.13), in its own order.
    pub revocation_lists: Vec<String>,
}

impl Certificate {
    /// Reads DER; none when it is not a certificate.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, x509) = X509Certificate::from_der(der).ok()?;
        let (dns_names, ip_addresses) = names(&x509);
        let serial = x509.raw_serial();
        let serial = serial.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(serial);
        Some(Self {
            der: der.to_vec(),
            subject: distinguished_name(x509.subject()),
            issuer: distinguished_name(x509.issuer()),
            serial: hex::encode(serial),
            not_before: x509.validity().not_before.timestamp(),
            not_after: x509.validity().not_after.timestamp(),
            dns_names,
            ip_addresses,
            signature_algorithm: algorithm_name(&x509.signature_algorithm.algorithm.to_id_string()),
            key: key(x509.public_key()),
            sha256: hex::encode(Sha256::digest(der)),
            spki_sha256: hex::encode(Sha256::digest(x509.public_key().raw)),
            is_ca: x509.is_ca(),
            must_staple: must_staple(&x509),
            ocsp_responders: ocsp_responders(&x509),
            revocation_lists: revocation_lists(&x509),
        })
    }

    /// An RSA key that can be computed from its public half.
    pub(crate) fn has_weak_key(&self) -> bool {
        self.key.0 == "RSA" && self.key.1 < SHORTEST_RSA
    }

    /// Signed over a hash for which another certificate can be made.
    pub(crate) fn has_weak_signature(&self) -> bool {
        let name = self.signature_algorithm.to_ascii_lowercase();
        name.contains("md5") || name.contains("sha1")
    }

    pub(crate) fn is_weak(&self) -> bool {
        self.has_weak_key() || self.has_weak_signature()
    }
}

/// Those that can be read, those of them that are known already as they are.
pub(crate) fn read_beside(ders: &[CertificateDer<'_>], known: &[Arc<Certificate>]) -> Vec<Arc<Certificate>> {
    let read = |der: &CertificateDer<'_>| match known.iter().find(|known| *known.der == **der) {
        Some(known) => Some(known.clone()),
        None => Certificate::read(der).map(Arc::new),
    };
    ders.iter().filter_map(read).collect()
}

/// Those that can be read.
pub(crate) fn read_all(ders: &[CertificateDer<'_>]) -> Vec<Arc<Certificate>> {
    ders.iter().filter_map(|der| Certificate::read(der)).map(Arc::new).collect()
}

fn names(x509: &X509Certificate<'_>) -> (Vec<String>, Vec<String>) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let Ok(Some(extension)) = x509.subject_alternative_name() else { return (names, addresses) };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes).map(|ip| ip.to_string())),
            _ => {}
        }
    }
    (names, addresses)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

fn must_staple(x509: &X509Certificate<'_>) -> bool {
    let features = x509.iter_extensions().find(|extension| extension.oid.to_id_string() == TLS_FEATURE);
    let numbers =
        features.and_then(|found| <Vec<u16> as FromDer<'_, asn1_rs::Error>>::from_der(found.value).ok());
    numbers.is_some_and(|(_, numbers)| numbers.contains(&STATUS_REQUEST))
}

fn ocsp_responders(x509: &X509Certificate<'_>) -> Vec<String> {
    let access = x509.iter_extensions().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => Some(&access.accessdescs),
        _ => None,
    });
    let responders = access.flatten().filter(|found| found.access_method.to_id_string() == OCSP);
    responders.filter_map(|found| uri(&found.access_location)).collect()
}

fn revocation_lists(x509: &X509Certificate<'_>) -> Vec<String> {
    let points = x509.iter_extensions().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLDistributionPoints(points) => Some(points.iter()),
        _ => None,
    });
    let names = points.flatten().filter_map(|point| match &point.distribution_point {
        // A list that another authority keeps, or one for some reasons only, answers another question.
        Some(DistributionPointName::FullName(names))
            if point.crl_issuer.is_none() && point.reasons.is_none() =>
        {
            Some(names)
        }
        _ => None,
    });
    names.flatten().filter_map(uri).collect()
}

fn uri(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::URI(text) => Some((*text).to_owned()),
        _ => None,
    }
}

/// RFC 4514: the last relative name first, multi-valued ones joined by a plus.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let short = ATTRIBUTES.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
    match (short, attribute.as_str()) {
        (Some(short), Ok(text)) => format!("{short}={}", escaped(text)),
        (None, Ok(text)) => format!("{oid}={}", escaped(text)),
        (_, Err(_)) => format!("{}=#{}", short.unwrap_or(&oid), hex::encode(attribute.as_slice())),
    }
}

/// RFC 4514, section 2.4.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (i, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            '#' if i == 0 => out.push_str("\\#"),
            ' ' if i == 0 || i == last => out.push_str("\\ "),
            '\0' => out.push_str("\\00"),
            c => out.push(c),
        }
    }
    out
}

pub(crate) fn key(spki: &SubjectPublicKeyInfo<'_>) -> (String, u32) {
    let oid = spki.algorithm.algorithm.to_id_string();
    let curve =
        spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|oid| oid.to_id_string());
    match (spki.parsed(), oid.as_str()) {
        (_, "1.3.101.112") => ("Ed25519".to_owned(), 256),
        (_, "1.3.101.113") => ("Ed448".to_owned(), 456),
        (Ok(PublicKey::RSA(rsa)), _) => ("RSA".to_owned(), rsa_bits(rsa.modulus)),
        (Ok(PublicKey::EC(point)), _) => {
            let bits = match curve.as_deref() {
                Some("1.2.840.10045.3.1.7") => 256,
                Some("1.3.132.0.34") => 384,
                Some("1.3.132.0.35") => 521,
                _ => point.key_size(),
            };
            ("EC".to_owned(), u32::try_from(bits).unwrap_or(u32::MAX))
        }
        _ => (oid, u32::try_from(spki.subject_public_key.data.len() * 8).unwrap_or(u32::MAX)),
    }
}

fn rsa_bits(modulus: &[u8]) -> u32 {
    let significant: &[u8] = &modulus[modulus.iter().take_while(|byte| **byte == 0).count()..];
    let zeros = significant.first().map_or(0, |byte| byte.leading_zeros());
    u32::try_from(significant.len() * 8).unwrap_or(u32::MAX) - zeros
}

fn algorithm_name(oid: &str) -> String {
    SIGNATURES.iter().find(|(known, _)| *known == oid).map_or(oid, |(_, name)| name).to_owned()
}

/// RFC 4514, section 3, and the two that everybody prints by name.
const ATTRIBUTES: [(&str, &str); 11] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("2.5.4.5", "serialNumber"),
];

const SIGNATURES: [(&str, &str); 14] = [
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption"),
    ("1.3.14.3.2.29", "sha1WithRSASignature"),
    ("1.2.840.113549.1.1.10", "rsassaPss"),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption"),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption"),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.2.840.10040.4.3", "dsa-with-SHA1"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
];

/// Bits; what webpki takes, and every browser.
pub(crate) const SHORTEST_RSA: u32 = 2048;
/// RFC 7633.
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
/// RFC 6066, section 8.
const STATUS_REQUEST: u16 = 5;
/// RFC 6960, section 3.1.
const OCSP: &str = "1.3.6.1.5.5.7.48.1";
