//! The path from a served leaf up to its root: each issuer found by name and key, among the authorities and the served. Says which
//! certificates count; whether they are to be trusted is asked of webpki in `chain`.

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::tls::roots::Roots;
use crate::tls::signature::{Algorithms, Signed, signed};

/// How far issuers are known.
pub(crate) struct Path<'a> {
    /// Leaf first. The last one is an authority of the roots, or nobody knows its issuer.
    pub(crate) certificates: Vec<CertificateDer<'a>>,
    /// Somebody has the name of the last one's issuer, but another key.
    pub(crate) impostor: bool,
}

/// Finds it. Of several that could be the issuer an authority goes first, and what is valid now before what is not: servers hand out
/// the old and the new intermediate together, and crossed ones whose root has expired.
pub(crate) fn path<'a>(
    served: &[CertificateDer<'a>],
    roots: &Roots,
    now: UnixTime,
    algorithms: Algorithms<'_>,
) -> Path<'a> {
    let mut found = Path { certificates: served.first().cloned().into_iter().collect(), impostor: false };
    while let Some(last) = found.certificates.last() {
        if roots.contains(last) || found.certificates.len() >= LONGEST_PATH {
            break;
        }
        let Ok((_, child)) = X509Certificate::from_der(last) else { break };
        if is_self_signed(&child, algorithms) {
            break;
        }
        let from_roots = roots.named(child.issuer().as_raw()).map(|der| (der, true));
        let others = served.iter().take(MOST_SERVED).filter(|der| !found.certificates.contains(der));
        let candidates: Vec<(&CertificateDer<'a>, bool)> =
            from_roots.chain(others.map(|der| (der, false))).collect();
        let mut best: Option<(Rank, &CertificateDer<'a>)> = None;
        for (der, is_root) in candidates {
            let Some(rank) = rank(der, is_root, &child, now, algorithms) else { continue };
            if best.as_ref().is_none_or(|(known, _)| rank > *known) {
                best = Some((rank, der));
            }
        }
        match best {
            Some((Rank { signed: Signed::No, .. }, _)) => {
                found.impostor = true;
                break;
            }
            Some((_, issuer)) => {
                let issuer = issuer.clone();
                found.certificates.push(issuer);
            }
            None => break,
        }
    }
    found
}

/// Whether the certificate vouches for itself.
pub(crate) fn is_self_signed(certificate: &X509Certificate<'_>, algorithms: Algorithms<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
        && signature_of(certificate, certificate, algorithms) != Signed::No
}

/// Whether the issuer's key signed the child.
pub(crate) fn signature_of(
    child: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    algorithms: Algorithms<'_>,
) -> Signed {
    let (text, signature) = (child.tbs_certificate.as_ref(), &child.signature_value.data);
    signed(text, signature, &child.signature_algorithm, issuer.public_key(), algorithms)
}

/// How well a certificate fits as the issuer; compared field by field.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    signed: Signed,
    is_root: bool,
    is_valid_now: bool,
}

/// None for whoever has another name.
fn rank(
    der: &CertificateDer<'_>,
    is_root: bool,
    child: &X509Certificate<'_>,
    now: UnixTime,
    algorithms: Algorithms<'_>,
) -> Option<Rank> {
    let (_, issuer) = X509Certificate::from_der(der).ok()?;
    if issuer.subject().as_raw() != child.issuer().as_raw() {
        return None;
    }
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = issuer.validity();
    let is_valid_now = (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now);
    Some(Rank { signed: signature_of(child, &issuer, algorithms), is_root, is_valid_now })
}

/// Each step may verify a signature for each served certificate; a hostile server shall not choose how often.
const LONGEST_PATH: usize = 8;
const MOST_SERVED: usize = 16;
