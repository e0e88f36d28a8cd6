//! Certificates as nobody makes them any more: RSA keys of 1,024 bits, signatures with SHA-1 and MD5. The program `openssl` still does;
//! `rcgen` rightly does not.

use std::path::Path;
use std::process::Command;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificates::{Identity, Shape};
use crate::{Error, process};

/// A key and a chain of that shape; none for shapes that are made elsewhere. Each has a root of its own.
pub(crate) fn issue(shape: Shape) -> Result<Option<Identity>, Error> {
    let (leaf_bits, leaf_digest) = match shape {
        Shape::WeakKey => ("1024", "sha256"),
        Shape::Sha1 => ("2048", "sha1"),
        Shape::Md5 => ("2048", "md5"),
        Shape::OldAndWeak => ("1024", "sha1"),
        Shape::WeakIntermediateKey | Shape::IntermediateSha1 => ("2048", "sha256"),
        _ => return Ok(None),
    };
    let directory = process::directory("legacy")?;
    let at = directory.path();
    process::write(&at.join("ca.ext"), "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n")?;
    let names = if shape == Shape::OldAndWeak { "DNS:old.test" } else { "DNS:localhost,IP:127.0.0.1" };
    process::write(&at.join("leaf.ext"), format!("subjectAltName={names}\n{LEAF}"))?;
    key(at, "root", "2048")?;
    let root = ["-x509", "-new", "-key", "root.key", "-subj", "/CN=Picket legacy root", "-days", "90"];
    openssl(
        at,
        "req",
        &[&root[..], &["-addext", "keyUsage=keyCertSign,cRLSign", "-out", "root.pem"]].concat(),
    )?;
    let (bits, digest) = match shape {
        Shape::WeakIntermediateKey => ("1024", "sha256"),
        Shape::IntermediateSha1 => ("2048", "sha1"),
        _ => ("2048", "sha256"),
    };
    key(at, "above", bits)?;
    certify(at, "above", "/CN=Picket legacy intermediate", "ca.ext", ("root", digest))?;
    key(at, "leaf", leaf_bits)?;
    certify(at, "leaf", "/CN=localhost", "leaf.ext", ("above", leaf_digest))?;
    let read = |name: &str| {
        std::fs::read_to_string(at.join(name)).map_err(|source| Error::File {
            action: "read",
            path: at.join(name),
            source,
        })
    };
    let chain_pem = read("leaf.pem")? + &read("above.pem")?;
    let key_pem = read("leaf.key")?;
    let unreadable = |error: rustls::pki_types::pem::Error| Error::Failed {
        program: "openssl".into(),
        output: format!("what it wrote cannot be read: {error}"),
    };
    Ok(Some(Identity {
        chain: CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(unreadable)?,
        key: PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(unreadable)?,
        root_pem: read("root.pem")?,
        // Nobody pins what nobody should use.
        pin: [0; 32],
        chain_pem,
        key_pem,
    }))
}

fn key(at: &Path, name: &str, bits: &str) -> Result<(), Error> {
    openssl(at, "genrsa", &["-out", &format!("{name}.key"), bits])
}

fn certify(
    at: &Path,
    name: &str,
    subject: &str,
    extensions: &str,
    (issuer, digest): (&str, &str),
) -> Result<(), Error> {
    let (request, own) = (format!("{name}.csr"), format!("{name}.pem"));
    openssl(at, "req", &["-new", "-key", &format!("{name}.key"), "-subj", subject, "-out", &request])?;
    let (above, above_key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
    let from = ["-req", "-in", &request, "-CA", &above, "-CAkey", &above_key, "-extfile", extensions];
    let digest = format!("-{digest}");
    openssl(at, "x509", &[&from[..], &["-days", "90", &digest, "-set_serial", "7", "-out", &own]].concat())
}

/// Without the machine's own configuration, which may forbid what is wanted here.
pub(crate) fn openssl(at: &Path, command: &str, arguments: &[&str]) -> Result<(), Error> {
    let program = process::find("openssl", "openssl")?;
    let mut openssl = Command::new(program);
    openssl.current_dir(at).env("OPENSSL_CONF", "/dev/null").arg(command).args(arguments);
    process::run(&mut openssl).map(drop)
}

const LEAF: &str = "extendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n";
