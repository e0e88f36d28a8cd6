//! The Online Certificate Status Protocol (RFC 6960) as bytes: the question about one certificate, and whether an answer to it can
//! be believed. Who is asked, and when, is said in `revocation` and `staple`.

use rustls::pki_types::UnixTime;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use x509_cert::der::asn1::{Null, OctetString};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode, Header, Reader, SliceReader};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse,
    OcspResponseStatus, Request, ResponderId, SingleResponse, TbsRequest,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AlgorithmIdentifier;

use crate::tls::certificate::Certificate;
use crate::tls::path::signature_of;
use crate::tls::signature::{Algorithms, Signed, signed};
use crate::types::Revocation;

/// What somebody who may know says of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) revocation: Revocation,
    /// In words: since when, why, until when it holds.
    pub(crate) message: String,
}

/// The question about a certificate of that issuer, without a nonce: responders answer many with one signature (RFC 5019).
pub(crate) fn request(certificate: &Certificate, issuer: &Certificate) -> Option<Vec<u8>> {
    let (_, child) = X509Certificate::from_der(&certificate.der).ok()?;
    let (_, issuer) = X509Certificate::from_der(&issuer.der).ok()?;
    let hash = |bytes: &[u8]| OctetString::new(Sha1::digest(bytes).as_slice()).ok();
    let asked = CertId {
        // Of all hashes the one that every responder knows (RFC 5019, section 2.1.1); nothing is trusted for it.
        hash_algorithm: AlgorithmIdentifierOwned { oid: SHA1, parameters: Some(Null.into()) },
        issuer_name_hash: hash(issuer.subject().as_raw())?,
        issuer_key_hash: hash(&issuer.public_key().subject_public_key.data)?,
        serial_number: SerialNumber::new(unsigned(child.raw_serial())).ok()?,
    };
    let request = Request { req_cert: asked, single_request_extensions: None };
    let tbs_request = TbsRequest { request_list: vec![request], ..TbsRequest::default() };
    OcspRequest { tbs_request, optional_signature: None }.to_der().ok()
}

/// What a response says of the certificate; an error in words where it says nothing that can be believed (RFC 6960, section 3.2).
pub(crate) fn judge(
    response: &[u8],
    certificate: &Certificate,
    issuer: &Certificate,
    now: UnixTime,
    algorithms: Algorithms<'_>,
) -> Result<Answer, String> {
    let unreadable = |_| "the OCSP response cannot be read".to_owned();
    let response = OcspResponse::from_der(response).map_err(unreadable)?;
    let bytes = match (response.response_status, response.response_bytes) {
        (OcspResponseStatus::Successful, Some(bytes)) if bytes.response_type == BASIC => bytes.response,
        (OcspResponseStatus::Successful, _) => {
            return Err("the OCSP response is of an unknown type".to_owned());
        }
        (refusal, _) => {
            return Err(format!("the OCSP responder refuses to answer ({})", refusal_text(refusal)));
        }
    };
    let basic = BasicOcspResponse::from_der(bytes.as_bytes()).map_err(unreadable)?;
    let (_, child) = X509Certificate::from_der(&certificate.der)
        .map_err(|_| "the certificate cannot be read".to_owned())?;
    let (_, issuer) = X509Certificate::from_der(&issuer.der)
        .map_err(|_| "its issuer's certificate cannot be read".to_owned())?;
    let about =
        basic.tbs_response_data.responses.iter().find(|single| is_about(&single.cert_id, &child, &issuer));
    let Some(about) = about else { return Err("the OCSP response is about another certificate".to_owned()) };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let text = signed_part(bytes.as_bytes()).map_err(unreadable)?;
    if !is_signed(&basic, text, &issuer, now, algorithms) {
        return Err("the OCSP response is signed neither by the issuer nor by whom it authorised".to_owned());
    }
    current(about, now)?;
    Ok(answer(about))
}

/// Of three hashes and a serial number (RFC 6960, section 4.1.1).
fn is_about(id: &CertId, child: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    let hash = |bytes: &[u8]| match id.hash_algorithm.oid {
        SHA1 => Some(Sha1::digest(bytes).to_vec()),
        SHA256 => Some(Sha256::digest(bytes).to_vec()),
        _ => None,
    };
    unsigned(id.serial_number.as_bytes()) == unsigned(child.raw_serial())
        && hash(issuer.subject().as_raw()).is_some_and(|own| own == id.issuer_name_hash.as_bytes())
        && hash(&issuer.public_key().subject_public_key.data)
            .is_some_and(|own| own == id.issuer_key_hash.as_bytes())
}

