//! The engine's settings and the ticker that moves its epoch. Every number here was measured; what a run may use stands in
//! `limits`, what it may call in `host` and `wasi`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use crate::error::Error;

/// How often a computing component is interrupted: it gives up its thread, and its time is counted.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Linear memory that a slot of the pool holds, in bytes, which no limit can exceed.
pub(crate) const SLOT_MEMORY: usize = 64 << 20;

/// What a run takes of the pool. Most components need one memory and up to three instances and tables; Python with its library is
/// linked together of fourteen modules.
const CORE_INSTANCES: u32 = 24;
const TABLES: u32 = 4;

/// Bytes of a memory and of a table that are wiped in place instead of being given back to the kernel.
const KEEP_RESIDENT: usize = 128 << 10;

/// An engine with a pool of so many slots. Two engines that differ only in that number run each other's artifacts.
pub(crate) fn engine(slots: u32) -> Result<Engine, Error> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        .consume_fuel(false)
        .concurrency_support(false)
        .async_stack_size(512 << 10)
        .max_wasm_stack(256 << 10)
        .memory_init_cow(true)
        .memory_reservation(SLOT_MEMORY as u64)
        .memory_guard_size(64 << 10)
        .memory_reservation_for_growth(0)
        .generate_address_map(false)
        .native_unwind_info(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(slots)));
    Engine::new(&config).map_err(Error::Engine)
}

fn pool(slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots * CORE_INSTANCES)
        .max_core_instances_per_component(CORE_INSTANCES)
        .total_memories(slots)
        .max_memories_per_component(1)
        .max_memory_size(SLOT_MEMORY)
        .total_tables(slots * TABLES)
        .max_tables_per_component(TABLES)
        .total_stacks(slots)
        .max_unused_warm_slots(8);
    // Memory protection keys are not even compiled in: the cargo feature is left out.
    // A page that was swapped out is not wiped in place in wasmtime 48: the next instance could read it.
    if PoolingAllocationConfig::is_pagemap_scan_available() && swap_is_off() {
        // A table given back costs two calls of the kernel at the end of every run, and page faults at the beginning of the next.
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(KEEP_RESIDENT)
            .table_keep_resident(KEEP_RESIDENT);
    } else {
        pool.pagemap_scan(Enabled::No).linear_memory_keep_resident(0);
    }
    pool
}

/// Whether no swap space is in use; unknown counts as in use.
fn swap_is_off() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() <= 1)
}

/// Moves the engine's epoch every [`TICK`] while something runs, and rests while nothing does. A thread of its own: it must go on
/// when every other one computes.
pub(crate) struct Ticker {
    running: Arc<AtomicUsize>,
    wake: Sender<()>,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> Result<Ticker, Error> {
        let running = Arc::new(AtomicUsize::new(0));
        let (wake, woken) = channel();
        let (engine, count) = (engine.clone(), Arc::clone(&running));
        std::thread::Builder::new()
            .name("sandbox-ticker".to_owned())
            .spawn(move || tick(&engine, &count, &woken))
            .map_err(Error::Ticker)?;
        Ok(Ticker { running, wake })
    }

    /// The epoch moves while this lives.
    pub(crate) fn running(&self) -> Running<'_> {
        if self.running.fetch_add(1, Ordering::SeqCst) == 0 {
            // The thread ends only with this sender.
            let _ = self.wake.send(());
        }
        Running(&self.running)
    }
}

fn tick(engine: &Engine, running: &AtomicUsize, woken: &Receiver<()>) {
    let mut next = Instant::now() + TICK;
    loop {
        let now = Instant::now();
        if running.load(Ordering::SeqCst) == 0 {
            match woken.recv() {
                Ok(()) => next = Instant::now() + TICK,
                Err(_) => return,
            }
        } else if now >= next {
            engine.increment_epoch();
            next = now + TICK;
        } else if woken.recv_timeout(next - now) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Something that runs.
pub(crate) struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash, Hasher};

    use super::*;

    #[test]
    fn engines_of_different_size_share_their_artifacts() {
        let hash = |slots| {
            let mut hasher = DefaultHasher::new();
            engine(slots).unwrap().precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(1), hash(4));
    }
}
