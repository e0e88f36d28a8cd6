//! A program of the system in a temporary directory: found, started, waited for, ended by its process id.
//! Does not know what any of them serves.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, leash};

/// How long a server may take until it answers. Generous: whoever is slow on a busy machine shall not be a failed test.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a server may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// A running program; ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    farewell: Signal,
}

impl Process {
    /// Starts the command with both its outputs in `log`. `farewell` is the signal that ends it quickly.
    pub(crate) fn start(command: &mut Command, log: PathBuf, farewell: Signal) -> Result<Process, Error> {
        let name = name_of(command);
        let file = File::create(&log).map_err(|source| Error::File {
            action: "create",
            path: log.clone(),
            source,
        })?;
        let errors =
            file.try_clone().map_err(|source| Error::File { action: "open", path: log.clone(), source })?;
        let command = command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = leash(command)
            .and_then(Command::spawn)
            .map_err(|source| Error::Failed { program: name.clone(), output: source.to_string() })?;
        Ok(Process { name, child, log, farewell })
    }

    /// Asks `ready` until it says yes.
    pub(crate) fn wait_until(&mut self, mut ready: impl FnMut() -> bool) -> Result<(), Error> {
        let begun = Instant::now();
        while !ready() {
            if !self.is_running() {
                return Err(Error::Failed { program: self.name.clone(), output: self.output() });
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::Silent {
                    program: self.name.clone(),
                    waited: PATIENCE,
                    output: self.output(),
                });
            }
            pause();
        }
        // Somebody else may answer where this program wanted to.
        if !self.is_running() {
            return Err(Error::Failed { program: self.name.clone(), output: self.output() });
        }
        Ok(())
    }

    /// Ends the program and waits for its end.
    pub(crate) fn stop(&mut self) {
        self.stop_with(self.farewell);
    }

    fn stop_with(&mut self, signal: Signal) {
        if !self.is_running() {
            return;
        }
        // The child was not waited for yet, so its id cannot belong to anybody else.
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, signal);
        }
        let begun = Instant::now();
        while self.is_running() && begun.elapsed() < GRACE {
            pause();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn output(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned();
        text.trim().to_string()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A command that runs to its end; its output, or what it complained about.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    run_with(command, "")
}

/// The same, with a short text on its standard input.
pub(crate) fn run_with(command: &mut Command, input: &str) -> Result<String, Error> {
    let program = name_of(command);
    let failed = |source: io::Error| Error::Failed { program: program.clone(), output: source.to_string() };
    let output = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = output.spawn().map_err(failed)?;
    if let Some(mut pipe) = child.stdin.take() {
        // Who does not read, has its reasons, and says so by its status.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_string());
    }
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(Error::Failed { program, output: text.trim().to_string() })
}

/// The program's path: in PATH, or where Debian keeps what only root needs.
pub(crate) fn find(program: &str, package: &'static str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Error::Missing { program: program.to_string(), package })
}

/// Starts a server whose ports are free when it is told of them, but may be taken when it comes to listen: then again, with
/// others.
pub(crate) fn start_anew<T>(start: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    let mut attempts = 1..=3;
    loop {
        let started = start();
        if attempts.next().is_none() || !matches!(started, Err(Error::Failed { .. })) {
            return started;
        }
    }
}

/// A fresh directory, removed when dropped.
pub(crate) fn directory(name: &str) -> Result<tempfile::TempDir, Error> {
    tempfile::Builder::new().prefix(&format!("picket-{name}-")).tempdir().map_err(|source| Error::File {
        action: "create a directory in",
        path: std::env::temp_dir(),
        source,
    })
}

/// Writes a file of a server.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    fs::write(path, content).map_err(|source| Error::File {
        action: "write",
        path: path.to_path_buf(),
        source,
    })
}

/// Makes a directory of a server.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir(path).map_err(|source| Error::File { action: "create", path: path.to_path_buf(), source })
}

/// The account a server runs as when it refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// None when this process is not root and nothing needs to change.
    pub(crate) fn instead_of_root(name: &str, package: &'static str) -> Result<Option<Account>, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let account = accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next()? == name;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            found.then_some(Account { uid, gid })
        });
        account.map(Some).ok_or_else(|| Error::Missing { program: format!("the account {name}"), package })
    }

    /// Gives the file to the account.
    pub(crate) fn own(account: Option<Account>, path: &Path) -> Result<(), Error> {
        let Some(Account { uid, gid }) = account else { return Ok(()) };
        chown(path, Some(uid), Some(gid)).map_err(|source| Error::File {
            action: "change the owner of",
            path: path.to_path_buf(),
            source,
        })
    }

    /// Runs the command as the account.
    pub(crate) fn apply(account: Option<Account>, command: &mut Command) {
        if let Some(Account { uid, gid }) = account {
            command.uid(uid).gid(gid);
        }
    }
}

/// Looks until something is so; an error says what was waited for.
pub(crate) fn wait(for_what: &str, mut done: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    let begun = Instant::now();
    while !done()? {
        if begun.elapsed() > PATIENCE {
            return Err(Error::Silent {
                program: "postgres".to_string(),
                waited: PATIENCE,
                output: format!("waited for {for_what}"),
            });
        }
        pause();
    }
    Ok(())
}

/// Between two looks at a foreign program, which cannot wake us.
pub(crate) fn pause() {
    std::thread::park_timeout(Duration::from_millis(20));
}

/// Whether reading or writing ended because of the time given to the socket.
pub(crate) fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn name_of(command: &Command) -> String {
    Path::new(command.get_program())
        .file_name()
        .map_or_else(|| "?".to_string(), |name| name.to_string_lossy().into_owned())
}
