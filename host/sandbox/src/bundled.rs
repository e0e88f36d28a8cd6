//! The plugins that lie beside the program: where they are, and how a monitor's `check` finds one of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Sandbox;
use crate::error::LoadError;
use crate::plugin::Plugin;
use crate::schema::nearest;

/// Where packages put them.
const SYSTEM: &str = "/usr/lib/picket/plugins";

/// The directory of plugins: the explicit one whatever it holds; else the first that exists of `plugins` beside the program,
/// `plugins` beside the program's directory, and `/usr/lib/picket/plugins`.
pub fn directory(explicit: Option<&Path>) -> Result<PathBuf, BundledError> {
    if let Some(explicit) = explicit {
        return Ok(explicit.to_owned());
    }
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let mut places: Vec<PathBuf> = Vec::new();
    places.extend(beside.map(|dir| dir.join("plugins")));
    places.extend(beside.and_then(Path::parent).map(|dir| dir.join("plugins")));
    places.push(PathBuf::from(SYSTEM));
    match places.iter().find(|place| place.is_dir()) {
        Some(found) => Ok(found.clone()),
        None => Err(BundledError::Nowhere(places)),
    }
}

/// Why plugins could not be found.
#[derive(Debug, thiserror::Error)]
pub enum BundledError {
    /// No directory where they usually are.
    #[error("no plugins found in {}; say where they are with --plugins", list(.0))]
    Nowhere(Vec<PathBuf>),
    /// The directory or a file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// All plugins of a directory, by name.
#[derive(Debug, Default, Clone)]
pub struct Plugins {
    by_name: BTreeMap<String, Arc<Plugin>>,
    /// Files that are no plugins, and why.
    pub refused: Vec<(PathBuf, LoadError)>,
}

/// Loads every `*.wasm` of a directory. A file that is no plugin does not keep the others away: it is listed in
/// [`Plugins::refused`].
///
/// # Errors
/// When the directory or one of the files cannot be read.
pub async fn load_all(sandbox: &Sandbox, dir: &Path) -> Result<Plugins, BundledError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BundledError::Read { path, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            files.push(path);
        }
    }
    files.sort();
    let mut plugins = Plugins::default();
    for path in files {
        let bytes = tokio::fs::read(&path).await.map_err(failed(&path))?;
        match sandbox.load(&bytes).await {
            Ok(plugin) => plugins.add(plugin),
            Err(error) => plugins.refused.push((path, error)),
        }
    }
    Ok(plugins)
}

impl Plugins {
    /// Adds one, replacing another of the same name.
    pub fn add(&mut self, plugin: Arc<Plugin>) {
        self.by_name.insert(plugin.description.name.clone(), plugin);
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.by_name.values()
    }

    /// What a monitor's `check` names: "http", "http@0" where the version's first number must be that one, or "sha256:…".
    ///
    /// # Errors
    /// A sentence that lists the known ones and suggests the nearest.
    pub fn find(&self, check: &str) -> Result<&Arc<Plugin>, UnknownCheck> {
        if check.starts_with("sha256:") {
            let found = self.by_name.values().find(|plugin| plugin.digest == check);
            return found.ok_or_else(|| UnknownCheck(format!("no plugin with the digest {check} is here")));
        }
        let (name, major) = match check.split_once('@') {
            Some((name, major)) => (name, Some(major)),
            None => (check, None),
        };
        let Some(plugin) = self.by_name.get(name) else {
            return Err(UnknownCheck(unknown(check, name, self.by_name.keys().map(String::as_str))));
        };
        match major {
            Some(major) if major != plugin.description.major() => {
                let version = &plugin.description.version;
                Err(UnknownCheck(format!(
                    "no check \"{check}\" is here: {name} is there in version {version}"
                )))
            }
            _ => Ok(plugin),
        }
    }
}

/// A `check` that no plugin answers to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownCheck(String);

fn unknown<'a>(check: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let names = known.clone().collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        return format!("unknown check \"{check}\": no plugins are here");
    }
    match nearest(name, known) {
        Some(meant) => format!("unknown check \"{check}\": known are {names}; did you mean {meant}?"),
        None => format!("unknown check \"{check}\": known are {names}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_check_suggests_the_nearest() {
        let known = ["dns", "http", "postgres", "tcp", "tls"];
        let check = |name: &str, expected: &str| assert_eq!(unknown(name, name, known.into_iter()), expected);
        check("htp", "unknown check \"htp\": known are dns, http, postgres, tcp, tls; did you mean http?");
        check("ping", "unknown check \"ping\": known are dns, http, postgres, tcp, tls");
        assert_eq!(unknown("http", "http", [].into_iter()), "unknown check \"http\": no plugins are here");
    }

    #[test]
    fn an_explicit_directory_is_taken_as_it_is() {
        assert_eq!(directory(Some(Path::new("/nowhere"))).unwrap(), Path::new("/nowhere"));
    }
}
