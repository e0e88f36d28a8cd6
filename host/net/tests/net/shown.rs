//! Whom the monitor's client certificate is shown to: what it checks, and nobody that is reached besides.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use picket_net::{
    Budget, Cause, Ceiling, Family, Grant, Hidden, Identity, Network, NoToken, Pem, Proof, Request, Route,
    Session, Settings, Tls, TokenRequest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::route::{Authority, listener, text};
use crate::rules;

/// A server that asks everybody for a certificate, answers with a token, and remembers whether it was shown one. `/to?URL` leads to
/// that URL.
struct Witness {
    port: u16,
    shown: Arc<Mutex<Vec<bool>>>,
}

impl Witness {
    async fn new(authority: &Authority, insists: bool) -> Self {
        let acceptor = authority.acceptor(insists);
        let (listener, port) = listener("127.0.0.1").await;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let kept = shown.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, kept) = (acceptor.clone(), kept.clone());
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    kept.lock().unwrap().push(tls.get_ref().1.peer_certificates().is_some());
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(tls.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap();
                    let answer = match path.strip_prefix("/to?") {
                        Some(url) => {
                            format!("HTTP/1.1 307 There\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n")
                        }
                        None => "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"access_token\": \"abc\"}"
                            .to_owned(),
                    };
                    let _ = tls.write_all(answer.as_bytes()).await;
                    let _ = tls.shutdown().await;
                });
            }
        });
        Self { port, shown }
    }

    fn at(&self, host: &str) -> String {
        format!("{host}:{}", self.port)
    }

    /// What was shown since it was asked last, in order.
    fn shown(&self) -> Vec<bool> {
        std::mem::take(&mut *self.shown.lock().unwrap())
    }
}

/// A monitor with a certificate that checks `own` and may reach `beside` too.
fn session(authority: &Authority, own: &str, beside: &[&str]) -> Session {
    let (certificate, key) = authority.client();
    let tls = Tls {
        ca: Some(Pem::said(&authority.0.pem())),
        identity: Some(Identity { certificates: text(&certificate), key: text(&key) }),
        ..Tls::default()
    };
    let beside = rules(beside);
    let targets = [rules(&[own]), beside.clone()].concat();
    let grant = Grant { targets, beside, ..Grant::default() };
    let ceiling = Ceiling { allow: rules(&["127.0.0.0/8", "::1"]), ..Ceiling::default() };
    let settings = Settings { ceiling, resolver: Some(vec!["127.0.0.1:9".parse().unwrap()]) };
    let ends = Instant::now() + Duration::from_secs(10);
    let route = Route { tls, ..Route::default() };
    Network::new(settings).unwrap().session_by(route, grant, Budget::default(), ends)
}

async fn token(session: &Session, at: &str) -> Result<Hidden, NoToken> {
    let asked = TokenRequest {
        url: format!("https://{at}/token"),
        client_id: "probe".to_owned(),
        client_secret: Hidden(b"hunter22".to_vec().into()),
        scopes: Vec::new(),
        parameters: Vec::new(),
        proof: Proof::Basic,
        family: Family::Any,
        tls: None,
    };
    session.token(asked).await
}

async fn page(session: &Session, url: &str) -> u16 {
    let request = Request {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        versions: Vec::new(),
        family: Family::Any,
        tls: None,
        max_redirects: 3,
        max_body: 100,
    };
    session.send(request).await.unwrap().status
}

#[tokio::test]
async fn a_token_endpoint_is_shown_it_only_where_it_is_the_target_itself() {
    let authority = Authority::new();
    let (own, other) = (Witness::new(&authority, false).await, Witness::new(&authority, false).await);
    let session = session(&authority, &own.at("127.0.0.1"), &[&other.at("127.0.0.1"), &own.at("localhost")]);
    for (at, shown) in [
        (own.at("127.0.0.1"), true),
        // The same machine by another name is not known to be the same.
        (own.at("localhost"), false),
        (other.at("127.0.0.1"), false),
    ] {
        token(&session, &at).await.unwrap();
        assert_eq!([own.shown(), other.shown()].concat(), [shown], "{at}");
    }
}

#[tokio::test]
async fn a_redirect_takes_it_nowhere_else_and_not_back() {
    let authority = Authority::new();
    let (own, other) = (Witness::new(&authority, false).await, Witness::new(&authority, false).await);
    let (own_at, other_at) = (own.at("127.0.0.1"), other.at("127.0.0.1"));
    let session = session(&authority, &own_at, &[&other_at]);
    assert_eq!(page(&session, &format!("https://{own_at}/to?/page")).await, 200);
    assert_eq!((own.shown(), other.shown()), (vec![true, true], vec![]));
    assert_eq!(page(&session, &format!("https://{own_at}/to?https://{other_at}/")).await, 200);
    assert_eq!((own.shown(), other.shown()), (vec![true], vec![false]));
    // A check that follows by itself, as other languages' libraries do.
    assert_eq!(page(&session, &format!("https://{other_at}/")).await, 200);
    assert_eq!((own.shown(), other.shown()), (vec![], vec![false]));
    let to_and_fro = format!("https://{own_at}/to?https://{other_at}/to?https://{own_at}/");
    assert_eq!(page(&session, &to_and_fro).await, 200);
    assert_eq!((own.shown(), other.shown()), (vec![true, false], vec![false]));
}

#[tokio::test]
async fn who_insists_on_it_and_is_not_what_is_checked_is_told_so() {
    let authority = Authority::new();
    let other = Witness::new(&authority, true).await;
    let at = other.at("127.0.0.1");
    let mut session = session(&authority, "shop.test:443", &[&at]);
    let failed = match token(&session, &at).await {
        Err(NoToken::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    };
    assert!(matches!(failed.cause, Cause::Tls(_) | Cause::Closed | Cause::Reset), "{failed:?}");
    assert_eq!(other.shown().len(), 0);
    session = self::session(&authority, &at, &[]);
    token(&session, &at).await.unwrap();
    assert_eq!(other.shown(), [true]);
}
