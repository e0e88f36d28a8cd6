//! How a peer shakes hands, what it serves, and what is said of it. Signs nothing: a certificate here is what a check may learn of one.

use std::collections::HashMap;
use std::sync::Arc;

use net::{
    Cause, Certificate, Defect, Failure, Phase, Revocation, RevocationSource, RevocationStatus, TlsOptions,
    TlsSession, Trust,
};

use super::super::script::{Op, Served, Tls, Told};
use super::super::{MORNING, Scripted};
use super::{Playing, fail};

const DAY: i64 = 86_400;

impl Playing {
    /// A handshake with whoever is asked for under `host`.
    pub(super) fn secure(&mut self, options: &TlsOptions, host: &str) -> Result<TlsSession, Failure> {
        let at = self.at.clone();
        loop {
            match self.ops.front().cloned() {
                Some(Op::Tls(tls)) => {
                    self.ops.pop_front();
                    return self.shake(&tls, options, host);
                }
                Some(Op::Delay(time)) => {
                    self.ops.pop_front();
                    self.world.pass(time, Phase::Handshake, &at)?;
                }
                Some(Op::Oblige | Op::Echo | Op::Http(_)) => {
                    return self.shake(&Tls::default(), options, host);
                }
                Some(Op::Reset) => {
                    self.world.meet("reset");
                    let message = format!("{at} reset the connection (handshake)");
                    return Err(fail(Cause::Reset, Phase::Handshake, message));
                }
                Some(Op::Close) | None => {
                    self.world.meet("close");
                    let message = format!("{at} closed the connection too early (handshake)");
                    return Err(fail(Cause::Closed, Phase::Handshake, message));
                }
                Some(Op::Garbage(_) | Op::Send(_)) => {
                    self.world.meet("garbage");
                    let message = format!("{at} does not speak TLS here");
                    return Err(fail(Cause::Tls("other".to_owned()), Phase::Handshake, message));
                }
                Some(op) => {
                    self.world.meet(if matches!(op, Op::Trickle(_)) { "trickle" } else { "silence" });
                    return Err(self.world.wait(Phase::Handshake, &at));
                }
            }
        }
    }

    fn shake(&self, tls: &Tls, options: &TlsOptions, host: &str) -> Result<TlsSession, Failure> {
        let at = &self.at;
        if let Some(reason) = &tls.fails {
            self.world.meet("tls");
            let message = format!("{at} ended the handshake: {reason}");
            return Err(fail(Cause::Tls(reason.clone()), Phase::Handshake, message));
        }
        let name = options.server_name.as_deref().unwrap_or(host);
        let chain = chain(tls, name);
        if let Some(leaf) = chain.first() {
            self.world.lock().revocation.push((leaf.clone(), told(tls)));
        }
        let defect = defect(tls.certificate, name);
        if let Some(defect) = &defect
            && options.trust != Trust::Unverified
        {
            self.world.meet("tls");
            if options.trust == Trust::Required {
                let message = format!("{at} cannot be trusted: {}", defect.message);
                return Err(fail(Cause::Tls(defect.code.clone()), Phase::Handshake, message));
            }
        }
        Ok(TlsSession {
            version: tls.version.clone().unwrap_or_else(|| "1.3".to_owned()),
            cipher: "TLS13_AES_128_GCM_SHA256".to_owned(),
            alpn: options.alpn.first().cloned(),
            served: chain.clone(),
            path: chain.clone(),
            verified: defect.map_or(Ok(chain), |defect| Err(vec![defect])),
            ..TlsSession::default()
        })
    }
}

/// What whoever is asked about the leaf says.
fn told(tls: &Tls) -> HashMap<RevocationSource, Told> {
    let mut told = tls.revocation.clone();
    if tls.certificate == Served::Revoked {
        told.insert(RevocationSource::Stapled, Told::Revoked);
    }
    told
}

/// What that source says of the certificate at that place of a session's path.
pub(in super::super) fn revocation(
    world: &Scripted,
    session: &TlsSession,
    place: usize,
    source: RevocationSource,
) -> RevocationStatus {
    let seen = world.lock();
    let leaf = session.path.first().filter(|_| place == 0);
    let known = seen.revocation.iter().find(|(known, _)| leaf.is_some_and(|leaf| Arc::ptr_eq(leaf, known)));
    let told = known.and_then(|(_, told)| told.get(&source)).copied();
    let (revocation, message) = match told {
        Some(Told::Good) => (Revocation::Good, "the script says good"),
        Some(Told::Revoked) => (Revocation::Revoked, "the script says revoked"),
        Some(Told::Unknown) => (Revocation::Unknown, "the script says nothing that can be believed"),
        Some(Told::Denied) => (Revocation::Unknown, "the script does not grant it"),
        None => (Revocation::Unknown, "nobody can be asked about revocation here"),
    };
    RevocationStatus {
        revocation,
        named: told.is_some(),
        denied: told == Some(Told::Denied),
        message: message.to_owned(),
    }
}

/// A leaf and its root.
fn chain(tls: &Tls, name: &str) -> Vec<Arc<Certificate>> {
    let now = i64::try_from(MORNING.as_secs()).unwrap_or_default();
    let (not_before, not_after) = match tls.certificate {
        Served::Expired => (now - 100 * DAY, now - DAY),
        Served::NotYetValid => (now + DAY, now + 90 * DAY),
        _ => (now - DAY, now + tls.days.unwrap_or(90) * DAY),
    };
    let carried = if tls.certificate == Served::WrongName { "somebody-else.example" } else { name };
    let subject = format!("CN={carried}");
    let alone = tls.certificate == Served::SelfSigned;
    let leaf = Certificate {
        subject: subject.clone(),
        issuer: if alone { subject } else { "CN=Scripted Root".to_owned() },
        serial: "01".to_owned(),
        not_before,
        not_after,
        dns_names: vec![carried.to_owned()],
        signature_algorithm: "ecdsa-with-SHA256".to_owned(),
        key: ("EC".to_owned(), 256),
        sha256: "aa".repeat(32),
        spki_sha256: "bb".repeat(32),
        ..Certificate::default()
    };
    let root = Certificate {
        subject: "CN=Scripted Root".to_owned(),
        issuer: "CN=Scripted Root".to_owned(),
        serial: "02".to_owned(),
        not_before: now - 1000 * DAY,
        not_after: now + 3000 * DAY,
        signature_algorithm: "ecdsa-with-SHA256".to_owned(),
        key: ("EC".to_owned(), 256),
        sha256: "cc".repeat(32),
        spki_sha256: "dd".repeat(32),
        is_ca: true,
        ..Certificate::default()
    };
    if alone { vec![leaf.into()] } else { vec![leaf.into(), root.into()] }
}

fn defect(served: Served, name: &str) -> Option<Defect> {
    let (code, message) = match served {
        Served::Valid => return None,
        Served::Expired => ("expired", "the certificate has expired".to_owned()),
        Served::NotYetValid => ("not-yet-valid", "the certificate is not valid yet".to_owned()),
        Served::WrongName => ("wrong-name", format!("the certificate is not for {name}")),
        Served::SelfSigned => ("self-signed", "the certificate signed itself".to_owned()),
        Served::Untrusted => {
            ("untrusted", "no authority that is trusted stands behind the certificate".to_owned())
        }
        Served::Revoked => ("revoked", "the certificate was revoked".to_owned()),
    };
    Some(Defect { code: code.to_owned(), message })
}
