//! An authority of our own and the certificates that a server can be wrong with (RFC 5280). Keys are ECDSA P-256 unless a shape says
//! otherwise. Those that need more than a leaf and its intermediate are made in `chains`, those that no library of today signs any
//! more in `legacy`. Does not serve them.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use sha2::{Digest, Sha256};

use crate::{Error, chains, legacy};

/// What is right or wrong with a served chain. Names are `localhost` and `127.0.0.1` unless it says otherwise; a leaf and
/// its intermediate are served; everything is valid for 90 days, and half an hour, unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Nothing is wrong.
    Valid,
    /// The leaf expires in so many days, and half an hour.
    ExpiresInDays(u64),
    /// The intermediate expires in so many days, and half an hour; the leaf later.
    IntermediateExpiresInDays(u64),
    /// The leaf expired two days ago.
    Expired,
    /// The leaf becomes valid in two days.
    NotYetValid,
    /// The leaf is for `elsewhere.test`.
    WrongName,
    /// The leaf signed itself.
    SelfSigned,
    /// The leaf alone is served, without its intermediate.
    IncompleteChain,
    /// An authority's certificate stands where the leaf should.
    AuthorityAsLeaf,
    /// The intermediate expired two days ago.
    IntermediateExpired,
    /// The intermediate becomes valid in two days.
    IntermediateNotYetValid,
    /// The root expired ten days ago; what is below it did not.
    RootExpired,
    /// The leaf is meant for clients only.
    ClientUsage,
    /// The leaf was issued by a certificate that is no authority's.
    IssuedByServer,
    /// The leaf's issuer stands below an authority that allows none beneath it.
    PathTooLong,
    /// The intermediate may issue for `other.test` only.
    NameConstraints,
    /// The leaf demands something that nobody understands.
    CriticalExtension,
    /// The leaf has a common name and no subjectAltName.
    NoName,
    /// The leaf is for `*.picket.test`.
    Wildcard,
    /// The leaf was changed after it was signed.
    BadSignature,
    /// The leaf was issued by somebody who has the intermediate's name, but not its key.
    Impostor,
    /// A chain of another root, which is served too.
    Untrusted,
    /// The root and an authority without a part in it stand between the leaf and its intermediate.
    Shuffled,
    /// Served with a certificate besides that signs the root for an older one, and has expired.
    CrossedExpired,
    /// Served with the intermediate of before its renewal, which has expired, in front of the one that counts.
    IntermediateRenewed,
    /// The leaf promises a staple, and there is none.
    MustStaple,
    /// Expired, for another name, for clients only, of a root that nobody trusts.
    ManyDefects,
    /// Keys of the root and the intermediate are on the curve P-521.
    LargeCurve,
    /// The leaf has an RSA key of 1,024 bits.
    WeakKey,
    /// The intermediate has an RSA key of 1,024 bits.
    WeakIntermediateKey,
    /// The leaf is signed with SHA-1.
    Sha1,
    /// The leaf is signed with MD5.
    Md5,
    /// The intermediate is signed with SHA-1.
    IntermediateSha1,
    /// The leaf is signed with SHA-1, has a key of 1,024 bits, and is for `old.test`.
    OldAndWeak,
}

impl Shape {
    /// The shape that a case names so.
    pub fn named(name: &str) -> Option<Shape> {
        NAMED.iter().find(|(known, _)| *known == name).map(|(_, shape)| *shape)
    }
}

