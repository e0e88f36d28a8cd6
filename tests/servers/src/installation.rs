//! PostgreSQL as Debian installs it, and the data directory that every server is a copy of.
//!
//! Making a cluster takes a second, copying one a fraction: all servers of a process are copies of one that was made and never
//! started. So a copy can follow another one at once, as if it had been made from its backup.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;

use crate::Error;
use crate::process::{self, Account};

/// A data directory that was made and never started as a server.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) installation: Installation,
    directory: TempDir,
}

impl Made {
    /// The one of this process, as long as anybody uses it.
    pub(crate) fn once() -> Result<Arc<Made>, Error> {
        static MADE: Mutex<Weak<Made>> = Mutex::new(Weak::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.upgrade() {
            return Ok(made);
        }
        let fresh = Arc::new(Made::new()?);
        *made = Arc::downgrade(&fresh);
        Ok(fresh)
    }

    pub(crate) fn new() -> Result<Made, Error> {
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

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
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

    pub(crate) fn write(&self, path: &Path, content: &str) -> Result<(), Error> {
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
