//! One PostgreSQL server: its binaries, its data directory, its settings and its SQL. What joins several of them is in `standby`,
//! `pair`, `cluster` and `subscription`.
//!
//! Making a cluster takes a second, copying one a fraction: all servers of a process are copies of one that was made and never
//! started. So a copy can follow another one at once, as if it had been made from its backup.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{self, Account, Process};
use crate::{Authority, Error, Shape};

/// The role for checks: member of `pg_monitor`, SCRAM-SHA-256. Beside it stand, with the same password, `picket_md5` (an md5
/// hash), `picket_plain` (asked for cleartext) and `picket_weak` (SCRAM, without `pg_monitor`); and `picket_cert`, which logs in
/// with a client certificate of the tests' authority.
pub const USER: &str = "picket";
/// The password of every role here.
pub const PASSWORD: &str = "sentinel-postgres-4b2e";

/// A running server on 127.0.0.1 with TLS.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    process: Process,
    directory: TempDir,
    made: Arc<Made>,
}

impl Postgres {
    /// A fresh server with the roles and an empty table `demo`.
    pub fn start(authority: &Authority) -> Result<Postgres, Error> {
        Postgres::copy(authority, "primary", None)
    }

    /// The same, but a copy of nothing that the others are copies of: another cluster, by its identifier.
    pub fn start_foreign(authority: &Authority) -> Result<Postgres, Error> {
        Postgres::copy_of(Arc::new(Made::new()?), authority, "foreign", None)
    }

    /// A server that follows what the connection string leads to, if there is one.
    pub(crate) fn copy(authority: &Authority, name: &str, follow: Option<&str>) -> Result<Postgres, Error> {
        Postgres::copy_of(Made::once()?, authority, name, follow)
    }