/// A root and an intermediate, valid for ten years.
pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A fresh one with fresh keys.
    pub fn new() -> Result<Authority, Error> {
        Authority::called("Picket test")
    }

    /// The same of another name, for who is somebody else: a signature that does not fit the name leaves OpenSSL 3.0 with an error that
    /// nginx finds in a handshake that arrives in parts, and resets.
    pub fn called(name: &str) -> Result<Authority, Error> {
        let now = SystemTime::now();
        let root = CertifiedIssuer::self_signed(
            authority(&format!("{name} root"), now, now + YEARS)?,
            KeyPair::generate()?,
        )?;
        let intermediate = CertifiedIssuer::signed_by(
            authority(&format!("{name} intermediate"), now, now + YEARS)?,
            KeyPair::generate()?,
            &root,
        )?;
        Ok(Authority { root, intermediate })
    }

    /// The root's certificate in PEM: what a check's `ca` wants.
    pub fn pem(&self) -> String {
        self.root.pem()
    }

    /// The intermediate's certificate in PEM.
    pub fn intermediate_pem(&self) -> String {
        self.intermediate.pem()
    }

    /// A key and a chain that a client shows to a server that asks for one.
    pub fn issue_client(&self) -> Result<Identity, Error> {
        let now = SystemTime::now();
        let mut params = leaf(&["picket-client"], now - 30 * DAY, in_days(now, 90))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.intermediate)?;
        let chain = vec![certificate.der().clone(), self.intermediate.der().clone()];
        Ok(Identity::new(chain, &key, self.pem()))
    }

    /// SHA-256 over the root's subjectPublicKeyInfo (RFC 7469).
    pub fn root_pin(&self) -> [u8; 32] {
        pin(self.root.key())
    }

    pub(crate) fn root(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.root
    }

    /// A key and a chain of that shape.
    pub fn issue(&self, shape: Shape) -> Result<Identity, Error> {
        if let Some(identity) = chains::issue(&self.root, &self.intermediate, shape)? {
            return Ok(identity);
        }
        if let Some(identity) = legacy::issue(shape)? {
            return Ok(identity);
        }
        let now = SystemTime::now();
        let (mut begins, mut ends) = (now - 30 * DAY, in_days(now, 90));
        match shape {
            Shape::ExpiresInDays(days) => ends = in_days(now, days),
            Shape::Expired => ends = now - 2 * DAY,
            Shape::NotYetValid => begins = now + 2 * DAY,
            _ => {}
        }
        let names =
            if shape == Shape::WrongName { vec!["elsewhere.test"] } else { vec!["localhost", "127.0.0.1"] };
        let params = match shape {
            Shape::AuthorityAsLeaf => named(authority("localhost", begins, ends)?, &names)?,
            _ => leaf(&names, begins, ends)?,
        };
        let key = KeyPair::generate()?;
        let chain = match shape {
            Shape::SelfSigned => vec![params.self_signed(&key)?],
            Shape::IncompleteChain => vec![params.signed_by(&key, &self.intermediate)?],
            Shape::IntermediateExpiresInDays(days) => {
                let between = CertifiedIssuer::signed_by(
                    authority("Picket test intermediate, short", now - 30 * DAY, in_days(now, days))?,
                    KeyPair::generate()?,
                    &self.root,
                )?;
                vec![params.signed_by(&key, &between)?, between.as_ref().clone()]
            }
            _ => vec![params.signed_by(&key, &self.intermediate)?, self.intermediate.as_ref().clone()],
        };
        let chain = chain.iter().map(|certificate| certificate.der().clone()).collect();
        Ok(Identity::new(chain, &key, self.pem()))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// A server's key and the chain that it serves, leaf first.
pub struct Identity {
    /// In DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// In PEM, one after the other.
    pub chain_pem: String,
    /// PKCS #8.
    pub key: PrivateKeyDer<'static>,
    /// PKCS #8 in PEM.
    pub key_pem: String,
    /// The root that it leads to, in PEM.
    pub root_pem: String,
    /// SHA-256 over the leaf's subjectPublicKeyInfo (RFC 7469).
    pub pin: [u8; 32],
}

impl Identity {
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair, root_pem: String) -> Identity {
        Identity {
            chain_pem: chain.iter().map(|der| pem(der)).collect(),
            chain,
            key_pem: key.serialize_pem(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            root_pem,
            pin: pin(key),
        }
    }
}

fn pin(key: &KeyPair) -> [u8; 32] {
    Sha256::digest(key.subject_public_key_info()).into()
}

/// RFC 7468.
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

pub(crate) fn leaf(names: &[&str], begins: SystemTime, ends: SystemTime) -> Result<CertificateParams, Error> {
    let mut params = named(CertificateParams::default(), names)?;
    params.distinguished_name.push(DnType::CommonName, names[0]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (begins.into(), ends.into());
    Ok(params)
}

pub(crate) fn authority(
    name: &str,
    begins: SystemTime,
    ends: SystemTime,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = ((begins - 30 * DAY).into(), ends.into());
    Ok(params)
}

fn named(mut params: CertificateParams, names: &[&str]) -> Result<CertificateParams, Error> {
    params.subject_alt_names =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?.subject_alt_names;
    Ok(params)
}

pub(crate) fn in_days(now: SystemTime, days: u64) -> SystemTime {
    // Half an hour more, so that the whole number of days left is the one that was asked for.
    now + DAY * u32::try_from(days).unwrap_or(u32::MAX) + Duration::from_secs(1800)
}

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const YEARS: Duration = Duration::from_secs(3650 * 86_400);

/// How cases name shapes.
const NAMED: [(&str, Shape); 32] = [
    ("valid", Shape::Valid),
    ("expired", Shape::Expired),
    ("not-yet-valid", Shape::NotYetValid),
    ("wrong-name", Shape::WrongName),
    ("self-signed", Shape::SelfSigned),
    ("incomplete-chain", Shape::IncompleteChain),
    ("authority-as-leaf", Shape::AuthorityAsLeaf),
    ("intermediate-expired", Shape::IntermediateExpired),
    ("intermediate-not-yet-valid", Shape::IntermediateNotYetValid),
    ("root-expired", Shape::RootExpired),
    ("client-usage", Shape::ClientUsage),
    ("issued-by-server", Shape::IssuedByServer),
    ("path-too-long", Shape::PathTooLong),
    ("name-constraints", Shape::NameConstraints),
    ("critical-extension", Shape::CriticalExtension),
    ("no-name", Shape::NoName),
    ("wildcard", Shape::Wildcard),
    ("bad-signature", Shape::BadSignature),
    ("impostor", Shape::Impostor),
    ("untrusted", Shape::Untrusted),
    ("shuffled", Shape::Shuffled),
    ("crossed-expired", Shape::CrossedExpired),
    ("intermediate-renewed", Shape::IntermediateRenewed),
    ("must-staple", Shape::MustStaple),
    ("many-defects", Shape::ManyDefects),
    ("large-curve", Shape::LargeCurve),
    ("weak-key", Shape::WeakKey),
    ("weak-intermediate-key", Shape::WeakIntermediateKey),
    ("sha1", Shape::Sha1),
    ("md5", Shape::Md5),
    ("intermediate-sha1", Shape::IntermediateSha1),
    ("old-and-weak", Shape::OldAndWeak),
];
