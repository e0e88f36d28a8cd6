//! Asking whether a certificate was revoked: the staple that came with the handshake, the OCSP responder or the revocation list that
//! the certificate names. Everything that is fetched asks the run's grant, is bounded in size and in time, and counts as nothing that
//! was measured at the target.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use tokio::time::Instant;

use crate::http;
use crate::session::Run;
use crate::tls::certificate::Certificate;
use crate::tls::ocsp::{self, Answer};
use crate::tls::{TlsSession, crl, staple};
use crate::types::{Cause, Family, Header, Request, Revocation, RevocationSource, RevocationStatus};

/// What the source says of the certificate at that place of the session's path; 0 is the leaf.
pub(crate) async fn ask(
    run: &Arc<Run>,
    session: &TlsSession,
    place: usize,
    source: RevocationSource,
) -> RevocationStatus {
    let Some(certificate) = session.path.get(place) else {
        return nobody("the chain has no certificate there".to_owned());
    };
    let urls = match source {
        RevocationSource::Stapled if place > 0 => {
            return nobody("servers staple only for their own certificate".to_owned());
        }
        RevocationSource::Stapled => {
            let named = session.staple.is_some();
            return status(named, read_staple(session));
        }
        RevocationSource::Ocsp if certificate.ocsp_responders.is_empty() => {
            return nobody("the certificate names no OCSP responder".to_owned());
        }
        RevocationSource::Crl if certificate.revocation_lists.is_empty() => {
            return nobody("the certificate names no revocation list".to_owned());
        }
        RevocationSource::Ocsp => &certificate.ocsp_responders,
        RevocationSource::Crl => &certificate.revocation_lists,
    };
    let Some(issuer) = session.path.get(place + 1) else {
        return status(true, Err("its issuer is not known here".to_owned()));
    };
    let mut last = nobody("none of the places that the certificate names is a web address".to_owned());
    let on_the_web = |url: &&String| url.starts_with("http://") || url.starts_with("https://");
    for url in urls.iter().filter(on_the_web).take(MOST_URLS) {
        last = fetch(run, url, certificate, issuer, source).await;
        if last.revocation != Revocation::Unknown {
            break;
        }
    }
    last
}

fn read_staple(session: &TlsSession) -> Result<Answer, String> {
    staple::read(session.staple.as_deref(), &session.path, UnixTime::now(), algorithms())
}

async fn fetch(
    run: &Arc<Run>,
    url: &str,
    certificate: &Arc<Certificate>,
    issuer: &Arc<Certificate>,
    source: RevocationSource,
) -> RevocationStatus {
    let question = match source {
        RevocationSource::Ocsp => match ocsp::request(certificate, issuer) {
            Some(question) => question,
            None => return status(true, Err("its serial number cannot be asked for".to_owned())),
        },
        RevocationSource::Stapled | RevocationSource::Crl => Vec::new(),
    };
    // Half of what is left: whoever does not answer must not take the verdict's time.
    let left = run.deadline.saturating_duration_since(Instant::now());
    let aside = run.aside((left / 2).min(LONGEST));
    let response = http::send(&aside, request(url, question, source)).await;
    aside.hand_denials_to(run);
    let response = match response {
        Ok(response) => response,
        Err(failure) => {
            let denied = failure.cause == Cause::Denied;
            return RevocationStatus {
                revocation: Revocation::Unknown,
                named: true,
                denied,
                message: format!("{url} cannot be asked: {}", failure.message),
            };
        }
    };
    if response.status != 200 {
        return status(true, Err(format!("{url} answers with the status {}", response.status)));
    }
    if response.truncated {
        return status(true, Err(format!("{url} answers with more than {} bytes", response.body.len())));
    }
    let (certificate, issuer, body) = (certificate.clone(), issuer.clone(), response.body);
    // Megabytes of entries take a while to read.
    let judging = tokio::task::spawn_blocking(move || match source {
        RevocationSource::Crl => crl::judge(&body, &certificate, &issuer, UnixTime::now(), algorithms()),
        RevocationSource::Stapled | RevocationSource::Ocsp => {
            ocsp::judge(&body, &certificate, &issuer, UnixTime::now(), algorithms())
        }
    });
    match judging.await {
        Ok(judged) => status(true, judged.map_err(|why| format!("{url}: {why}"))),
        Err(_) => status(true, Err(format!("{url}: its answer could not be read"))),
    }
}

fn request(url: &str, question: Vec<u8>, source: RevocationSource) -> Request {
    let asks = source == RevocationSource::Ocsp;
    Request {
        method: if asks { "POST" } else { "GET" }.to_owned(),
        url: url.to_owned(),
        headers: match asks {
            true => vec![Header::plain("content-type", "application/ocsp-request")],
            false => Vec::new(),
        },
        body: question,
        versions: Vec::new(),
        family: Family::Any,
        tls: None,
        max_redirects: 2,
        max_body: if asks { LARGEST_RESPONSE } else { LARGEST_LIST },
    }
}

fn status(named: bool, judged: Result<Answer, String>) -> RevocationStatus {
    let (revocation, message) = match judged {
        Ok(answer) => (answer.revocation, answer.message),
        Err(why) => (Revocation::Unknown, why),
    };
    RevocationStatus { revocation, named, denied: false, message }
}

fn nobody(message: String) -> RevocationStatus {
    status(false, Err(message))
}

fn algorithms() -> crate::tls::signature::Algorithms<'static> {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all
}

/// Of one certificate and one kind; others are spares.
const MOST_URLS: usize = 2;
/// For one answer; a responder that needs longer is as good as none.
const LONGEST: Duration = Duration::from_secs(5);
/// Bytes. A response with two certificates in it has four thousand.
const LARGEST_RESPONSE: u32 = 64 * 1024;
/// Bytes; about a hundred thousand entries, and all that a run may keep.
const LARGEST_LIST: u32 = 4 * 1024 * 1024;
