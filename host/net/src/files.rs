//! Files of this machine that are named from outside it: certificate authorities, client certificates, keys. Which of them may be read
//! is the operator's word; this is the only place of this crate that reads one.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::grant::Refusal;

/// Which files may be named. Whoever names one never learns whether another exists.
///
/// # Defaults
/// None.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// Those beneath these directories, and those of these that are files, all links followed. A name that begins with no slash is
    /// looked for beneath each, or is the file's own name.
    Beneath(Vec<PathBuf>),
    /// All that this process may read: for a person who runs a check by hand.
    All,
}

impl Default for Files {
    fn default() -> Self {
        Files::Beneath(Vec::new())
    }
}

/// Why a file is not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It may not be named; says what the operator would write.
    Denied(Refusal),
    /// It may be, and is of no use: one text for every reason.
    Unusable(String),
}

impl Files {
    /// The whole file. `what` it is to be stands in the error.
    pub(crate) async fn read(&self, what: &'static str, name: &str) -> Result<Zeroizing<Vec<u8>>, Unread> {
        let (files, name) = (self.clone(), name.to_owned());
        let reading = tokio::task::spawn_blocking(move || files.read_now(what, &name));
        reading.await.unwrap_or_else(|_| Err(Unread::Unusable(format!("cannot read {what}"))))
    }

    fn read_now(&self, what: &str, name: &str) -> Result<Zeroizing<Vec<u8>>, Unread> {
        match self.place(name) {
            Place::Outside => Err(Unread::Denied(refusal(what, name))),
            Place::Inside(path) => content(&path).ok_or_else(|| Unread::Unusable(unusable(what, name))),
            Place::Nowhere => Err(Unread::Unusable(unusable(what, name))),
        }
    }

    fn place(&self, name: &str) -> Place {
        let opened = match self {
            Files::All => return Place::Inside(name.into()),
            Files::Beneath(opened) => opened,
        };
        let places =
            opened.iter().filter_map(|opened| Some(place(&opened.canonicalize().ok()?, opened, name)));
        // Where one of them has it, it does not matter that another has not.
        let rank = |place: &Place| match place {
            Place::Inside(_) => 2,
            Place::Nowhere => 1,
            Place::Outside => 0,
        };
        places.max_by_key(rank).unwrap_or(Place::Outside)
    }
}

/// Where a name leads.
enum Place {
    Inside(PathBuf),
    Outside,
    /// Inside, where nothing is.
    Nowhere,
}

/// Where a name leads, seen from what one entry of the operator stands for.
fn place(real: &Path, opened: &Path, name: &str) -> Place {
    let named = match Path::new(name).is_absolute() {
        true => PathBuf::from(name),
        false if real.is_dir() => real.join(name),
        false if opened.file_name().is_some_and(|own| own == name) => real.to_owned(),
        false => return Place::Outside,
    };
    if let Ok(path) = named.canonicalize() {
        return if path.starts_with(real) { Place::Inside(path) } else { Place::Outside };
    }
    // Nothing is there, which is told only of what is inside as it is written, and as far as it exists.
    let written =
        !name.split('/').any(|part| part == "..") && (named.starts_with(real) || named.starts_with(opened));
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    let nearest = named.ancestors().find(|path| is_there(path)).and_then(|path| path.canonicalize().ok());
    match written && nearest.is_some_and(|nearest| nearest.starts_with(real)) {
        true => Place::Nowhere,
        false => Place::Outside,
    }
}

/// The kernel's own files (/proc) say that they are empty and are not read at all; the bound holds for what is read, not for what the
/// disk says.
fn content(path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let about = path.metadata().ok()?;
    if !about.is_file() || about.len() == 0 {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path).ok()?.take(LARGEST + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= LARGEST).then_some(bytes)
}

fn refusal(what: &str, name: &str) -> Refusal {
    let name = shown(name);
    let directory = Path::new(&name).parent().filter(|parent| parent.has_root()).unwrap_or(Path::new("DIR"));
    Refusal(format!(
        "{name} is not beneath a directory from which this agent's operator lets monitors take {what}; start the agent with \
         --allow-files {} to open it, or write the PEM text or a secret in its place",
        directory.display()
    ))
}

fn unusable(what: &str, name: &str) -> String {
    format!("cannot read {what} from {}: it must be a readable regular file of at most 1 MiB", shown(name))
}

/// Of a name that somebody else chose.
fn shown(name: &str) -> String {
    name.chars().take(SHOWN).collect()
}

