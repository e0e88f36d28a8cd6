//! A certificate revocation list (RFC 5280, section 5) as bytes: whether it can be believed, and whether a certificate stands in it.
//! Where it comes from is said in `revocation`.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{
    DistributionPointName, GeneralName, IssuingDistributionPoint, ParsedExtension,
};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};
use x509_parser::x509::ReasonCode;

use crate::tls::certificate::Certificate;
use crate::tls::ocsp::{Answer, SKEW, date, unsigned};
use crate::tls::signature::{Algorithms, Signed, signed};
use crate::types::Revocation;

/// What the list says of the certificate; an error in words where it says nothing that can be believed (RFC 5280, section 6.3).
pub(crate) fn judge(
    list: &[u8],
    certificate: &Certificate,
    issuer: &Certificate,
    now: UnixTime,
    algorithms: Algorithms<'_>,
) -> Result<Answer, String> {
    let unreadable = || "the revocation list cannot be read".to_owned();
    // RFC 5280 wants DER; some authorities of companies put PEM there.
    let from_pem = CertificateRevocationListDer::from_pem_slice(list).ok();
    let list = from_pem.as_ref().map_or(list, AsRef::as_ref);
    let (_, crl) = CertificateRevocationList::from_der(list).map_err(|_| unreadable())?;
    let (_, issuer) = X509Certificate::from_der(&issuer.der).map_err(|_| unreadable())?;
    let (_, child) = X509Certificate::from_der(&certificate.der).map_err(|_| unreadable())?;
    if crl.issuer().as_raw() != issuer.subject().as_raw() {
        return Err("the revocation list is of another issuer".to_owned());
    }
    if issuer.key_usage().ok().flatten().is_some_and(|usage| !usage.value.crl_sign()) {
        return Err("the issuer may not sign revocation lists".to_owned());
    }
    let (text, signature) = (crl.tbs_cert_list.as_ref(), &crl.signature_value.data);
    if signed(text, signature, &crl.signature_algorithm, issuer.public_key(), algorithms) != Signed::Yes {
        return Err("the revocation list is not signed by the issuer".to_owned());
    }
    let until = current(&crl, i64::try_from(now.as_secs()).unwrap_or(i64::MAX))?;
    let covers_all = scope(&crl, certificate)?;
    let serial = unsigned(child.raw_serial());
    let listed = crl.iter_revoked_certificates().find(|entry| {
        // RemoveFromCRL stands in lists of changes only, which are not taken.
        unsigned(entry.raw_serial()) == serial && reason(entry) != Some(ReasonCode::RemoveFromCRL)
    });
    match listed {
        Some(entry) => Ok(revoked(entry)),
        None if covers_all => {
            Ok(Answer { revocation: Revocation::Good, message: format!("not listed, until {}", date(until)) })
        }
        None => Err("the revocation list is for some reasons only".to_owned()),
    }
}

/// Until when the list holds.
fn current(crl: &CertificateRevocationList<'_>, now: i64) -> Result<i64, String> {
    let begins = crl.last_update().timestamp();
    if begins > now + SKEW {
        return Err(format!("the revocation list is of a time to come ({})", date(begins)));
    }
    let Some(ends) = crl.next_update().map(|ends| ends.timestamp()) else {
        return Err("the revocation list does not say until when it holds".to_owned());
    };
    match ends + SKEW < now {
        true => Err(format!("the revocation list held only until {}", date(ends))),
        false => Ok(ends),
    }
}

/// Whether the list speaks about this certificate: an error where it does not, false where it does only in part.
fn scope(crl: &CertificateRevocationList<'_>, certificate: &Certificate) -> Result<bool, String> {
    let mut covers_all = true;
    for extension in crl.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::IssuingDistributionPoint(point) => {
                covers_all = is_for(point, certificate)?;
            }
            // A list of changes (section 5.2.4) is one of these.
            ParsedExtension::UnsupportedExtension { oid } if extension.critical => {
                return Err(format!(
                    "the revocation list has a critical extension that is not understood ({oid})"
                ));
            }
            _ => {}
        }
    }
    Ok(covers_all)
}

