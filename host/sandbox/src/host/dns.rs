//! `picket:net/dns`: name lookups as the thing that is checked.

use wasmtime::component::Resource;

use super::bindings::picket::check::verdict;
use super::bindings::picket::net::{dns, types};
use super::no_network;
use super::translate::micros;
use crate::state::State;

impl types::Host for State {}

impl verdict::Host for State {}

impl dns::Host for State {
    async fn ask(
        &mut self,
        question: dns::Question,
    ) -> wasmtime::Result<Result<Resource<net::Answer>, types::Error>> {
        let Some(world) = self.world()? else { return Ok(Err(no_network())) };
        let answer = world.ask(question.into()).await;
        self.back();
        match answer {
            Ok(answer) => Ok(Ok(self.table.push(answer)?)),
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    async fn validate(
        &mut self,
        question: dns::Question,
        anchors: Vec<String>,
    ) -> wasmtime::Result<Result<Resource<net::Answer>, types::Error>> {
        let Some(world) = self.world()? else { return Ok(Err(no_network())) };
        let answer = world.validate(question.into(), &anchors).await;
        self.back();
        match answer {
            Ok(answer) => Ok(Ok(self.table.push(answer)?)),
            Err(failure) => Ok(Err(failure.into())),
        }
    }
}

impl dns::HostAnswer for State {
    fn security(
        &mut self,
        answer: Resource<net::Answer>,
    ) -> wasmtime::Result<Option<(dns::Security, String)>> {
        let security = self.table.get(&answer)?.security.as_ref();
        Ok(security.map(|(security, why)| ((*security).into(), why.clone())))
    }

    fn rcode(&mut self, answer: Resource<net::Answer>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&answer)?.rcode)
    }

    fn authoritative(&mut self, answer: Resource<net::Answer>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&answer)?.authoritative)
    }

    fn truncated(&mut self, answer: Resource<net::Answer>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&answer)?.truncated)
    }

    fn authenticated(&mut self, answer: Resource<net::Answer>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&answer)?.authenticated)
    }

    fn answers(&mut self, answer: Resource<net::Answer>) -> wasmtime::Result<Vec<dns::Entry>> {
        Ok(self.table.get(&answer)?.answers.iter().map(Into::into).collect())
    }

    fn authority(&mut self, answer: Resource<net::Answer>) -> wasmtime::Result<Vec<dns::Entry>> {
        Ok(self.table.get(&answer)?.authority.iter().map(Into::into).collect())
    }

    fn additional(&mut self, answer: Resource<net::Answer>) -> wasmtime::Result<Vec<dns::Entry>> {
        Ok(self.table.get(&answer)?.additional.iter().map(Into::into).collect())
    }

    fn server(&mut self, answer: Resource<net::Answer>) -> wasmtime::Result<String> {
        Ok(self.table.get(&answer)?.server.to_string())
    }

    fn elapsed_us(&mut self, answer: Resource<net::Answer>) -> wasmtime::Result<u64> {
        Ok(micros(self.table.get(&answer)?.elapsed))
    }

    fn drop(&mut self, answer: Resource<net::Answer>) -> wasmtime::Result<()> {
        self.table.delete(answer)?;
        Ok(())
    }
}
