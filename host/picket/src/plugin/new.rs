//! `picket plugin new`: a folder in which somebody writes their own check. Owns what is written there and where; the template lies
//! in `plugins/templates`, and all of it is in this binary.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::failure::{Failure, exit};
use crate::output;

/// Every file of a new check: its place and its text.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/new_plugin.rs"));

/// What a new check is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// With Picket's SDK
    Rust,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The check's name: lower case letters, digits and hyphens, beginning with a letter, at most 32
    #[arg(value_parser = name)]
    name: String,
    /// What to write it in
    #[arg(long, default_value = "rust", value_name = "LANGUAGE")]
    lang: Language,
    /// Where to write it. Default: a folder of its name, here
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Writes the folder. One that is there already and not empty stays as it is.
pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let Language::Rust = args.lang;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::text(exit::DATA, format!("{} is there already, and not empty", dir.display()))
            .advice("name another folder with --dir"));
    }
    for (place, text) in FILES {
        let place = if *place == "gitignore" { ".gitignore" } else { place };
        // The SDK and the contract are written as they are.
        let own = !place.starts_with("vendor/") && !place.starts_with("wit/");
        let text = if own { filled(text, &args.name) } else { (*text).to_owned() };
        write(&dir.join(place), &text)?;
    }
    output::line(&format!(
        "{} is written; README.md in it says how to go on\n  cd {} && cargo build --release --target wasm32-wasip2",
        dir.display(),
        dir.display()
    ))?;
    Ok(0)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|e| Failure::new(exit::GENERAL, e).context(format!("cannot write {}", path.display())))
}

fn filled(text: &str, name: &str) -> String {
    text.replace("{{name}}", name)
        .replace("{{file}}", &format!("picket_check_{}", name.replace('-', "_")))
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
}

fn name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = (1..=32).contains(&text.len())
        && text.chars().all(allowed)
        && text.starts_with(|c: char| c.is_ascii_lowercase());
    if good {
        Ok(text.to_owned())
    } else {
        Err("expected lower case letters, digits and hyphens, beginning with a letter, at most 32".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_a_check_needs_is_in_the_binary() {
        for needed in [
            "Cargo.toml",
            "README.md",
            "src/lib.rs",
            "vendor/sdk/src/lib.rs",
            "wit/check.wit",
            "wit/deps/picket-net/net.wit",
        ] {
            assert!(FILES.iter().any(|(place, _)| *place == needed), "{needed}");
        }
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        for (place, text) in
            FILES.iter().filter(|(place, _)| !place.starts_with("vendor/") && !place.starts_with("wit/"))
        {
            assert!(!filled(text, "my-check").contains("{{"), "{place}");
        }
    }

    #[test]
    fn a_name_is_one_that_the_contract_takes() {
        assert!(name("my-check2").is_ok());
        for wrong in ["", "My", "2x", "a_b", "a/b", &"x".repeat(33)] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }
}
