//! The way that a session goes: families, addresses, name servers, proxies, client certificates.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use picket_net::{
    Budget, Cause, Ceiling, Connection, Endpoint, Failure, Family, Files, Grant, Header, Identity, Network,
    Pem, Proxy, Request, Route, Session, Settings, Tls, TlsOptions,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::dns::server as name_server;
use crate::rules;
use crate::tcp::black_hole;

const LOOPBACK: &[&str] = &["127.0.0.0/8", "::1"];

/// A session that may reach every port of these targets and ask these name servers; nobody listens where the process' own should be.
fn session(route: Route, targets: &[&str], resolvers: &[String], opened: &[&str]) -> Session {
    session_with(Files::default(), route, targets, resolvers, opened)
}

fn session_with(
    files: Files,
    route: Route,
    targets: &[&str],
    resolvers: &[String],
    opened: &[&str],
) -> Session {
    let resolvers = resolvers.iter().map(|rule| rule.parse().unwrap()).collect();
    let grant = Grant { targets: rules(targets), resolvers, ..Grant::default() };
    let ceiling = Ceiling { allow: rules(opened), files, ..Ceiling::default() };
    let settings = Settings { ceiling, resolver: Some(vec!["127.0.0.1:9".parse().unwrap()]) };
    let ends = Instant::now() + Duration::from_secs(10);
    Network::new(settings).unwrap().session_by(route, grant, Budget::default(), ends)
}

/// Names are looked up at `server`, which the grant holds.
fn asking(server: SocketAddr, route: Route, targets: &[&str]) -> Session {
    session(Route { name_servers: vec![server], ..route }, targets, &[server.to_string()], LOOPBACK)
}

/// Accepts everybody.
pub(crate) async fn listener(at: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind((at, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn connect(session: &Session, host: &str, port: u16) -> Result<Connection, Failure> {
    session.connect(Endpoint::new(host, port), Family::Any).await
}

#[tokio::test]
async fn names_are_asked_of_the_sessions_own_name_servers() {
    let server = name_server().await;
    let (_listener, port) = listener("127.0.0.1").await;
    let session = asking(server, Route::default(), &["local.test"]);
    assert_eq!(connect(&session, "local.test", port).await.unwrap().remote().port(), port);
}

#[tokio::test]
async fn a_name_server_is_asked_only_where_the_grant_and_the_ceiling_hold_it() {
    let server = name_server().await;
    let route = || Route { name_servers: vec![server], ..Route::default() };
    let named = [server.to_string()];
    for (resolvers, opened, says) in [
        (&[][..], LOOPBACK, "is not among this monitor's name servers"),
        (&named[..], &[][..], "is always denied (loopback)"),
    ] {
        let failure = connect(&session(route(), &["local.test"], resolvers, opened), "local.test", 80)
            .await
            .unwrap_err();
        assert_eq!(failure.cause, Cause::Denied, "{failure:?}");
        assert!(failure.message.contains(&server.to_string()) && failure.message.contains(says), "{failure}");
    }
}

#[tokio::test]
async fn a_pinned_name_has_one_address_which_is_judged_as_any_other() {
    let (_listener, port) = listener("127.0.0.2").await;
    let pinned =
        |ip: &str| Route { pinned: Some(("shop.test".to_owned(), ip.parse().unwrap())), ..Route::default() };
    let here = session(pinned("127.0.0.2"), &["shop.test"], &[], LOOPBACK);
    assert_eq!(
        connect(&here, "shop.test", port).await.unwrap().remote().to_string(),
        format!("127.0.0.2:{port}")
    );
    for ip in ["169.254.169.254", "10.0.0.1"] {
        let there = session(pinned(ip), &["127.0.0.0/8"], &[], LOOPBACK);
        assert_eq!(connect(&there, "shop.test", port).await.unwrap_err().cause, Cause::Denied, "{ip}");
    }
}

#[tokio::test]
async fn with_first_only_no_other_address_is_tried() {
    let server = name_server().await;
    let (_listener, port) = listener("127.0.0.2").await;
    let any = asking(server, Route::default(), &["two.test"]);
    assert_eq!(connect(&any, "two.test", port).await.unwrap().remote().ip().to_string(), "127.0.0.2");
    let to = Endpoint::new("two.test", port);
    assert_eq!(any.addresses(&to).await.unwrap().len(), 2);
    let first = asking(server, Route { first_only: true, ..Route::default() }, &["two.test"]);
    assert_eq!(first.connect(to.clone(), Family::Any).await.unwrap_err().cause, Cause::Refused);
    assert_eq!(first.addresses(&to).await.unwrap(), ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
}

#[tokio::test]
async fn a_family_that_an_exchange_names_stands_above_the_sessions() {
    let server = name_server().await;
    let (_listener, port) = listener("127.0.0.1").await;
    let six = asking(server, Route { family: Family::V6, ..Route::default() }, &["local.test"]);
    let failure = connect(&six, "local.test", port).await.unwrap_err();
    assert_eq!((failure.cause, &failure.message[..]), (Cause::Dns(0), "local.test has no IPv6 address"));
    six.connect(Endpoint::new("local.test", port), Family::V4).await.unwrap();
}

/// A proxy that opens ways for user:secret, tells what it was asked for, and refuses port 1.
async fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let (listener, port) = listener("127.0.0.1").await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(peer.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let to = head.split(' ').nth(1).unwrap().to_owned();
                kept.lock().unwrap().push(to.clone());
                // user:secret in base64.
                if !head.contains("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n") {
                    let refused: &[u8] =
                        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\nwho is user:secret?";
                    return peer.write_all(refused).await.unwrap();
                }
                if to.ends_with(":1") {
                    return peer.write_all(b"HTTP/1.1 403 Filtered\r\n\r\n").await.unwrap();
                }
                let mut there = TcpStream::connect(to).await.unwrap();
                peer.write_all(b"HTTP/1.1 200 OK\r\nVia: here\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut peer, &mut there).await;
            });
        }
    });
    (port, asked)
}

