//! Whether a served chain is trusted, and if not, every reason. webpki decides; what it does not say (all the other defects, the
//! path up to the root) is worked out here. Certificates come in as bytes, time as a value.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use tokio::io::AsyncReadExt;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::tls::certificate::{Certificate, read_all};
use crate::types::Defect;

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

    fn contains(&self, der: &CertificateDer<'_>) -> bool {
        self.0.certificates.iter().any(|own| own == der)
    }

    fn issuer_of(&self, child: &X509Certificate<'_>) -> Option<&CertificateDer<'static>> {
        let candidates = self.0.by_subject.get(child.issuer().as_raw())?;
        candidates.iter().map(|i| &self.0.certificates[*i]).find(|der| is_issuer(der, child))
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

/// The chain from leaf to root, or every defect of it; the gravest comes first.
///
/// A leaf that the authorities contain itself is trusted as it is: this is how one trusts a self-signed certificate.
pub(crate) fn inspect(
    served: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    roots: &Roots,
    now: UnixTime,
    algorithms: &[&dyn SignatureVerificationAlgorithm],
) -> Result<Vec<Arc<Certificate>>, Vec<Defect>> {
    let Some((leaf, intermediates)) = served.split_first() else {
        return Err(vec![defect("other", "the server sent no certificate".to_owned())]);
    };
    let Ok(parsed) = ParsedCertificate::try_from(leaf) else {
        return Err(vec![defect("other", "the server's certificate cannot be read".to_owned())]);
    };
    let path = path(served, roots);
    let read = read_all(&path);
    let mut defects = out_of_date(&read, roots, now);
    let signed_at = |at| {
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots.0.anchors, intermediates, at, algorithms)
    };
    let pinned = roots.contains(leaf);
    if !pinned && let Err(error) = signed_at(now) {
        // Time has been judged above; asked again at a time when all were valid, the rest shows.
        match signed_at(common_time(&read, now)) {
            Err(error) => defects.push(untrusted(&error, &read, intermediates.len(), roots)),
            Ok(()) if defects.is_empty() => {
                defects.push(untrusted(&error, &read, intermediates.len(), roots));
            }
            Ok(()) => {}
        }
    }
    if verify_server_name(&parsed, name).is_err() {
        defects.push(wrong_name(&read, name));
    }
    match defects.is_empty() {
        true => Ok(read),
        false => Err(defects),
    }
}

/// From the leaf up, each issuer found by name and signature: among the authorities first, then among the served.
fn path<'a>(served: &[CertificateDer<'a>], roots: &Roots) -> Vec<CertificateDer<'a>> {
    let mut path: Vec<CertificateDer<'a>> = served.first().cloned().into_iter().collect();
    while let Some(last) = path.last() {
        let Ok((_, child)) = X509Certificate::from_der(last) else { break };
        if roots.contains(last) || path.len() >= LONGEST_PATH {
            break;
        }
        let issuer = match roots.issuer_of(&child) {
            Some(root) => Some(root.clone()),
            None => served
                .iter()
                .take(MOST_SERVED)
                .find(|der| !path.contains(der) && is_issuer(der, &child))
                .cloned(),
        };
        match issuer {
            Some(issuer) => path.push(issuer),
            None => break,
        }
    }
    path
}

fn is_issuer(issuer: &CertificateDer<'_>, child: &X509Certificate<'_>) -> bool {
    X509Certificate::from_der(issuer).is_ok_and(|(_, issuer)| {
        issuer.subject().as_raw() == child.issuer().as_raw()
            && child.verify_signature(Some(issuer.public_key())).is_ok()
    })
}

