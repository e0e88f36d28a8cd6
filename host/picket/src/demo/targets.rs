//! The demo's targets: real servers where Debian's package is installed, simple ones of our own where it is not.

use std::any::Any;
use std::collections::BTreeMap;

use servers::{Authority, Error, Knot, Manner, Nginx, Pair, Shape, TcpServer, TlsServer};

/// Running servers; dropping them ends them.
pub(super) struct Targets {
    /// Port in `examples/monitors.yaml` → port here, none where the target is missing.
    pub(super) ports: BTreeMap<u16, Option<u16>>,
    /// PEM of the authority of their certificates.
    pub(super) authority: String,
    /// What is missing or replaced, and which package would bring it.
    pub(super) notes: Vec<String>,
    _held: Vec<Box<dyn Any + Send>>,
}

const HTTP: u16 = 8080;
const HTTPS: u16 = 8443;
const SMTP: u16 = 2525;
const DNS: u16 = 5353;
const TLS: u16 = 6443;
const PRIMARY: u16 = 5432;
const STANDBY: u16 = 5433;

impl Targets {
    /// Starts them all at once; blocks for a few seconds.
    pub(super) fn start() -> Result<Self, Error> {
        let authority = Authority::new()?;
        let mut targets =
            Self { ports: BTreeMap::new(), authority: authority.pem(), notes: Vec::new(), _held: Vec::new() };
        let (nginx, knot, pair) = std::thread::scope(|scope| {
            let nginx = scope.spawn(|| Nginx::start(&authority));
            let pair = scope.spawn(|| Pair::start(&authority));
            let knot = Knot::start();
            (
                nginx.join().expect("starting nginx does not panic"),
                knot,
                pair.join().expect("starting PostgreSQL does not panic"),
            )
        });
        let banner = TcpServer::start(Manner::Banner(b"220 mail.picket.test ready\r\n".to_vec()))?;
        targets.ports.insert(SMTP, Some(banner.port()));
        targets.hold(banner);
        let tls = TlsServer::start(&authority, Shape::Valid)?;
        targets.ports.insert(TLS, Some(tls.port()));
        targets.hold(tls);
        match nginx {
            Ok(nginx) => {
                targets.ports.extend([(HTTP, Some(nginx.port())), (HTTPS, Some(nginx.tls_port()))]);
                targets.hold(nginx);
            }
            Err(e) => {
                targets.notes.push(format!("without nginx: {e}"));
                let pages = TcpServer::start(Manner::Dialogue(Vec::new(), pages()))?;
                targets.ports.extend([(HTTP, Some(pages.port())), (HTTPS, None)]);
                targets.hold(pages);
            }
        }
        match knot {
            Ok(knot) => {
                targets.ports.insert(DNS, Some(knot.port()));
                targets.hold(knot);
            }
            Err(e) => targets.miss("a name server", &[DNS], &e),
        }
        match pair {
            Ok(pair) => {
                targets
                    .ports
                    .extend([(PRIMARY, Some(pair.primary().port())), (STANDBY, Some(pair.standby().port()))]);
                targets.hold(pair);
            }
            Err(e) => targets.miss("PostgreSQL", &[PRIMARY, STANDBY], &e),
        }
        Ok(targets)
    }

    fn hold(&mut self, server: impl Any + Send) {
        self._held.push(Box::new(server));
    }

    fn miss(&mut self, what: &str, ports: &[u16], why: &Error) {
        self.notes.push(format!("without {what}: {why}"));
        self.ports.extend(ports.iter().map(|port| (*port, None)));
    }
}

/// What a web server of two pages says.
fn pages() -> Vec<(String, String)> {
    let page = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-type: text/plain\r\n\r\n{body}",
            body.len()
        )
    };
    vec![
        ("GET /status/503 ".to_owned(), page("503 Service Unavailable", "busy\n")),
        ("GET / ".to_owned(), page("200 OK", "Welcome to Picket\n")),
    ]
}
