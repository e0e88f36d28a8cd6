//! Further attempts after one that is down, from the monitors file to the result: the last one counts and says which it was.

use std::io::Write;
use std::net::TcpListener;

use picket_e2e::Field;
use serde_json::Value;

/// Closes every odd connection without a word and says "ready" on every even one.
fn flaky() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for (number, stream) in (1..).zip(listener.incoming()) {
            if let Ok(mut stream) = stream
                && number % 2 == 0
            {
                // Whoever went away gets nothing.
                let _ = stream.write_all(b"ready\r\n");
            }
        }
    });
    port
}

fn attempt(result: &Value, number: u32) -> &str {
    result["attributes"][format!("attempt.{number}")].as_str().unwrap_or_default()
}

#[test]
fn the_last_attempt_is_the_result_and_tells_of_those_before() {
    let field = Field::new();
    let closed = servers::closed_port().expect("a port");
    let _agent = field.start_agent("edge-1", "dc1");
    field.apply(&format!(
        r#"
monitors:
  - {{ name: flaky, check: tcp, interval: 5s, timeout: 500ms, retries: 2, retry_interval: 200ms, locations: [dc1],
      config: {{ host: 127.0.0.1, port: {}, expect: ready }} }}
  - {{ name: dead, check: tcp, interval: 5s, timeout: 500ms, retries: 2, retry_interval: 200ms, locations: [dc1],
      config: {{ host: 127.0.0.1, port: {closed} }} }}
  - {{ name: wrong, check: tcp, interval: 5s, timeout: 500ms, retries: 2, retry_interval: 200ms, locations: [dc1],
      config: {{ host: 169.254.169.254, port: 80 }} }}
"#,
        flaky()
    ));
    let saved = field.result_of("flaky", "the second attempt", |result| result["attempt"] == 2);
    assert_eq!(saved["state"], "up", "{saved}");
    assert!(attempt(&saved, 1).starts_with("down (tcp.") && attempt(&saved, 2).is_empty(), "{saved}");
    // Whoever confirms that it is down makes one attempt, perhaps before anybody looks here.
    let dead = field.result_of("dead", "the third attempt", |result| result["attempt"] == 3);
    assert_eq!(dead["state"], "down", "{dead}");
    assert!([1, 2].iter().all(|n| attempt(&dead, *n).starts_with("down (tcp.refused)")), "{dead}");
    let wrong = field.result_of("wrong", "any", |_| true);
    assert_eq!((&wrong["code"], &wrong["attempt"]), (&"denied".into(), &1.into()), "{wrong}");
    // Whoever asks wants to know how it is now.
    let asked = field.picket(["monitors", "run", "dead", "--json"]).exits(2).json();
    assert_eq!(asked["results"][0]["attempt"], 1, "{asked}");
}
