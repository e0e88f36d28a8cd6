//! From a component to machine code, where a compile bomb can do no harm: in a child process that the kernel bounds and that is
//! killed when it takes too long. Owns no cache.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmtime::Engine;

use crate::engine;
use crate::error::LoadError;

/// What one compilation may use. The kernel holds the child to it.
///
/// # Defaults
/// 30 s of processor time, 1 GiB of address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileBudget {
    /// Processor time, in whole seconds and at least one. Ordinary plugins take 0.2 s, those with an interpreter inside 20 s. Twice as
    /// much time may pass, for a busy machine.
    pub cpu: Duration,
    /// Address space, in bytes. Interpreters need 400 MiB.
    pub memory: u64,
}

impl Default for CompileBudget {
    fn default() -> Self {
        CompileBudget { cpu: Duration::from_secs(30), memory: 1 << 30 }
    }
}

impl CompileBudget {
    fn exceeded(&self) -> LoadError {
        LoadError::CompileBudget { time: self.cpu, memory: self.memory }
    }

    /// Holds a process to it. It has no secret and writes no file; a core of it would only be large.
    fn hold(&self, process: Pid) -> rustix::io::Result<()> {
        let limits =
            [(Resource::Cpu, self.cpu.as_secs().max(1)), (Resource::As, self.memory), (Resource::Core, 0)];
        for (resource, value) in limits {
            let limit = Rlimit { current: Some(value), maximum: Some(value) };
            prlimit(Some(process), resource, limit)?;
        }
        Ok(())
    }
}

/// An artifact larger than this is not kept in memory.
const ARTIFACT: u64 = 256 << 20;

/// Where components are compiled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Compiler {
    /// In this process, unbounded: for tests and for components that one trusts.
    #[default]
    InProcess,
    /// In a child process whose body is [`compile_child`].
    Child {
        /// The program, usually this one.
        program: PathBuf,
        /// Its arguments: the hidden command.
        args: Vec<String>,
    },
}

impl Compiler {
    pub(crate) async fn compile(
        &self,
        engine: &Engine,
        component: Vec<u8>,
        budget: CompileBudget,
    ) -> Result<Vec<u8>, LoadError> {
        match self {
            Compiler::InProcess => {
                let engine = engine.clone();
                tokio::task::spawn_blocking(move || precompile(&engine, &component))
                    .await
                    .map_err(|error| LoadError::Compiler(error.to_string()))?
                    .map_err(LoadError::Compile)
            }
            Compiler::Child { program, args } => {
                let work = child(program, args, &component, budget);
                tokio::time::timeout(2 * budget.cpu, work).await.unwrap_or(Err(budget.exceeded()))
            }
        }
    }
}

/// Runs the child; dropping the future kills it.
async fn child(
    program: &PathBuf,
    args: &[String],
    component: &[u8],
    budget: CompileBudget,
) -> Result<Vec<u8>, LoadError> {
    let broken = |error: std::io::Error| LoadError::Compiler(format!("{}: {error}", program.display()));
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .env_clear()
        // An allocator that reserves a gigabyte before `main` would not live to see its budget, which it gets at any moment from now on.
        .env("MIMALLOC_ARENA_RESERVE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(broken)?;
    // Before it has read a byte of the component: from here on it cannot have more.
    if let Some(process) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        budget.hold(process).map_err(|error| broken(error.into()))?;
    }
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A child that gave up reading says why on its standard error.
            let _ = stdin.write_all(component).await;
        }
    };
    let (mut artifact, mut words) = (Vec::new(), Vec::new());
    let read = async {
        if let Some(stdout) = stdout {
            stdout.take(ARTIFACT).read_to_end(&mut artifact).await.map_err(broken)?;
        }
        Ok::<(), LoadError>(())
    };
    let listen = async {
        if let Some(stderr) = stderr {
            let _ = stderr.take(4096).read_to_end(&mut words).await;
        }
    };
    let ((), read, ()) = tokio::join!(write, read, listen);
    read?;
    let status = child.wait().await.map_err(broken)?;
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    match status.code() {
        Some(0) => Ok(artifact),
        Some(REFUSED) => Err(LoadError::Compile(words)),
        // Ended by the kernel (processor time), or by its own allocator (memory).
        None => Err(budget.exceeded()),
        Some(code) => Err(LoadError::Compiler(format!("{} exited with {code}: {words}", program.display()))),
    }
}

/// The child's exit status when the component is at fault.
const REFUSED: i32 = 65;

/// The body of the child process: a component on standard input, its artifact on standard output; returns the exit status. Whoever started
/// it holds it to its budget.
pub fn compile_child() -> i32 {
    let say = |message: &dyn std::fmt::Display, status: i32| {
        // Nobody left to tell it to when this fails.
        let _ = writeln!(std::io::stderr(), "{message}");
        status
    };
    let mut component = Vec::new();
    if let Err(error) = std::io::stdin().lock().read_to_end(&mut component) {
        return say(&error, 74);
    }
    let engine = match engine::engine(1) {
        Ok(engine) => engine,
        Err(error) => return say(&error, 71),
    };
    match precompile(&engine, &component) {
        Ok(artifact) => match std::io::stdout().lock().write_all(&artifact) {
            Ok(()) => 0,
            Err(error) => say(&error, 74),
        },
        Err(error) => say(&error, REFUSED),
    }
}

fn precompile(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, String> {
    engine.precompile_component(component).map_err(|error| format!("{error:#}"))
}
