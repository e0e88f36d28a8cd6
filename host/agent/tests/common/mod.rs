//! An agent that runs against a control plane which the test itself plays.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use picket_agent as agent;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Of an agent that lives in `data` below this directory.
pub(crate) fn settings(directory: &Path, control: &str) -> agent::Settings {
    agent::Settings {
        data: directory.join("data"),
        control: control.parse().unwrap(),
        setup_token: Some("token".into()),
        allow: Vec::new(),
        allow_files: Vec::new(),
        resolver: None,
        plugins: Some(directory.to_owned()),
        large_plugins: Vec::new(),
        compiler: sandbox::Compiler::InProcess,
        concurrency: 2,
        ca_file: None,
        proxy: agent::Proxy::default(),
        secrets_dir: directory.to_owned(),
        rotate_every: agent::Settings::ROTATE_EVERY,
        spool: agent::Budget::default(),
        start_wait: Duration::ZERO,
    }
}

/// A control plane that listens. Gives its address, too.
pub(crate) async fn listen(app: Router) -> (String, JoinHandle<std::io::Result<()>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = format!("http://{}", listener.local_addr().unwrap());
    (control, tokio::spawn(axum::serve(listener, app).into_future()))
}

/// An agent and its control plane.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    agent: JoinHandle<Result<(), agent::Error>>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// Starts both.
    pub(crate) async fn start(directory: &Path, app: Router) -> Self {
        let (control, server) = listen(app).await;
        let (stop, stopped) = oneshot::channel::<()>();
        let agent = tokio::spawn(agent::run(settings(directory, &control), async {
            let _ = stopped.await;
        }));
        Self { stop, agent, server }
    }

    /// Stops the agent, which takes no longer than this, and then the control plane.
    pub(crate) async fn stop(self, within: Duration) {
        drop(self.stop);
        let ended = tokio::time::timeout(within, self.agent).await.expect("stops in time");
        ended.unwrap().unwrap();
        self.server.abort();
    }
}