/// By the issuer itself, or by a key to which the issuer gave that right (RFC 6960, section 4.2.2.2).
fn is_signed(
    basic: &BasicOcspResponse,
    text: &[u8],
    issuer: &X509Certificate<'_>,
    now: i64,
    algorithms: Algorithms<'_>,
) -> bool {
    let Ok(algorithm) = basic.signature_algorithm.to_der() else { return false };
    let Ok((_, algorithm)) = AlgorithmIdentifier::from_der(&algorithm) else { return false };
    let by = |signer: &X509Certificate<'_>| {
        let signature = basic.signature.raw_bytes();
        is_named(&basic.tbs_response_data.responder_id, signer)
            && signed(text, signature, &algorithm, signer.public_key(), algorithms) == Signed::Yes
    };
    if by(issuer) {
        return true;
    }
    let sent = basic.certs.iter().flatten().take(MOST_SIGNERS).filter_map(|sent| sent.to_der().ok());
    sent.into_iter().any(|der| {
        X509Certificate::from_der(&der)
            .is_ok_and(|(_, signer)| is_authorised(&signer, issuer, now, algorithms) && by(&signer))
    })
}

fn is_authorised(
    signer: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    now: i64,
    algorithms: Algorithms<'_>,
) -> bool {
    let validity = signer.validity();
    let usage = signer.extended_key_usage().ok().flatten();
    usage.is_some_and(|usage| usage.value.ocsp_signing)
        && (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
        && signer.issuer().as_raw() == issuer.subject().as_raw()
        && signature_of(signer, issuer, algorithms) == Signed::Yes
}

fn is_named(id: &ResponderId, signer: &X509Certificate<'_>) -> bool {
    match id {
        ResponderId::ByName(name) => name.to_der().is_ok_and(|name| name == signer.subject().as_raw()),
        ResponderId::ByKey(key) => {
            Sha1::digest(&signer.public_key().subject_public_key.data).as_slice() == key.as_bytes()
        }
    }
}

/// The first element, with its own tag and length, as it was sent.
fn signed_part(basic: &[u8]) -> Result<&[u8], x509_cert::der::Error> {
    let mut reader = SliceReader::new(basic)?;
    Header::decode(&mut reader)?;
    reader.tlv_bytes()
}

/// Whether it holds at this time. One that does not say until when is good for a day.
fn current(about: &SingleResponse, now: i64) -> Result<(), String> {
    let begins = seconds(&about.this_update);
    if begins > now + SKEW {
        return Err(format!("the OCSP response is of a time to come ({})", date(begins)));
    }
    let ends = about.next_update.as_ref().map_or(begins + DAY, seconds);
    match ends + SKEW < now {
        true => Err(format!("the OCSP response held only until {}", date(ends))),
        false => Ok(()),
    }
}

fn answer(about: &SingleResponse) -> Answer {
    let until = about.next_update.as_ref().map(|until| format!(" until {}", date(seconds(until))));
    let until = until.unwrap_or_default();
    let (revocation, message) = match about.cert_status {
        CertStatus::Good(_) => (Revocation::Good, format!("good{until}")),
        CertStatus::Revoked(info) => {
            let reason = info.revocation_reason.map(|reason| format!(" ({reason:?})")).unwrap_or_default();
            (Revocation::Revoked, format!("revoked since {}{reason}", date(seconds(&info.revocation_time))))
        }
        CertStatus::Unknown(_) => {
            (Revocation::Unknown, "the OCSP responder does not know the certificate".to_owned())
        }
    };
    Answer { revocation, message }
}

fn refusal_text(status: OcspResponseStatus) -> &'static str {
    match status {
        OcspResponseStatus::Successful => "successful",
        OcspResponseStatus::MalformedRequest => "malformed request",
        OcspResponseStatus::InternalError => "internal error",
        OcspResponseStatus::TryLater => "try later",
        OcspResponseStatus::SigRequired => "it wants signed requests",
        OcspResponseStatus::Unauthorized => "unauthorized",
    }
}

