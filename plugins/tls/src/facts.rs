//! What a handshake showed, as plain values. Judges nothing.

use sdk::tls::{self, Revocation};

/// A finished handshake.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// "1.2", "1.3".
    pub version: String,
    /// IANA's name.
    pub cipher: String,
    /// As served, leaf first.
    pub served: Vec<Certificate>,
    /// Leaf first, root last; or every defect.
    pub verified: Result<Vec<Certificate>, Vec<Defect>>,
    /// The server stapled that its certificate is revoked.
    pub revoked: bool,
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

impl Facts {
    /// Asks the session for everything.
    pub(crate) fn read(session: &tls::Session, handshake_us: Option<u64>) -> Facts {
        Facts {
            version: session.version(),
            cipher: session.cipher(),
            served: session.served().iter().map(Certificate::read).collect(),
            verified: match session.verified() {
                Ok(chain) => Ok(chain.iter().map(Certificate::read).collect()),
                Err(defects) => Err(defects
                    .into_iter()
                    .map(|defect| Defect { code: defect.code, message: defect.message })
                    .collect()),
            },
            revoked: session.stapled() == Revocation::Revoked,
            handshake: handshake_us.map(|microseconds| microseconds as f64 / 1e6),
        }
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
