//! A process that makes the same probe again and again, one way, and tells what it cost. A process of its own, so that its processor
//! time is that of its probes.

mod native;
mod picket;

use std::ffi::OsStr;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::cpu;

/// The variable that makes this program such a process.
pub(crate) const ORDER: &str = "PICKET_BENCH_PROBE";

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) way: Way,
    pub(crate) probe: Probe,
    pub(crate) pace: Pace,
    pub(crate) seconds: u32,
}

/// How a probe is made.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Way {
    /// By hand: tokio, hyper, rustls.
    Native,
    /// A plugin in the sandbox, a fresh instance each.
    Picket,
}

/// What is probed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Probe {
    /// A page with a keyword; over TLS when an authority is given.
    Http { url: String, ca: Option<String>, keyword: String },
    /// A connection.
    Tcp { port: u16 },
    /// An A record over UDP.
    Dns { port: u16, name: String, address: String },
    /// Nothing at all: what an instance costs.
    Nothing,
}

/// How fast.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// So many at once, each as soon as the one before ended.
    Saturated(usize),
    /// So many a second.
    PerSecond(u32),
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) probes: u64,
    /// Those that did not find the target up.
    pub(crate) failed: u64,
    /// Processor time in microseconds.
    pub(crate) cpu_us: u64,
}

impl Cost {
    /// Microseconds of processor time a probe; none of the probes may have failed.
    pub(crate) fn each(self) -> Result<f64> {
        if self.failed > 0 || self.probes == 0 {
            bail!("{} of {} probes did not find the target up", self.failed, self.probes);
        }
        Ok(self.cpu_us as f64 / self.probes as f64)
    }
}

impl Order {
    /// Has it done by a process of its own.
    pub(crate) fn give(&self) -> Result<Cost> {
        let program = std::env::current_exe().context("this program knows where it is")?;
        let order = serde_json::to_string(self)?;
        let child = Command::new(program)
            .env(ORDER, order)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("the probing process could not be started")?;
        if !child.status.success() {
            bail!("the probing process failed: {}", child.status);
        }
        Ok(serde_json::from_slice(&child.stdout)?)
    }
}

/// Does what the variable says and prints the cost.
#[expect(clippy::print_stdout, reason = "its parent reads it")]
pub(crate) fn child(order: &OsStr) -> ExitCode {
    let done = || -> Result<Cost> {
        let order: Order = serde_json::from_slice(order.as_encoded_bytes())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(order.obey())
    };
    match done().and_then(|cost| Ok(serde_json::to_string(&cost)?)) {
        Ok(cost) => {
            println!("{cost}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Order {
    async fn obey(&self) -> Result<Cost> {
        match self.way {
            Way::Native => {
                let prober = native::Prober::new(&self.probe)?;
                self.measure(move || {
                    let prober = prober.clone();
                    async move { prober.probe().await }
                })
                .await
            }
            Way::Picket => {
                let prober = picket::Prober::new(&self.probe).await?;
                self.measure(move || {
                    let prober = prober.clone();
                    async move { prober.probe().await }
                })
                .await
            }
        }
    }

    /// A second to warm up, then what counts.
    async fn measure<F>(&self, probe: impl Fn() -> F + Clone + Send + 'static) -> Result<Cost>
    where
        F: Future<Output = bool> + Send + 'static,
    {
        self.pace.drive(Duration::from_secs(1), probe.clone()).await;
        let begun = cpu::own();
        let (probes, failed) = self.pace.drive(Duration::from_secs(self.seconds.into()), probe).await;
        let cpu_us = u64::try_from((cpu::own() - begun).as_micros())?;
        Ok(Cost { probes, failed, cpu_us })
    }
}

impl Pace {
    /// Probes for that long; how many were made, and how many failed.
    pub(crate) async fn drive<F>(
        self,
        time: Duration,
        probe: impl Fn() -> F + Clone + Send + 'static,
    ) -> (u64, u64)
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let end = Instant::now() + time;
        let mut tasks = JoinSet::new();
        match self {
            Pace::Saturated(at_once) => {
                for _ in 0..at_once {
                    let probe = probe.clone();
                    tasks.spawn(async move {
                        let mut counts = (0, 0);
                        while Instant::now() < end {
                            counts.0 += 1;
                            counts.1 += u64::from(!probe().await);
                        }
                        counts
                    });
                }
            }
            Pace::PerSecond(rate) => {
                let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                while Instant::now() < end {
                    ticks.tick().await;
                    let probe = probe.clone();
                    tasks.spawn(async move { (1, u64::from(!probe().await)) });
                }
            }
        }
        let mut sum = (0, 0);
        while let Some(done) = tasks.join_next().await {
            let (probes, failed) = done.unwrap_or((1, 1));
            sum = (sum.0 + probes, sum.1 + failed);
        }
        sum
    }
}