fn through(port: u16, credentials: Option<&str>) -> Route {
    let credentials = credentials.map(|text| text.as_bytes().to_vec().into());
    Route { proxy: Some(Proxy { at: Endpoint::new("127.0.0.1", port), credentials }), ..Route::default() }
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_address_that_the_grant_has_judged() {
    let (listener, port) = listener("127.0.0.1").await;
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            peer.write_all(b"hello").await.unwrap();
        }
    });
    let (proxy, asked) = proxy().await;
    let server = name_server().await;
    let session = asking(server, through(proxy, Some("user:secret")), &["local.test"]);
    let mut connection = connect(&session, "local.test", port).await.unwrap();
    assert_eq!(
        connection.read_exact(5).await.unwrap(),
        b"hello",
        "nothing of the target's is lost in the answer"
    );
    assert_eq!(connection.remote().to_string(), format!("127.0.0.1:{port}"));
    assert_eq!(*asked.lock().unwrap(), [format!("127.0.0.1:{port}")]);
    assert_eq!(connect(&session, "10.0.0.1", port).await.unwrap_err().cause, Cause::Denied);
    assert_eq!(asked.lock().unwrap().len(), 1, "what the grant refuses is asked of nobody");
}

#[tokio::test]
async fn a_refusing_proxy_is_never_the_targets_refusal_and_its_words_are_not_repeated() {
    let (proxy, _) = proxy().await;
    let (_, closed) = listener("127.0.0.1").await;
    for (route, port, says) in [
        (through(proxy, None), 80, "it wants a user and a password (407)"),
        (through(proxy, Some("user:wrong")), 80, "it wants another user or password (407)"),
        (through(proxy, Some("user:secret")), 1, "it answered 403 and opens no way to 127.0.0.1:1"),
        (through(closed, None), 80, "refused the connection"),
    ] {
        let session = session(route, &["127.0.0.1"], &[], LOOPBACK);
        let failure = connect(&session, "127.0.0.1", port).await.unwrap_err();
        assert!(matches!(failure.cause, Cause::Proxy(_)), "{failure:?}");
        assert!(failure.message.contains(says) && !failure.message.contains("secret"), "{failure}");
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_answer_in_time_tells_nothing_about_the_target() {
    let (hole, _kept) = black_hole().await;
    // Takes the connection, and waits for a target that drops what it gets.
    let (waiting, port) = listener("127.0.0.1").await;
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((peer, _)) = waiting.accept().await {
            kept.push(peer);
        }
    });
    for (proxy, says) in [
        (hole.port(), "timeout in connect with 127.0.0.1"),
        (port, "it did not say in time whether 127.0.0.2:80 can be reached"),
    ] {
        let grant = Grant { targets: rules(&["127.0.0.2"]), ..Grant::default() };
        let ceiling = Ceiling { allow: rules(LOOPBACK), ..Ceiling::default() };
        let settings = Settings { ceiling, resolver: Some(vec!["127.0.0.1:9".parse().unwrap()]) };
        let ends = Instant::now() + Duration::from_millis(300);
        let network = Network::new(settings).unwrap();
        let session = network.session_by(through(proxy, None), grant, Budget::default(), ends);
        let failure = connect(&session, "127.0.0.2", 80).await.unwrap_err();
        assert!(matches!(failure.cause, Cause::Proxy(_)), "{failure:?}");
        assert!(failure.message.starts_with(&format!("the proxy 127.0.0.1:{proxy} ")), "{failure}");
        assert!(failure.message.contains(says), "{failure}");
    }
}

