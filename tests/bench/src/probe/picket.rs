//! The same probes as an agent makes them: a job for a plugin in the sandbox, a fresh instance each, measured and judged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use picket_hostile::Guest;
use sandbox::{Job, Limits, Plugin, Sandbox, Secrets, State, Verdict};
use serde_json::{Value, json};

use super::Probe;

/// Makes one kind of probe.
#[derive(Clone)]
pub(super) struct Prober {
    sandbox: Sandbox,
    plugin: Arc<Plugin>,
    job: Job,
}

impl Prober {
    pub(super) async fn new(probe: &Probe) -> Result<Self> {
        let mut route = net::Route::default();
        let (plugin, config) = match probe {
            Probe::Http { url, ca, keyword } => {
                route.tls.ca = ca.as_deref().map(net::Pem::said);
                ("http", json!({ "url": url, "keyword": keyword }))
            }
            Probe::Tcp { port } => ("tcp", json!({ "host": "127.0.0.1", "port": port })),
            Probe::Dns { port, name, address } => {
                let server = format!("127.0.0.1:{port}");
                ("dns", json!({ "query_name": name, "server": server, "expected": [address] }))
            }
            Probe::Nothing => ("", json!({})),
        };
        let allow = ["127.0.0.0/8", "::1"].map(|rule| rule.parse().expect("it is a rule"));
        let ceiling = net::Ceiling { allow: allow.into(), ..net::Ceiling::default() };
        let network = net::Network::new(net::Settings { ceiling, ..net::Settings::default() })?;
        let sandbox = Sandbox::new(sandbox::Settings::default(), network)?;
        let component = match plugin {
            "" => Guest::default().component(),
            name => std::fs::read(component(name)).context("run `make plugins` first")?,
        };
        let plugin = sandbox.load(&component).await?;
        let job = Job { route, ..job(&plugin, &config)? };
        Ok(Self { sandbox, plugin, job })
    }

    /// Whether the target is up.
    pub(super) async fn probe(&self) -> bool {
        let report = self.sandbox.run(&self.plugin, self.job.clone()).await;
        matches!(report.verdict, Verdict::Outcome(outcome) if outcome.state == State::Up)
    }
}

fn job(plugin: &Plugin, config: &Value) -> Result<Job> {
    let mistakes =
        |m: Vec<sandbox::Mistake>| anyhow!("{}", m.iter().map(ToString::to_string).collect::<String>());
    let config = plugin.schema.complete(config).map_err(mistakes)?;
    let grant = plugin.schema.grant(&config, &[]).map_err(mistakes)?;
    Ok(Job {
        monitor: "bench".to_owned(),
        config: config.to_string(),
        attempt: 1,
        timeout: Duration::from_secs(10),
        grant: grant.into(),
        route: net::Route::default(),
        secrets: Secrets::new(),
        limits: Limits::default(),
    })
}

fn component(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/plugins/{name}.wasm"))
}
