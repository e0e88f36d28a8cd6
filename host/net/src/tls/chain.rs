//! Whether a served chain is trusted, and if not, every reason. webpki decides; what it does not say, because it stops at the first
//! mistake, is worked out here over the path that `path` finds. Certificates come in as bytes, time as a value.

use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::tls::certificate::{Certificate, read_all};
use crate::tls::path::{Path, is_self_signed, path};
use crate::tls::roots::Roots;
use crate::tls::rules::{misused, weak};
use crate::tls::signature::Algorithms;
use crate::types::Defect;

/// What a served chain is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inspected {
    /// From the leaf up as far as issuers are known; up to the root where the chain is trusted.
    pub(crate) path: Vec<Arc<Certificate>>,
    /// Every reason not to trust it, the gravest first; empty for a chain that is trusted.
    pub(crate) defects: Vec<Defect>,
}

/// Holds the chain against the authorities and the name.
///
/// A leaf that the authorities contain itself is trusted as it is: this is how one trusts a self-signed certificate.
pub(crate) fn inspect(
    served: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    roots: &Roots,
    now: UnixTime,
    algorithms: Algorithms<'_>,
) -> Inspected {
    let Some((leaf, intermediates)) = served.split_first() else {
        let defects = vec![defect("other", "the server sent no certificate".to_owned())];
        return Inspected { path: Vec::new(), defects };
    };
    let parsed = ParsedCertificate::try_from(leaf);
    let (path, mut defects) = match trusted(leaf, intermediates, roots, now, algorithms) {
        Some(path) => (path, Vec::new()),
        None => doubted(served, parsed.as_ref(), roots, now, algorithms),
    };
    defects.extend(weak(&path, roots));
    if parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_err()) {
        defects.push(wrong_name(&path, name));
    }
    Inspected { path, defects }
}

/// The path along which webpki trusts the leaf, if it does: the one that nearly every handshake takes.
fn trusted(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &Roots,
    now: UnixTime,
    algorithms: Algorithms<'_>,
) -> Option<Vec<Arc<Certificate>>> {
    let leaf_read = EndEntityCert::try_from(leaf).ok()?;
    let anchors = &roots.anchors().roots;
    let usage = KeyUsage::server_auth();
    let path = leaf_read.verify_for_usage(algorithms, anchors, intermediates, now, usage, None, None).ok()?;
    let between = path.intermediate_certificates().map(webpki::Cert::der);
    let below = std::iter::once(leaf.clone()).chain(between);
    let below = below.map(|der| Certificate::read(&der).map(Arc::new));
    below.chain([roots.of(path.anchor())]).collect()
}

/// The path of a leaf that webpki does not trust, or that the authorities contain itself, and why it is not to be trusted.
fn doubted(
    served: &[CertificateDer<'_>],
    parsed: Result<&ParsedCertificate<'_>, &rustls::Error>,
    roots: &Roots,
    now: UnixTime,
    algorithms: Algorithms<'_>,
) -> (Vec<Arc<Certificate>>, Vec<Defect>) {
    let found = path(served, roots, now, algorithms);
    let read = read_all(&found.certificates);
    let mut defects = out_of_date(&read, roots, now);
    let refused = match parsed {
        Ok(_) if roots.contains(&served[0]) => None,
        Ok(parsed) => {
            let signed_at = |at| {
                verify_server_cert_signed_by_trust_anchor(
                    parsed,
                    roots.anchors(),
                    &served[1..],
                    at,
                    algorithms,
                )
            };
            match signed_at(now) {
                Ok(()) => None,
                // Time has been judged above; asked again at a time when all were valid, the rest shows.
                Err(error) => match signed_at(common_time(&read, roots, now)) {
                    Err(error) => Some(error),
                    Ok(()) => defects.is_empty().then_some(error),
                },
            }
        }
        Err(error) => Some(error.clone()),
    };
    if let Some(error) = refused {
        let known = !defects.is_empty();
        let more = untrusted(&found, &read, served.len(), roots, algorithms);
        let explained = known || !more.is_empty() || read.iter().any(|c| c.is_weak());
        defects.extend(more);
        defects.extend(refusal(&error, &read, explained));
    }
    (read, defects)
}

/// Leaf and intermediates; an authority's own dates do not count.
fn out_of_date(path: &[Arc<Certificate>], roots: &Roots, now: UnixTime) -> Vec<Defect> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let counted = path.iter().enumerate().filter(|(i, c)| *i == 0 || !is_root(c, roots));
    let judged = counted.filter_map(|(i, certificate)| {
        let whose = whose(i, certificate);
        if now > certificate.not_after {
            let days = (now - certificate.not_after) / DAY;
            return Some(defect("expired", format!("{whose} expired {} ago", days_text(days))));
        }
        (now < certificate.not_before).then(|| {
            let days = (certificate.not_before - now) / DAY;
            let message = format!(
                "{whose} is not valid yet, only in {} (or this machine's clock is wrong)",
                days_text(days)
            );
            defect("not-yet-valid", message)
        })
    });
    judged.collect()
}

/// Why the chain cannot be trusted, as far as it shows without webpki.
fn untrusted(
    found: &Path<'_>,
    path: &[Arc<Certificate>],
    served: usize,
    roots: &Roots,
    algorithms: Algorithms<'_>,
) -> Vec<Defect> {
    let leads_nowhere = found.certificates.last().is_none_or(|last| !roots.contains(last));
    let mut defects = Vec::new();
    if leads_nowhere {
        defects.push(unknown_issuer(found, path, served, roots, algorithms));
    }
    defects.extend(misused(path, roots, algorithms));
    defects
}

