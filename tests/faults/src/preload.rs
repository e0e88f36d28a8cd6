//! A library preloaded into an agent: bends its wall clock, makes its fsyncs slow, or lets them or its reads fail. What it does is written in
//! `preload.c`; this file gives the orders, also while the agent runs. The boot clock is not the C library's: the agent itself reads
//! what is added to it, in builds with debug assertions.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Orders to one process.
#[derive(Debug)]
pub struct Orders {
    file: File,
    path: PathBuf,
    library: PathBuf,
    slept: PathBuf,
}

impl Orders {
    /// Compiles the library and makes the files, `name` and something, in `dir`. Nothing is bent yet.
    pub fn new(dir: &Path, name: &str) -> Self {
        let at = |end: &str| dir.join(format!("{name}.{end}"));
        let (path, library) = (at("orders"), at("preload.so"));
        compile(&library);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.expect("the directory can be written");
        file.set_len(4096).expect("a file can be made longer");
        Self { file, path, library, slept: at("slept") }
    }

    /// Puts the library into a process; only fsyncs of files below `data` are meant.
    pub fn give(&self, command: &mut Command, data: &Path) {
        command.envs(self.environment(data)).env("PICKET_DEBUG_SLEPT", &self.slept);
    }

    /// The variables that put the library into a process; only fsyncs of files below `data` are meant.
    pub fn environment(&self, data: &Path) -> [(&'static str, String); 3] {
        let text = |path: &Path| path.to_str().expect("paths of tests are text").to_owned();
        [("LD_PRELOAD", text(&self.library)), ("FAULT_ORDERS", text(&self.path)), ("FAULT_BELOW", text(data))]
    }

    /// From now on the wall clock is this many milliseconds ahead.
    pub fn wall(&self, ms: i64) {
        self.set(0, ms);
    }

    /// The machine has slept this long in all.
    pub fn slept(&self, time: Duration) {
        std::fs::write(&self.slept, time.as_millis().to_string()).expect("the directory can be written");
    }

    /// Every fsync takes this much longer.
    pub fn slow(&self, time: Duration) {
        self.set(1, i64::try_from(time.as_millis()).expect("a test waits for seconds"));
    }

    /// So many of the next fsyncs fail with EIO. Whoever tries one again on the same descriptor is named on the process's stderr: the kernel
    /// answers with success then, and the data is gone.
    pub fn fail(&self, syncs: u32) {
        self.set(2, i64::from(syncs));
    }

    /// So many of the next reads fail with EIO.
    pub fn unread(&self, reads: u32) {
        self.set(5, i64::from(reads));
    }

    /// Reads that are still to fail.
    pub fn to_fail(&self) -> i64 {
        self.word(5)
    }

    /// Fsyncs asked for so far.
    pub fn syncs(&self) -> i64 {
        self.word(3)
    }

    /// Those that failed.
    pub fn failed(&self) -> i64 {
        self.word(4)
    }

    fn set(&self, word: u64, value: i64) {
        self.file.write_all_at(&value.to_ne_bytes(), word * 8).expect("the file can be written");
    }

    fn word(&self, word: u64) -> i64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, word * 8).expect("the file can be read");
        i64::from_ne_bytes(bytes)
    }
}

fn compile(library: &Path) {
    let mut compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-x", "c", "-o"])
        .arg(library)
        .arg("-")
        .stdin(Stdio::piped())
        .spawn()
        .expect("cc is there: scripts/setup installs it");
    let mut source = compiler.stdin.take().expect("it was asked for");
    source.write_all(include_bytes!("preload.c")).expect("the compiler reads");
    drop(source);
    assert!(compiler.wait().expect("a child can be waited for").success(), "preload.c does not compile");
}