#[tokio::test]
async fn only_the_machines_operator_may_open_a_proxy() {
    let (proxy, asked) = proxy().await;
    for opened in [&[][..], &["127.0.0.2", "10.0.0.0/8"][..]] {
        let session = session(through(proxy, Some("user:secret")), &["10.0.0.1", "127.0.0.1"], &[], opened);
        let failure = connect(&session, "10.0.0.1", 80).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Denied);
        assert!(failure.message.contains(&format!("127.0.0.1:{proxy}")), "{failure}");
        assert!(failure.message.contains("start the agent with --allow"), "{failure}");
    }
    assert_eq!(asked.lock().unwrap().len(), 0);
}

/// An authority, and what it issues.
pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key in PEM.
    pub(crate) fn client(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// What a server for 127.0.0.1 and localhost shakes hands with: it asks for a certificate of this authority, and may insist on it.
    pub(crate) fn acceptor(&self, insists: bool) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1", "localhost"].map(str::to_owned)).unwrap();
        let chain = vec![params.signed_by(&key, &self.0).unwrap().der().clone()];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let clients = if insists { clients } else { clients.allow_unauthenticated() };
        let config = config.with_client_cert_verifier(clients.build().unwrap());
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()))
    }

    /// A server for 127.0.0.1 that takes only clients of this authority and answers with what it gets.
    async fn serve(&self) -> u16 {
        let acceptor = self.acceptor(true);
        let (listener, port) = listener("127.0.0.1").await;
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
        port
    }
}

pub(crate) fn text(pem: &str) -> Pem {
    Pem::Text(pem.as_bytes().to_vec().into())
}

/// Whether the server takes the client: it must answer.
async fn shown(port: u16, ca: &Authority, version: &str, identity: Option<Identity>) -> Result<(), Failure> {
    shown_from(Files::All, port, ca, version, identity).await
}

