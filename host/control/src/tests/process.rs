//! How the control plane starts and ends.

use tokio::sync::oneshot;

use crate::{Error, Settings};

fn settings(data: &std::path::Path) -> Settings {
    let plugins = data.join("plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    Settings { listen: "127.0.0.1:0".parse().unwrap(), plugins: Some(plugins), ..Settings::new(data) }
}

async fn fails(settings: Settings) -> Error {
    crate::serve(settings, oneshot::channel().0, std::future::pending()).await.unwrap_err()
}

#[tokio::test]
async fn it_listens_and_ends_when_asked_to_and_nobody_shares_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (ready, listening) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(crate::serve(settings(dir.path()), ready, async { drop(stopped.await) }));
    let address = listening.await.unwrap();
    let answer = reqwest::get(format!("http://{address}/healthz")).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok\n");
    let second = fails(settings(dir.path())).await;
    assert_eq!(second.exit_code(), 73, "{second}");
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn it_speaks_tls_with_the_certificate_that_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (ready, listening) = oneshot::channel();
    let settings = Settings { tls: Some(crate::Tls { cert, key }), ..settings(dir.path()) };
    let running = tokio::spawn(crate::serve(settings, ready, std::future::pending()));
    let port = listening.await.unwrap().port();
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([trusted]).build().unwrap();
    let answer = client.get(format!("https://localhost:{port}/healthz")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok\n");
    let distrustful = reqwest::get(format!("https://localhost:{port}/healthz")).await;
    assert!(distrustful.is_err());
    running.abort();
}

#[tokio::test]
async fn plain_http_towards_everybody_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = Settings { listen: "0.0.0.0:0".parse().unwrap(), ..settings(dir.path()) };
    let error = fails(open).await;
    assert_eq!(error.exit_code(), 64);
    assert!(error.to_string().contains("--tls-cert"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, "no certificate").unwrap();
    let error = fails(Settings { tls: Some(crate::Tls { cert, key }), ..settings(dir.path()) }).await;
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("cert.pem"), "{error}");
}
