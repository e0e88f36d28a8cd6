//! An authority that says which of its certificates are revoked: an OCSP responder (RFC 6960) whose answers the program `openssl` makes,
//! and revocation lists (RFC 5280, section 5), both over HTTP; and TLS servers with certificates of that authority.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CustomExtension,
    ExtendedKeyUsagePurpose, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use tempfile::TempDir;

use crate::certificates::{DAY, Identity, YEARS, authority, in_days, leaf};
use crate::chains::{Issuer, below, must_staple};
use crate::legacy::openssl;
use crate::listener::Listener;
use crate::process;
use crate::{Authority, Error, TlsServer, Versions};

/// What is right or wrong with its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// Signed by the issuer, current.
    Right,
    /// OCSP responses are signed by a responder that the issuer authorised.
    Delegated,
    /// OCSP responses are signed by a certificate of the issuer without that right.
    Unauthorised,
    /// The signatures of OCSP responses are damaged.
    Corrupt,
    /// The lists ended two days ago.
    ListStale,
    /// The lists are signed by somebody with the issuer's name.
    ListForged,
    /// The lists are those of another part of the issuer's certificates.
    ListOfAnotherPart,
    /// The intermediate stands in its root's list.
    IntermediateRevoked,
    /// Every request is answered with the status 500.
    Refusing,
    /// Requests are never answered.
    Hanging,
    /// Every answer has more bytes than anybody wants.
    Endless,
}

/// The authority, its registry, and its servers.
///
/// | server | certificate | staple |
/// |---|---|---|
/// | `good` | not revoked | none |
/// | `revoked` | revoked for a compromised key | none |
/// | `stranger` | one that the responder does not know | none |
/// | `nameless` | not revoked, and names neither responder nor list | none |
/// | `stapled` | not revoked | says good |
/// | `stapled-revoked` | revoked | says revoked |
/// | `promised` | not revoked, promises a staple | says good |
/// | `promised-none` | not revoked, promises a staple | none |
/// | `promised-other` | not revoked, promises a staple | that of another certificate |
pub struct Registry {
    http: Listener,
    servers: BTreeMap<&'static str, TlsServer>,
    root_pem: String,
    _directory: TempDir,
}

/// Certificates by their serial numbers.
const CERTIFICATES: [(&str, u64); 9] = [
    ("good", 0x1001),
    ("revoked", 0x1002),
    ("stranger", 0x1003),
    ("nameless", 0x1004),
    ("stapled", 0x1005),
    ("stapled-revoked", 0x1006),
    ("promised", 0x1007),
    ("promised-none", 0x1008),
    ("promised-other", 0x1009),
];
const REVOKED: [u64; 2] = [0x1002, 0x1006];
const UNKNOWN_TO_OCSP: u64 = 0x1003;
const INTERMEDIATE: u64 = 0x2001;

impl Registry {
    /// Starts all of it beneath the authority's root.
    pub fn start(above: &Authority, answers: Answers) -> Result<Registry, Error> {
        let directory = process::directory("registry")?;
        let desk = Arc::new(Desk::new(directory.path(), answers));
        let serving = desk.clone();
        let http = Listener::start(move |stream| {
            let _ = serving.serve(stream);
        })?;
        let url = format!("http://127.0.0.1:{}", http.port());
        let now = SystemTime::now();
        let root = above.root();
        let mut params = authority("Picket test intermediate with a registry", now, now + YEARS)?;
        params.serial_number = Some(SerialNumber::from(INTERMEDIATE));
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![format!("{url}/root.crl")] }];
        let issuer = below(params, root)?;
        desk.prepare(root, &issuer, &url)?;
        let mut servers = BTreeMap::new();
        for (name, serial) in CERTIFICATES {
            let mut params = leaf(&["localhost", "127.0.0.1"], now - 30 * DAY, in_days(now, 90))?;
            params.serial_number = Some(SerialNumber::from(serial));
            if name != "nameless" {
                params.crl_distribution_points =
                    vec![CrlDistributionPoint { uris: vec![format!("{url}/issuer.crl")] }];
                params.custom_extensions.push(responder(&format!("{url}/ocsp")));
            }
            if name.starts_with("promised") {
                params.custom_extensions.push(must_staple());
            }
            let about = match name {
                "stapled" | "stapled-revoked" | "promised" => Some(serial),
                "promised-other" => Some(0x1001),
                _ => None,
            };
            let staple = about.map(|serial| desk.response_about(serial)).transpose()?.unwrap_or_default();
            let key = rcgen::KeyPair::generate()?;
            let chain = vec![params.signed_by(&key, &issuer)?.der().clone(), issuer.der().clone()];
            let identity = Identity::new(chain, &key, root.pem());
            servers.insert(name, TlsServer::start_as(identity, Versions::Both, staple)?);
        }
        Ok(Registry { http, servers, root_pem: root.pem(), _directory: directory })
    }

    /// Where it is asked, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.http.port()
    }

    /// The ports of its servers, by the names above.
    pub fn servers(&self) -> impl Iterator<Item = (&'static str, u16)> {
        self.servers.iter().map(|(name, server)| (*name, server.port()))
    }

    /// The root of what they serve, in PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("port", &self.port()).finish_non_exhaustive()
    }
}

/// What answers requests, out of the files of a directory.
struct Desk {
    at: std::path::PathBuf,
    answers: Answers,
    requests: AtomicU64,
}

impl Desk {
    fn new(at: &Path, answers: Answers) -> Desk {
        Desk { at: at.to_owned(), answers, requests: AtomicU64::new(0) }
    }

