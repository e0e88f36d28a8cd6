//! Files of the agent's machine that a monitor names: only those that the agent's operator opened, whoever asks.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;

use picket_e2e::{Field, Process};
use servers::{Authority, Shape, TlsServer};

/// Says yes to PostgreSQL's question for TLS, and nothing else.
fn postgres() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever went away is asked nothing more.
            let _ = stream.read_exact(&mut [0; 8]).and_then(|()| stream.write_all(b"S"));
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    port
}

#[test]
fn a_monitor_takes_certificates_and_keys_only_from_where_the_operator_lets_it() {
    let field = Field::new();
    let authority = Authority::new().expect("an authority");
    let server = TlsServer::start(&authority, Shape::Valid).expect("a server");
    let (tls, postgres) = (server.port(), postgres());
    let client = authority.issue_client().expect("a client");
    std::fs::create_dir(field.path("opened")).expect("it can be made");
    field.write("opened/ours.pem", server.root_pem());
    field.write("opened/client.pem", &client.chain_pem);
    field.write("opened/client.key", &client.key_pem);
    field.write("outside.pem", server.root_pem());
    symlink("../outside.pem", field.path("opened/link.pem")).expect("it can be made");
    symlink("/etc", field.path("opened/etc")).expect("it can be made");
    let token = field.create_agent("edge-1", "dc1");
    let mut agent = field.agent("edge-1");
    agent.env("PICKET_SETUP_TOKEN", token).env("PICKET_SECRET_WORD", "hunter22-is-no-path");
    agent.arg("--allow-files").arg(field.path("opened"));
    let _agent = Process::start(&mut agent, field.path("edge-1.log"));

    let at = |name: &str| field.path(name).display().to_string();
    let identity = at("edge-1/identity/slot.a");
    let own = |pem: &str| {
        format!(
            "check: tls, config: {{ host: 127.0.0.1, port: {tls}, server_name: localhost, ca: \"{pem}\" }}"
        )
    };
    let common = |tls_field: &str| {
        format!(
            "check: tls, config: {{ host: 127.0.0.1, port: {tls}, server_name: localhost }}, tls: {{ {tls_field} }}"
        )
    };
    let with_key = |cert: &str, key: &str| {
        common(&format!("ca: {}, cert: \"{cert}\", key: \"{key}\"", at("opened/ours.pem")))
    };
    let passes = [
        ("path", own(&at("opened/ours.pem"))),
        ("name", own("ours.pem")),
        ("common", common(&format!("ca: {}", at("opened/ours.pem")))),
        ("client", with_key(&at("opened/client.pem"), &at("opened/client.key"))),
    ];
    let denied = [
        ("passwd", own("/etc/passwd")),
        ("nothing", own("/etc/no-such-file")),
        ("identity", own(&identity)),
        ("identity-common", common(&format!("ca: \"{identity}\""))),
        ("identity-cert", with_key(&identity, &at("opened/client.key"))),
        ("identity-key", with_key(&at("opened/client.pem"), &identity)),
        ("environment", common("ca: /proc/self/environ")),
        ("beside", own(&at("outside.pem"))),
        ("up", own(&at("opened/../outside.pem"))),
        ("up-by-name", own("../outside.pem")),
        ("link", own(&at("opened/link.pem"))),
        ("link-above", own("etc/passwd")),
        (
            "http",
            format!(
                "check: http, config: {{ url: \"https://localhost:{tls}/\" }}, tls: {{ ca: /etc/passwd }}"
            ),
        ),
        (
            "tcp",
            format!(
                "check: tcp, config: {{ host: 127.0.0.1, port: {tls}, tls: true }}, tls: {{ ca: /etc/passwd }}"
            ),
        ),
        (
            "postgres",
            format!(
                "check: postgres, config: {{ host: 127.0.0.1, port: {postgres}, user: u, sslmode: verify-full }}, \
                 tls: {{ ca: /etc/passwd }}"
            ),
        ),
    ];
    let monitor = |(name, what): &(&str, String)| {
        format!("  - {{ name: {name}, interval: 10s, timeout: 3s, retries: 0, locations: [dc1], {what} }}\n")
    };
    let secret = ("secret", common("ca: { $secret: word }"));
    let all: String = passes.iter().chain(&denied).chain([&secret]).map(monitor).collect();
    field.apply(&format!("monitors:\n{all}"));

    for (name, _) in &passes {
        let result = field.result_of(name, "any", |_| true);
        assert_eq!(result["state"], "up", "{name}: {result}");
    }
    for (name, _) in &denied {
        let result = field.result_of(name, "any", |_| true);
        assert_eq!(
            (&result["state"], &result["code"]),
            (&"error".into(), &"denied".into()),
            "{name}: {result}"
        );
        let text = result.to_string();
        assert!(text.contains("--allow-files"), "{name}: {text}");
        for content in ["root:", "daemon", "BEGIN", "PICKET_", "No such file"] {
            assert!(!text.contains(content), "{name}: {text}");
        }
    }
    let summary = |name: &str| {
        field.result_of(name, "any", |_| true)["summary"].as_str().unwrap_or_default().to_owned()
    };
    // Whether it exists is not told.
    assert_eq!(summary("passwd").replace("passwd", "no-such-file"), summary("nothing"));
    // A secret is taken for what it is to be, and never for the name of a file, which is told.
    let told = field.result_of("secret", "any", |_| true);
    assert_eq!((&told["state"], told.to_string().contains("hunter22")), (&"error".into(), false), "{told}");
}
