//! What a server staples to its handshake (RFC 6066, section 8), and what its certificate promises about that (RFC 7633). How the
//! stapled response is read is `ocsp`'s.

use std::sync::Arc;

use rustls::pki_types::UnixTime;

use crate::tls::certificate::Certificate;
use crate::tls::chain::defect;
use crate::tls::ocsp::{self, Answer};
use crate::tls::signature::Algorithms;
use crate::types::{Defect, Revocation};

/// What the staple says, and what is wrong because of it: a certificate that is revoked, or one that promises a staple and has none
/// that can be believed.
pub(crate) fn judge(
    staple: Option<&[u8]>,
    path: &[Arc<Certificate>],
    now: UnixTime,
    algorithms: Algorithms<'_>,
) -> (Revocation, Option<Defect>) {
    let promised = path.first().is_some_and(|leaf| leaf.must_staple);
    match read(staple, path, now, algorithms) {
        Ok(Answer { revocation: Revocation::Revoked, message }) => {
            let message = format!("the certificate is revoked: {message}");
            (Revocation::Revoked, Some(defect("revoked", message)))
        }
        Ok(Answer { revocation: Revocation::Good, .. }) => (Revocation::Good, None),
        // Without its issuer nothing can be said of a staple; the missing issuer is.
        Err(_) if staple.is_some() && path.len() < 2 => (Revocation::Unknown, None),
        Ok(Answer { message, .. }) | Err(message) => {
            let broken = promised.then(|| {
                let words = format!("the certificate promises a stapled OCSP response, but {message}");
                defect("must-staple", words)
            });
            (Revocation::Unknown, broken)
        }
    }
}

/// The staple's answer about the leaf; an error in words where there is none that can be believed.
pub(crate) fn read(
    staple: Option<&[u8]>,
    path: &[Arc<Certificate>],
    now: UnixTime,
    algorithms: Algorithms<'_>,
) -> Result<Answer, String> {
    let Some(response) = staple else { return Err("the server stapled none".to_owned()) };
    let [leaf, issuer, ..] = path else { return Err("its issuer is not known here".to_owned()) };
    ocsp::judge(response, leaf, issuer, now, algorithms)
}
