//! Rules that every certificate of a path has to keep, beside its dates, its name and its issuer's signature. Whether the path is
//! trusted is decided in `chain`.

use std::sync::Arc;

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::tls::certificate::{Certificate, SHORTEST_RSA};
use crate::tls::chain::{defect, is_root, whose};
use crate::tls::path::is_self_signed;
use crate::tls::roots::Roots;
use crate::tls::signature::Algorithms;
use crate::types::Defect;

/// What can be forged: a certificate signed with MD5 or SHA-1, or a key so short that it can be computed. With what somebody signed
/// a certificate that is held here is nobody's concern: it is trusted by being here.
pub(crate) fn weak(path: &[Arc<Certificate>], roots: &Roots) -> Vec<Defect> {
    let mut defects = Vec::new();
    for (i, certificate) in path.iter().enumerate() {
        let of_roots = is_root(certificate, roots);
        let whose = match of_roots && i > 0 {
            true => format!("the authority {}", certificate.subject),
            false => whose(i, certificate),
        };
        if certificate.has_weak_signature() && !of_roots {
            let message =
                format!("{whose} is signed with {}, which can be forged", certificate.signature_algorithm);
            defects.push(defect("weak-signature", message));
        }
        if certificate.has_weak_key() {
            defects.push(weak_key(&whose, certificate));
        }
    }
    defects
}

pub(crate) fn weak_key(whose: &str, certificate: &Certificate) -> Defect {
    let bits = certificate.key.1;
    defect("weak-key", format!("{whose} has an RSA key of {bits} bits, {SHORTEST_RSA} are the least"))
}

/// Certificates in places that they were not made for (RFC 5280, sections 4.2.1.9 and 4.2.1.12).
pub(crate) fn misused(path: &[Arc<Certificate>], roots: &Roots, algorithms: Algorithms<'_>) -> Vec<Defect> {
    let mut defects = Vec::new();
    for (i, certificate) in path.iter().enumerate() {
        let Ok((_, x509)) = X509Certificate::from_der(&certificate.der) else { continue };
        let whose = whose(i, certificate);
        if i == 0 && certificate.is_ca && !is_self_signed(&x509, algorithms) {
            let message = "the server uses the certificate of an authority as its own";
            defects.push(defect("authority-as-leaf", message.to_owned()));
        }
        if i > 0 && is_root(certificate, roots) {
            continue;
        }
        if i > 0 && !certificate.is_ca {
            defects.push(defect("not-an-authority", format!("{whose} may not issue others")));
        }
        let constraints = x509.basic_constraints().ok().flatten();
        let below = u32::try_from(i.saturating_sub(1)).unwrap_or(u32::MAX);
        if let Some(most) = constraints.and_then(|found| found.value.path_len_constraint)
            && below > most
        {
            let message = format!("{whose} allows {most} authorities beneath it, the chain has {below}");
            defects.push(defect("path-length", message));
        }
        let usage = x509.extended_key_usage().ok().flatten();
        if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
            defects.push(defect("wrong-usage", format!("{whose} is not meant for servers")));
        }
    }
    defects
}
