//! What a handshake showed, as plain values. Judges nothing.

use sdk::tls::{self, Revocation, RevocationSource};

/// A finished handshake.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// "1.2", "1.3".
    pub version: String,
    /// IANA's name; empty where the server ended the handshake for want of a client certificate.
    pub cipher: String,
    /// As served, leaf first.
    pub served: Vec<Certificate>,
    /// From the leaf up as far as issuers are known; up to the root where the chain is trusted.
    pub path: Vec<Certificate>,
    /// Every reason not to trust the server.
    pub defects: Vec<Defect>,
    /// Whether the server asked for a client certificate.
    pub wants_client_certificate: bool,
    /// What was heard about revocation, in the order of asking.
    pub heard: Vec<Heard>,
    /// Seconds.
    pub handshake: Option<f64>,
}

/// What a report says about a certificate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Certificate {
    pub subject: String,
    pub issuer: String,
    pub serial: String,
    pub sha256: String,
    /// Lower-case hexadecimal.
    pub spki_sha256: String,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// DNS names and addresses.
    pub names: Vec<String>,
    pub signature: String,
    /// Kind and bits.
    pub key: (String, u32),
    pub is_ca: bool,
}

/// A reason not to trust the peer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Defect {
    /// As in `types.cause.tls`: "wrong-name".
    pub code: String,
    pub message: String,
}

/// What one source said of one certificate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    /// The certificate's place in the path.
    pub place: usize,
    /// "stapled", "ocsp", "crl".
    pub from: &'static str,
    pub revocation: Revocation,
    /// Whether there was anybody to ask.
    pub named: bool,
    /// Whether the grant refused.
    pub denied: bool,
    pub message: String,
}

impl Facts {
    /// Asks the session for everything but revocation.
    pub(crate) fn read(session: &tls::Session, handshake_us: Option<u64>) -> Facts {
        let read = |chain: Vec<tls::Certificate>| chain.iter().map(Certificate::read).collect();
        Facts {
            version: session.version(),
            cipher: session.cipher(),
            served: read(session.served()),
            path: read(session.path()),
            defects: match session.verified() {
                Ok(_) => Vec::new(),
                Err(defects) => defects
                    .into_iter()
                    .map(|defect| Defect { code: defect.code, message: defect.message })
                    .collect(),
            },
            wants_client_certificate: session.wants_client_certificate(),
            heard: Vec::new(),
            handshake: handshake_us.map(|microseconds| microseconds as f64 / 1e6),
        }
    }

    /// Asks the sources in turn about every certificate below the last, each until one knows. Nobody revokes the last one: it is trusted by
    /// being here, or its issuer is not known.
    pub(crate) fn ask_revocation(&mut self, session: &tls::Session, sources: &[RevocationSource]) {
        let places = self.path.len().min(1).max(self.path.len().saturating_sub(1));
        for place in 0..places {
            for source in sources {
                if place > 0 && *source == RevocationSource::Stapled {
                    continue;
                }
                let status = session.ask_revocation(u32::try_from(place).unwrap_or(u32::MAX), *source);
                let is_known = status.revocation != Revocation::Unknown;
                self.heard.push(Heard {
                    place,
                    from: name(*source),
                    revocation: status.revocation,
                    named: status.named,
                    denied: status.denied,
                    message: status.message,
                });
                if is_known {
                    break;
                }
            }
        }
    }

    /// Whether nothing speaks against the chain but its dates or its name.
    pub(crate) fn leads_to_a_root(&self) -> bool {
        self.defects.iter().all(|defect| !is_about_trust(&defect.code))
    }
}

/// Dates, names, weakness and revocation are judged on their own.
pub(crate) fn is_about_trust(code: &str) -> bool {
    !matches!(
        code,
        "expired"
            | "not-yet-valid"
            | "wrong-name"
            | "weak-key"
            | "weak-signature"
            | "authority-as-leaf"
            | "revoked"
            | "must-staple"
    )
}

fn name(source: RevocationSource) -> &'static str {
    match source {
        RevocationSource::Stapled => "stapled",
        RevocationSource::Ocsp => "ocsp",
        RevocationSource::Crl => "crl",
    }
}

impl Certificate {
    fn read(certificate: &tls::Certificate) -> Certificate {
        let mut names = certificate.dns_names();
        names.extend(certificate.ip_addresses());
        Certificate {
            subject: certificate.subject(),
            issuer: certificate.issuer(),
            serial: certificate.serial(),
            sha256: certificate.sha256(),
            spki_sha256: certificate.spki_sha256(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            names,
            signature: certificate.signature_algorithm(),
            key: certificate.key(),
            is_ca: certificate.is_ca(),
        }
    }

    /// Whether it names itself as its issuer, as roots and self-signed leaves do.
    pub(crate) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }
}