/// The path ends before it comes to an authority that is trusted.
fn unknown_issuer(
    found: &Path<'_>,
    path: &[Arc<Certificate>],
    served: usize,
    roots: &Roots,
    algorithms: Algorithms<'_>,
) -> Defect {
    let (Some(leaf), Some(top)) = (path.first(), path.last()) else {
        return defect("other", "the server's certificate cannot be read".to_owned());
    };
    if found.impostor {
        let message =
            format!("the signature on {} is not by the key of {}", whose(path.len() - 1, top), top.issuer);
        return defect("bad-signature", message);
    }
    let own = |certificate: &Certificate| {
        X509Certificate::from_der(&certificate.der).is_ok_and(|(_, x509)| is_self_signed(&x509, algorithms))
    };
    if own(leaf) {
        return defect(
            "self-signed",
            "the certificate is self-signed: only the server itself vouches for it".to_owned(),
        );
    }
    if roots.are_none() {
        let message =
            "this machine has no certificate authorities; install ca-certificates or set SSL_CERT_FILE";
        return defect("untrusted", message.to_owned());
    }
    if own(top) {
        return defect("untrusted", format!("the authority {} is not trusted here", top.subject));
    }
    // Whoever is issued by an intermediate says where it can be had, as public authorities demand.
    if path.len() == 1 && (roots.are_given() || says_where_issuer_is(leaf)) {
        let sent = match served {
            1 => "the server sent only its own certificate".to_owned(),
            more => {
                format!("none of the {} certificates that the server sent beside its own issued it", more - 1)
            }
        };
        let message = format!(
            "{sent}, and its issuer {} is not a trusted authority: an intermediate certificate is missing",
            leaf.issuer
        );
        return defect("incomplete-chain", message);
    }
    defect("untrusted", format!("the authority {} is not trusted here", top.issuer))
}

/// What webpki says, unless what was found already explains its refusal.
fn refusal(error: &rustls::Error, path: &[Arc<Certificate>], explained: bool) -> Option<Defect> {
    let rustls::Error::InvalidCertificate(error) = error else {
        return Some(defect("other", format!("the certificate was not accepted: {error}")));
    };
    if let CertificateError::Other(inner) = error {
        match inner.0.downcast_ref() {
            Some(webpki::Error::NameConstraintViolation) => {
                let message = "an authority of the chain may not issue for the names of the certificate";
                return Some(defect("name-constraints", message.to_owned()));
            }
            Some(webpki::Error::UnsupportedCriticalExtension) => {
                let message =
                    "a certificate of the chain has a critical extension that nobody here understands";
                return Some(defect("critical-extension", message.to_owned()));
            }
            _ => {}
        }
    }
    (!explained).then(|| match error {
        CertificateError::BadSignature => {
            defect("bad-signature", "a signature in the chain does not match".to_owned())
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            let found: Vec<_> = path.iter().map(|c| c.signature_algorithm.as_str()).collect();
            let message = format!("the chain is signed in a way that nobody accepts ({})", found.join(", "));
            defect("bad-signature", message)
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            defect("expired", "a certificate of the chain has expired".to_owned())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            defect("not-yet-valid", "a certificate of the chain is not valid yet".to_owned())
        }
        CertificateError::Other(inner) => {
            defect("other", format!("the certificate was not accepted: {}", inner.0))
        }
        other => defect("other", format!("the certificate was not accepted: {other}")),
    })
}

pub(crate) fn is_root(certificate: &Certificate, roots: &Roots) -> bool {
    roots.contains(&CertificateDer::from(certificate.der.as_slice()))
}

pub(crate) fn whose(place: usize, certificate: &Certificate) -> String {
    match place {
        0 => "the certificate".to_owned(),
        _ => format!("the intermediate certificate {}", certificate.subject),
    }
}

fn days_text(days: i64) -> String {
    match days {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// A time at which every certificate of the path but the root was valid, the nearest to now.
fn common_time(path: &[Arc<Certificate>], roots: &Roots, now: UnixTime) -> UnixTime {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let dated = || path.iter().enumerate().filter(|(i, c)| *i == 0 || !is_root(c, roots)).map(|(_, c)| c);
    let from = dated().map(|c| c.not_before).max().unwrap_or(now);
    let to = dated().map(|c| c.not_after).min().unwrap_or(now);
    let at = now.min(to).max(from.min(to));
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or_default()))
}

/// authorityInfoAccess with caIssuers (RFC 5280, section 4.2.2.1): public authorities set it wherever an intermediate issues.
fn says_where_issuer_is(certificate: &Certificate) -> bool {
    const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
    let Ok((_, x509)) = X509Certificate::from_der(&certificate.der) else { return false };
    x509.iter_extensions().any(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => {
            access.accessdescs.iter().any(|found| found.access_method.to_id_string() == CA_ISSUERS)
        }
        _ => false,
    })
}

fn wrong_name(path: &[Arc<Certificate>], name: &ServerName<'_>) -> Defect {
    let leaf = path.first();
    let names: Vec<_> =
        leaf.into_iter().flat_map(|c| c.dns_names.iter().chain(&c.ip_addresses)).cloned().collect();
    let shown = match names.len() {
        0 => "for no name at all (it has no subjectAltName)".to_owned(),
        1..=5 => format!("for {}", names.join(", ")),
        more => format!("for {} and {} more", names[..5].join(", "), more - 5),
    };
    defect("wrong-name", format!("the certificate is {shown}, not for {}", name.to_str()))
}

pub(crate) fn defect(code: &str, message: String) -> Defect {
    Defect { code: code.to_owned(), message }
}

const DAY: i64 = 86_400;
