//! Handshakes with every defect that a certificate may have, under each trust.

use std::sync::Arc;
use std::time::Duration;

use picket_net::{Cause, Endpoint, Failure, Family, Phase, TlsOptions, TlsSession, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::session;

pub(crate) struct Authority {
    pub(crate) pem: String,
    pub(crate) der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn below(&self, name: &str) -> Self {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// A client's certificate in PEM.
    pub(crate) fn client(&self, key: &KeyPair) -> String {
        let mut params = leaf_params(&["client"]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(key, &self.issuer).unwrap().pem()
    }

    pub(crate) fn leaf(&self, names: &[&str]) -> Identity {
        self.leaf_with(names, |_| {})
    }

    pub(crate) fn leaf_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf_params(names);
        change(&mut params);
        Identity::new(vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()], &key)
    }
}

pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        Self { chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
    }

    pub(crate) fn parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, self.key)
    }

    fn self_signed(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        Self::new(vec![leaf_params(names).self_signed(&key).unwrap().der().clone()], &key)
    }

    fn with(mut self, authority: &Authority) -> Self {
        self.chain.push(authority.der.clone());
        self
    }

    pub(crate) fn config(self) -> ServerConfig {
        self.config_for(rustls::DEFAULT_VERSIONS)
    }

    fn config_for(self, versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        builder.with_no_client_auth().with_single_cert(self.chain, self.key).unwrap()
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Picket, Inc");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf_params(names: &[&str]) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}

/// A server that echoes what it gets over TLS.
pub(crate) async fn serve(config: ServerConfig) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = tls.read(&mut buffer).await {
                    tls.write_all(&buffer[..length]).await.unwrap();
                }
            });
        }
    });
    to
}

fn options(name: &str, ca: &Authority, trust: Trust) -> TlsOptions {
    TlsOptions {
        server_name: Some(name.to_owned()),
        ca: Some(ca.pem.clone()),
        trust,
        ..TlsOptions::default()
    }
}

async fn handshake(config: ServerConfig, options: TlsOptions) -> Result<TlsSession, Failure> {
    let to = serve(config).await;
    session(&["127.0.0.1"]).connect(to, Family::Any).await?.secure(options).await
}

