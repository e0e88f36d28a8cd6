//! A small file system for one agent: ext4 on a loop device, in a mount namespace that ends with this process, so that nothing is left
//! behind however the test ends. Where there is no loop device, a tmpfs: it can be full and read-only, but not break while in use.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::wrap;

/// The file system, mounted.
pub struct Disk {
    /// Keeps the namespace; ends when its input does.
    keeper: Child,
    mount: PathBuf,
    image: PathBuf,
    ext4: bool,
}

impl Disk {
    /// A file system of `mib` MiB mounted at `mount`, its image beside it. Only what [`Disk::under`] starts sees it there.
    pub fn new(mount: PathBuf, mib: u64) -> Self {
        std::fs::create_dir_all(&mount).expect("the directory can be made");
        let image = mount.with_extension("img");
        let file = File::create(&image).expect("the image can be made");
        file.set_len(mib * 1024 * 1024).expect("the image can be made longer");
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        let mut disk = Self { keeper: keeper(), mount, image, ext4: true };
        if !disk.inside("mount", &disk.loop_options()).status().is_ok_and(|s| s.success()) {
            disk.ext4 = false;
            let size = format!("size={mib}m,mode=0700");
            run(disk.inside("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&disk.mount));
        }
        disk
    }

    /// Whether it is a real file system on a block device.
    pub fn is_ext4(&self) -> bool {
        self.ext4
    }

    /// The file system as this process sees it.
    pub fn root(&self) -> PathBuf {
        let outside = self.mount.strip_prefix("/").expect("mounts have absolute paths");
        Path::new("/proc").join(self.keeper.id().to_string()).join("root").join(outside)
    }

    /// The same command, started where the file system is mounted. Its process id is that of the command.
    pub fn under(&self, command: &Command) -> Command {
        wrap(self.inside("env", &[]), command)
    }

    /// Fills it until nothing fits any more, but for `left` bytes.
    pub fn fill(&self, left: u64) {
        let path = self.root().join(FILLER);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("a file can be made");
        for size in [1 << 20, 1 << 16, 1 << 12, 1 << 9] {
            let block = vec![7; size];
            loop {
                match file.write_all(&block).and_then(|()| file.sync_data()) {
                    Ok(()) => {}
                    Err(full) if full.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("{}: {error}", path.display()),
                }
            }
        }
        let length = file.metadata().expect("it is open").len();
        file.set_len(length.saturating_sub(left)).expect("a file can be cut");
    }

    /// Gives the space back.
    pub fn free(&self) {
        match std::fs::remove_file(self.root().join(FILLER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }

    /// Breaks it while it is in use: the file system finds an error, and from now on it is read-only. Gives whether it could.
    pub fn break_down(&self) -> bool {
        let device = run(self.inside("findmnt", &["-n", "-o", "SOURCE"]).arg(&self.mount));
        let name = device.trim().trim_start_matches("/dev/").to_owned();
        self.ext4 && std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").is_ok()
    }

    /// Unmounts it, lets fsck repair it, and mounts it again, writable or not. Nobody may use it meanwhile.
    pub fn repair(&self, writable: bool) {
        if self.ext4 {
            run(self.inside("umount", &[]).arg(&self.mount));
            // Its status says what it repaired; whether it did is told by the mount.
            let fsck = Command::new("e2fsck").args(["-f", "-y"]).arg(&self.image).output();
            fsck.expect("e2fsck is there where mkfs.ext4 is");
            run(&mut self.inside("mount", &self.loop_options()));
        }
        let mode = if writable { "remount,rw" } else { "remount,ro" };
        run(self.inside("mount", &["-o", mode]).arg(&self.mount));
    }

    fn loop_options(&self) -> [&str; 6] {
        let text = |path: &'_ Path| path.to_str().expect("paths of tests are text").to_owned();
        // Leaked: a few bytes a disk.
        let (image, mount) = (text(&self.image).leak(), text(&self.mount).leak());
        ["-t", "ext4", "-o", "loop,errors=remount-ro", image, mount]
    }

    fn inside(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.keeper.id().to_string(), "-m", "--", program]).args(args);
        command
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The namespace ends with whoever is in it, and takes mount and loop device along.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A process that only keeps a mount namespace, for as long as this one lives.
fn keeper() -> Child {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", "echo ready; exec cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut keeper = servers::leash(&mut command).and_then(Command::spawn).expect("unshare is there");
    let mut line = String::new();
    let output = keeper.stdout.take().expect("it was asked for");
    let read = BufReader::new(output).read_line(&mut line);
    assert!(read.is_ok() && line == "ready\n", "no mount namespace: these rows need root");
    keeper
}

/// Runs it to its end and gives what it printed.
fn run(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|e| panic!("{:?}: {e}", command.get_program()));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {}: {said}", done.status);
    String::from_utf8_lossy(&done.stdout).into_owned()
}

const FILLER: &str = "filler";
