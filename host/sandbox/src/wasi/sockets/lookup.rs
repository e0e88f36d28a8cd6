//! `wasi:sockets/ip-name-lookup`: names to addresses, as far as the grant goes. A library dials by address; that a name led to it is
//! remembered in the run's session, which is asked again then.

use std::net::IpAddr;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{DynPollable, Pollable};

use super::network::{ErrorCode, IpAddress};
use super::task::Task;
use super::{Answer, Network, code, ip_name_lookup};
use crate::state::State;

/// The addresses of a name, on their way.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Addresses(Task<Result<std::vec::IntoIter<IpAddr>, ErrorCode>>);

#[async_trait::async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        self.0.ready().await;
    }
}

impl ip_name_lookup::Host for State {
    fn resolve_addresses(&mut self, network: Resource<Network>, name: String) -> Answer<Resource<Addresses>> {
        self.table.get(&network)?;
        let session = match self.sockets()? {
            Ok(session) => session,
            Err(code) => return Ok(Err(code)),
        };
        let looking = Task::begin(async move {
            session.look_up(&name).await.map(Vec::into_iter).map_err(|failure| code(&failure))
        });
        Ok(Ok(self.table.push(Addresses(looking))?))
    }
}

impl ip_name_lookup::HostResolveAddressStream for State {
    fn resolve_next_address(&mut self, addresses: Resource<Addresses>) -> Answer<Option<IpAddress>> {
        Ok(match self.table.get_mut(&addresses)?.0.done() {
            None => Err(ErrorCode::WouldBlock),
            Some(Ok(addresses)) => Ok(addresses.next().map(Into::into)),
            Some(Err(code)) => Err(*code),
        })
    }

    fn subscribe(&mut self, addresses: Resource<Addresses>) -> wasmtime::Result<Resource<DynPollable>> {
        State::subscribe(self, addresses)
    }

    fn drop(&mut self, addresses: Resource<Addresses>) -> wasmtime::Result<()> {
        self.table.delete(addresses)?;
        Ok(())
    }
}