/// The code under `Trust::Required`, after checking that `Trust::Recorded` finishes and finds the same.
async fn code(identity: impl Fn() -> Identity, name: &str, ca: &Authority) -> String {
    let recorded = handshake(identity().config(), options(name, ca, Trust::Recorded)).await.unwrap();
    let defects = recorded.verified.unwrap_err();
    let failure = handshake(identity().config(), options(name, ca, Trust::Required)).await.unwrap_err();
    assert_eq!(failure.phase, Some(Phase::Handshake));
    let Cause::Tls(code) = failure.cause else { panic!("{failure:?}") };
    assert_eq!(defects[0].code, code, "{defects:?}");
    assert!(failure.message.contains(&defects[0].message), "{}", failure.message);
    defects.iter().map(|defect| defect.code.as_str()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_good_chain_is_verified_up_to_its_root() {
    let root = Authority::root("Root");
    let middle = root.below("Middle");
    let identity = middle.leaf(&["a.example", "127.0.0.1"]).with(&middle);
    let to = serve(identity.config()).await;
    let session = session(&["127.0.0.1"]);
    let mut connection = session.connect(to, Family::Any).await.unwrap();
    let tls = connection.secure(options("a.example", &root, Trust::Required)).await.unwrap();
    assert_eq!((tls.version.as_str(), tls.served.len()), ("1.3", 2));
    assert!(tls.cipher.starts_with("TLS13_"), "{}", tls.cipher);
    let verified = tls.verified.unwrap();
    assert_eq!(
        verified.iter().map(|c| c.subject.as_str()).collect::<Vec<_>>(),
        ["CN=leaf", "CN=Middle,O=Picket\\, Inc", "CN=Root,O=Picket\\, Inc"]
    );
    let leaf = &verified[0];
    assert_eq!(leaf.issuer, "CN=Middle,O=Picket\\, Inc");
    assert_eq!(
        (&leaf.dns_names[..], &leaf.ip_addresses[..]),
        (&["a.example".to_owned()][..], &["127.0.0.1".to_owned()][..])
    );
    assert_eq!(
        (leaf.key.clone(), leaf.signature_algorithm.as_str()),
        (("EC".to_owned(), 256), "ecdsa-with-SHA256")
    );
    assert_eq!((leaf.not_before, leaf.not_after), (1_577_836_800, 3_786_912_000));
    assert!(!leaf.is_ca && verified[1].is_ca && verified[2].is_ca);
    assert_eq!((leaf.sha256.len(), leaf.spki_sha256.len()), (64, 64));
    connection.write(b"ping", true).await.unwrap();
    assert_eq!(connection.read_exact(4).await.unwrap(), b"ping");
    assert!(session.measured().phases.handshake.is_some());
}

#[tokio::test]
async fn each_defect_has_its_code() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let middle = root.below("Middle");
    let past = |params: &mut CertificateParams| params.not_after = date_time_ymd(2021, 1, 1);
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(2080, 1, 1);
    let good = || root.leaf(&["a.example"]);
    assert_eq!(code(|| root.leaf_with(&["a.example"], past), "a.example", &root).await, "expired");
    assert_eq!(code(|| root.leaf_with(&["a.example"], future), "a.example", &root).await, "not-yet-valid");
    assert_eq!(code(good, "b.example", &root).await, "wrong-name");
    assert_eq!(code(good, "127.0.0.1", &root).await, "wrong-name");
    assert_eq!(code(|| root.leaf(&["a.example"]).with(&root), "a.example", &other).await, "untrusted");
    assert_eq!(code(|| middle.leaf(&["a.example"]).with(&middle), "a.example", &other).await, "untrusted");
    assert_eq!(code(|| middle.leaf(&["a.example"]), "a.example", &root).await, "incomplete-chain");
    assert_eq!(code(|| Identity::self_signed(&["a.example"]), "a.example", &root).await, "self-signed");
    let usage = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    assert_eq!(code(|| root.leaf_with(&["a.example"], usage), "a.example", &root).await, "wrong-usage");
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(code(|| root.leaf_with(&["a.example"], ca), "a.example", &root).await, "authority-as-leaf");
}

#[tokio::test]
async fn every_defect_is_recorded() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let past = |params: &mut CertificateParams| params.not_after = date_time_ymd(2021, 1, 1);
    let found = code(|| root.leaf_with(&["a.example"], past).with(&root), "b.example", &other).await;
    assert_eq!(found, "expired untrusted wrong-name");
}