/// RFC 5280, section 6.3.3 (b)(2).
fn is_for(point: &IssuingDistributionPoint<'_>, certificate: &Certificate) -> Result<bool, String> {
    let other = |whose: &str| Err(format!("the revocation list is only for {whose}"));
    if point.indirect_crl {
        return Err("the revocation list is kept for other issuers too, which is not understood".to_owned());
    }
    if point.only_contains_attribute_certs {
        return other("attribute certificates");
    }
    if point.only_contains_user_certs && certificate.is_ca {
        return other("certificates of servers and people");
    }
    if point.only_contains_ca_certs && !certificate.is_ca {
        return other("certificates of authorities");
    }
    // Authorities keep lists in parts: one of the others, validly signed, would hide what stands in this one.
    if let Some(DistributionPointName::FullName(names)) = &point.distribution_point {
        let is_own = |name: &GeneralName<'_>| matches!(name, GeneralName::URI(uri) if certificate.revocation_lists.iter().any(|own| own == uri));
        if !names.iter().any(is_own) {
            return other("the certificates of another part");
        }
    }
    Ok(point.only_some_reasons.is_none())
}

fn revoked(entry: &RevokedCertificate<'_>) -> Answer {
    let reason = reason(entry).map(|reason| format!(" ({reason})")).unwrap_or_default();
    let message = format!("revoked since {}{reason}", date(entry.revocation_date.timestamp()));
    Answer { revocation: Revocation::Revoked, message }
}

fn reason(entry: &RevokedCertificate<'_>) -> Option<ReasonCode> {
    entry.reason_code().map(|(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope,
        KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber, date_time_ymd,
    };

    use super::*;
    use crate::tls::fixture::{Authority, algorithms};

    /// A list of 2026 with the serial number 2 in it.
    fn list(authority: &Authority, part: Option<(&str, Option<CrlScope>)>) -> Vec<u8> {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2027, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: part.map(|(url, scope)| CrlIssuingDistributionPoint {
                distribution_point: CrlDistributionPoint { uris: vec![url.to_owned()] },
                scope,
            }),
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(2),
                revocation_time: date_time_ymd(2026, 2, 3),
                reason_code: Some(RevocationReason::Superseded),
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&authority.issuer).unwrap().der().to_vec()
    }

    fn check(
        list: &[u8],
        certificate: &Certificate,
        issuer: &Authority,
        year: i32,
        expected: Result<&str, &str>,
    ) {
        let at = date_time_ymd(year, 6, 1).unix_timestamp();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.try_into().unwrap()));
        match (judge(list, certificate, &issuer.certificate, at, algorithms()), expected) {
            (Ok(answer), Ok(words)) => assert_eq!(answer.message, words),
            (Err(message), Err(words)) => assert!(message.contains(words), "{message}"),
            (judged, expected) => panic!("{judged:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_list_says_who_is_revoked_while_it_holds() {
        let authority = Authority::new("Root");
        let (good, revoked) = (authority.leaf(1), authority.leaf(2));
        let all = list(&authority, None);
        check(&all, &good, &authority, 2026, Ok("not listed, until 2027-01-01T00:00:00Z"));
        check(&all, &revoked, &authority, 2026, Ok("revoked since 2026-02-03T00:00:00Z (Superseded)"));
        check(&all, &revoked, &authority, 2027, Err("held only until 2027-01-01T00:00:00Z"));
        check(&all, &revoked, &authority, 2025, Err("of a time to come"));
        check(&all[..all.len() - 1], &good, &authority, 2026, Err("cannot be read"));
        check(&all, &good, &Authority::new("Root"), 2026, Err("not signed by the issuer"));
        check(&all, &good, &Authority::new("Other"), 2026, Err("of another issuer"));
    }

    #[test]
    fn a_list_for_others_says_nothing() {
        let authority = Authority::new("Root");
        let leaf = authority.leaf(1);
        let own = list(&authority, Some((Authority::LIST, Some(CrlScope::UserCertsOnly))));
        check(&own, &leaf, &authority, 2026, Ok("not listed, until 2027-01-01T00:00:00Z"));
        let other = list(&authority, Some(("http://ca.test/2.crl", None)));
        check(&other, &leaf, &authority, 2026, Err("another part"));
        let authorities = list(&authority, Some((Authority::LIST, Some(CrlScope::CaCertsOnly))));
        check(&authorities, &leaf, &authority, 2026, Err("certificates of authorities"));
    }
}
