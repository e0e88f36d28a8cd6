//! Whether a key made a signature. Knows no certificate's rights: who may sign what is decided by those who ask.

use rustls::pki_types::SignatureVerificationAlgorithm;
use x509_parser::asn1_rs::{BitString, ToDer};
use x509_parser::error::X509Error;
use x509_parser::oid_registry::{OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA};
use x509_parser::verify::verify_signature;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

use crate::tls::certificate::{SHORTEST_RSA, key};

/// What can be verified as strong; the provider's own list.
pub(crate) type Algorithms<'a> = &'a [&'a dyn SignatureVerificationAlgorithm];

/// The answer, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signed {
    /// By another key, or the text was changed.
    No,
    /// In a way that nothing here can verify: MD5, a short key, an algorithm without a name.
    Unknowable,
    /// By that key, though with SHA-1.
    Weakly,
    /// By that key.
    Yes,
}

/// Whether `key` signed `text`.
pub(crate) fn signed(
    text: &[u8],
    signature: &[u8],
    algorithm: &AlgorithmIdentifier<'_>,
    key: &SubjectPublicKeyInfo<'_>,
    algorithms: Algorithms<'_>,
) -> Signed {
    let (Some(signed_with), Some(keyed_with)) = (contents(algorithm), contents(&key.algorithm)) else {
        return Signed::Unknowable;
    };
    let mut known = false;
    for candidate in algorithms {
        if candidate.signature_alg_id().as_ref() != signed_with
            || candidate.public_key_alg_id().as_ref() != keyed_with
        {
            continue;
        }
        known = true;
        if candidate.verify_signature(&key.subject_public_key.data, text, signature).is_ok() {
            return Signed::Yes;
        }
    }
    match known && !is_short(key) {
        true => Signed::No,
        false => weakly(text, signature, algorithm, key),
    }
}

/// SHA-1 with RSA is the only weak way that can still be verified.
fn weakly(
    text: &[u8],
    signature: &[u8],
    algorithm: &AlgorithmIdentifier<'_>,
    key: &SubjectPublicKeyInfo<'_>,
) -> Signed {
    if algorithm.algorithm != OID_PKCS1_SHA1WITHRSA && algorithm.algorithm != OID_SHA1_WITH_RSA {
        return Signed::Unknowable;
    }
    match verify_signature(key, algorithm, &BitString::new(0, signature), text) {
        Ok(()) => Signed::Weakly,
        Err(X509Error::SignatureVerificationError) if !is_short(key) => Signed::No,
        Err(_) => Signed::Unknowable,
    }
}

fn is_short(spki: &SubjectPublicKeyInfo<'_>) -> bool {
    matches!(key(spki), (kind, bits) if kind == "RSA" && bits < SHORTEST_RSA)
}

/// What stands inside of the algorithm's SEQUENCE: how webpki names algorithms.
fn contents(algorithm: &AlgorithmIdentifier<'_>) -> Option<Vec<u8>> {
    let mut bytes = algorithm.algorithm.to_der_vec().ok()?;
    if let Some(parameters) = &algorithm.parameters {
        bytes.extend(parameters.to_der_vec().ok()?);
    }
    Some(bytes)
}
