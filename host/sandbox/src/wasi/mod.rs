//! WASI 0.2 for components whose language reaches for it: clocks, randomness, streams, a `wasi:cli` and a `wasi:filesystem` in which
//! nothing is, and in `sockets` and `http` the network of Picket.
//!
//! All of it is linked, because a runtime imports all of it: the standard library of Rust its terminals, Python everything. What is not
//! there answers that it is not.

mod http;
mod sockets;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::{AsyncWrite, sink};
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::random::{Deterministic, WasiRandom};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

use crate::log::{Level, Log};
use crate::state::State;
use crate::world::World;

pub(crate) use http::Http;

/// Every interface that is linked here, without its version. What else a component imports is refused at load.
pub(crate) const INTERFACES: [&str; 29] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:sockets/network",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
    "wasi:http/types",
    "wasi:http/outgoing-handler",
];

/// Bytes of randomness in one call; larger requests trap.
const RANDOM_BYTES: u64 = 64 << 10;
/// What a standard stream takes in one write.
const WRITE_BYTES: usize = 4096;
/// The precision of clocks: enough to measure a network, too little to measure a cache.
const PRECISION: Duration = Duration::from_millis(1);

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let l = linker;
    cli::environment::add_to_linker::<State, WasiCli>(l, |state| entered(state).cli())?;
    cli::exit::add_to_linker::<State, WasiCli>(l, |state| entered(state).cli())?;
    cli::stdin::add_to_linker::<State, WasiCli>(l, |state| entered(state).cli())?;
    cli::stdout::add_to_linker::<State, WasiCli>(l, |state| entered(state).cli())?;
    cli::stderr::add_to_linker::<State, WasiCli>(l, |state| entered(state).cli())?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, |state| entered(state).cli())?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, |state| entered(state).cli())?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, |state| entered(state).cli())?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, |state| entered(state).cli())?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, |state| entered(state).cli())?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, |state| entered(state).clocks())?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, |state| entered(state).clocks())?;
    io::error::add_to_linker::<State, Table>(l, |state| &mut entered(state).table)?;
    io::poll::add_to_linker::<State, Table>(l, |state| &mut waiting(state).table)?;
    io::streams::add_to_linker::<State, Table>(l, |state| &mut waiting(state).table)?;
    random::random::add_to_linker::<State, WasiRandom>(l, |state| entered(state).ctx().ctx.random())?;
    random::insecure::add_to_linker::<State, WasiRandom>(l, |state| entered(state).ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |state| entered(state).ctx().ctx.random())?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, |state| entered(state).filesystem())?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(l, |state| entered(state).filesystem())?;
    sockets::add_to_linker(l)?;
    http::add_to_linker(l)
}

/// A call is counted here; a count above the bound ends the run at the next tick.
fn entered(state: &mut State) -> &mut State {
    state.meter.call();
    state
}

fn waiting(state: &mut State) -> &mut State {
    state.meter.waiting_call();
    state
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let made = || context(&self.log, self.world.as_ref());
        WasiCtxView { ctx: self.wasi.get_or_insert_with(made), table: &mut self.table }
    }
}

/// No arguments, no environment, no directories, none of wasmtime's own network; standard input at its end; what is printed goes into the
/// log.
fn context(log: &Arc<Log>, world: Option<&Arc<dyn World>>) -> WasiCtx {
    let clock = || Clock { start: Instant::now(), world: world.cloned() };
    let mut builder = WasiCtx::builder();
    if let Some(bytes) = world.and_then(|world| world.random()).filter(|bytes| !bytes.is_empty()) {
        let seed = bytes.iter().take(16).fold(0, |seed: u128, byte| seed << 8 | u128::from(*byte));
        builder.secure_random(Deterministic::new(bytes.clone()));
        builder.insecure_random(Deterministic::new(bytes));
        builder.insecure_random_seed(seed);
    }
    builder
        .stdout(Stream { level: Level::Info, log: Arc::clone(log) })
        .stderr(Stream { level: Level::Warn, log: Arc::clone(log) })
        .max_random_size(RANDOM_BYTES)
        .wall_clock(clock())
        .monotonic_clock(clock())
        .allow_ip_name_lookup(false)
        .allow_tcp(false)
        .allow_udp(false)
        .build()
}

/// A standard stream that ends in the log.
#[derive(Clone)]
struct Stream {
    level: Level,
    log: Arc<Log>,
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    /// For WASI 0.3, which is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl Pollable for Stream {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async {})
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES {
            return Err(StreamError::trap("more was written than check-write allows"));
        }
        self.log.print(self.level, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

/// Both clocks, in whole [`PRECISION`]; the run's world has a say in what they show.
struct Clock {
    start: Instant,
    world: Option<Arc<dyn World>>,
}

fn coarse(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        PRECISION
    }

    fn now(&self) -> Duration {
        coarse(match &self.world {
            Some(world) => world.wall(),
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        })
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        u64::try_from(PRECISION.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        let real = self.start.elapsed();
        let elapsed = self.world.as_ref().map_or(real, |world| world.elapsed(real));
        u64::try_from(coarse(elapsed).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_count_whole_milliseconds() {
        assert_eq!(coarse(Duration::from_micros(1999)), Duration::from_millis(1));
        let clock = Clock { start: Instant::now(), world: None };
        assert_eq!(HostMonotonicClock::now(&clock) % 1_000_000, 0);
    }
}