/// Leaf and intermediates; an authority's own dates do not count.
fn out_of_date(path: &[Arc<Certificate>], roots: &Roots, now: UnixTime) -> Vec<Defect> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let counted = path
        .iter()
        .enumerate()
        .filter(|(i, c)| *i == 0 || !roots.contains(&CertificateDer::from(c.der.as_slice())));
    let judged = counted.filter_map(|(i, certificate)| {
        let whose = match i {
            0 => "the certificate".to_owned(),
            _ => format!("the intermediate certificate {}", certificate.subject),
        };
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

fn days_text(days: i64) -> String {
    match days {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// A time at which every certificate of the path was valid, the nearest to now.
fn common_time(path: &[Arc<Certificate>], now: UnixTime) -> UnixTime {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let from = path.iter().map(|c| c.not_before).max().unwrap_or(now);
    let to = path.iter().map(|c| c.not_after).min().unwrap_or(now);
    let at = now.min(to).max(from.min(to));
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or_default()))
}

fn untrusted(
    error: &rustls::Error,
    path: &[Arc<Certificate>],
    intermediates: usize,
    roots: &Roots,
) -> Defect {
    let (Some(leaf), Some(top)) = (path.first(), path.last()) else {
        return defect("other", "the server's certificate cannot be read".to_owned());
    };
    if is_self_signed(leaf) {
        return defect(
            "self-signed",
            "the certificate is self-signed: only the server itself vouches for it".to_owned(),
        );
    }
    let rustls::Error::InvalidCertificate(error) = error else {
        return defect("other", format!("the certificate was not accepted: {error}"));
    };
    match error {
        CertificateError::UnknownIssuer if roots.0.certificates.is_empty() => defect(
            "untrusted",
            "this machine has no certificate authorities; install ca-certificates or set SSL_CERT_FILE"
                .to_owned(),
        ),
        CertificateError::UnknownIssuer if is_self_signed(top) => {
            defect("untrusted", format!("the authority {} is not trusted here", top.subject))
        }
        CertificateError::UnknownIssuer
            if intermediates == 0 && (roots.0.given || says_where_issuer_is(leaf)) =>
        {
            let issuer = &leaf.issuer;
            let message = format!(
                "the server sent only its own certificate, and its issuer {issuer} is not a trusted authority"
            );
            defect("incomplete-chain", format!("{message}: an intermediate certificate is missing"))
        }
        CertificateError::UnknownIssuer => {
            defect("untrusted", format!("the authority {} is not trusted here", top.issuer))
        }
        CertificateError::BadSignature => {
            defect("bad-signature", "a signature in the chain does not match".to_owned())
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            let found: Vec<_> = path.iter().map(|c| c.signature_algorithm.as_str()).collect();
            defect(
                "bad-signature",
                format!("the chain is signed in a way that nobody accepts ({})", found.join(", ")),
            )
        }
        CertificateError::Revoked => defect("revoked", "the certificate was revoked".to_owned()),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            defect("expired", "a certificate of the chain has expired".to_owned())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            defect("not-yet-valid", "a certificate of the chain is not valid yet".to_owned())
        }
        _ if leaf.is_ca => {
            defect("other", "the server uses the certificate of an authority as its own".to_owned())
        }
        other => defect("other", format!("the certificate was not accepted: {other}")),
    }
}

fn is_self_signed(certificate: &Certificate) -> bool {
    let der = CertificateDer::from(certificate.der.as_slice());
    X509Certificate::from_der(&der).is_ok_and(|(_, x509)| is_issuer(&der, &x509))
}

/// authorityInfoAccess with caIssuers (RFC 5280, section 4.2.2.1): public authorities set it wherever an intermediate issues.
fn says_where_issuer_is(certificate: &Certificate) -> bool {
    const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";
    let Ok((_, x509)) = X509Certificate::from_der(&certificate.der) else { return false };
    x509.iter_extensions().any(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::AuthorityInfoAccess(access) => {
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

fn defect(code: &str, message: String) -> Defect {
    Defect { code: code.to_owned(), message }
}

const DAY: i64 = 86_400;
const LARGEST_FILE: u64 = 1024 * 1024;
/// Each step may verify a signature for each served certificate; a hostile server shall not choose how often.
const LONGEST_PATH: usize = 8;
const MOST_SERVED: usize = 16;

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
