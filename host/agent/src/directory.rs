//! The data directory: ours, writable, and held by one agent at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::Error;

/// The lock on a data directory, given back when it is dropped or the process ends in any way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    /// Why the directory cannot be written; none when it can.
    pub(crate) refused: Option<Error>,
}

/// Makes `data` when it is missing, proves that it is ours, and takes its lock. A directory that was written before and cannot be now is
/// taken all the same, and the lock says why: an agent with an identity goes on without the disk.
pub(crate) fn take(data: &Path) -> Result<Lock, Error> {
    let not_writable =
        |source| Error::NotWritable { path: data.to_owned(), remedy: remedy(data, &source), source };
    DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(not_writable)?;
    let owner = std::fs::metadata(data).map_err(not_writable)?.uid();
    let user = rustix::process::geteuid().as_raw();
    // Root too: what it makes there, the owner's agent could not open later.
    if owner != user {
        return Err(Error::NotOwned { path: data.to_owned(), owner, user });
    }
    let path = data.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let (mut file, mut refused) = match options.open(&path) {
        Ok(file) => (file, None),
        // A lock can be taken on a file that can only be read.
        Err(error) => match File::open(&path) {
            Ok(file) => (file, Some(error)),
            Err(_) => return Err(not_writable(error)),
        },
    };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut text = String::new();
        let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
        return Err(Error::InUse { path: data.to_owned(), pid });
    }
    if refused.is_none() {
        refused = note_pid(&mut file).err();
    }
    Ok(Lock { _file: file, refused: refused.map(not_writable) })
}

/// Writes our process id into the lock file, for whoever finds it taken. Proves on the way that the file system takes data.
fn note_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn remedy(data: &Path, error: &io::Error) -> String {
    let data = data.display();
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => format!(
            "the file system is read-only: give --data a writable directory, in a container a volume (-v data:{data})"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("run `chown {} {data}`", rustix::process::geteuid().as_raw())
        }
        io::ErrorKind::StorageFull => "the disk is full: free some space".to_owned(),
        _ => "give --data a directory that can be written".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_told_who_has_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let held = take(dir.path()).unwrap();
        assert!(held.refused.is_none());
        let error = take(dir.path()).unwrap_err();
        assert_eq!(error.exit_code(), 73);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    }

    #[test]
    fn a_directory_is_free_again_when_its_agent_ended() {
        let dir = tempfile::tempdir().unwrap();
        drop(take(dir.path()).unwrap());
        take(dir.path()).unwrap();
    }

    #[test]
    fn a_place_where_no_directory_can_be_made_is_named() {
        let error = take(Path::new("/proc/picket")).unwrap_err();
        assert_eq!(error.exit_code(), 77);
        assert!(error.to_string().contains("/proc/picket"), "{error}");
    }
}
