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

    fn stapled(&mut self, session: Resource<net::TlsSession>) -> wasmtime::Result<tls::Revocation> {
        Ok(self.table.get(&session)?.stapled.into())
    }

    fn drop(&mut self, session: Resource<net::TlsSession>) -> wasmtime::Result<()> {
        self.table.delete(session)?;
        Ok(())
    }
}

impl State {
    fn handles(&mut self, chain: Vec<Arc<net::Certificate>>) -> wasmtime::Result<Vec<Resource<Certificate>>> {
        chain.into_iter().map(|certificate| Ok(self.table.push(certificate)?)).collect()
    }
}
