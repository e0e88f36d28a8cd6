//! `picket:net/tls`: what a handshake told.

use std::sync::Arc;

use wasmtime::component::Resource;

use super::bindings::picket::net::tls;
use crate::state::State;

/// What a handle stands for; however often a guest asks, the certificate is held once.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub type Certificate = Arc<net::Certificate>;

impl tls::Host for State {}

impl tls::HostCertificate for State {
    fn der(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&certificate)?.der.clone())
    }

    fn subject(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<String> {
        Ok(self.table.get(&certificate)?.subject.clone())
    }

    fn issuer(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<String> {
        Ok(self.table.get(&certificate)?.issuer.clone())
    }

    fn serial(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<String> {
        Ok(self.table.get(&certificate)?.serial.clone())
    }

    fn not_before(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<i64> {
        Ok(self.table.get(&certificate)?.not_before)
    }

    fn not_after(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<i64> {
        Ok(self.table.get(&certificate)?.not_after)
    }

    fn dns_names(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<Vec<String>> {
        Ok(self.table.get(&certificate)?.dns_names.clone())
    }

    fn ip_addresses(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<Vec<String>> {
        Ok(self.table.get(&certificate)?.ip_addresses.clone())
    }

    fn signature_algorithm(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<String> {
        Ok(self.table.get(&certificate)?.signature_algorithm.clone())
    }

    fn key(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<(String, u32)> {
        Ok(self.table.get(&certificate)?.key.clone())
    }

    fn sha256(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<String> {
        Ok(self.table.get(&certificate)?.sha256.clone())
    }

    fn spki_sha256(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<String> {
        Ok(self.table.get(&certificate)?.spki_sha256.clone())
    }

    fn is_ca(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&certificate)?.is_ca)
    }

    fn must_staple(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&certificate)?.must_staple)
    }

    fn drop(&mut self, certificate: Resource<Certificate>) -> wasmtime::Result<()> {
        self.table.delete(certificate)?;
        Ok(())
    }
}

impl tls::HostSession for State {
    fn version(&mut self, session: Resource<net::TlsSession>) -> wasmtime::Result<String> {
        Ok(self.table.get(&session)?.version.clone())
    }

    fn cipher(&mut self, session: Resource<net::TlsSession>) -> wasmtime::Result<String> {
        Ok(self.table.get(&session)?.cipher.clone())
    }

    fn alpn(&mut self, session: Resource<net::TlsSession>) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&session)?.alpn.clone())
    }

    fn served(&mut self, session: Resource<net::TlsSession>) -> wasmtime::Result<Vec<Resource<Certificate>>> {
        let chain = self.table.get(&session)?.served.clone();
        self.handles(chain)
    }

    fn verified(
        &mut self,
        session: Resource<net::TlsSession>,
    ) -> wasmtime::Result<Result<Vec<Resource<Certificate>>, Vec<tls::Defect>>> {
        match self.table.get(&session)?.verified.clone() {
            Ok(chain) => Ok(Ok(self.handles(chain)?)),
            Err(defects) => Ok(Err(defects.iter().map(Into::into).collect())),
        }
    }

    fn path(&mut self, session: Resource<net::TlsSession>) -> wasmtime::Result<Vec<Resource<Certificate>>> {
        let chain = self.table.get(&session)?.path.clone();
        self.handles(chain)
    }

    fn stapled(&mut self, session: Resource<net::TlsSession>) -> wasmtime::Result<tls::Revocation> {
        Ok(self.table.get(&session)?.stapled.into())
    }

    fn wants_client_certificate(&mut self, session: Resource<net::TlsSession>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&session)?.wants_client_certificate)
    }

    async fn ask_revocation(
        &mut self,
        session: Resource<net::TlsSession>,
        place: u32,
        source: tls::RevocationSource,
    ) -> wasmtime::Result<tls::RevocationStatus> {
        let Some(world) = self.world()? else { return Ok(nobody_asked()) };
        let session = self.table.get(&session)?.clone();
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let status = world.ask_revocation(&session, place, source.into()).await;
        self.back();
        Ok(status.into())
    }

    fn drop(&mut self, session: Resource<net::TlsSession>) -> wasmtime::Result<()> {
        self.table.delete(session)?;
        Ok(())
    }
}

/// No session exists while a component describes itself; this is what it would hear.
fn nobody_asked() -> tls::RevocationStatus {
    let message = super::no_network().message;
    tls::RevocationStatus { revocation: tls::Revocation::Unknown, named: false, denied: true, message }
}

impl State {
    fn handles(&mut self, chain: Vec<Arc<net::Certificate>>) -> wasmtime::Result<Vec<Resource<Certificate>>> {
        chain.into_iter().map(|certificate| Ok(self.table.push(certificate)?)).collect()
    }
}
