//! What can go wrong outside of a run: setting up, and loading a component. What goes wrong in a run is a
//! [`Verdict`](crate::Verdict).

use std::path::PathBuf;
use std::time::Duration;

use crate::schema::SchemaError;
use crate::verdict::Fault;

/// Why the sandbox could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine refuses its settings on this machine.
    #[error("the engine for plugins could not be set up: {0:#}")]
    Engine(wasmtime::Error),
    /// A limit is above what the pool holds.
    #[error("the memory limit is {found} bytes, at most {most} are possible: lower it")]
    Memory {
        /// What the settings say.
        found: usize,
        /// What the pool's slots hold.
        most: usize,
    },
    /// The thread that interrupts computing components.
    #[error("the thread that interrupts plugins could not be started")]
    Ticker(#[source] std::io::Error),
    /// The directory of compiled components, or the key in it.
    #[error("the cache of compiled plugins at {} cannot be used", path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The network that is behind every sandbox.
    #[error("the network could not be set up")]
    Network(#[source] net::Error),
    /// No randomness for the cache's key.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Why a component cannot be a plugin here. Each variant is a mistake of its own, said to whoever brought the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Zero bytes.
    #[error("the file is empty; a plugin is a WebAssembly component")]
    Empty,
    /// Larger than is allowed without the operator's word.
    #[error(
        "the component has {size} bytes, at most {max} are allowed unless the agent's operator names it: start the agent with --large-plugin {digest}"
    )]
    Large {
        /// Bytes found.
        size: usize,
        /// Bytes allowed.
        max: usize,
        /// "sha256:" and 64 hexadecimal digits.
        digest: String,
    },
    /// Larger than any component may be.
    #[error("the component has {size} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes found.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not WebAssembly at all.
    #[error(
        "the file is not WebAssembly; a plugin is a component, built for example with --target wasm32-wasip2"
    )]
    NotWasm,
    /// A core module.
    #[error(
        "the file is a core WebAssembly module, not a component; build it with --target wasm32-wasip2, or wrap it with wasm-tools component new"
    )]
    CoreModule,
    /// WebAssembly that does not validate or that the compiler refuses.
    #[error("the component cannot be compiled: {0}")]
    Compile(String),
    /// The compiler used up its time or memory.
    #[error("the component cannot be compiled within {} s of processor time and {} MiB of memory", time.as_secs(), memory >> 20)]
    CompileBudget {
        /// Processor time it was given.
        time: Duration,
        /// Address space it was given, in bytes.
        memory: u64,
    },
    /// The compiler could not be started at all: not the component's fault, so it may be tried again.
    #[error("the compiler could not be run: {0}")]
    Compiler(String),
    /// It asks for interfaces that nobody gives it.
    #[error("the component asks for {}, which this agent does not give; a plugin may ask for picket:net and, of WASI 0.2, for cli, clocks, filesystem, http (outgoing), io, random and sockets", .0.join(" and "))]
    Import(Vec<String>),
    /// It exports no check.
    #[error("the component is not a check: it does not export picket:check/checker@0.1")]
    World,
    /// It exports a check of a contract that this agent does not speak.
    #[error(
        "the component exports {found}, this agent speaks picket:check/checker@0.1; build it against that version of the contract"
    )]
    Version {
        /// The export's name.
        found: String,
    },
    /// Names fit, types do not.
    #[error("the component does not fit the contract: {0}")]
    Contract(String),
    /// `describe` did not come back properly.
    #[error("the component does not describe itself: {0}")]
    Describe(Fault),
    /// `describe` came back with something that is no description.
    #[error("the component describes itself wrongly: {0}")]
    Description(String),
    /// Its schema cannot be used.
    #[error("the component's configuration schema cannot be used: {0}")]
    Schema(#[from] SchemaError),
}
