//! `picket:net/log`: notes for the check's author.

use super::bindings::picket::net::log;
use crate::log::Level;
use crate::state::State;

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.meter.within()?;
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
        };
        self.log.note(level, &message);
        Ok(())
    }
}