fn seconds(time: &OcspGeneralizedTime) -> i64 {
    i64::try_from(time.0.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

/// RFC 3339, UTC.
pub(crate) fn date(at: i64) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| format!("{at} s after 1970"), |at| at.to_string())
}

/// A number without the zeros in front that DER puts there for the sign.
pub(crate) fn unsigned(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros.min(number.len().saturating_sub(1))..]
}

/// id-pkix-ocsp-basic (RFC 6960, section 4.2.1).
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
/// Seconds that the clocks of a responder and this machine may be apart.
pub(crate) const SKEW: i64 = 300;
const DAY: i64 = 86_400;
/// Each costs two signatures; a hostile server shall not choose how many.
const MOST_SIGNERS: usize = 4;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::tls::fixture::{Authority, algorithms};

    /// What `openssl ocsp` says about the leaf whose serial number is 1; `options` say more.
    fn response(authority: &Authority, options: &[&str]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        std::fs::write(at.join("ca.pem"), authority.pem()).unwrap();
        std::fs::write(at.join("ca.key"), authority.key_pem()).unwrap();
        std::fs::write(at.join("index"), "V\t401231235959Z\t\t01\tunknown\t/CN=leaf\n").unwrap();
        let asking = ["-issuer", "ca.pem", "-serial", "1", "-no_nonce", "-reqout", "request"];
        openssl(at, &asking);
        let answering = [
            "-index", "index", "-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key", "-reqin", "request",
        ];
        openssl(at, &[&answering[..], &["-respout", "response"], options].concat());
        std::fs::read(at.join("response")).unwrap()
    }

    fn openssl(at: &Path, arguments: &[&str]) {
        let output = Command::new("openssl").current_dir(at).arg("ocsp").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn in_hours(hours: i64) -> UnixTime {
        let now = UnixTime::now().as_secs().checked_add_signed(hours * 3600).unwrap();
        UnixTime::since_unix_epoch(Duration::from_secs(now))
    }

    #[test]
    fn a_response_holds_for_its_certificate_and_its_time() {
        let authority = Authority::new("Root");
        let (leaf, other) = (authority.leaf(1), authority.leaf(2));
        let (short, open) = (response(&authority, &["-ndays", "2"]), response(&authority, &[]));
        let check = |response: &[u8], leaf, at, expected: Result<&str, &str>| {
            let judged = judge(response, leaf, &authority.certificate, at, algorithms());
            match (judged, expected) {
                (Ok(answer), Ok(words)) => {
                    assert_eq!(answer.revocation, Revocation::Good);
                    assert!(answer.message.starts_with(words), "{}", answer.message);
                }
                (Err(message), Err(words)) => assert!(message.contains(words), "{message}"),
                (judged, expected) => panic!("{judged:?} instead of {expected:?}"),
            }
        };
        check(&short, &leaf, in_hours(0), Ok("good until "));
        check(&short, &leaf, in_hours(47), Ok("good until "));
        check(&short, &leaf, in_hours(49), Err("held only until"));
        check(&short, &leaf, in_hours(-1), Err("of a time to come"));
        check(&open, &leaf, in_hours(23), Ok("good"));
        check(&open, &leaf, in_hours(25), Err("held only until"));
        check(&short, &other, in_hours(0), Err("about another certificate"));
        check(&short[..short.len() - 1], &leaf, in_hours(0), Err("cannot be read"));
        check(&[0x30, 3, 0x0a, 1, 3], &leaf, in_hours(0), Err("refuses to answer (try later)"));
    }

    #[test]
    fn a_response_of_another_issuer_with_the_same_name_says_nothing() {
        let (authority, impostor) = (Authority::new("Root"), Authority::new("Root"));
        let response = response(&impostor, &["-ndays", "2"]);
        let judged = judge(&response, &authority.leaf(1), &authority.certificate, in_hours(0), algorithms());
        assert!(judged.unwrap_err().contains("about another certificate"));
    }

    #[test]
    fn the_zero_for_the_sign_is_no_part_of_a_number() {
        for (der, bare) in [(&[0, 0x81][..], &[0x81][..]), (&[1, 0], &[1, 0]), (&[0], &[0]), (&[], &[])] {
            assert_eq!(unsigned(der), bare);
        }
    }
}
