//! An authority of our own and the certificates that a server can be wrong with (RFC 5280). Keys are ECDSA P-256.
//! Does not serve them.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::Error;

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
}

/// A root and an intermediate, valid for ten years.
pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A fresh one with fresh keys.
    pub fn new() -> Result<Authority, Error> {
        let now = SystemTime::now();
        let root = CertifiedIssuer::self_signed(
            authority("Picket test root", now, now + YEARS)?,
            KeyPair::generate()?,
        )?;
        let intermediate = CertifiedIssuer::signed_by(
            authority("Picket test intermediate", now, now + YEARS)?,
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
        Ok(Identity {
            chain: vec![certificate.der().clone(), self.intermediate.der().clone()],
            chain_pem: certificate.pem() + &self.intermediate.pem(),
            key_pem: key.serialize_pem(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }

    /// A key and a chain of that shape.
    pub fn issue(&self, shape: Shape) -> Result<Identity, Error> {
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
        Ok(Identity {
            chain_pem: chain.iter().map(rcgen::Certificate::pem).collect(),
            chain: chain.iter().map(|certificate| certificate.der().clone()).collect(),
            key_pem: key.serialize_pem(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
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
}

fn leaf(names: &[&str], begins: SystemTime, ends: SystemTime) -> Result<CertificateParams, Error> {
    let mut params = named(CertificateParams::default(), names)?;
    params.distinguished_name.push(DnType::CommonName, names[0]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (begins.into(), ends.into());
    Ok(params)
}

fn authority(name: &str, begins: SystemTime, ends: SystemTime) -> Result<CertificateParams, Error> {
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

fn in_days(now: SystemTime, days: u64) -> SystemTime {
    // Half an hour more, so that the whole number of days left is the one that was asked for.
    now + DAY * u32::try_from(days).unwrap_or(u32::MAX) + Duration::from_secs(1800)
}

const DAY: Duration = Duration::from_secs(86_400);
const YEARS: Duration = Duration::from_secs(3650 * 86_400);
