//! `picket:net/regex`: patterns that the host compiles and searches.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::Resource;

use super::bindings::picket::net::regex;
use crate::pattern;
use crate::state::State;

/// A compiled pattern that a component holds.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Pattern(pub(super) Arc<pattern::Pattern>);

impl regex::Host for State {
    fn compile(&mut self, text: String) -> wasmtime::Result<Result<Resource<Pattern>, String>> {
        self.meter.within()?;
        let compiled = pattern::Pattern::compile(&text);
        self.meter.worked(Instant::now());
        match compiled {
            Ok(pattern) => Ok(Ok(self.table.push(Pattern(pattern))?)),
            Err(words) => Ok(Err(words)),
        }
    }
}

impl regex::HostPattern for State {
    async fn matches(
        &mut self,
        pattern: Resource<Pattern>,
        text: Vec<u8>,
    ) -> wasmtime::Result<Result<bool, String>> {
        self.meter.within()?;
        Ok(self.table.get(&pattern)?.0.matches(&text, &mut self.meter).await?)
    }

    async fn captures(
        &mut self,
        pattern: Resource<Pattern>,
        text: Vec<u8>,
    ) -> wasmtime::Result<Result<Option<Vec<pattern::Group>>, String>> {
        self.meter.within()?;
        Ok(self.table.get(&pattern)?.0.captures(&text, &mut self.meter).await?)
    }

    fn groups(&mut self, pattern: Resource<Pattern>) -> wasmtime::Result<Vec<Option<String>>> {
        self.meter.within()?;
        let groups = self.table.get(&pattern)?.0.groups();
        self.meter.worked(Instant::now());
        Ok(groups)
    }

    fn drop(&mut self, pattern: Resource<Pattern>) -> wasmtime::Result<()> {
        self.table.delete(pattern)?;
        Ok(())
    }
}