const SHOWN: usize = 200;
const LARGEST: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory "opened" with a.pem and links in it, and a secret beside it.
    fn disk() -> tempfile::TempDir {
        let disk = tempfile::tempdir().unwrap();
        let at = |name: &str| disk.path().join(name);
        std::fs::create_dir_all(at("opened/sub")).unwrap();
        std::fs::create_dir(at("opened-too")).unwrap();
        for name in ["opened/a.pem", "opened/sub/b.pem", "opened-too/c.pem", "secret"] {
            std::fs::write(at(name), name).unwrap();
        }
        symlink("../secret", at("opened/out")).unwrap();
        symlink("../nothing", at("opened/dangling")).unwrap();
        symlink("..", at("opened/up")).unwrap();
        symlink("sub/b.pem", at("opened/in")).unwrap();
        symlink("opened", at("alias")).unwrap();
        disk
    }

    async fn check(disk: &tempfile::TempDir, opened: &[&str], name: &str, expected: &str) {
        let absolute = |name: &str| disk.path().join(name);
        let files = Files::Beneath(opened.iter().map(|name| absolute(name)).collect());
        let said = name.replace("DISK", disk.path().to_str().unwrap());
        let found = match files.read("certificates", &said).await {
            Ok(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Err(Unread::Denied(Refusal(words))) => {
                assert!(words.contains("--allow-files"), "{words}");
                "denied".to_owned()
            }
            Err(Unread::Unusable(_)) => "unusable".to_owned(),
        };
        assert_eq!(found, expected, "{name} where {opened:?} is opened");
    }

    #[tokio::test]
    async fn only_what_is_beneath_an_opened_directory_is_read_whatever_it_is_called() {
        let disk = disk();
        for (name, expected) in [
            ("DISK/opened/a.pem", "opened/a.pem"),
            ("DISK/opened/sub/../a.pem", "opened/a.pem"),
            ("DISK/opened/in", "opened/sub/b.pem"),
            ("DISK/alias/a.pem", "opened/a.pem"),
            ("a.pem", "opened/a.pem"),
            ("sub/b.pem", "opened/sub/b.pem"),
            ("DISK/opened/missing.pem", "unusable"),
            ("missing/too.pem", "unusable"),
            ("DISK/opened", "unusable"),
            ("sub", "unusable"),
            ("DISK/secret", "denied"),
            ("DISK/nothing", "denied"),
            ("DISK/opened-too/c.pem", "denied"),
            ("DISK/opened/../secret", "denied"),
            ("DISK/opened/../nothing", "denied"),
            ("DISK/opened/missing/../../secret", "denied"),
            ("DISK/opened/out", "denied"),
            ("DISK/opened/dangling", "denied"),
            ("DISK/opened/up/secret", "denied"),
            ("DISK/opened/up/nothing", "denied"),
            ("../secret", "denied"),
            ("out", "denied"),
            ("up/secret", "denied"),
            ("/etc/passwd", "denied"),
            ("/proc/self/environ", "denied"),
            ("", "unusable"),
        ] {
            check(&disk, &["opened"], name, expected).await;
        }
    }

    #[tokio::test]
    async fn nothing_is_opened_unless_somebody_opens_it() {
        let disk = disk();
        for name in ["DISK/opened/a.pem", "DISK/opened/missing.pem", "a.pem", ""] {
            check(&disk, &[], name, "denied").await;
            check(&disk, &["not-there-yet"], name, "denied").await;
        }
    }

    #[tokio::test]
    async fn a_file_opens_itself_and_several_are_several() {
        let disk = disk();
        let opened = ["opened/a.pem", "opened-too"];
        for (name, expected) in [
            ("DISK/opened/a.pem", "opened/a.pem"),
            ("a.pem", "opened/a.pem"),
            ("c.pem", "opened-too/c.pem"),
            ("DISK/opened/in", "denied"),
        ] {
            check(&disk, &opened, name, expected).await;
        }
    }

    #[tokio::test]
    async fn what_is_no_regular_file_with_a_length_is_refused_in_one_text() {
        for path in ["/proc/self/environ", "/proc/kmsg", "/dev/zero", "/", "/there/is/no/such/file"] {
            let refused = Files::All.read("certificates", path).await.unwrap_err();
            let wanted = "it must be a readable regular file of at most 1 MiB";
            let expected = format!("cannot read certificates from {path}: {wanted}");
            assert!(matches!(refused, Unread::Unusable(words) if words == expected));
        }
    }
}
