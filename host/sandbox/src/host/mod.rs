//! What a component is given: the interfaces of `picket:net`, each a thin translation over the run's `world`. Owns the generated
//! bindings and the linker; the state of a run is in `state`, WASI in `wasi`.

mod dns;
mod http;
mod log;
mod oauth2;
mod regex;
mod secrets;
mod tcp;
mod tls;
mod translate;

use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::{HasData, Linker};

use crate::error::Error;
use crate::state::State;
use crate::world::World;

#[allow(missing_docs, unreachable_pub, clippy::all)]
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "picket:check/check",
        imports: {
            "picket:net/regex.[method]pattern.matches": async | trappable,
            "picket:net/regex.[method]pattern.captures": async | trappable,
            "picket:net/dns.ask": async | trappable,
            "picket:net/dns.validate": async | trappable,
            "picket:net/tcp.connect": async | trappable,
            "picket:net/tcp.[method]connection.read": async | trappable,
            "picket:net/tcp.[method]connection.read-exact": async | trappable,
            "picket:net/tcp.[method]connection.write": async | trappable,
            "picket:net/tcp.[method]connection.write-secret": async | trappable,
            "picket:net/tcp.[method]connection.secure": async | trappable,
            "picket:net/tcp.[method]connection.shutdown": async | trappable,
            "picket:net/tls.[method]session.ask-revocation": async | trappable,
            "picket:net/http.send": async | trappable,
            "picket:net/http.[method]response.matches": async | trappable,
            "picket:net/oauth2.token": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: {
            "picket:net/secrets.secret": crate::host::Secret,
            "picket:net/regex.pattern": crate::host::Pattern,
            "picket:net/dns.answer": net::Answer,
            "picket:net/tls.certificate": crate::host::Certificate,
            "picket:net/tls.session": net::TlsSession,
            "picket:net/tcp.connection": crate::host::Connection,
            "picket:net/http.response": crate::host::Response,
        },
        require_store_data_send: true,
    });
}

#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub use self::http::Response;
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub use self::regex::Pattern;
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub use self::secrets::Secret;
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub use self::tcp::Connection;
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub use self::tls::Certificate;

/// A linker with everything that a component may import, and nothing else.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<State>, Error> {
    let mut linker = Linker::new(engine);
    let mut add = || {
        bindings::Check::add_to_linker::<State, Host>(&mut linker, Host::enter)?;
        crate::wasi::add_to_linker(&mut linker)
    };
    add().map_err(Error::Engine)?;
    Ok(linker)
}

/// Selects the part of a store that our interfaces need: all of it.
struct Host;

impl HasData for Host {
    type Data<'a> = &'a mut State;
}

impl Host {
    /// Every call from a component to our interfaces comes through here first.
    fn enter(state: &mut State) -> &mut State {
        state.meter.call();
        state.asked = state.asked.saturating_add(1);
        state
    }
}

impl State {
    /// The run's world; none while a component describes itself or validates.
    fn world(&self) -> wasmtime::Result<Option<Arc<dyn World>>> {
        self.meter.within()?;
        Ok(self.world.clone())
    }

    /// The host is back from the world.
    fn back(&mut self) {
        self.meter.waited(std::time::Instant::now());
    }
}

/// What a component hears that reaches for the network while it describes itself: an answer, not a trap.
fn no_network() -> bindings::picket::net::types::Error {
    use bindings::picket::net::types;
    types::Error {
        cause: types::Cause::Denied,
        phase: None,
        message: "nothing may be reached while a component describes itself or validates".to_owned(),
    }
}
