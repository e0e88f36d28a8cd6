//! Embeds the cases: every `case.json` below `cases`, by its folder. A macro that reads a directory would not see a new file.

#![allow(clippy::print_stdout, reason = "a build script speaks to cargo so")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("cases");
    println!("cargo::rerun-if-changed=cases");
    let mut found = Vec::new();
    for matter in folders(&root) {
        println!("cargo::rerun-if-changed={}", matter.display());
        found.extend(folders(&matter).into_iter().map(|case| (id(&root, &case), case.join("case.json"))));
    }
    found.sort();
    let mut text = String::from("&[\n");
    for (id, file) in found {
        println!("cargo::rerun-if-changed={}", file.display());
        let _ = writeln!(text, "    ({id:?}, include_str!({:?})),", file.display().to_string());
    }
    text.push(']');
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("cases.rs");
    std::fs::write(out, text).expect("the build's own directory can be written");
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(of).expect("the folder of cases can be read");
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// "failures/refused".
fn id(root: &Path, case: &Path) -> String {
    let inner = case.strip_prefix(root).expect("a case lies below the cases");
    inner.to_string_lossy().replace('\\', "/")
}
