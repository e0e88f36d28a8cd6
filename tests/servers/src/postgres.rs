//! One PostgreSQL server: its binaries, its data directory, its settings and its SQL. What joins several of them is in `standby`,
//! `pair`, `cluster` and `subscription`; what it is a copy of, in `installation`.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::installation::{Installation, Made};
use crate::process::{self, Process};
use crate::{Authority, Error, Shape, ports};

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

/// Starts the server in its directory on a free port.
fn serve(installation: &Installation, root: &Path) -> Result<(u16, Process), Error> {
    let (port, data) = (ports::free_port()?, root.join("data"));
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

/// What is made in the single-user mode counts as the system's own, and that is never published.
const TABLE: &str = "\
CREATE TABLE demo (at timestamptz NOT NULL DEFAULT now(), text text NOT NULL);
ALTER TABLE demo REPLICA IDENTITY FULL;
GRANT SELECT ON demo TO replicator;
";
