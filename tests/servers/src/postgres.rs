//! One PostgreSQL server: its binaries, its data directory, its settings and its SQL. What joins two of them is in `pair`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{self, Account, Process};
use crate::{Authority, Error, Shape};

/// The role for checks: member of `pg_monitor`, SCRAM-SHA-256. Beside it stand, with the same password, `picket_md5` (an md5
/// hash), `picket_plain` (asked for cleartext) and `picket_weak` (SCRAM, without `pg_monitor`).
pub const USER: &str = "picket";
/// The password of every role here.
pub const PASSWORD: &str = "sentinel-postgres-4b2e";

/// A running server on 127.0.0.1 with TLS.
#[derive(Debug)]
pub struct Postgres {
    installation: Installation,
    port: u16,
    process: Process,
    directory: TempDir,
}

impl Postgres {
    /// A fresh cluster with the roles and an empty table `demo`.
    pub fn start(authority: &Authority) -> Result<Postgres, Error> {
        let installation = Installation::find()?;
        let directory = installation.directory("primary")?;
        installation.run(
            "initdb",
            &["--no-sync", "--username=postgres", "--auth=trust", "--locale=C", "--encoding=UTF8", "-D"],
            &directory.path().join("data"),
        )?;
        let server = Postgres::launch(installation, directory, authority)?;
        server.query(ROLES)?;
        Ok(server)
    }

    /// Starts a server over the data directory that is already there.
    pub(crate) fn launch(
        installation: Installation,
        directory: TempDir,
        authority: &Authority,
    ) -> Result<Postgres, Error> {
        let (root, data) = (directory.path(), directory.path().join("data"));
        let identity = authority.issue(Shape::Valid)?;
        installation.write(&root.join("chain.pem"), &identity.chain_pem)?;
        installation.write(&root.join("key.pem"), &identity.key_pem)?;
        installation.write(&data.join("pg_hba.conf"), ACCESS)?;
        let (port, process) = process::start_anew(|| serve(&installation, root))?;
        Ok(Postgres { installation, port, process, directory })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL as superuser over the Unix socket; rows as psql prints them unaligned, fields parted by `|`.
    pub fn query(&self, sql: &str) -> Result<String, Error> {
        ask(&self.installation, self.directory.path(), self.port, sql)
    }

    /// Ends the server; what it served is gone.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    pub(crate) fn installation(&self) -> &Installation {
        &self.installation
    }
}

/// Starts the server in its directory on a free port.
fn serve(installation: &Installation, root: &Path) -> Result<(u16, Process), Error> {
    let (port, data) = (process::free_port()?, root.join("data"));
    let settings =
        SETTINGS.replace("@ROOT@", &root.display().to_string()).replace("@PORT@", &port.to_string());
    installation.write(&data.join("postgresql.conf"), &settings)?;
    let mut command = installation.command("postgres");
    command.arg("-D").arg(&data);
    // SIGQUIT: at once, without waiting for whoever still streams. The data is thrown away.
    let mut process = Process::start(&mut command, root.join("log"), Signal::QUIT)?;
    process.wait_until(|| ask(installation, root, port, "SELECT 1").is_ok())?;
    Ok((port, process))
}

fn ask(installation: &Installation, root: &Path, port: u16, sql: &str) -> Result<String, Error> {
    let mut command = installation.command("psql");
    command.args([
        "-X",
        "-q",
        "-A",
        "-t",
        "-v",
        "ON_ERROR_STOP=1",
        "-U",
        "postgres",
        "-d",
        "postgres",
        "-c",
        sql,
    ]);
    command.arg("-p").arg(port.to_string()).arg("-h").arg(root);
    process::run(&mut command)
}

/// Debian's PostgreSQL: the newest version that is installed, run as `postgres` where this process is root.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    binaries: PathBuf,
    account: Option<Account>,
}

impl Installation {
    pub(crate) fn find() -> Result<Installation, Error> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let binaries = versions
            .map(|entry| entry.path().join("bin"))
            .filter(|path| path.join("initdb").is_file() && path.join("postgres").is_file())
            .max_by_key(|path| version(path))
            .ok_or_else(|| Error::Missing { program: "initdb".to_string(), package: PACKAGE })?;
        Ok(Installation { binaries, account: Account::instead_of_root("postgres", PACKAGE)? })
    }

    /// A temporary directory that belongs to the server's account; Unix sockets lie in it.
    pub(crate) fn directory(&self, name: &str) -> Result<TempDir, Error> {
        let directory = process::directory(name)?;
        Account::own(self.account, directory.path())?;
        Ok(directory)
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        // Nothing of the caller's own PostgreSQL settings, and a directory that the account may enter.
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").current_dir("/");
        Account::apply(self.account, &mut command);
        command
    }

    pub(crate) fn run(&self, program: &str, arguments: &[&str], data: &Path) -> Result<String, Error> {
        process::run(self.command(program).args(arguments).arg(data))
    }

    fn write(&self, path: &Path, content: &str) -> Result<(), Error> {
        process::write(path, content)?;
        Account::own(self.account, path)?;
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .map_err(|source| Error::File { action: "change the mode of", path: path.to_path_buf(), source })
    }
}

fn version(binaries: &Path) -> u32 {
    binaries
        .parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
        .and_then(|name| name.parse().ok())
        .unwrap_or(0)
}

const PACKAGE: &str = "postgresql";

const ACCESS: &str = "\
local all         all                        trust
host  all         picket_md5   127.0.0.1/32  md5
host  all         picket_plain 127.0.0.1/32  password
host  all         all          127.0.0.1/32  scram-sha-256
host  replication replicator   127.0.0.1/32  scram-sha-256
";

// Durability is off: the data is thrown away. The receiver retries quickly, so that a healed link shows soon.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
port = @PORT@
unix_socket_directories = '@ROOT@'
ssl = on
ssl_cert_file = '@ROOT@/chain.pem'
ssl_key_file = '@ROOT@/key.pem'
password_encryption = 'scram-sha-256'
fsync = off
full_page_writes = off
shared_buffers = '16MB'
max_connections = 40
max_wal_senders = 6
wal_keep_size = '64MB'
hot_standby = on
autovacuum = off
jit = off
wal_retrieve_retry_interval = '200ms'
";

const ROLES: &str = "\
CREATE ROLE picket LOGIN PASSWORD 'sentinel-postgres-4b2e' IN ROLE pg_monitor;
CREATE ROLE picket_weak LOGIN PASSWORD 'sentinel-postgres-4b2e';
CREATE ROLE picket_plain LOGIN PASSWORD 'sentinel-postgres-4b2e' IN ROLE pg_monitor;
CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'sentinel-postgres-4b2e';
SET password_encryption = 'md5';
CREATE ROLE picket_md5 LOGIN PASSWORD 'sentinel-postgres-4b2e' IN ROLE pg_monitor;
CREATE TABLE demo (at timestamptz NOT NULL DEFAULT now(), text text NOT NULL);
";
