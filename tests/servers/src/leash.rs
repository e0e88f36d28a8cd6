//! Nothing outlives who started it: programs are put into one process group, whose leader does nothing but wait for the end of this
//! process and then kills the group. It notices by its input, so it does not matter how this process ended. No program of a group is
//! ever looked for by name or by number.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The same command, started into the group of this process's programs. What it starts belongs to the group too, unless it leaves it.
/// A group of their own also means that Ctrl-C in a terminal reaches only whoever owns them, and that one ends them in order.
pub fn leash(command: &mut Command) -> io::Result<&mut Command> {
    Ok(command.process_group(group()?))
}

fn group() -> io::Result<i32> {
    static LEADER: OnceLock<Result<Child, io::ErrorKind>> = OnceLock::new();
    match LEADER.get_or_init(|| leader().map_err(|error| error.kind())) {
        Ok(leader) => i32::try_from(leader.id()).map_err(io::Error::other),
        Err(kind) => Err((*kind).into()),
    }
}

/// Its input is a pipe that only this process holds, and never writes to.
fn leader() -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", "read -r nothing; kill -KILL 0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}
