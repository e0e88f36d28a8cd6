//! Runs one plugin once within limits: a job goes in, a report comes out. The only crate that sees wasmtime. What a plugin may
//! reach is decided in `net`; when it runs, and what becomes of its report, is the agent's business.
//!
//! [`Sandbox::load`] makes a [`Plugin`] of a component, [`Schema`] turns what somebody wrote into what the plugin gets,
//! [`Sandbox::run`] makes a run.

mod artifact;
pub mod bundled;
mod compile;
mod engine;
mod error;
mod host;
mod job;
mod limits;
mod load;
mod log;
mod pattern;
mod plugin;
mod redact;
mod report;
mod run;
mod schema;
mod state;
pub mod trace;
mod verdict;
mod wasi;
mod world;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};
use wasmtime::Engine;
use wasmtime::component::Linker;

pub use compile::{CompileBudget, Compiler, compile_child};
pub use error::{Error, LoadError};
pub use job::{Job, Report, Spent};
pub use limits::Limits;
pub use log::Level;
pub use plugin::{Described, Description, MetricDescription, Plugin};
pub use redact::Secrets;
pub use schema::{AROUND, Schema, SchemaError};
pub use verdict::{Failure, Fault, Finding, Metric, Mistake, Outcome, State, Verdict};
pub use world::{Stream, World};

/// How a sandbox is set up.
///
/// # Defaults
/// 64 slots, no cache, compiled in this process, [`Limits::default`], components up to 8 MiB.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Runs at the same time; a run beyond them is [`Fault::Exhausted`]. 64 reserve 4.4 GB of address space, not of memory.
    pub slots: u32,
    /// Where compiled components are kept, in a directory for nothing else; compiled at every start when none.
    pub cache: Option<PathBuf>,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// What a compilation in a child may use.
    pub compile_budget: CompileBudget,
    /// The bounds of `describe` and `validate`; a job brings its own.
    pub limits: Limits,
    /// Bytes of a component at most; 8 MiB.
    pub max_component_bytes: usize,
    /// Components that may have up to 64 MiB, by digest: "sha256:" and 64 hexadecimal digits. None unless the operator names one; an
    /// interpreter with its library, as Python packs it, has 20.
    pub large: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            slots: 64,
            cache: None,
            compiler: Compiler::default(),
            compile_budget: CompileBudget::default(),
            limits: Limits::default(),
            max_component_bytes: 8 << 20,
            large: Vec::new(),
        }
    }
}

/// Loads and runs plugins. One per process; cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    engine: Engine,
    linker: Linker<state::State>,
    ticker: engine::Ticker,
    slots: Semaphore,
    cache: Option<artifact::Cache>,
    /// Components that the compiler refused, by digest.
    refused: Mutex<HashMap<String, LoadError>>,
    network: net::Network,
}

impl Sandbox {
    /// Sets up the engine, its pool and the cache.
    ///
    /// # Errors
    /// When the machine or the cache's directory refuses.
    pub fn new(settings: Settings, network: net::Network) -> Result<Sandbox, Error> {
        if settings.limits.memory > engine::SLOT_MEMORY {
            return Err(Error::Memory { found: settings.limits.memory, most: engine::SLOT_MEMORY });
        }
        let slots = settings.slots.max(1);
        let engine = engine::engine(slots)?;
        let cache = settings.cache.as_deref().map(|dir| artifact::Cache::open(dir, &engine)).transpose()?;
        let inner = Inner {
            linker: host::linker(&engine)?,
            ticker: engine::Ticker::start(&engine)?,
            slots: Semaphore::new(slots as usize),
            cache,
            refused: Mutex::new(HashMap::new()),
            network,
            engine,
            settings,
        };
        Ok(Sandbox { inner: Arc::new(inner) })
    }
}

impl Sandbox {
    /// A sandbox for whoever only reads what plugins say of themselves: it has a network, as every linker needs one, that nobody opened.
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// As [`Sandbox::new`], and when the system's name servers cannot be read.
    pub fn describing(settings: Settings) -> Result<Sandbox, Error> {
        let network = net::Network::new(net::Settings::default()).map_err(Error::Network)?;
        Sandbox::new(settings, network)
    }
}

impl Sandbox {
    /// The network of its runs.
    pub fn network(&self) -> &net::Network {
        &self.inner.network
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}