    /// Writes the issuer, its responder, the index that `openssl ocsp` reads, and the lists.
    fn prepare(&self, root: &Issuer, issuer: &Issuer, url: &str) -> Result<(), Error> {
        let now = SystemTime::now();
        process::write(&self.at.join("issuer.pem"), issuer.pem())?;
        let mut params = leaf(&["ocsp.picket.test"], now - 30 * DAY, in_days(now, 90))?;
        params.extended_key_usages = match self.answers {
            Answers::Unauthorised => vec![ExtendedKeyUsagePurpose::ServerAuth],
            _ => vec![ExtendedKeyUsagePurpose::OcspSigning],
        };
        let delegate = below(params, issuer)?;
        let signer = match self.answers {
            Answers::Delegated | Answers::Unauthorised => &delegate,
            _ => issuer,
        };
        process::write(&self.at.join("signer.pem"), signer.pem())?;
        process::write(&self.at.join("signer.key"), signer.key().serialize_pem())?;
        process::write(&self.at.join("index.txt"), index())?;
        process::write(&self.at.join("index.txt.attr"), "unique_subject = no\n")?;
        let forger = below(authority("Picket test intermediate with a registry", now, now + YEARS)?, root)?;
        let signer = if self.answers == Answers::ListForged { &forger } else { issuer };
        let part = (self.answers == Answers::ListOfAnotherPart).then(|| format!("{url}/part-2.crl"));
        let ends = if self.answers == Answers::ListStale { now - 2 * DAY } else { now + 7 * DAY };
        process::write(&self.at.join("issuer.crl"), list(signer, &REVOKED, ends, part)?)?;
        let intermediates: &[u64] =
            if self.answers == Answers::IntermediateRevoked { &[INTERMEDIATE] } else { &[] };
        process::write(&self.at.join("root.crl"), list(root, intermediates, ends, None)?)
    }

    fn response_about(&self, serial: u64) -> Result<Vec<u8>, Error> {
        let request = format!("{serial}.request");
        let serial = format!("0x{serial:x}");
        openssl(
            &self.at,
            "ocsp",
            &["-issuer", "issuer.pem", "-serial", &serial, "-no_nonce", "-reqout", &request],
        )?;
        self.response(&request)
    }

    /// The response to a request in a file.
    fn response(&self, request: &str) -> Result<Vec<u8>, Error> {
        let response = format!("{request}.response");
        let files =
            ["-index", "index.txt", "-CA", "issuer.pem", "-rsigner", "signer.pem", "-rkey", "signer.key"];
        let mut arguments = [&files[..], &["-reqin", request, "-respout", &response, "-ndays", "1"]].concat();
        if self.answers == Answers::Corrupt {
            arguments.push("-badsig");
        }
        openssl(&self.at, "ocsp", &arguments)?;
        let path = self.at.join(response);
        std::fs::read(&path).map_err(|source| Error::File { action: "read", path, source })
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let (head, body) = request(&mut stream)?;
        match self.answers {
            Answers::Refusing => {
                return stream.write_all(b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n");
            }
            Answers::Hanging => return std::io::copy(&mut stream, &mut std::io::sink()).map(drop),
            Answers::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                loop {
                    stream.write_all(&[0x30; 16 * 1024])?;
                }
            }
            _ => {}
        }
        let path = head.split_whitespace().nth(1).unwrap_or_default();
        let answer = match path {
            "/ocsp" => {
                let number = self.requests.fetch_add(1, Ordering::SeqCst);
                let name = format!("asked-{number}");
                std::fs::write(self.at.join(&name), body)?;
                self.response(&name).map_err(std::io::Error::other)?
            }
            "/issuer.crl" | "/root.crl" => std::fs::read(self.at.join(&path[1..]))?,
            _ => return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
        };
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
        stream.write_all(&[head.as_bytes(), &answer].concat())
    }
}

/// The head of an HTTP request and its body.
fn request(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.trim().parse().ok())
                .unwrap_or(0);
            let mut body = bytes.split_off(at + 4);
            while body.len() < length {
                let more = stream.read(&mut buffer)?;
                if more == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                body.extend(&buffer[..more]);
            }
            return Ok((head, body));
        }
        let more = stream.read(&mut buffer)?;
        if more == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend(&buffer[..more]);
    }
}

/// A line for each certificate, as `openssl ca` keeps them: state, end, revocation, serial number, file, subject.
fn index() -> String {
    let line = |(_, serial): &(&str, u64)| match REVOKED.contains(serial) {
        true => {
            format!("R\t401231235959Z\t260101000000Z,keyCompromise\t{serial:04X}\tunknown\t/CN=localhost\n")
        }
        false => format!("V\t401231235959Z\t\t{serial:04X}\tunknown\t/CN=localhost\n"),
    };
    CERTIFICATES.iter().filter(|(_, serial)| *serial != UNKNOWN_TO_OCSP).map(line).collect()
}

fn list(issuer: &Issuer, revoked: &[u64], ends: SystemTime, part: Option<String>) -> Result<Vec<u8>, Error> {
    let begins = ends - 10 * DAY;
    let entry = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: (SystemTime::now() - 3 * DAY).into(),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: begins.into(),
        next_update: ends.into(),
        crl_number: SerialNumber::from(7),
        issuing_distribution_point: part.map(|url| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec![url] },
            scope: None,
        }),
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(issuer)?.der().to_vec())
}

/// authorityInfoAccess (RFC 5280, section 4.2.2.1) with that responder.
fn responder(url: &str) -> CustomExtension {
    let short = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
    let mut description = vec![0x06, 8, 0x2b, 6, 1, 5, 5, 7, 48, 1, 0x86, short(url.len())];
    description.extend(url.bytes());
    let mut content = vec![0x30, short(description.len() + 2), 0x30, short(description.len())];
    content.extend(description);
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], content)
}
