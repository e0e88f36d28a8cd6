//! From a component to machine code, where a compile bomb can do no harm: in a child process that the kernel bounds and that is
//! killed when it takes too long. Owns no cache.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmtime::Engine;

use crate::engine;
use crate::error::LoadError;

/// Processor time of a compilation. Ordinary plugins take 0.2 s, those with an interpreter inside 20 s.
const CPU: Duration = Duration::from_secs(30);
/// Wall time of a compilation: twice the processor time, for a busy machine.
const WALL: Duration = Duration::from_secs(60);
/// Address space of a compilation, in bytes. Interpreters need 400 MiB.
const MEMORY: u64 = 1 << 30;
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
    pub(crate) async fn compile(&self, engine: &Engine, component: Vec<u8>) -> Result<Vec<u8>, LoadError> {
        match self {
            Compiler::InProcess => {
                let engine = engine.clone();
                tokio::task::spawn_blocking(move || precompile(&engine, &component))
                    .await
                    .map_err(|error| LoadError::Compiler(error.to_string()))?
                    .map_err(LoadError::Compile)
            }
            Compiler::Child { program, args } => {
                let work = child(program, args, &component);
                tokio::time::timeout(WALL, work).await.unwrap_or(Err(over_budget()))
            }
        }
    }
}

fn over_budget() -> LoadError {
    LoadError::CompileBudget { time: CPU, memory: MEMORY }
}

/// Runs the child; dropping the future kills it.
async fn child(program: &PathBuf, args: &[String], component: &[u8]) -> Result<Vec<u8>, LoadError> {
    let broken = |error: std::io::Error| LoadError::Compiler(format!("{}: {error}", program.display()));
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(broken)?;
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
        None => Err(over_budget()),
        Some(code) => Err(LoadError::Compiler(format!("{} exited with {code}: {words}", program.display()))),
    }
}

/// The child's exit status when the component is at fault.
const REFUSED: i32 = 65;

/// The body of the child process: a component on standard input, its artifact on standard output; returns the exit status. Gives
/// up processor time and memory beyond 30 s and 1 GiB first.
pub fn compile_child() -> i32 {
    let say = |message: &dyn std::fmt::Display, status: i32| {
        // Nobody left to tell it to when this fails.
        let _ = writeln!(std::io::stderr(), "{message}");
        status
    };
    let limit = |value| Rlimit { current: Some(value), maximum: Some(value) };
    for (resource, value) in [(Resource::Cpu, CPU.as_secs()), (Resource::As, MEMORY), (Resource::Core, 0)] {
        if let Err(error) = setrlimit(resource, limit(value)) {
            return say(&error, 71);
        }
    }
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
