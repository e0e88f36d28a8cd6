//! Asking whether a certificate was revoked: where it leads is chosen by whoever made the certificate, so it is bounded like any target.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use picket_net::{
    Budget, Ceiling, Family, Files, Grant, Network, Pem, Revocation, RevocationSource, RevocationStatus,
    Route, Session, Settings, Tls, TlsOptions, Trust,
};
use rcgen::{CrlDistributionPoint, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::rules;
use crate::tls::{Authority, serve};

const BOTH: [RevocationSource; 2] = [RevocationSource::Ocsp, RevocationSource::Crl];

/// A session of two seconds; the two names of the targets lead to loopback.
fn session(route: Route, targets: &[&str]) -> Session {
    let grant = Grant { targets: rules(targets), ..Grant::default() };
    let ceiling = Ceiling { allow: rules(&["127.0.0.1"]), files: Files::All, ..Ceiling::default() };
    let settings = Settings { ceiling, resolver: Some(vec!["127.0.0.1:9".parse().unwrap()]) };
    let ends = Instant::now() + Duration::from_secs(2);
    Network::new(settings).unwrap().session_by(route, grant, Budget::default(), ends)
}

/// Asks both sources about the certificate of a server that names `url` as both.
async fn ask(
    root: &Authority,
    route: Route,
    targets: &[&str],
    url: &str,
) -> (Session, Vec<RevocationStatus>) {
    let leaf = root.leaf_with(&["a.example"], |params| {
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![url.to_owned()] }];
        params.custom_extensions.push(access(url));
    });
    let to = serve(leaf.config()).await;
    let own = format!("127.0.0.1:{}", to.port);
    let session = session(route, &[targets, &[&own]].concat());
    let mut connection = session.connect(to, Family::Any).await.unwrap();
    let options = TlsOptions {
        server_name: Some("a.example".to_owned()),
        ca: Some(root.pem.clone()),
        trust: Trust::Recorded,
        ..TlsOptions::default()
    };
    let tls = connection.secure(options).await.unwrap();
    let mut said = Vec::new();
    for source in BOTH {
        said.push(session.ask_revocation(&tls, 0, source).await);
    }
    (session, said)
}

/// Authority information access (RFC 5280, section 4.2.2.1) with one OCSP responder; lengths below 128.
fn access(url: &str) -> CustomExtension {
    let within = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let ocsp = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01];
    let one = within(0x30, &[&ocsp[..], &within(0x86, url.as_bytes())].concat());
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], within(0x30, &one))
}

/// What a place that a certificate names answers.
#[derive(Clone)]
enum Says {
    /// A redirect.
    Elsewhere(String),
    /// So many bytes, and more if it is asked to go on.
    Bytes(usize),
    /// Bytes without an end, a few at a time.
    Drops,
    /// Nothing.
    Nothing,
}

/// Its port, and how many came.
async fn place(says: Says) -> (u16, Arc<Mutex<u32>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let came = Arc::new(Mutex::new(0));
    let count = came.clone();
    tokio::spawn(async move {
        while let Ok((peer, _)) = listener.accept().await {
            *count.lock().unwrap() += 1;
            tokio::spawn(answer(peer, says.clone()));
        }
    });
    (port, came)
}

