//! openssl's own server, for what rustls does not serve: old versions, old ciphers, weak keys, and a demand for client certificates.

use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{Authority, Error, Shape, ports};

/// A running `openssl s_server`. It takes one connection after the other.
#[derive(Debug)]
pub struct OpensslServer {
    port: u16,
    root_pem: String,
    _process: Process,
    _directory: TempDir,
}

impl OpensslServer {
    /// Serves a chain of that shape. `options` are more of `openssl s_server`, with spaces between them; `ca.pem` is the root of the
    /// chain.
    pub fn start(authority: &Authority, shape: Shape, options: &str) -> Result<OpensslServer, Error> {
        process::start_anew(|| OpensslServer::launch(authority, shape, options))
    }

    fn launch(authority: &Authority, shape: Shape, options: &str) -> Result<OpensslServer, Error> {
        let program = process::find("openssl", "openssl")?;
        let directory = process::directory("openssl")?;
        let at = directory.path();
        let identity = authority.issue(shape)?;
        process::write(&at.join("chain.pem"), &identity.chain_pem)?;
        process::write(&at.join("key.pem"), &identity.key_pem)?;
        process::write(&at.join("ca.pem"), &identity.root_pem)?;
        let port = ports::free_port()?;
        let mut command = Command::new(program);
        // Without the machine's own configuration, which may forbid what is wanted here.
        command.current_dir(at).env("OPENSSL_CONF", "/dev/null").arg("s_server");
        command.args(["-accept", &format!("127.0.0.1:{port}"), "-www", "-quiet"]);
        command.args(["-cert", "chain.pem", "-key", "key.pem"]);
        // It takes only the first certificate out of that file.
        if let Some((behind, _)) = identity.chain_pem.match_indices("-----BEGIN").nth(1) {
            process::write(&at.join("behind.pem"), &identity.chain_pem[behind..])?;
            command.args(["-cert_chain", "behind.pem"]);
        }
        command.args(options.split_whitespace());
        let mut running = Process::start(&mut command, at.join("log"), Signal::TERM)?;
        running.wait_until(|| ports::accepts(port))?;
        Ok(OpensslServer { port, root_pem: identity.root_pem, _process: running, _directory: directory })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The root of what it serves, in PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }
}
