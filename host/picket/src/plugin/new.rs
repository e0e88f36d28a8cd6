//! `picket plugin new`: a folder in which somebody writes their own check. Owns what is written there and where; the template lies
//! in `plugins/templates`, and all of it is in this binary.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::failure::{Failure, exit};
use crate::output;

/// Every file of a new check: the language that it belongs to, none where it belongs to all; its place; its text.
const FILES: &[(Option<Language>, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/new_plugin.rs"));

/// What a new check is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// With Picket's SDK
    Rust,
    /// With componentize-py; the component holds the interpreter, so it is as large as 18 MB
    Python,
}

impl Language {
    /// What builds it, beside the first command of its README.
    fn build(self) -> &'static str {
        match self {
            Self::Rust => "cargo build --release --target wasm32-wasip2",
            Self::Python => "sh build.sh",
        }
    }

    /// Where the component lies then.
    fn component(self) -> &'static str {
        match self {
            Self::Rust => "target/wasm32-wasip2/release/{{file}}.wasm",
            Self::Python => "{{name}}.wasm",
        }
    }
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
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::text(exit::DATA, format!("{} is there already, and not empty", dir.display()))
            .advice("name another folder with --dir"));
    }
    for (place, text) in files(args.lang) {
        let written = if place == "gitignore" { ".gitignore" } else { place };
        let text = if is_template(place) { filled(text, &args.name) } else { text.to_owned() };
        write(&dir.join(written), &text)?;
    }
    output::line(&format!(
        "{dir} is written; README.md in it says how to go on\n  cd {dir}\n  {}\n  picket plugin test ./{} --cases cases",
        args.lang.build(),
        filled(args.lang.component(), &args.name),
        dir = dir.display(),
    ))?;
    Ok(0)
}

/// Place and text of every file of a check in that language.
fn files(language: Language) -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = move |of: &Option<Language>| of.is_none_or(|of| of == language);
    FILES.iter().filter(move |(of, _, _)| own(of)).map(|(_, place, text)| (*place, *text))
}

/// The SDK, the contract and the page about cases are written as they are.
fn is_template(place: &str) -> bool {
    !["vendor/", "wit/", "docs/"].iter().any(|folder| place.starts_with(folder))
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
        let of_all = ["README.md", "docs/conformance.md", "wit/check.wit", "wit/deps/picket-net/net.wit"];
        let rust = ["Cargo.toml", "src/lib.rs", "vendor/sdk/src/lib.rs"];
        let python = ["app.py", "picket.py", "build.sh"];
        for (language, own, others) in [(Language::Rust, &rust, &python), (Language::Python, &python, &rust)]
        {
            let there: Vec<_> = files(language).map(|(place, _)| place).collect();
            for needed in of_all.iter().chain(own) {
                assert_eq!(there.iter().filter(|place| *place == needed).count(), 1, "{needed}");
            }
            assert!(others.iter().all(|other| !there.contains(other)), "{there:?}");
        }
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        for (_, place, text) in FILES.iter().filter(|(_, place, _)| is_template(place)) {
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