async fn answer(mut peer: TcpStream, says: Says) {
    let mut asked = [0; 4096];
    let _ = peer.read(&mut asked).await;
    let head = match &says {
        Says::Elsewhere(to) => format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"),
        Says::Bytes(length) => format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"),
        Says::Drops => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        Says::Nothing => String::new(),
    };
    // Whoever was told enough goes away.
    let _ = peer.write_all(head.as_bytes()).await;
    match says {
        Says::Elsewhere(_) => {}
        Says::Bytes(length) => drop(peer.write_all(&vec![0x30; length]).await),
        Says::Drops => {
            while peer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Says::Nothing => drop(peer.read(&mut asked).await),
    }
}

#[tokio::test]
async fn what_a_certificate_names_is_reached_only_where_the_grant_and_the_ceiling_say_so() {
    let root = Authority::root("Root");
    let (port, came) = place(Says::Bytes(10)).await;
    for host in [
        "127.0.0.1",
        "127.0.0.2",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "[::]",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "127.1",
        "127.0.0.1.",
        "localhost",
        "a.example@127.0.0.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "10.0.0.1",
    ] {
        // What is granted beside the server is somebody else.
        let (_, said) = ask(&root, Route::default(), &["10.9.9.9"], &format!("http://{host}:{port}/x")).await;
        for status in said {
            assert_eq!((status.revocation, status.named), (Revocation::Unknown, true), "{host}: {status:?}");
            assert!(status.denied || host.contains('@'), "{host}: {status:?}");
        }
    }
    for url in [format!("http://169.254.169.254:{port}/"), format!("http://127.0.0.2:{port}/")] {
        let (session, said) = ask(&root, Route::default(), &["0.0.0.0/0"], &url).await;
        assert!(said.iter().all(|status| status.denied && status.message.contains("--allow")), "{said:?}");
        assert_eq!(session.measured().denials.len(), 1, "{:?}", session.measured().denials);
    }
    assert_eq!(*came.lock().unwrap(), 0);
}

#[tokio::test]
async fn what_is_no_address_on_the_web_is_asked_of_nobody() {
    let root = Authority::root("Root");
    for url in ["file:///etc/passwd", "ftp://127.0.0.1/x", "ldap://127.0.0.1/x", "HTTP", "http:", "data:,x"] {
        let (session, said) = ask(&root, Route::default(), &["127.0.0.1"], url).await;
        assert!(said.iter().all(|status| status.revocation == Revocation::Unknown), "{url}: {said:?}");
        assert_eq!(session.measured().connections, 1, "{url}: the server itself");
    }
}

#[tokio::test]
async fn a_redirect_asks_the_grant_anew_and_leads_to_no_file() {
    let root = Authority::root("Root");
    let (hidden, came) = place(Says::Bytes(10)).await;
    for (to, denied) in [
        (format!("http://127.0.0.1:{hidden}/"), true),
        (format!("http://[::ffff:127.0.0.1]:{hidden}/"), true),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), true),
        ("file:///etc/passwd".to_owned(), false),
    ] {
        let (port, _) = place(Says::Elsewhere(to.clone())).await;
        let own = format!("127.0.0.1:{port}");
        let (_, said) = ask(&root, Route::default(), &[&own], &format!("http://{own}/")).await;
        for status in said {
            assert_eq!((status.revocation, status.denied), (Revocation::Unknown, denied), "{to}: {status:?}");
            assert!(!status.message.contains("root:"), "{status:?}");
        }
    }
    let (port, around) = place(Says::Elsewhere("/again".to_owned())).await;
    let own = format!("127.0.0.1:{port}");
    ask(&root, Route::default(), &[&own], &format!("http://{own}/")).await;
    assert!(*around.lock().unwrap() <= 6, "two redirects of each of two");
    assert_eq!(*came.lock().unwrap(), 0);
}

#[tokio::test]
async fn an_answer_without_an_end_takes_neither_the_memory_nor_the_time_of_the_run() {
    let root = Authority::root("Root");
    for says in [Says::Bytes(9 << 20), Says::Drops, Says::Nothing] {
        let (port, _) = place(says).await;
        let own = format!("127.0.0.1:{port}");
        let begun = Instant::now();
        let (session, said) = ask(&root, Route::default(), &[&own], &format!("http://{own}/")).await;
        assert!(said.iter().all(|status| status.revocation == Revocation::Unknown), "{said:?}");
        // Half of the two seconds that are left, and half of what is left then.
        assert!(begun.elapsed() < Duration::from_millis(1_900), "{:?}", begun.elapsed());
        assert!(session.measured().received <= 11 << 20, "{}", session.measured().received);
    }
}

/// A responder over TLS that asks for a client certificate; its port, and whether each that came showed one.
async fn responder(root: &Authority) -> (u16, Arc<Mutex<Vec<bool>>>) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let clients = clients.allow_unauthenticated().build().unwrap();
    let (chain, key) = root.leaf(&["127.0.0.1"]).parts();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(clients).with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let showed = Arc::new(Mutex::new(Vec::new()));
    let kept = showed.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            kept.lock().unwrap().push(tls.get_ref().1.peer_certificates().is_some());
            let _ = tls.read(&mut [0; 4096]).await;
            let _ = tls.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    (port, showed)
}

#[tokio::test]
async fn a_responder_is_not_the_target_and_is_spoken_to_as_itself() {
    let root = Authority::root("Root");
    let (port, showed) = responder(&root).await;
    let key = KeyPair::generate().unwrap();
    let client = root.client(&key);
    let tls = Tls {
        ca: Some(Pem::said(&root.pem)),
        identity: Some(picket_net::Identity {
            certificates: Pem::said(&client),
            key: Pem::said(&key.serialize_pem()),
        }),
        server_name: Some("a.example".to_owned()),
        ..Tls::default()
    };
    let own = format!("127.0.0.1:{port}");
    let route = Route { tls, ..Route::default() };
    let (_, said) = ask(&root, route, &[&own], &format!("https://{own}/")).await;
    // It is verified by its own name, by the monitor's authorities, and is shown nothing.
    assert!(said.iter().all(|status| status.message.contains("status 404")), "{said:?}");
    assert_eq!(*showed.lock().unwrap(), [false, false]);
    let tls = Tls { unverified: true, ..Tls::default() };
    let (_, said) = ask(&root, Route { tls, ..Route::default() }, &[&own], &format!("https://{own}/")).await;
    assert!(said.iter().all(|status| status.message.contains("cannot be trusted")), "{said:?}");
}
