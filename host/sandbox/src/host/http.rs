//! `picket:net/http`: exchanges. Headers with secrets are put together here and handed to `net` as bytes that it wipes.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use wasmtime::component::Resource;
use zeroize::Zeroizing;

use super::bindings::picket::net::{http, types};
use super::{Pattern, no_network};
use crate::state::State;

/// What came back.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Response {
    inner: net::Response,
}

impl Response {
    /// Whether the kept body contains the text. Linear in their lengths, whatever they are; a body in lower case is made for each
    /// question, because kept ones would double what a run holds.
    fn contains(&self, text: &str, ignore_case: bool) -> bool {
        if !ignore_case {
            return memmem::find(&self.inner.body, text.as_bytes()).is_some();
        }
        let lower = String::from_utf8_lossy(&self.inner.body).to_lowercase();
        memmem::find(lower.as_bytes(), text.to_lowercase().as_bytes()).is_some()
    }
}

impl http::Host for State {
    async fn send(
        &mut self,
        request: http::Request,
    ) -> wasmtime::Result<Result<Resource<Response>, types::Error>> {
        let Some(world) = self.world()? else { return Ok(Err(no_network())) };
        let mut headers = Vec::new();
        for (name, value) in request.headers {
            headers.push(self.header(name, value)?);
        }
        let request = net::Request {
            method: request.method,
            url: request.url,
            headers,
            body: request.body,
            versions: request.versions,
            family: request.family.into(),
            tls: request.tls.map(Into::into),
            max_redirects: request.max_redirects,
            max_body: request.max_body,
        };
        let response = world.send(request).await;
        self.back();
        match response {
            Ok(inner) => Ok(Ok(self.table.push(Response { inner })?)),
            Err(failure) => Ok(Err(failure.into())),
        }
    }
}

impl State {
    fn header(&self, name: String, value: http::HeaderValue) -> wasmtime::Result<net::Header> {
        Ok(match value {
            http::HeaderValue::Text(text) => net::Header::plain(name, text),
            http::HeaderValue::Secret(secret) => {
                net::Header::sensitive(name, self.table.get(&secret)?.bytes())
            }
            http::HeaderValue::Bearer(secret) => {
                net::Header::sensitive(name, [b"Bearer ", self.table.get(&secret)?.bytes()].concat())
            }
            http::HeaderValue::Basic((user, secret)) => {
                let secret = self.table.get(&secret)?;
                let pair = Zeroizing::new([user.as_bytes(), b":", secret.bytes()].concat());
                let encoded = Zeroizing::new(STANDARD.encode(&*pair));
                net::Header::sensitive(name, [b"Basic ", encoded.as_bytes()].concat())
            }
        })
    }
}

impl http::HostResponse for State {
    fn status(&mut self, response: Resource<Response>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&response)?.inner.status)
    }

    fn version(&mut self, response: Resource<Response>) -> wasmtime::Result<String> {
        Ok(self.table.get(&response)?.inner.version.clone())
    }

    fn header(&mut self, response: Resource<Response>, name: String) -> wasmtime::Result<Vec<String>> {
        Ok(self.table.get(&response)?.inner.header(&name))
    }

    fn headers(&mut self, response: Resource<Response>) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.table.get(&response)?.inner.headers.clone())
    }

    fn contains(
        &mut self,
        response: Resource<Response>,
        text: String,
        ignore_case: bool,
    ) -> wasmtime::Result<bool> {
        self.meter.within()?;
        let found = self.table.get(&response)?.contains(&text, ignore_case);
        self.meter.worked(Instant::now());
        Ok(found)
    }

    fn body(&mut self, response: Resource<Response>) -> wasmtime::Result<(Vec<u8>, bool)> {
        self.meter.within()?;
        let response = &self.table.get(&response)?.inner;
        let body = (response.body.clone(), response.truncated);
        self.meter.worked(Instant::now());
        Ok(body)
    }

    async fn matches(
        &mut self,
        response: Resource<Response>,
        pattern: Resource<Pattern>,
    ) -> wasmtime::Result<Result<bool, String>> {
        self.meter.within()?;
        let body = &self.table.get(&response)?.inner.body;
        Ok(self.table.get(&pattern)?.0.matches(body, &mut self.meter).await?)
    }

    fn beginning(&mut self, response: Resource<Response>, max: u32) -> wasmtime::Result<Vec<u8>> {
        self.meter.within()?;
        let body = &self.table.get(&response)?.inner.body;
        let beginning = body[..body.len().min(max as usize)].to_vec();
        self.meter.worked(Instant::now());
        Ok(beginning)
    }

    fn truncated(&mut self, response: Resource<Response>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&response)?.inner.truncated)
    }

    fn hop_timings(&mut self, response: Resource<Response>) -> wasmtime::Result<Vec<types::Timings>> {
        Ok(self.table.get(&response)?.inner.hop_timings.iter().map(|timings| (*timings).into()).collect())
    }

    fn hops(&mut self, response: Resource<Response>) -> wasmtime::Result<Vec<(String, u16)>> {
        Ok(self.table.get(&response)?.inner.hops.clone())
    }

    fn remote_address(&mut self, response: Resource<Response>) -> wasmtime::Result<String> {
        Ok(self.table.get(&response)?.inner.remote.to_string())
    }

    fn session(
        &mut self,
        response: Resource<Response>,
    ) -> wasmtime::Result<Option<Resource<net::TlsSession>>> {
        let session = self.table.get(&response)?.inner.session.clone();
        Ok(session.map(|session| self.table.push(session)).transpose()?)
    }

    fn timings(&mut self, response: Resource<Response>) -> wasmtime::Result<types::Timings> {
        Ok(self.table.get(&response)?.inner.timings.into())
    }

    fn drop(&mut self, response: Resource<Response>) -> wasmtime::Result<()> {
        self.table.delete(response)?;
        Ok(())
    }
}
