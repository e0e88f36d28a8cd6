//! The server: data directory, listener, TLS, and an orderly end. Owns no request; what is done beside it is `tasks`'.

use std::fs::{DirBuilder, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::oneshot;

use crate::checks::Bundled;
use crate::clock::{self, Clock};
use crate::control::{Control, Parts};
use crate::identity::keys::Keys;
use crate::store::Embedded;
use crate::{Error, Settings, Tls, api, tasks};

/// Runs the control plane until `shutdown` ends, then for at most five seconds more. `ready` learns where it listens, once it does.
pub async fn serve(
    settings: Settings,
    ready: oneshot::Sender<SocketAddr>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    serve_at(settings, clock::system(), ready, shutdown).await
}

/// The same with a clock of the caller's.
pub(crate) async fn serve_at(
    settings: Settings,
    clock: Clock,
    ready: oneshot::Sender<SocketAddr>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let Settings { listen, tls, behind_proxy, retention, .. } = settings.clone();
    if tls.is_none() && !behind_proxy && !listen.ip().is_loopback() {
        return Err(Error::Plain { listen });
    }
    let tls = tls.as_ref().map(server_config).transpose()?;
    make(&settings.data)?;
    let _alone = lock(&settings.data)?;
    tokio::pin!(shutdown);
    let control = tokio::select! {
        control = open(settings, clock, tls.is_some() || behind_proxy) => Arc::new(control?),
        // Compiling plugins takes a while; whoever stops the control plane does not wait for it.
        () = &mut shutdown => return Ok(()),
    };

    let failed = |source| Error::Listen { listen, source };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let handle = Handle::new();
    let app = api::router(control.clone());
    let server = run(listener, tls, handle.clone(), app);
    let tasks = tasks::start(&control, retention);
    tracing::info!(%address, "listening");
    // Whoever does not wait for it does not want to know.
    let _ = ready.send(address);

    tokio::pin!(server);
    let outcome = tokio::select! {
        outcome = &mut server => outcome.map_err(Error::Serve),
        error = broken(&control) => Err(error),
        () = &mut shutdown => {
            tracing::info!("ending");
            control.closing.send_replace(true);
            handle.graceful_shutdown(Some(LAST_REQUESTS));
            server.await.map_err(Error::Serve)
        }
    };
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    outcome
}

async fn open(settings: Settings, clock: Clock, secure: bool) -> Result<Control, Error> {
    let data = settings.data.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let keys = Keys::open(&data)?;
        let path = keys.admin_path.display();
        let what = if keys.admin_is_new {
            "made an admin token"
        } else {
            "the admin token is the one that was made before"
        };
        tracing::info!(%path, "{what}");
        Ok::<_, Error>((keys, Embedded::open(&data.join("store"))?))
    });
    let (keys, store) = opened.await.map_err(|e| Error::Serve(io::Error::other(e)))??;
    let checks = Bundled::load(settings.plugins.as_deref(), &settings.data.join("cache")).await?;
    let plugins = checks.views();
    let parts = Parts {
        store: Arc::new(store),
        clock,
        keys,
        checks: Box::new(checks),
        plugins,
        setup_token_ttl: settings.setup_token_ttl,
        secure,
    };
    Ok(Control::load(parts)?)
}

async fn run(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    handle: Handle<SocketAddr>,
    app: Router,
) -> io::Result<()> {
    let app = app.into_make_service();
    match tls {
        Some(config) => {
            let config = RustlsConfig::from_config(config);
            let mut server = axum_server::from_tcp_rustls(listener, config)?.handle(handle);
            server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
            server.serve(app).await
        }
        None => {
            let mut server = axum_server::from_tcp(listener)?.handle(handle);
            server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
            server.serve(app).await
        }
    }
}

/// Ends when the store refuses to write: after a full disk it does so for ever. The agents keep their results until a new start.
async fn broken(control: &Arc<Control>) -> Error {
    let mut ticks = tokio::time::interval(CHECK);
    loop {
        ticks.tick().await;
        let store = control.parts.store.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || store.check()).await {
            return Error::Store(error);
        }
    }
}

/// The directory and those above it, for the owner only.
fn make(data: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|source| Error::Data { path: data.to_owned(), source })
}

/// Held as long as the file is open; the kernel gives it back whatever ends the process.
fn lock(data: &Path) -> Result<File, Error> {
    let path = data.join("lock");
    let failed = |source| Error::Data { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse { path: data.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn server_config(tls: &Tls) -> Result<Arc<ServerConfig>, Error> {
    let failed = |source| Error::Tls { cert: tls.cert.clone(), key: tls.key.clone(), source };
    let other = |e: rustls::pki_types::pem::Error| failed(io::Error::other(e));
    let read = CertificateDer::pem_file_iter(&tls.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(other)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|b| b.with_no_client_auth().with_single_cert(certificates, key));
    let mut config = config.map_err(|e| failed(io::Error::other(e)))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// How long a request may take to say what it wants.
const HEADERS: Duration = Duration::from_secs(10);

/// How long requests that run may go on after the shutdown.
const LAST_REQUESTS: Duration = Duration::from_secs(4);

/// How often the store is asked whether it still works.
const CHECK: Duration = Duration::from_secs(5);