async fn shown_from(
    files: Files,
    port: u16,
    ca: &Authority,
    version: &str,
    identity: Option<Identity>,
) -> Result<(), Failure> {
    let tls = Tls {
        ca: Some(Pem::said(&ca.0.pem())),
        identity,
        max_version: Some(version.to_owned()),
        ..Tls::default()
    };
    let session = session_with(files, Route { tls, ..Route::default() }, &["127.0.0.1"], &[], LOOPBACK);
    let mut connection = connect(&session, "127.0.0.1", port).await?;
    connection.secure(TlsOptions::default()).await?;
    connection.write(b"ping", true).await?;
    connection.read_exact(4).await.map(|said| assert_eq!(said, b"ping"))
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_the_sessions_own() {
    let (ours, others) = (Authority::new(), Authority::new());
    let port = ours.serve().await;
    let directory = tempfile::tempdir().unwrap();
    for version in ["1.2", "1.3"] {
        let (certificate, key) = ours.client();
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(path("cert"), &certificate).unwrap();
        std::fs::write(path("key"), &key).unwrap();
        let files = Identity { certificates: Pem::File(path("cert")), key: Pem::File(path("key")) };
        let texts = Identity { certificates: text(&certificate), key: text(&key) };
        shown(port, &ours, version, Some(texts)).await.unwrap();
        shown(port, &ours, version, Some(files)).await.unwrap();
        let (certificate, key) = others.client();
        let wrong = Identity { certificates: text(&certificate), key: text(&key) };
        for identity in [None, Some(wrong)] {
            let failure = shown(port, &ours, version, identity).await.unwrap_err();
            let told = matches!(failure.cause, Cause::Tls(_) | Cause::Closed | Cause::Reset);
            assert!(told, "{version}: {failure:?}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_the_configurations_fault_and_is_not_quoted() {
    let ours = Authority::new();
    let port = ours.serve().await;
    let ((certificate, key), (_, other)) = (ours.client(), ours.client());
    let file = |path: &str| Pem::File(path.to_owned());
    for (certificates, key, says) in [
        (text(&certificate), text(&other), "tls.key does not belong to tls.cert"),
        (text(&key), text(&key), "tls.cert holds no certificate"),
        (text(&certificate), text(&certificate), "tls.key holds no private key"),
        (text("hunter22"), text(&key), "tls.cert holds no certificate"),
        (text(&certificate), file("/nowhere/key.pem"), "cannot read tls.key from /nowhere/key.pem"),
        (file("/proc/self/environ"), text(&key), "cannot read tls.cert from /proc/self/environ"),
    ] {
        let identity = Identity { certificates, key };
        let failure = shown(port, &ours, "1.3", Some(identity)).await.unwrap_err();
        assert!(matches!(failure.cause, Cause::Invalid(_)), "{failure:?}");
        assert!(failure.message.contains(says) && !failure.message.contains("hunter22"), "{failure}");
    }
}

#[tokio::test]
async fn a_file_that_the_operator_did_not_open_is_denied_and_nothing_of_it_told() {
    let ours = Authority::new();
    let port = ours.serve().await;
    let (certificate, key) = ours.client();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    for (name, pem) in [("cert", &certificate), ("key", &key), ("ca", &ours.0.pem())] {
        std::fs::write(path(name), pem).unwrap();
    }
    let own = Identity { certificates: Pem::File(path("cert")), key: Pem::File("key".to_owned()) };
    let opened = Files::Beneath(vec![directory.path().to_owned()]);
    shown_from(opened, port, &ours, "1.3", Some(own.clone())).await.unwrap();
    for files in [Files::default(), Files::Beneath(vec![directory.path().join("ca")])] {
        let failure = shown_from(files.clone(), port, &ours, "1.3", Some(own.clone())).await.unwrap_err();
        let says = format!("--allow-files {}", directory.path().display());
        assert!(failure.cause == Cause::Denied && failure.message.contains(&says), "{failure:?}");
        let session = session_with(files, Route::default(), &["127.0.0.1"], &[], LOOPBACK);
        for name in ["cert", "no-such-file"] {
            let mut connection = connect(&session, "127.0.0.1", port).await.unwrap();
            let options = TlsOptions { ca: Some(path(name)), ..TlsOptions::default() };
            let failure = connection.secure(options).await.unwrap_err();
            assert!(
                failure.cause == Cause::Denied && failure.message.starts_with(&path(name)),
                "{failure:?}"
            );
        }
        assert_eq!(session.measured().denials.len(), 2, "{:?}", session.measured().denials);
    }
}

#[tokio::test]
async fn an_unverified_peer_is_shown_the_certificate_and_sent_no_secret() {
    let ours = Authority::new();
    let port = ours.serve().await;
    for version in ["1.2", "1.3"] {
        let (certificate, key) = ours.client();
        let tls = Tls {
            identity: Some(Identity { certificates: text(&certificate), key: text(&key) }),
            unverified: true,
            max_version: Some(version.to_owned()),
            ..Tls::default()
        };
        let session = session(Route { tls, ..Route::default() }, &["127.0.0.1"], &[], LOOPBACK);
        let mut connection = connect(&session, "127.0.0.1", port).await.unwrap();
        let tls = connection.secure(TlsOptions::default()).await.unwrap();
        assert!(tls.verified.is_err() && tls.wants_client_certificate, "nobody here knows the server");
        let refused = connection.write(b"hunter22", true).await.unwrap_err();
        assert_eq!(refused.cause, Cause::Denied, "{refused:?}");
        // The server takes only whom it knows, and says back all that it was sent.
        connection.write(b"ping", false).await.unwrap();
        assert_eq!(connection.read_exact(4).await.unwrap(), b"ping");
        let before = session.measured().connections;
        for header in ["authorization", "cookie", "x-key"] {
            let failure = session.send(with_secret(port, header)).await.unwrap_err();
            assert_eq!(failure.cause, Cause::Denied, "{failure:?}");
            assert!(failure.message.contains(header) && !failure.message.contains("hunter22"), "{failure}");
        }
        assert_eq!(session.measured().connections, before, "nobody is even connected to");
    }
}

fn with_secret(port: u16, header: &str) -> Request {
    Request {
        method: "GET".to_owned(),
        url: format!("https://127.0.0.1:{port}/"),
        headers: vec![Header::sensitive(header, "hunter22")],
        body: Vec::new(),
        versions: Vec::new(),
        family: Family::Any,
        tls: None,
        max_redirects: 0,
        max_body: 100,
    }
}
