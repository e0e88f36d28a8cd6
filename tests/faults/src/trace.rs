//! What a process did to its files, as strace saw it: every write with its bytes, every fsync, every change of a name, in order. Reads
//! the text only; what may survive of it is `pagemodel`'s.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use crate::wrap;

/// A file, whatever its names are.
pub type Inode = usize;

/// One thing that was done, in the order in which they ended.
#[derive(Clone, Debug)]
pub enum Event {
    /// A name in the file system changed.
    Name(Name),
    /// Bytes at an offset.
    Write(Inode, u64, Vec<u8>),
    /// The file has this length now.
    Length(Inode, u64),
    /// The file is on the disk, as it was when so many events had ended.
    Sync(Inode, usize),
    /// The same was asked for, and answered with an error: what was written before is perhaps nowhere but in memory, and no later fsync
    /// will care for it.
    FailedSync(Inode, usize),
    /// So are the names in this directory.
    SyncDirectory(PathBuf, usize),
    /// The process told that this is recorded.
    Recorded(u64, u64),
}

/// A change of names; paths below the data directory.
#[derive(Clone, Debug)]
pub enum Name {
    /// A new file.
    Create(PathBuf, Inode),
    /// A new directory.
    Directory(PathBuf),
    /// Another name, over whatever had it.
    Rename(PathBuf, PathBuf),
    /// Gone.
    Remove(PathBuf),
}

/// A process's files from its start on.
#[derive(Debug)]
pub struct Trace {
    /// What was there before.
    pub files: Vec<(PathBuf, Inode)>,
    /// What it did.
    pub events: Vec<Event>,
}

/// The same command under strace, which writes to `output` and lets some fsyncs of each thread fail with EIO if told so: "20+50", from
/// the twentieth on each fiftieth.
pub fn under(command: &Command, output: &Path, failing: Option<&str>) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "--seccomp-bpf", "-y", "-xx", "-s", "100000000", "-e", CALLS, "-o"]).arg(output);
    if let Some(when) = failing {
        traced.arg("-e").arg(format!("inject=fsync,fdatasync:error=EIO:when={when}"));
    }
    wrap(traced, command)
}

impl Trace {
    /// Reads strace's output about the files below `data`; `files` were there before, with these lengths.
    pub fn read(output: &Path, data: &Path, files: impl IntoIterator<Item = (PathBuf, u64)>) -> Self {
        let text = std::fs::read(output).expect("strace wrote its output");
        let (files, lengths): (Vec<_>, Vec<_>) =
            files.into_iter().enumerate().map(|(n, (path, length))| ((path, n), length)).unzip();
        let mut reader = Reader {
            data,
            names: files.iter().cloned().collect(),
            lengths,
            open: HashMap::new(),
            begun: HashMap::new(),
            events: Vec::new(),
        };
        for line in text.split(|byte| *byte == b'\n') {
            reader.line(line);
        }
        Self { files, events: reader.events }
    }
}

struct Reader<'a> {
    data: &'a Path,
    names: HashMap<PathBuf, Inode>,
    /// Of each file, so that it is known where appending begins.
    lengths: Vec<u64>,
    open: HashMap<u64, Rc<RefCell<Open>>>,
    /// Calls that did not end yet, by thread.
    begun: HashMap<Vec<u8>, (Vec<u8>, usize)>,
    events: Vec<Event>,
}

/// What a descriptor stands for.
#[derive(Clone, Debug)]
struct Open {
    inode: Option<Inode>,
    directory: PathBuf,
    at: u64,
    append: bool,
}

