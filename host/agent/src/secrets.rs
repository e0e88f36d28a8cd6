//! Where a monitor's secrets come from: the agent's own environment and its files. They live in memory for one run.

use std::collections::BTreeSet;
use std::path::PathBuf;

use sandbox::Secrets;
use zeroize::Zeroizing;

/// `PICKET_SECRET_*` first, then a directory of files.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    directory: PathBuf,
}

impl Source {
    /// Files in `directory`, one secret each, named as in the configuration.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The secrets of these names, or one sentence about those that are not here.
    pub(crate) fn resolve(&self, names: &BTreeSet<String>) -> Result<Secrets, String> {
        let mut secrets = Secrets::new();
        let mut missing = Vec::new();
        for name in names {
            match self.find(name) {
                Some(bytes) => secrets.insert(name, bytes.to_vec()),
                None => missing.push(self.missing(name)),
            }
        }
        if missing.is_empty() { Ok(secrets) } else { Err(missing.join("; ")) }
    }

    fn find(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        use std::os::unix::ffi::OsStringExt;
        if let Some(value) = std::env::var_os(variable(name)) {
            return Some(Zeroizing::new(value.into_vec()));
        }
        let mut bytes = Zeroizing::new(std::fs::read(self.file(name)?).ok()?);
        // Editors and `echo` end a file with a line break that is no part of the secret.
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Some(bytes)
    }

    /// The file of a secret; none for a name that would leave the directory.
    fn file(&self, name: &str) -> Option<PathBuf> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        plain.then(|| self.directory.join(name))
    }

    fn missing(&self, name: &str) -> String {
        let file = self.directory.join(name);
        format!("secret \"{name}\" is not on this agent: set {} or write {}", variable(name), file.display())
    }
}

/// `pg-monitor` is `PICKET_SECRET_PG_MONITOR`.
fn variable(name: &str) -> String {
    let upper = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    "PICKET_SECRET_".chars().chain(upper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_file_gives_its_bytes_without_the_last_line_break() {
        let dir = tempfile::tempdir().unwrap();
        for (content, secret) in
            [("s3cret", "s3cret"), ("s3cret\n", "s3cret"), ("s3cret\r\n", "s3cret"), ("a\n\n", "a\n")]
        {
            std::fs::write(dir.path().join("pg-monitor"), content).unwrap();
            let secrets = Source::new(dir.path().into()).resolve(&names(&["pg-monitor"])).unwrap();
            assert_eq!(secrets.bytes("pg-monitor"), Some(secret.as_bytes()));
        }
    }

    #[test]
    fn a_missing_secret_says_both_places_where_it_is_looked_for() {
        let error = Source::new("/run/secrets".into()).resolve(&names(&["a.b-c"])).unwrap_err();
        assert_eq!(
            error,
            "secret \"a.b-c\" is not on this agent: set PICKET_SECRET_A_B_C or write /run/secrets/a.b-c"
        );
    }

    #[test]
    fn a_name_never_leaves_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("outside"), "x").unwrap();
        let inside = dir.path().join("secrets");
        std::fs::create_dir(&inside).unwrap();
        for name in ["../outside", "/etc/hostname", "", ".", ".."] {
            assert!(Source::new(inside.clone()).resolve(&names(&[name])).is_err(), "{name:?}");
        }
    }
}
