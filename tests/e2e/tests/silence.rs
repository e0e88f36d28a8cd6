//! The agent opens no listening socket, and its secrets stay where they are.

use std::process::Command;

use picket_e2e::web::Web;
use picket_e2e::{Field, Finished};

#[test]
fn a_working_agent_listens_on_nothing() {
    let web = Web::start("<h1>Welcome</h1>");
    let field = Field::new();
    let agent = field.start_agent("edge-1", "dc1");
    field.apply(&format!(
        "monitors:\n  - {{ name: page, check: http, interval: 1s, timeout: 900ms, locations: [dc1], config: {{ url: \"{}\" }} }}\n",
        web.url()
    ));
    field.result_of("page", "up", |r| r["state"] == "up");
    let sockets = Finished::of(Command::new("ss").args(["-Hlntup"])).exits(0).stdout;
    let of = |pid: u32| sockets.lines().filter(|l| l.contains(&format!("pid={pid},"))).collect::<Vec<_>>();
    assert_eq!(of(agent.pid()), Vec::<&str>::new(), "sockets that the agent listens on");
    assert_eq!(
        of(field.control().pid()).len(),
        1,
        "ss sees the control plane's socket, so it would see the agent's:\n{sockets}"
    );
}

#[test]
fn no_token_or_secret_is_in_a_log_or_in_the_clear_where_it_should_not_be() {
    let web = Web::start("the canary-7Qv9 sings");
    let field = Field::new();
    let setup = field.create_agent("edge-1", "dc1");
    let mut command = field.agent("edge-1");
    command
        .env("PICKET_SETUP_TOKEN", &setup)
        .env("PICKET_SECRET_SHOP", "canary-7Qv9")
        .env("RUST_LOG", "trace");
    let agent = picket_e2e::Process::start(&mut command, field.path("edge-1.log"));
    field.apply(&format!(
        "monitors:\n  - name: page\n    check: http\n    interval: 1s\n    timeout: 900ms\n    locations: [dc1]\n    config:\n      url: \"{}\"\n      keyword: nowhere\n      auth: {{ bearer: {{ token: {{ $secret: shop }} }} }}\n",
        web.url()
    ));
    let result =
        field.result_of("page", "down with evidence", |r| r["state"] == "down" && !r["evidence"].is_null());
    assert!(result["evidence"].as_str().unwrap().contains("[redacted]"), "{result}");
    drop(agent);
    let admin = field.token();
    assert!(admin.len() >= 32);
    let mut wrong = Vec::new();
    let mut folders = vec![field.dir().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let holds = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
            if holds("canary-7Qv9") || holds(&setup) {
                wrong.push(path.clone());
            }
            if holds(&admin) && !path.ends_with("cp/admin.token") {
                wrong.push(path);
            }
        }
    }
    assert_eq!(wrong, Vec::<std::path::PathBuf>::new(), "files with a secret in clear");
}