    fn copy_of(
        made: Arc<Made>,
        authority: &Authority,
        name: &str,
        follow: Option<&str>,
    ) -> Result<Postgres, Error> {
        let installation = &made.installation;
        let directory = installation.directory(name)?;
        let (root, data) = (directory.path(), directory.path().join("data"));
        process::run(Command::new("cp").arg("-a").arg(made.data()).arg(&data))?;
        let identity = authority.issue(Shape::Valid)?;
        installation.write(&root.join("chain.pem"), &identity.chain_pem)?;
        installation.write(&root.join("key.pem"), &identity.key_pem)?;
        installation.write(&root.join("ca.pem"), &authority.pem())?;
        installation.write(&data.join("pg_hba.conf"), ACCESS)?;
        installation.write(&data.join("pg_ident.conf"), CLIENTS)?;
        if let Some(source) = follow {
            installation
                .write(&data.join("postgresql.auto.conf"), &format!("primary_conninfo = '{source}'\n"))?;
            installation.write(&data.join("standby.signal"), "")?;
        }
        let (port, process) = process::start_anew(|| serve(installation, root))?;
        let server = Postgres { port, process, directory, made };
        if follow.is_none() {
            server.query(TABLE)?;
        }
        Ok(server)
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL as superuser over the Unix socket; rows as psql prints them unaligned, fields parted by `|`.
    pub fn query(&self, sql: &str) -> Result<String, Error> {
        ask(&self.made.installation, self.directory.path(), self.port, sql)
    }

    /// Runs SQL that does not end by itself; it ends with what is returned.
    pub fn keep_running(&self, sql: &str) -> Result<Running, Error> {
        let mut command = psql(&self.made.installation, self.directory.path(), self.port, sql);
        self.run("psql", &mut command)
    }

    /// Changes a setting, and waits until it holds.
    pub fn set(&self, setting: &str, value: &str) -> Result<(), Error> {
        self.query(&format!("ALTER SYSTEM SET {setting} = '{value}'"))?;
        self.query("SELECT pg_reload_conf()")?;
        let held = format!(
            "SELECT count(*) FROM pg_file_settings WHERE name = '{setting}' AND applied \
             AND current_setting('{setting}') = '{value}'"
        );
        process::wait(&format!("{setting} to be {value}"), || Ok(self.query(&held)? == "1"))
    }

    /// Ends the server; what it served is gone.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// A program of PostgreSQL's own that does not end by itself, connected to this server as `replicator`.
    pub(crate) fn client(&self, program: &str, arguments: &[&str]) -> Result<Running, Error> {
        let source = source(self.port, program);
        let mut command = self.made.installation.command(program);
        command.arg("--dbname").arg(source).args(arguments);
        self.run(program, &mut command)
    }

    /// Runs pgbench as superuser over the Unix socket, to its end.
    pub(crate) fn prepare_bench(&self) -> Result<(), Error> {
        process::run(self.bench().args(["--initialize", "--quiet"])).map(drop)
    }

    /// Runs pgbench as superuser over the Unix socket, so many transactions a second, for as long as it is kept.
    pub(crate) fn keep_writing(&self, rate: u32) -> Result<Running, Error> {
        let mut command = self.bench();
        command.args(["--no-vacuum", "--client=2", "--time=86400"]).arg(format!("--rate={rate}"));
        self.run("pgbench", &mut command)
    }

    fn bench(&self) -> Command {
        let mut command = self.made.installation.command("pgbench");
        command.env("PGHOST", self.directory.path()).env("PGPORT", self.port.to_string());
        command.env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        command
    }

    fn run(&self, program: &str, command: &mut Command) -> Result<Running, Error> {
        let directory = self.made.installation.directory(program)?;
        command.current_dir(directory.path());
        let process = Process::start(command, directory.path().join("log"), Signal::KILL)?;
        Ok(Running { process, _directory: directory })
    }
}

/// A program that runs beside a server, in a directory of its own; ended when dropped.
#[derive(Debug)]
pub struct Running {
    process: Process,
    _directory: TempDir,
}

impl Running {
    /// Waits until a query says yes; an error when the program ends before.
    pub(crate) fn wait_until(mut self, done: impl FnMut() -> bool) -> Result<Running, Error> {
        self.process.wait_until(done)?;
        Ok(self)
    }
}

/// Where a standby or a subscriber finds the server behind that port.
pub(crate) fn source(port: u16, name: &str) -> String {
    format!(
        "host=127.0.0.1 port={port} user=replicator password={PASSWORD} application_name={name} sslmode=disable"
    )
}

/// A data directory that was made and never started as a server.
#[derive(Debug)]
struct Made {
    installation: Installation,
    directory: TempDir,
}

impl Made {
    /// The one of this process, as long as anybody uses it.
    fn once() -> Result<Arc<Made>, Error> {
        static MADE: Mutex<Weak<Made>> = Mutex::new(Weak::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.upgrade() {
            return Ok(made);
        }
        let fresh = Arc::new(Made::new()?);
        *made = Arc::downgrade(&fresh);
        Ok(fresh)
    }

    fn new() -> Result<Made, Error> {
        let installation = Installation::find()?;
        let directory = installation.directory("made")?;
        let made = Made { installation, directory };
        // Small segments, so that WAL is lost and slots are given up for little writing.
        let arguments = [
            "--no-sync",
            "--username=postgres",
            "--auth=trust",
            "--locale=C",
            "--encoding=UTF8",
            "--wal-segsize=1",
            "-D",
        ];
        made.installation.run("initdb", &arguments, &made.data())?;
        let mut single = made.installation.command("postgres");
        // A standby refuses to begin with less than what the cluster was used with last.
        single.args(["--single", "-F", "-c", "max_connections=40", "-c", "wal_level=logical", "-D"]);
        single.arg(made.data()).arg("postgres");
        process::run_with(&mut single, ROLES)?;
        Ok(made)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
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
    process::run(&mut psql(installation, root, port, sql))
}

fn psql(installation: &Installation, root: &Path, port: u16, sql: &str) -> Command {
    let mut command = installation.command("psql");
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres"]);
    command.arg("-p").arg(port.to_string()).arg("-h").arg(root).arg("-c").arg(sql);
    command
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
local   all         all                        trust
hostssl all         picket_cert  127.0.0.1/32  cert map=clients
host    all         picket_md5   127.0.0.1/32  md5
host    all         picket_plain 127.0.0.1/32  password
hostssl all         picket_tls   127.0.0.1/32  scram-sha-256
host    all         picket_tls   127.0.0.1/32  reject
host    all         all          127.0.0.1/32  scram-sha-256
host    replication replicator   127.0.0.1/32  scram-sha-256
";

/// The name in the certificates of [`Authority::issue_client`].
const CLIENTS: &str = "clients picket-client picket_cert\n";

// Durability is off: the data is thrown away. The receiver retries quickly, so that a healed link shows soon. The servers'
// own patience is long, so that a frozen link stays one for as long as a test may take. Replay waits for whoever holds it.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
port = @PORT@
unix_socket_directories = '@ROOT@'
ssl = on
ssl_cert_file = '@ROOT@/chain.pem'
ssl_key_file = '@ROOT@/key.pem'
ssl_ca_file = '@ROOT@/ca.pem'
password_encryption = 'scram-sha-256'
fsync = off
full_page_writes = off
shared_buffers = '16MB'
max_connections = 40
max_wal_senders = 10
max_replication_slots = 10
wal_level = 'logical'
wal_keep_size = '64MB'
checkpoint_timeout = '1h'
hot_standby = on
max_standby_streaming_delay = -1
autovacuum = off
jit = off
wal_retrieve_retry_interval = '200ms'
wal_receiver_status_interval = '1s'
wal_receiver_timeout = '10min'
wal_sender_timeout = '10min'
";

/// One statement a line: so the single-user mode reads them.
const ROLES: &str = "\
CREATE ROLE picket LOGIN PASSWORD 'sentinel-postgres-4b2e' IN ROLE pg_monitor;
CREATE ROLE picket_weak LOGIN PASSWORD 'sentinel-postgres-4b2e';
CREATE ROLE picket_plain LOGIN PASSWORD 'sentinel-postgres-4b2e' IN ROLE pg_monitor;
CREATE ROLE picket_tls LOGIN PASSWORD 'sentinel-postgres-4b2e' IN ROLE pg_monitor;
CREATE ROLE picket_cert LOGIN IN ROLE pg_monitor;
CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'sentinel-postgres-4b2e';
SET password_encryption = 'md5';
CREATE ROLE picket_md5 LOGIN PASSWORD 'sentinel-postgres-4b2e' IN ROLE pg_monitor;
";

/// What is made in the single-user mode counts as the system's own, and that is never published.
const TABLE: &str = "\
CREATE TABLE demo (at timestamptz NOT NULL DEFAULT now(), text text NOT NULL);
ALTER TABLE demo REPLICA IDENTITY FULL;
GRANT SELECT ON demo TO replicator;
";
