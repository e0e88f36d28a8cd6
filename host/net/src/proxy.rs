//! The way through an HTTP proxy: CONNECT (RFC 9110, section 9.3.6). The proxy is asked for an address and never for a name: whoever
//! resolves decides where a connection ends, and that is for the grant to judge.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::dial::dial;
use crate::errno::told;
use crate::grant::Purpose;
use crate::resolve::resolve;
use crate::route::Proxy;
use crate::session::{Run, fail};
use crate::stream::Metered;
use crate::types::{Cause, Endpoint, Failure, Family, Phase};

/// A proxy that may be used, and where it is.
pub(crate) struct Way<'a> {
    run: &'a Run,
    proxy: &'a Proxy,
    addresses: Vec<SocketAddr>,
}

impl<'a> Way<'a> {
    /// The way of this run, if it has one.
    pub(crate) async fn of(run: &'a Run) -> Result<Option<Self>, Failure> {
        let Some(proxy) = &run.route.proxy else { return Ok(None) };
        let found = resolve(run, &proxy.at, Family::Any, Purpose::Proxy).await;
        let found = found.map_err(|failure| of_the_proxy(proxy, failure))?;
        Ok(Some(Self { run, proxy, addresses: found.addresses }))
    }

    /// Opens the way to the first of these addresses that the proxy opens one to. Where it tried and did not get there, that is
    /// [`Cause::Unreachable`]; where it lets nobody through, [`Cause::Proxy`], which says nothing about the target.
    pub(crate) async fn open(
        &self,
        addresses: &[SocketAddr],
        to: &Endpoint,
    ) -> Result<(Metered, SocketAddr), Failure> {
        let mut failed = None;
        for address in addresses {
            if failed.is_some() {
                self.run.take_connection(to)?;
            }
            match self.open_one(*address).await {
                Ok(stream) => return Ok((stream, *address)),
                Err(failure) => failed = Some(told(failed, failure)),
            }
        }
        Err(failed.unwrap_or_else(|| refusal(self.proxy, "there is no address to ask it for")))
    }

    async fn open_one(&self, address: SocketAddr) -> Result<Metered, Failure> {
        let Self { run, proxy, addresses } = self;
        let dialled = run.within(Phase::Connect, &proxy.at, dial(addresses, &proxy.at)).await;
        let (tcp, _) = dialled.flatten().map_err(|failure| of_the_proxy(proxy, failure))?;
        let mut stream = Metered { tcp, tally: run.tally.clone() };
        // Whoever is slow, only the proxy knows.
        let asked = run.within(Phase::Connect, &proxy.at, ask(&mut stream, proxy, address)).await;
        let silent = |_| refusal(proxy, &format!("it did not say in time whether {address} can be reached"));
        asked.map_err(silent)?.map(|()| stream)
    }
}

/// Asks the proxy to open the way; nothing but its answer is read, what follows is the target's.
async fn ask(stream: &mut Metered, proxy: &Proxy, address: SocketAddr) -> Result<(), Failure> {
    let broken = |error: std::io::Error| refusal(proxy, &format!("it failed: {error}"));
    let mut request =
        Zeroizing::new(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n").into_bytes());
    if let Some(credentials) = &proxy.credentials {
        let encoded = Zeroizing::new(STANDARD.encode(&**credentials));
        request.extend([b"Proxy-Authorization: Basic ", encoded.as_bytes(), b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    stream.write_all(&request).await.map_err(broken)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST_HEAD {
            return Err(refusal(proxy, "its answer has no end"));
        }
        head.push(stream.read_u8().await.map_err(broken)?);
    }
    // Only the number is told: the rest is the proxy's own words, and it knows a password.
    match status(&head) {
        Some(200..=299) => Ok(()),
        // tinyproxy says 401 where it means 407.
        Some(code @ (401 | 407)) => Err(refusal(
            proxy,
            &match proxy.credentials {
                None => format!("it wants a user and a password ({code}): add proxy.user and proxy.password"),
                Some(_) => format!("it wants another user or password ({code})"),
            },
        )),
        // RFC 9110, section 15.6: the proxy tried, and did not get there.
        Some(code @ 500..=599) => {
            let message = format!("{address} cannot be reached: the proxy {} answered {code}", proxy.at);
            Err(fail(Cause::Unreachable, Phase::Connect, message))
        }
        Some(code) => Err(refusal(proxy, &format!("it answered {code} and opens no way to {address}"))),
        None => Err(refusal(proxy, "it does not speak HTTP")),
    }
}

/// "HTTP/1.1 200 Connection established".
fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let mut words = line.strip_prefix("HTTP/1.")?.split(' ').skip(1);
    words.next().filter(|code| code.len() == 3)?.parse().ok()
}

/// What befalls us on the way to the proxy says nothing about the target, that it took too long included; refusals and budgets are our
/// own and stay so.
fn of_the_proxy(proxy: &Proxy, failure: Failure) -> Failure {
    match failure.cause {
        Cause::Denied | Cause::Exhausted | Cause::Other(_) => failure,
        _ => refusal(proxy, &failure.message),
    }
}

fn refusal(proxy: &Proxy, words: &str) -> Failure {
    let message = format!("the proxy {} is of no help: {words}", proxy.at);
    fail(Cause::Proxy(words.to_owned()), Phase::Connect, message)
}

const LONGEST_HEAD: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn a_status_is_read_from_the_first_line_alone() {
        for (head, code) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some(200)),
            ("HTTP/1.0 200\r\nX: y\r\n\r\n", Some(200)),
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Some(407)),
            ("HTTP/2 200\r\n\r\n", None),
            ("SSH-2.0-OpenSSH_9.6\r\n\r\n", None),
            ("HTTP/1.1 2000 x\r\n\r\n", None),
            ("\r\n\r\n", None),
        ] {
            assert_eq!(status(head.as_bytes()), code, "{head:?}");
        }
    }
}
