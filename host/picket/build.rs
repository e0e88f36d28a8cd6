//! Embeds what `picket plugin new` writes: the templates, the SDK, the contract and what a case is. A macro that reads a directory would not see a
//! new file.

#![allow(clippy::print_stdout, reason = "a build script speaks to cargo so")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = here.join("../..");
    let mut text = String::from("&[\n");
    for (language, from, to) in [
        ("None", "plugins/templates/cases", "cases"),
        ("None", "docs/conformance.md", "docs/conformance.md"),
        ("None", "wit", "wit"),
        ("Some(Language::Rust)", "plugins/templates/rust", ""),
        ("Some(Language::Rust)", "plugins/sdk/Cargo.toml", "vendor/sdk/Cargo.toml"),
        ("Some(Language::Rust)", "plugins/sdk/src", "vendor/sdk/src"),
        ("Some(Language::Python)", "plugins/templates/python", ""),
    ] {
        println!("cargo::rerun-if-changed={}", root.join(from).display());
        for (file, name) in files(&root.join(from), Path::new(to)) {
            println!("cargo::rerun-if-changed={}", file.display());
            let name = name.to_string_lossy().replace('\\', "/");
            let _ =
                writeln!(text, "    ({language}, {name:?}, include_str!({:?})),", file.display().to_string());
        }
    }
    text.push(']');
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("new_plugin.rs");
    std::fs::write(out, text).expect("the build's own directory can be written");
}

/// Every file at or below `from`, with the place that it gets; sorted.
fn files(from: &Path, to: &Path) -> Vec<(PathBuf, PathBuf)> {
    if from.is_file() {
        return vec![(from.to_owned(), to.to_owned())];
    }
    let entries = std::fs::read_dir(from).expect("the sources of the template can be read");
    let mut inner: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    inner.sort();
    inner.iter().flat_map(|path| files(path, &to.join(path.file_name().unwrap_or_default()))).collect()
}
