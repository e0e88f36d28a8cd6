//! The measured network of Picket: resolve, ask the grant, connect, handshake, request, and say how long each took. Everything a
//! check may do to the world goes through a [`Session`]; it knows no plugin, no control plane and no secret's name.

mod address;
mod datagram;
mod dial;
mod errno;
mod error;
mod files;
mod grant;
mod host;
mod http;
mod lookup;
mod oauth2;
mod proxy;
mod record;
mod resolve;
mod route;
mod rule;
mod session;
mod stream;
mod tls;
mod types;
mod written;

pub use address::{Class, Reason, classify};
pub use datagram::Datagrams;
pub use dial::{Connection, Polled};
pub use error::Error;
pub use files::Files;
pub use grant::{Ceiling, Decision, Grant, Policy, Purpose, Refusal};
pub use host::Host;
pub use route::{Identity, Pem, Proxy, Route, Tls};
pub use rule::{NameRule, Rule};
pub use session::{Network, Session, Settings};
pub use tls::{Certificate, TlsSession};
pub use types::{
    Answer, Budget, Cause, Defect, Endpoint, Entry, Failure, Family, Header, Hidden, Measured, NoToken,
    Phase, Proof, Question, Request, Response, Revocation, RevocationSource, RevocationStatus, Security,
    Timings, TlsOptions, TokenRequest, Transport, Trust,
};
