//! tinyproxy as the proxy of a company: CONNECT only with a user and a password.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{self, Account, Process};
use crate::{Error, ports};

/// User of the proxy.
pub const USER: &str = "guard";
/// Password of the user.
pub const PASSWORD: &str = "sentinel-proxy-41c7";

/// A running tinyproxy that lets [`USER`] with [`PASSWORD`] through, to any port.
#[derive(Debug)]
pub struct Tinyproxy {
    port: u16,
    log: PathBuf,
    _process: Process,
    _directory: TempDir,
}

impl Tinyproxy {
    /// Starts it on a free port.
    pub fn start() -> Result<Tinyproxy, Error> {
        process::start_anew(Tinyproxy::launch)
    }

    fn launch() -> Result<Tinyproxy, Error> {
        let program = process::find("tinyproxy", "tinyproxy")?;
        let directory = process::directory("tinyproxy")?;
        let root = directory.path();
        let port = ports::free_port()?;
        let configuration =
            CONFIGURATION.replace("@PORT@", &port.to_string()).replace("@ROOT@", &root.display().to_string());
        process::write(&root.join("tinyproxy.conf"), configuration)?;
        let account = Account::instead_of_root("nobody", "base-passwd")?;
        Account::own(account, root)?;
        let mut command = Command::new(program);
        command.arg("-d").arg("-c").arg(root.join("tinyproxy.conf"));
        Account::apply(account, &mut command);
        let mut running = Process::start(&mut command, root.join("output"), Signal::TERM)?;
        running.wait_until(|| ports::accepts(port))?;
        Ok(Tinyproxy { port, log: root.join("log"), _process: running, _directory: directory })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The ways that it opened: lines such as "CONNECT 127.0.0.1:8440".
    pub fn opened(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines()
            .filter(|line| line.contains("Established connection to host"))
            .map(str::to_owned)
            .collect()
    }

    /// Everything that it wrote about its requests.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

const CONFIGURATION: &str = r#"
Port @PORT@
Listen 127.0.0.1
Timeout 600
MaxClients 100
LogFile "@ROOT@/log"
LogLevel Connect
Allow 127.0.0.1
BasicAuth guard sentinel-proxy-41c7
DisableViaHeader Yes
"#;
