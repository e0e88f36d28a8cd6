//! Chains that are wrong, or odd, further up than at their leaf (RFC 5280, section 6). What a plain authority issues is in
//! `certificates`.

use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, NameConstraints, PKCS_ECDSA_P521_SHA512,
};
use rustls::pki_types::CertificateDer;

use crate::Error;
use crate::certificates::{DAY, Identity, Shape, YEARS, authority, in_days, leaf};

/// An authority and its key.
pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A key and a chain of that shape; none for shapes that are made elsewhere.
pub(crate) fn issue(root: &Issuer, intermediate: &Issuer, shape: Shape) -> Result<Option<Identity>, Error> {
    let now = SystemTime::now();
    let (begins, ends) = (now - 30 * DAY, in_days(now, 90));
    let params = || leaf(&NAMES, begins, ends);
    let usual = |params: CertificateParams| signed(&params, intermediate, &[intermediate.der()], root);
    let identity = match shape {
        Shape::IntermediateExpired | Shape::IntermediateNotYetValid => {
            let mut above = authority("Picket test intermediate, out of date", now, in_days(now, 100))?;
            match shape {
                Shape::IntermediateExpired => above.not_after = (now - 2 * DAY).into(),
                _ => above.not_before = (now + 2 * DAY).into(),
            }
            let above = below(above, root)?;
            signed(&params()?, &above, &[above.der()], root)?
        }
        Shape::RootExpired => {
            let old = authority("Picket test root, expired", now, now - 10 * DAY)?;
            let old = Issuer::self_signed(old, KeyPair::generate()?)?;
            let above =
                below(authority("Picket test intermediate of an expired root", now, now + YEARS)?, &old)?;
            signed(&params()?, &above, &[above.der()], &old)?
        }
        Shape::ClientUsage => {
            let mut params = params()?;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            usual(params)?
        }
        Shape::IssuedByServer => {
            let server = below(leaf(&["server.picket.test"], begins, ends)?, intermediate)?;
            signed(&params()?, &server, &[server.der(), intermediate.der()], root)?
        }
        Shape::PathTooLong => {
            let mut last = authority("Picket test intermediate, the last one", now, now + YEARS)?;
            last.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            let last = below(last, root)?;
            let one_more =
                below(authority("Picket test intermediate, one too many", now, now + YEARS)?, &last)?;
            signed(&params()?, &one_more, &[one_more.der(), last.der()], root)?
        }
        Shape::NameConstraints => {
            let mut above = authority("Picket test intermediate for other.test", now, now + YEARS)?;
            above.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DnsName("other.test".into())],
                excluded_subtrees: Vec::new(),
            });
            let above = below(above, root)?;
            signed(&params()?, &above, &[above.der()], root)?
        }
        Shape::CriticalExtension => {
            let mut params = params()?;
            // Of the range for examples (RFC 5612), holding NULL.
            let mut demand = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 32473, 1], vec![5, 0]);
            demand.set_criticality(true);
            params.custom_extensions = vec![demand];
            usual(params)?
        }
        Shape::NoName => {
            let mut params = params()?;
            params.subject_alt_names.clear();
            usual(params)?
        }
        Shape::Wildcard => usual(leaf(&["*.picket.test"], begins, ends)?)?,
        Shape::BadSignature => {
            let key = KeyPair::generate()?;
            let mut changed = params()?.signed_by(&key, intermediate)?.der().to_vec();
            // The signature is what comes last.
            if let Some(last) = changed.last_mut() {
                *last ^= 1;
            }
            let chain = vec![changed.into(), intermediate.der().clone()];
            Identity::new(chain, &key, root.pem())
        }
        Shape::Impostor => {
            let other = below(authority("Picket test intermediate", now, now + YEARS)?, root)?;
            signed(&params()?, &other, &[intermediate.der()], root)?
        }
        Shape::Untrusted | Shape::ManyDefects => {
            let stranger = authority("Somebody's root", now, now + YEARS)?;
            let stranger = Issuer::self_signed(stranger, KeyPair::generate()?)?;
            let above = below(authority("Somebody's intermediate", now, now + YEARS)?, &stranger)?;
            let mut params = params()?;
            if shape == Shape::ManyDefects {
                params = leaf(&["elsewhere.test"], begins, now - 2 * DAY)?;
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
            // The root that is trusted is ours.
            signed(&params, &above, &[above.der(), stranger.der()], root)?
        }
        Shape::Shuffled => {
            let bystander = below(authority("Picket test bystander", now, now + YEARS)?, root)?;
            signed(&params()?, intermediate, &[root.der(), bystander.der(), intermediate.der()], root)?
        }
        Shape::CrossedExpired => {
            let old = authority("Picket test root of before", now, now - 10 * DAY)?;
            let old = Issuer::self_signed(old, KeyPair::generate()?)?;
            let crossed = authority("Picket test root", now, now - 10 * DAY)?;
            let crossed = crossed.signed_by(root.key(), &old)?;
            signed(&params()?, intermediate, &[intermediate.der(), crossed.der()], root)?
        }
        Shape::IntermediateRenewed => {
            let before = authority("Picket test intermediate", now - 400 * DAY, now - 10 * DAY)?;
            let before = before.signed_by(intermediate.key(), root)?;
            signed(&params()?, intermediate, &[before.der(), intermediate.der()], root)?
        }
        Shape::MustStaple => {
            let mut params = params()?;
            params.custom_extensions = vec![must_staple()];
            usual(params)?
        }
        Shape::LargeCurve => {
            let large = || KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512);
            let root =
                Issuer::self_signed(authority("Picket test root on P-521", now, now + YEARS)?, large()?)?;
            let above = authority("Picket test intermediate on P-521", now, now + YEARS)?;
            let above = Issuer::signed_by(above, large()?, &root)?;
            signed(&params()?, &above, &[above.der()], &root)?
        }
        _ => return Ok(None),
    };
    Ok(Some(identity))
}

/// The extension that promises a staple (RFC 7633): a list with status_request in it.
pub(crate) fn must_staple() -> CustomExtension {
    let features = vec![0x30, 0x03, 0x02, 0x01, 0x05];
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], features)
}

/// A certificate with a key of its own, which signs others.
pub(crate) fn below(params: CertificateParams, issuer: &Issuer) -> Result<Issuer, Error> {
    Ok(Issuer::signed_by(params, KeyPair::generate()?, issuer)?)
}

/// A leaf and what is served behind it.
pub(crate) fn signed(
    params: &CertificateParams,
    issuer: &Issuer,
    behind: &[&CertificateDer<'static>],
    root: &Issuer,
) -> Result<Identity, Error> {
    let key = KeyPair::generate()?;
    let mut chain = vec![params.signed_by(&key, issuer)?.der().clone()];
    chain.extend(behind.iter().map(|der| (*der).clone()));
    Ok(Identity::new(chain, &key, root.pem()))
}

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];
