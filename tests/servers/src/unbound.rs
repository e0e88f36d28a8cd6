//! unbound as a resolver that validates what [`Signed`] says.

use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{Authority, Error, Shape, Signed, knot, ports};

/// A running resolver that knows the tree of [`Signed`] and validates it: over UDP and TCP on one port, DNS over TLS and over HTTPS
/// on two others, with a certificate for `localhost` and 127.0.0.1.
#[derive(Debug)]
pub struct Unbound {
    port: u16,
    tls_port: u16,
    https_port: u16,
    _process: Process,
    signed: Signed,
    _directory: TempDir,
}

impl Unbound {
    /// Starts it with a certificate of that shape.
    pub fn start(authority: &Authority, shape: Shape) -> Result<Unbound, Error> {
        process::start_anew(|| Unbound::launch(authority, shape))
    }

    fn launch(authority: &Authority, shape: Shape) -> Result<Unbound, Error> {
        let program = process::find("unbound", "unbound")?;
        let signed = Signed::start()?;
        let directory = process::directory("unbound")?;
        let root = directory.path();
        let identity = authority.issue(shape)?;
        process::write(&root.join("chain.pem"), &identity.chain_pem)?;
        process::write(&root.join("key.pem"), &identity.key_pem)?;
        process::write(&root.join("anchor"), format!("{}\n", signed.anchor()))?;
        let (port, tls_port, https_port) = (ports::free_port()?, ports::free_port()?, ports::free_port()?);
        let configuration = UNBOUND
            .replace("@ROOT@", &root.display().to_string())
            .replace("@PORT@", &port.to_string())
            .replace("@TLS@", &tls_port.to_string())
            .replace("@HTTPS@", &https_port.to_string())
            .replace("@KNOT@", &signed.port().to_string());
        process::write(&root.join("unbound.conf"), configuration)?;
        let mut running = Process::start(
            Command::new(program).arg("-d").arg("-c").arg(root.join("unbound.conf")),
            root.join("log"),
            Signal::TERM,
        )?;
        running.wait_until(|| {
            knot::serves(port, "signed.test") && ports::accepts(tls_port) && ports::accepts(https_port)
        })?;
        Ok(Unbound { port, tls_port, https_port, _process: running, signed, _directory: directory })
    }

    /// Where it answers over UDP and TCP on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it speaks DNS over TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Where it speaks DNS over HTTPS, at `/dns-query`.
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// The DNSKEY record of `signed.test.` as a zone file has it.
    pub fn anchor(&self) -> &str {
        self.signed.anchor()
    }
}

const UNBOUND: &str = r#"
server:
    directory: "@ROOT@"
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    log-time-ascii: yes
    num-threads: 1
    interface: 127.0.0.1@@PORT@
    interface: 127.0.0.1@@TLS@
    interface: 127.0.0.1@@HTTPS@
    tls-port: @TLS@
    https-port: @HTTPS@
    tls-service-key: "@ROOT@/key.pem"
    tls-service-pem: "@ROOT@/chain.pem"
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    do-ip6: no
    module-config: "validator iterator"
    trust-anchor-file: "@ROOT@/anchor"
    local-zone: "test." nodefault
    val-log-level: 1
remote-control:
    control-enable: no
stub-zone:
    name: "signed.test"
    stub-addr: 127.0.0.1@@KNOT@
"#;