#[tokio::test]
async fn without_ca_the_system_decides() {
    let root = Authority::root("Root");
    let options = TlsOptions { server_name: Some("a.example".to_owned()), ..TlsOptions::default() };
    let failure = handshake(root.leaf(&["a.example"]).config(), options).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Tls("untrusted".to_owned()));
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_when_it_is_the_ca() {
    let identity = Identity::self_signed(&["a.example"]);
    let pem = pem(&identity.chain[0]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &pem).unwrap();
    let to = serve(identity.config()).await;
    for ca in [pem, file.path().display().to_string()] {
        for (name, trusted) in [("a.example", true), ("b.example", false)] {
            let options =
                TlsOptions { server_name: Some(name.into()), ca: Some(ca.clone()), ..TlsOptions::default() };
            let mut connection = session(&["127.0.0.1"]).connect(to.clone(), Family::Any).await.unwrap();
            assert_eq!(connection.secure(options).await.is_ok(), trusted, "{name}");
        }
    }
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_is_named() {
    let root = Authority::root("Root");
    for (ca, says) in [
        ("/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("/dev/zero", "regular file"),
        (concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "no certificate"),
        ("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", "the text of ca"),
    ] {
        let options = TlsOptions { ca: Some(ca.to_owned()), ..options("a.example", &root, Trust::Recorded) };
        let failure = handshake(root.leaf(&["a.example"]).config(), options).await.unwrap_err();
        assert!(failure.message.contains(says), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_recorded_stream_carries_no_data_and_an_unverified_one_no_secret() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let to = serve(root.leaf(&["a.example"]).config()).await;
    let session = session(&["127.0.0.1"]);
    let mut recorded = session.connect(to.clone(), Family::Any).await.unwrap();
    recorded.secure(options("a.example", &root, Trust::Recorded)).await.unwrap();
    assert_eq!(recorded.write(b"x", false).await.unwrap_err().cause, Cause::Denied);
    assert_eq!(recorded.read(1).await.unwrap_err().cause, Cause::Denied);
    let mut unverified = session.connect(to, Family::Any).await.unwrap();
    let tls = unverified.secure(options("a.example", &other, Trust::Unverified)).await.unwrap();
    assert!(tls.verified.is_err());
    assert_eq!(unverified.write(b"x", true).await.unwrap_err().cause, Cause::Denied);
    unverified.write(b"x", false).await.unwrap();
    assert_eq!(unverified.read(1).await.unwrap(), b"x");
    assert!(unverified.secure(TlsOptions::default()).await.is_err(), "a second handshake");
}

#[tokio::test]
async fn versions_and_protocols_are_as_the_options_say() {
    let root = Authority::root("Root");
    let at = |lowest: Option<&str>, highest: Option<&str>| TlsOptions {
        min_version: lowest.map(ToOwned::to_owned),
        max_version: highest.map(ToOwned::to_owned),
        alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
        ..options("a.example", &root, Trust::Required)
    };
    let mut config = root.leaf(&["a.example"]).config();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tls = handshake(config, at(None, Some("1.2"))).await.unwrap();
    assert_eq!((tls.version.as_str(), tls.alpn.as_deref()), ("1.2", Some("http/1.1")));
    assert!(tls.cipher.starts_with("TLS_ECDHE_"), "{}", tls.cipher);
    let old = root.leaf(&["a.example"]).config_for(&[&rustls::version::TLS12]);
    let failure = handshake(old, at(Some("1.3"), None)).await.unwrap_err();
    assert_eq!(failure.cause, Cause::Tls("version".to_owned()));
    for (lowest, highest) in [(Some("1.3"), Some("1.2")), (Some("1.1"), None)] {
        let failure = handshake(root.leaf(&["a.example"]).config(), at(lowest, highest)).await.unwrap_err();
        assert!(matches!(failure.cause, Cause::Invalid(_)), "{failure:?}");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_is_told_apart() {
    let root = Authority::root("Root");
    for version in ["1.2", "1.3"] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let identity = root.leaf(&["a.example"]);
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config =
            config.with_client_cert_verifier(clients).with_single_cert(identity.chain, identity.key).unwrap();
        let to = serve(config).await;
        let mut connection = session(&["127.0.0.1"]).connect(to, Family::Any).await.unwrap();
        let most = TlsOptions {
            max_version: Some(version.to_owned()),
            ..options("a.example", &root, Trust::Required)
        };
        // In 1.3 the client has finished before the server looks at what it got.
        let failure = match connection.secure(most).await {
            Ok(_) => connection.read(1).await.unwrap_err(),
            Err(failure) => failure,
        };
        assert_eq!(failure.cause, Cause::Tls("alert".to_owned()));
        assert!(failure.message.contains("asks for a client certificate"), "{version}: {}", failure.message);
    }
}

#[tokio::test]
async fn a_server_without_tls_or_without_words_is_told_apart() {
    let root = Authority::root("Root");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let mut plain = listener.accept().await.unwrap().0;
        plain.write_all(b"220 mail.example ESMTP ready\r\n").await.unwrap();
        drop(listener.accept().await.unwrap());
        let mut silent = listener.accept().await.unwrap().0;
        let _ = silent.read_to_end(&mut Vec::new()).await;
    });
    let long = session(&["127.0.0.1"]);
    let mut causes = Vec::new();
    for _ in 0..2 {
        let mut connection = long.connect(to.clone(), Family::Any).await.unwrap();
        causes.push(connection.secure(options("a.example", &root, Trust::Recorded)).await.unwrap_err());
    }
    assert_eq!(causes[0].cause, Cause::Tls("other".to_owned()));
    assert!(causes[0].message.contains("does not speak TLS"), "{}", causes[0].message);
    assert!(matches!(causes[1].cause, Cause::Closed | Cause::Reset), "{:?}", causes[1]);
    let short =
        crate::session_with(&["127.0.0.1"], &["127.0.0.1"], Default::default(), Duration::from_millis(200));
    let mut connection = short.connect(to.clone(), Family::Any).await.unwrap();
    let failure = connection.secure(options("a.example", &root, Trust::Required)).await.unwrap_err();
    assert!(
        failure.message.starts_with(&format!("timeout in handshake with {to} after 0.")),
        "{}",
        failure.message
    );
}

fn pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
