//! `picket:net/tcp`: byte streams.

use wasmtime::component::Resource;

use super::bindings::picket::net::{tcp, tls, types};
use super::{Secret, no_network};
use crate::state::State;
use crate::world::Stream;

/// What a handle stands for.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub type Connection = Box<dyn Stream>;

type Answer<T> = wasmtime::Result<Result<T, types::Error>>;

impl tcp::Host for State {
    async fn connect(&mut self, to: types::Endpoint, family: types::Family) -> Answer<Resource<Connection>> {
        let Some(world) = self.world()? else { return Ok(Err(no_network())) };
        let connection = world.connect(to.into(), family.into()).await;
        self.back();
        match connection {
            Ok(connection) => Ok(Ok(self.table.push(connection)?)),
            Err(failure) => Ok(Err(failure.into())),
        }
    }
}

impl tcp::HostConnection for State {
    async fn read(&mut self, connection: Resource<Connection>, max: u32) -> Answer<Vec<u8>> {
        self.meter.within()?;
        let bytes = self.table.get_mut(&connection)?.read(max).await;
        self.back();
        Ok(bytes.map_err(Into::into))
    }

    async fn read_exact(&mut self, connection: Resource<Connection>, length: u32) -> Answer<Vec<u8>> {
        self.meter.within()?;
        let bytes = self.table.get_mut(&connection)?.read_exact(length).await;
        self.back();
        Ok(bytes.map_err(Into::into))
    }

    async fn write(&mut self, connection: Resource<Connection>, bytes: Vec<u8>) -> Answer<()> {
        self.meter.within()?;
        let written = self.table.get_mut(&connection)?.write(&bytes).await;
        self.back();
        Ok(written.map_err(Into::into))
    }

    async fn write_secret(
        &mut self,
        connection: Resource<Connection>,
        prefix: Vec<u8>,
        secret: Resource<Secret>,
        suffix: Vec<u8>,
    ) -> Answer<()> {
        self.meter.within()?;
        let secret = self.table.get(&secret)?.clone();
        if secret.is_for_headers() {
            let message = "an access token is sent in a header and nowhere else".to_owned();
            return Ok(Err(types::Error { cause: types::Cause::Denied, phase: None, message }));
        }
        let stream = self.table.get_mut(&connection)?;
        let written = stream.write_secret(&prefix, secret.bytes(), &suffix).await;
        self.back();
        Ok(written.map_err(Into::into))
    }

    async fn secure(
        &mut self,
        connection: Resource<Connection>,
        options: tls::Options,
    ) -> Answer<Resource<net::TlsSession>> {
        self.meter.within()?;
        let session = self.table.get_mut(&connection)?.secure(options.into()).await;
        self.back();
        match session {
            Ok(session) => Ok(Ok(self.table.push(session)?)),
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    async fn shutdown(&mut self, connection: Resource<Connection>) -> Answer<()> {
        self.meter.within()?;
        let done = self.table.get_mut(&connection)?.shutdown().await;
        self.back();
        Ok(done.map_err(Into::into))
    }

    fn remote_address(&mut self, connection: Resource<Connection>) -> wasmtime::Result<String> {
        Ok(self.table.get(&connection)?.remote().to_string())
    }

    fn timings(&mut self, connection: Resource<Connection>) -> wasmtime::Result<types::Timings> {
        Ok(self.table.get(&connection)?.timings().into())
    }

    fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}