impl Reader<'_> {
    fn line(&mut self, line: &[u8]) {
        let Some(space) = line.iter().position(|byte| *byte == b' ') else { return };
        let (thread, call) = (line[..space].to_vec(), line[space..].trim_ascii());
        if let Some(call) = call.strip_suffix(b"<unfinished ...>") {
            self.begun.insert(thread, (call.trim_ascii_end().to_vec(), self.events.len()));
        } else if call.starts_with(b"<... ") {
            let Some((mut whole, begun)) = self.begun.remove(&thread) else { return };
            let Some(rest) = find(call, b"resumed>") else { return };
            whole.extend_from_slice(&call[rest + 8..]);
            self.call(&whole, begun);
        } else {
            self.call(call, self.events.len());
        }
    }

    /// One whole call: `name(arguments) = result`.
    fn call(&mut self, call: &[u8], begun: usize) {
        let Some(open) = call.iter().position(|byte| *byte == b'(') else { return };
        let Some(equals) = rfind(call, b" = ") else { return };
        let result = &call[equals + 3..];
        let failed = result.starts_with(b"-");
        if result.starts_with(b"?")
            || (failed && !call.starts_with(b"fsync") && !call.starts_with(b"fdatasync"))
        {
            return;
        }
        let arguments = call[open + 1..equals].trim_ascii_end();
        let arguments = split(arguments.strip_suffix(b")").unwrap_or(arguments));
        let argument = |n: usize| arguments.get(n).copied().unwrap_or_default();
        let fd = |text: &[u8]| number(text);
        match &call[..open] {
            b"openat" => self.opened(result, argument(2)),
            b"open" | b"creat" => self.opened(result, argument(1)),
            b"close" => drop(self.open.remove(&fd(argument(0)))),
            b"dup" | b"dup2" | b"dup3" => self.duplicate(fd(argument(0)), number(result)),
            b"fcntl" if argument(1).starts_with(b"F_DUPFD") => {
                self.duplicate(fd(argument(0)), number(result));
            }
            b"read" => self.moved(fd(argument(0)), number(result)),
            b"lseek" => {
                if let Some(open) = self.open.get(&fd(argument(0))) {
                    open.borrow_mut().at = number(result);
                }
            }
            b"write" if fd(argument(0)) <= 2 => self.said(&unquoted(argument(1))),
            b"write" => self.written(fd(argument(0)), None, unquoted(argument(1)), number(result)),
            b"writev" => self.written(fd(argument(0)), None, gathered(argument(1)), number(result)),
            b"pwrite64" => {
                let at = number(argument(3));
                self.written(fd(argument(0)), Some(at), unquoted(argument(1)), number(result));
            }
            b"ftruncate" => {
                if let Some(inode) = self.inode(fd(argument(0))) {
                    self.resized(inode, number(argument(1)));
                }
            }
            b"fallocate" if argument(1) == b"0" => {
                if let Some(inode) = self.inode(fd(argument(0))) {
                    let end = number(argument(2)) + number(argument(3));
                    self.resized(inode, end.max(self.lengths[inode]));
                }
            }
            b"fsync" | b"fdatasync" => {
                let Some(open) = self.open.get(&fd(argument(0))).map(|open| open.borrow().clone()) else {
                    return;
                };
                self.events.extend(match open.inode {
                    Some(inode) if failed => Some(Event::FailedSync(inode, begun)),
                    Some(inode) => Some(Event::Sync(inode, begun)),
                    None => (!failed).then_some(Event::SyncDirectory(open.directory, begun)),
                });
            }
            b"rename" => self.renamed(argument(0), argument(1)),
            b"renameat" | b"renameat2" => self.renamed(argument(1), argument(3)),
            b"unlink" | b"rmdir" => self.removed(argument(0)),
            b"unlinkat" => self.removed_at(argument(0), argument(1)),
            b"mkdir" => self.made(argument(0)),
            b"mkdirat" => self.made(argument(1)),
            b"mmap" => self.mapped(argument(2), argument(3), argument(4)),
            other => assert!(
                [&b"fcntl"[..], b"mmap", b"fallocate"].contains(&other),
                "the model knows no {}",
                String::from_utf8_lossy(other)
            ),
        }
    }

    fn below(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(self.data).ok().map(Path::to_owned)
    }

    /// `result` is a descriptor with its path.
    fn opened(&mut self, result: &[u8], flags: &[u8]) {
        let (fd, Some(path)) = (number(result), shown(result)) else { return };
        let Some(path) = self.below(&path) else { return drop(self.open.remove(&fd)) };
        let has = |flag: &[u8]| find(flags, flag).is_some();
        let known = self.names.get(&path).copied();
        let inode = match known {
            None if has(b"O_CREAT") => {
                let inode = self.lengths.len();
                self.lengths.push(0);
                self.names.insert(path.clone(), inode);
                self.events.push(Event::Name(Name::Create(path.clone(), inode)));
                Some(inode)
            }
            Some(inode) if has(b"O_TRUNC") => {
                self.resized(inode, 0);
                Some(inode)
            }
            known => known,
        };
        let open = Open { inode, directory: path, at: 0, append: has(b"O_APPEND") };
        self.open.insert(fd, Rc::new(RefCell::new(open)));
    }

    fn duplicate(&mut self, from: u64, to: u64) {
        match self.open.get(&from).cloned() {
            Some(open) => drop(self.open.insert(to, open)),
            None => drop(self.open.remove(&to)),
        }
    }

    fn inode(&self, fd: u64) -> Option<Inode> {
        self.open.get(&fd)?.borrow().inode
    }

    fn moved(&mut self, fd: u64, by: u64) {
        if let Some(open) = self.open.get(&fd) {
            open.borrow_mut().at += by;
        }
    }

    fn resized(&mut self, inode: Inode, length: u64) {
        self.lengths[inode] = length;
        self.events.push(Event::Length(inode, length));
    }

    fn written(&mut self, fd: u64, at: Option<u64>, mut bytes: Vec<u8>, written: u64) {
        let Some(open) = self.open.get(&fd) else { return };
        let mut open = open.borrow_mut();
        let Some(inode) = open.inode else { return };
        bytes.truncate(usize::try_from(written).expect("memory holds it"));
        let place = at.unwrap_or(if open.append { self.lengths[inode] } else { open.at });
        if at.is_none() {
            open.at = place + written;
        }
        self.lengths[inode] = self.lengths[inode].max(place + written);
        self.events.push(Event::Write(inode, place, bytes));
    }

    fn said(&mut self, text: &[u8]) {
        let recorded = picket_e2e::oracle::recorded(&String::from_utf8_lossy(text));
        self.events.extend(recorded.into_iter().map(|(epoch, seq)| Event::Recorded(epoch, seq)));
    }

    fn renamed(&mut self, from: &[u8], to: &[u8]) {
        let paths = (self.below(&path(from)), self.below(&path(to)));
        let (Some(from), Some(to)) = paths else { return };
        let moved: Vec<_> = self.names.keys().filter(|name| name.starts_with(&from)).cloned().collect();
        for name in moved {
            let inode = self.names.remove(&name).expect("it was found");
            let rest = name.strip_prefix(&from).expect("it starts so");
            self.names.insert(if rest == Path::new("") { to.clone() } else { to.join(rest) }, inode);
        }
        self.events.push(Event::Name(Name::Rename(from, to)));
    }

    fn removed(&mut self, name: &[u8]) {
        if let Some(path) = self.below(&path(name)) {
            self.names.remove(&path);
            self.events.push(Event::Name(Name::Remove(path)));
        }
    }

    fn removed_at(&mut self, directory: &[u8], name: &[u8]) {
        let full = shown(directory).unwrap_or_default().join(path(name));
        if let Some(path) = self.below(&full) {
            self.names.remove(&path);
            self.events.push(Event::Name(Name::Remove(path)));
        }
    }

    fn made(&mut self, name: &[u8]) {
        if let Some(path) = self.below(&path(name)) {
            self.events.push(Event::Name(Name::Directory(path)));
        }
    }

    /// A file that is written through memory would be written unseen.
    fn mapped(&self, protection: &[u8], flags: &[u8], fd: &[u8]) {
        let shared = find(flags, b"MAP_SHARED").is_some() && find(protection, b"PROT_WRITE").is_some();
        assert!(!(shared && self.open.contains_key(&number(fd))), "the model knows no shared mapping");
    }
}

