//! The bounds of one run as values, and the limiter that holds a store to its memory. Owns no clock: deadlines are in `run`.

use std::time::Duration;

use wasmtime::ResourceLimiter;

/// The bounds of one run.
///
/// # Defaults
/// Those at each field; a ceiling may lower them, and raise all but `memory`, which the pool's slots are cut to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of all memories together, in bytes; 64 MiB, which is also the size of a slot in the pool.
    pub memory: usize,
    /// Time on the processor; 2 s. Waiting for the network does not count.
    pub cpu: Duration,
    /// What is added to a job's timeout before the run is ended from outside; 500 ms.
    pub grace: Duration,
    /// Calls from the component to the host; 10,000.
    pub calls: u32,
    /// Bytes that one call may hand to the host; 1 MiB.
    pub call_bytes: usize,
    /// Handles open at the same time; 1,024.
    pub handles: usize,
    /// Connections made in a run; 16.
    pub connections: u32,
    /// Bytes received in a run; 10 MiB.
    pub received: u64,
    /// Bytes of a body that are kept; 4 MiB.
    pub body: u32,
    /// Bytes of the result, all texts together; 64 KiB.
    pub result: usize,
    /// Bytes of the log, standard output and error included; 16 KiB.
    pub log: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: 64 << 20,
            cpu: Duration::from_secs(2),
            grace: Duration::from_millis(500),
            calls: 10_000,
            call_bytes: 1 << 20,
            handles: 1024,
            connections: 16,
            received: 10 << 20,
            body: 4 << 20,
            result: 64 << 10,
            log: 16 << 10,
        }
    }
}

impl Limits {
    /// What the network is told of these.
    pub(crate) fn budget(&self) -> net::Budget {
        net::Budget { connections: self.connections, received: self.received, body: self.body }
    }
}

/// A run over one of its bounds. The cause of the trap that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exceeded {
    #[error("memory")]
    Memory,
    #[error("processor time")]
    Cpu,
    #[error("host calls")]
    Calls,
}

/// Entries of all tables together. Function tables of real guests hold some thousands.
const TABLE_ELEMENTS: usize = 20_000;

/// Holds a store to its memory and tables.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory: usize,
    used: usize,
    elements: usize,
}

impl Limiter {
    pub(crate) fn new(memory: usize) -> Self {
        Limiter { memory, used: 0, elements: 0 }
    }

    /// The highest sum of all memories, in bytes; memories never shrink.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // A guest that is refused memory aborts in its allocator, which would look like any other trap. Ending it here keeps
        // the reason.
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.memory {
            return Err(Exceeded::Memory.into());
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        if elements > TABLE_ELEMENTS {
            return Err(Exceeded::Memory.into());
        }
        self.elements = elements;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_together_stay_under_the_limit() {
        let mut limiter = Limiter::new(3 << 16);
        assert!(limiter.memory_growing(0, 2 << 16, None).unwrap());
        assert!(limiter.memory_growing(0, 1 << 16, None).unwrap());
        let refused = limiter.memory_growing(1 << 16, 2 << 16, None).unwrap_err();
        assert_eq!(refused.downcast_ref::<Exceeded>(), Some(&Exceeded::Memory));
        assert_eq!(limiter.used(), 3 << 16);
    }

    #[test]
    fn tables_are_memory_too() {
        let mut limiter = Limiter::new(1 << 16);
        assert!(limiter.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        assert!(limiter.table_growing(0, 1, None).is_err());
    }
}
