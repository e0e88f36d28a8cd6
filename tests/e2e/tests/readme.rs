//! The README is a program: every block of commands that it marks is run, in order, in one directory, as a reader would.
//!
//! `<!-- test: run -->` must succeed, `<!-- test: background -->` goes on running, `<!-- test: file NAME -->` is written. Blocks without a mark are the
//! two commands (this test is part of one, `demo.rs` runs the other), the build, and docker (`make image-test`).

use std::process::Command;
use std::time::Duration;

use picket_e2e::process::{free_port, picket};
use picket_e2e::web::Web;
use picket_e2e::{Finished, Process, until};

enum Block {
    Run(String),
    Background(String),
    File(String, String),
}

fn blocks(readme: &str) -> (Vec<Block>, Vec<String>) {
    let (mut marked, mut unmarked) = (Vec::new(), Vec::new());
    let mut mark: Option<&str> = None;
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("<!-- test: ") {
            mark = rest.strip_suffix(" -->");
        } else if line.starts_with("```") {
            let text: String = lines.by_ref().take_while(|l| *l != "```").map(|l| format!("{l}\n")).collect();
            match mark.take() {
                Some("run") => marked.push(Block::Run(text)),
                Some("background") => marked.push(Block::Background(text)),
                Some(other) => {
                    let name = other
                        .strip_prefix("file ")
                        .unwrap_or_else(|| panic!("README.md marks a block {other:?}"));
                    marked.push(Block::File(name.to_owned(), text));
                }
                None => unmarked.push(text),
            }
        }
    }
    (marked, unmarked)
}

#[test]
fn every_command_of_the_readme_works() {
    let readme = include_str!("../../../README.md");
    let web = Web::start("<h1>Welcome</h1>");
    let port = free_port().to_string();
    let target = web.url().trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    let dir = tempfile::Builder::new().prefix("picket-readme-").tempdir().unwrap();
    let path =
        format!("{}:{}", picket().parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    // The README's ports belong to whoever runs this machine; everything else is run as it stands.
    let here = |text: &str, token: &str| {
        text.replace("8440", &port).replace("8080", &target).replace("pst_…", token)
    };
    let (marked, unmarked) = blocks(readme);
    let mut exports = String::new();
    let mut token = String::new();
    let mut running: Vec<Process> = Vec::new();
    let shell = |script: &str| {
        let mut command = Command::new("bash");
        command
            .args(["-euc", script])
            .current_dir(dir.path())
            .env("PATH", &path)
            .env_remove("PICKET_SETUP_TOKEN");
        command
    };
    for (number, block) in marked.iter().enumerate() {
        match block {
            Block::File(name, text) => std::fs::write(dir.path().join(name), here(text, &token)).unwrap(),
            Block::Background(text) => {
                let script = text.trim_end().rsplit_once('\n').map_or_else(
                    || format!("exec {text}"),
                    |(before, last)| format!("{before}\nexec {last}"),
                );
                let script = format!("{exports}{}", here(&script, &token));
                running.push(Process::start(&mut shell(&script), dir.path().join(format!("{number}.log"))));
                if number == 0 {
                    until("the control plane answers", Duration::from_secs(60), || {
                        assert!(running[0].runs(), "{}", running[0].output());
                        std::net::TcpStream::connect(format!("127.0.0.1:{port}")).ok()
                    });
                }
            }
            Block::Run(text) => {
                let text = here(text, &token);
                // What a reader waits for with their own eyes: the first result.
                let script = format!("{exports}{text}");
                let done = until(&text, Duration::from_secs(60), || {
                    let done = Finished::of(&mut shell(&script));
                    let empty = text.contains("picket results") && done.stdout.lines().count() < 2;
                    (!empty).then_some(done)
                });
                assert!(done.status.success(), "{text}\nstdout:\n{}\nstderr:\n{}", done.stdout, done.stderr);
                exports.extend(text.lines().filter(|l| l.starts_with("export ")).map(|l| format!("{l}\n")));
                if let Some(start) = done.stdout.find("pst_") {
                    token = done.stdout[start..]
                        .split(|c: char| c.is_whitespace() || c == '"')
                        .next()
                        .unwrap()
                        .to_owned();
                }
            }
        }
    }
    assert!(!token.is_empty(), "agents create prints a setup token");
    for process in &mut running {
        assert!(process.runs(), "it went on until the end:\n{}", process.output());
    }
    let follow = running.last().expect("results --follow runs");
    until("results --follow shows the shop", Duration::from_secs(60), || {
        follow.output().contains("shop").then_some(())
    });
    let other = ["make demo", "make build", "docker build"];
    for text in unmarked {
        assert!(other.iter().any(|o| text.contains(o)), "a block of the README is not tested:\n{text}");
    }
}