/// Arguments, split at commas that are in no string, no list and no path.
fn split(text: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut begin, mut depth, mut quoted) = (Vec::new(), 0, 0_u32, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'[' | b'{' | b'<' if !quoted => depth += 1,
            b']' | b'}' | b'>' if !quoted => depth = depth.saturating_sub(1),
            b',' if !quoted && depth == 0 => {
                parts.push(text[begin..at].trim_ascii());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[begin..].trim_ascii());
    parts
}

/// The number that a text begins with.
fn number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

/// The path that strace shows in angle brackets beside a descriptor.
fn shown(text: &[u8]) -> Option<PathBuf> {
    let (open, close) = (find(text, b"<")?, rfind(text, b">")?);
    let path = unescaped(&text[open + 1..close]);
    Some(PathBuf::from(String::from_utf8_lossy(&path).into_owned()))
}

fn path(quoted: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(&unquoted(quoted)).into_owned())
}

/// The bytes of all strings in a list of buffers.
fn gathered(list: &[u8]) -> Vec<u8> {
    list.split(|byte| *byte == b'"').skip(1).step_by(2).flat_map(unescaped).collect()
}

fn unquoted(text: &[u8]) -> Vec<u8> {
    unescaped(text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or_default())
}

/// `\x41\x42` as "AB".
fn unescaped(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
    text.chunks_exact(4).map(|chunk| digit(chunk[2]) << 4 | digit(chunk[3])).collect()
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn rfind(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).rposition(|window| window == part)
}

/// Everything that changes a file, and what is needed to know where.
const CALLS: &str = "trace=openat,open,creat,read,write,writev,pwrite64,pwritev,pwritev2,lseek,fsync,fdatasync,syncfs,\
    sync_file_range,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,truncate,ftruncate,fallocate,\
    dup,dup2,dup3,fcntl,close,link,linkat,symlinkat,copy_file_range,sendfile,mmap";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_with_their_bytes_and_joined_when_another_thread_came_between() {
        let dir = tempfile::tempdir().unwrap();
        let hex = |text: &str| text.bytes().map(|b| format!("\\x{b:02x}")).collect::<String>();
        let (file, log) = (hex("/d/a"), hex("recorded monitor=m epoch=2 seq=7\n"));
        let text = format!(
            "1  openat(AT_FDCWD</>, \"{file}\", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 4<{file}>\n\
             1  write(4<{file}>, \"\\x41\\x2c\", 2) = 2\n\
             2  fsync(4<{file}> <unfinished ...>\n\
             1  write(4<{file}>, \"\\x42\", 1) = 1\n\
             2  <... fsync resumed>) = 0\n\
             1  write(2</log>, \"{log}\", 33) = 33\n\
             1  write(9</dev/null>, \"\\x42\", 1) = 1\n\
             1  openat(AT_FDCWD</>, \"{file}\", O_RDONLY) = -1 ENOENT (No such file)\n"
        );
        std::fs::write(dir.path().join("t"), text).unwrap();
        let trace = Trace::read(&dir.path().join("t"), Path::new("/d"), []);
        let told: Vec<_> = trace.events.iter().map(|event| format!("{event:?}")).collect();
        assert_eq!(
            told,
            [
                "Name(Create(\"a\", 0))",
                "Write(0, 0, [65, 44])",
                "Write(0, 2, [66])",
                "Sync(0, 2)",
                "Recorded(2, 7)"
            ]
        );
    }
}
