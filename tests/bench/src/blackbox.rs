//! blackbox_exporter of Debian's package, and whoever asks it: `wrk` for as much as it can, a clock for so many a second. Only the
//! exporter's own processor time is counted; that of whoever asks is given to it for nothing.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use picket_e2e::{Process, until};
use tempfile::TempDir;

use crate::cpu;
use crate::probe::{Cost, Pace, Probe};

/// A running exporter that knows one module.
pub(crate) struct Blackbox {
    process: Process,
    port: u16,
    target: String,
    _directory: TempDir,
}

impl Blackbox {
    /// Starts it for that probe, and waits until it finds the target up.
    pub(crate) fn start(probe: &Probe) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("picket-bench-").tempdir()?;
        let config = directory.path().join("blackbox.yml");
        std::fs::write(&config, module(probe, directory.path())?)?;
        let port = free_port()?;
        let mut command = Command::new(PROGRAM);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=error");
        let log = directory.path().join("log");
        let process = Process::start(&mut command, &log);
        let target = match probe {
            Probe::Http { url, .. } => url.clone(),
            Probe::Tcp { port } | Probe::Dns { port, .. } => format!("127.0.0.1:{port}"),
            Probe::Nothing => bail!("blackbox_exporter cannot probe nothing"),
        };
        let exporter = Self { process, port, target, _directory: directory };
        until("blackbox_exporter finds the target up", Duration::from_secs(30), || {
            exporter.finds_it_up().unwrap_or(false).then_some(())
        });
        Ok(exporter)
    }

    /// Lets it probe for that long.
    pub(crate) fn measure(&self, pace: Pace, seconds: u32) -> Result<Cost> {
        let begun = cpu::of(self.process.pid())?;
        let (probes, failed) = match pace {
            Pace::Saturated(at_once) => self.saturate(at_once, seconds)?,
            Pace::PerSecond(_) => self.pace(pace, seconds)?,
        };
        let cpu_us = u64::try_from((cpu::of(self.process.pid())? - begun).as_micros())?;
        if !self.finds_it_up()? {
            bail!("blackbox_exporter finds the target down: {}", self.process.output());
        }
        Ok(Cost { probes, failed, cpu_us })
    }

    fn saturate(&self, at_once: usize, seconds: u32) -> Result<(u64, u64)> {
        let output = Command::new("wrk")
            .args(["-t1", &format!("-c{at_once}"), &format!("-d{seconds}s"), &self.url()])
            .output()
            .context("wrk is not installed; `make bench` installs it")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |line: &str| line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
        let probes = text.lines().find(|line| line.contains(" requests in ")).and_then(number);
        let failed = text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses: "));
        let failed = failed.and_then(|n| n.parse().ok()).unwrap_or(0);
        Ok((probes.with_context(|| format!("wrk did not say how much it asked: {text}"))?, failed))
    }

    fn pace(&self, pace: Pace, seconds: u32) -> Result<(u64, u64)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client: Client<HttpConnector, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let url: Uri = self.url().parse()?;
        let ask = move || {
            let (client, url) = (client.clone(), url.clone());
            async move { answer(&client, url).await.is_ok_and(|text| is_up(&text)) }
        };
        Ok(runtime.block_on(pace.drive(Duration::from_secs(seconds.into()), ask)))
    }

    fn finds_it_up(&self) -> Result<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client: Client<HttpConnector, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Ok(is_up(&runtime.block_on(answer(&client, self.url().parse()?))?))
    }

    fn url(&self) -> String {
        let target = self.target.replace(':', "%3A").replace('/', "%2F");
        format!("http://127.0.0.1:{}/probe?module=bench&target={target}", self.port)
    }
}

async fn answer(client: &Client<HttpConnector, Empty<Bytes>>, url: Uri) -> Result<String> {
    let response = client.get(url).await?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn is_up(metrics: &str) -> bool {
    metrics.lines().any(|line| line == "probe_success 1")
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The module that asks for the same.
fn module(probe: &Probe, directory: &Path) -> Result<String> {
    let mut text = "modules:\n  bench:\n    timeout: 10s\n".to_owned();
    match probe {
        Probe::Http { ca, keyword, .. } => {
            write!(
                text,
                "    prober: http\n    http:\n      preferred_ip_protocol: ip4\n      \
                 fail_if_body_not_matches_regexp: [\"{keyword}\"]\n"
            )?;
            if let Some(ca) = ca {
                let file = directory.join("ca.pem");
                std::fs::write(&file, ca)?;
                writeln!(text, "      tls_config: {{ca_file: {}}}", file.display())?;
            }
        }
        Probe::Tcp { .. } => text += "    prober: tcp\n    tcp: {preferred_ip_protocol: ip4}\n",
        Probe::Dns { name, address, .. } => {
            let address = address.replace('.', "\\\\.");
            write!(
                text,
                "    prober: dns\n    dns:\n      query_name: {name}\n      query_type: A\n      preferred_ip_protocol: ip4\n      \
                 validate_answer_rrs:\n        fail_if_not_matches_regexp: [\".*{address}.*\"]\n"
            )?;
        }
        Probe::Nothing => bail!("blackbox_exporter cannot probe nothing"),
    }
    Ok(text)
}

const PROGRAM: &str = "prometheus-blackbox-exporter";
