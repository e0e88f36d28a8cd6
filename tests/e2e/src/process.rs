//! One process: started with its output in a file, ended when it is dropped, and also when this one is killed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The `picket` that cargo built beside this test.
pub fn picket() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let path =
        test.parent().and_then(Path::parent).expect("tests stand in target/PROFILE/deps").join("picket");
    assert!(
        path.is_file(),
        "{} is not built: run `make test`, or `cargo build -p picket` first",
        path.display()
    );
    path
}

/// Waits until `probe` gives something, and fails with `what` after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {} s", limit.as_secs());
        pause(Duration::from_millis(20));
    }
}

/// Lets time pass where time itself is the input: an outage of so many seconds, the moment before the next question.
#[expect(clippy::disallowed_methods, reason = "the processes under test live in real time")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A command that ended.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Finished {
    /// Runs it to its end; one that goes on for two minutes is killed, and its status has no code.
    pub fn of(command: &mut Command) -> Self {
        let (stdout, stderr) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
        let clone = |file: &File| file.try_clone().expect("a file can be cloned");
        command.stdin(Stdio::null()).stdout(clone(&stdout)).stderr(clone(&stderr));
        let mut child = servers::leash(command).and_then(Command::spawn).expect("the command can be started");
        let end = Instant::now() + LONGEST;
        let status = loop {
            match child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None if Instant::now() > end => {
                    let _ = child.kill();
                    break child.wait().expect("a child can be waited for");
                }
                None => pause(Duration::from_millis(5)),
            }
        };
        let text = |mut file: File| {
            let mut bytes = Vec::new();
            let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
            read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).expect("a file can be read")
        };
        Self { status, stdout: text(stdout), stderr: text(stderr) }
    }

    /// Its exit status must be `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr))
    }
}

/// A process that runs until it is told to end.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; both outputs go to `log`, after what is there already.
    pub fn start(command: &mut Command, log: impl AsRef<Path>) -> Self {
        let log = log.as_ref().to_owned();
        let file = File::options().create(true).append(true).open(&log).expect("the log can be written");
        let other = file.try_clone().expect("a file can be cloned");
        command.stdin(Stdio::null()).stdout(file).stderr(other);
        let child = servers::leash(command)
            .and_then(Command::spawn)
            .unwrap_or_else(|e| panic!("{:?} can be started: {e}", command.get_program()));
        Self { child, log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and how it ended and after how long.
    pub fn terminate(mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().expect("a child can be waited for");
        (status, start.elapsed())
    }

    /// Waits for its own end.
    pub fn ends(&mut self, limit: Duration) -> ExitStatus {
        until("the process ends", limit, || self.child.try_wait().ok().flatten())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = rustix::process::kill_process(pid.expect("a child has a pid"), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), tail(&self.output(), 60));
        }
    }
}

/// The last lines of a text.
fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

const LONGEST: Duration = Duration::from_secs(120);

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    socket.local_addr().expect("a bound socket has an address").port()
}

/// A command line of the binary, without anything of ours in its environment.
pub fn command(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(picket());
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("PICKET_")) {
        command.env_remove(name);
    }
    // Tests start agents in loops on purpose.
    command.env("PICKET_START_WAIT_MS", "0");
    command.args(args);
    command
}
