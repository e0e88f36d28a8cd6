//! Finds `plugins/NAME/cases/*.yaml` and makes a test of every case in them: "NAME/FILE/the case's name"; and one a check that repeats
//! those of healthy servers, "NAME/again and again": a hundred times, and 10,000 times under load with `PICKET_SOAK=1`. And one that
//! holds the two readings of a connection string against each other.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use picket_cases::{Again, Bench, Effort, Table};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let bench = Arc::new(Bench::new().expect("a sandbox starts on this machine"));
    let mut trials = Vec::new();
    let soak = std::env::var_os("PICKET_SOAK").is_some_and(|v| !v.is_empty() && v != "0");
    for plugin in entries(&root.join("plugins")) {
        trials.extend(trial_again(&root, &plugin, &bench, soak));
    }
    for file in files(&root) {
        trials.extend(trials_of(&root, &file, &bench));
    }
    trials.push(trial_led(&root, &bench));
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The servers end here, before the process does.
    drop(bench);
    conclusion.exit_code()
}

/// Sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        entries(&root.join("plugins")).flat_map(|plugin| tables_of(&plugin)).collect();
    found.sort();
    found
}

fn tables_of(plugin: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let is_table = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    entries(&plugin.join("cases")).filter(is_table)
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

/// What the host reads in a connection string and what the check reads.
fn trial_led(root: &Path, bench: &Arc<Bench>) -> Trial {
    let (component, bench) = (root.join("target/plugins/postgres.wasm"), bench.clone());
    Trial::test("postgres/what a connection string is granted is what is dialled", move || {
        bench.agree_on_connection_strings(&component, 2000).map_err(Into::into)
    })
}

/// None for a folder that is no check. Files that cannot be read are told by their own tests.
fn trial_again(root: &Path, plugin: &Path, bench: &Arc<Bench>, soak: bool) -> Option<Trial> {
    let name = plugin.file_name()?.to_string_lossy().into_owned();
    let tables: Vec<_> = tables_of(plugin).filter_map(|file| Table::read(&file).ok()).map(Arc::new).collect();
    let again = Again::new(root.join("target/plugins").join(format!("{name}.wasm")), &tables);
    let effort = match soak {
        true => Effort { runs: 10_000, at_once: 16, load: 2 },
        false => Effort { runs: 100, at_once: 8, load: 0 },
    };
    let bench = bench.clone();
    (!again.is_empty()).then(|| {
        Trial::test(format!("{name}/again and again"), move || again.run(&bench, effort).map_err(Into::into))
    })
}
