//! Finds `plugins/NAME/cases/*.yaml` and makes a test of every case in them: "NAME/FILE/the case's name".

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use picket_cases::{Bench, Table};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let bench = Arc::new(Bench::new().expect("a sandbox starts on this machine"));
    let mut trials = Vec::new();
    for file in files(&root) {
        trials.extend(trials_of(&root, &file, &bench));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The servers end here, before the process does.
    drop(bench);
    conclusion.exit_code()
}

/// Sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = entries(&root.join("plugins"))
        .flat_map(|plugin| entries(&plugin.join("cases")))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    found.sort();
    found
}

/// Nothing when it is no directory.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// A file that cannot be read is one test that fails.
fn trials_of(root: &Path, file: &Path, bench: &Arc<Bench>) -> Vec<Trial> {
    let plugin = file.ancestors().nth(2).and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let component = root.join("target/plugins").join(format!("{plugin}.wasm"));
    let about = format!("{plugin}/{}", file.file_stem().unwrap_or_default().to_string_lossy());
    let table = match Table::read(file) {
        Ok(table) => Arc::new(table),
        Err(error) => return vec![Trial::test(about, move || Err(error.into()))],
    };
    let trial = |name: &String| {
        let (bench, table, component, name) = (bench.clone(), table.clone(), component.clone(), name.clone());
        Trial::test(format!("{about}/{name}"), move || {
            bench.check(&component, &table, &table.cases[&name]).map_err(Into::into)
        })
    };
    table.cases.keys().map(trial).collect()
}
