//! Knot DNS as the authority for a zone with every type that the dns check knows.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{Error, ports};

/// A running name server: authoritative for `picket.test.` and `2.0.192.in-addr.arpa.`, REFUSED for the rest.
///
/// | name | records |
/// |---|---|
/// | `picket.test` | SOA (serial 2026010101), NS ns1 and ns2, MX 10 mail and 20 backup, TXT "v=spf1 -all", CAA 0 issue "letsencrypt.org" |
/// | `www` | A 192.0.2.10, AAAA 2001:db8::10 |
/// | `many` | A 192.0.2.21, .22, .23 |
/// | `alias` | CNAME www |
/// | `dangling` | CNAME nothing, which does not exist |
/// | `_sip._tcp` | SRV 10 60 5060 sip |
/// | `here` | A 127.0.0.1 |
/// | `both` | A 127.0.0.1, .2 |
/// | `split` | TXT of two chunks, "picket-" and "joined" |
/// | `large` | TXT of 40 records of 200 bytes: truncated over UDP |
/// | `web`, `_dns.web` | HTTPS 1 . alpn=h2, SVCB 1 web alpn=dot port=853 |
/// | `_443._tcp.web` | TLSA 3 1 1 and a digest |
/// | `key` | DNSKEY 257 3 13 and a key |
/// | `below` | NS ns1, DS 4711 13 2 and a digest: a delegation |
/// | `empty` | TXT only: NOERROR without answers for A |
/// | `10.2.0.192.in-addr.arpa` | PTR www.picket.test |
/// | anything else in the zones | NXDOMAIN |
#[derive(Debug)]
pub struct Knot {
    port: u16,
    _process: Process,
    _directory: TempDir,
}

impl Knot {
    /// Starts it on a free port, UDP and TCP.
    pub fn start() -> Result<Knot, Error> {
        Knot::start_at(SERIAL)
    }

    /// The same with another serial of `picket.test`.
    pub fn start_at(serial: u32) -> Result<Knot, Error> {
        process::start_anew(|| Knot::launch(serial))
    }

    fn launch(serial: u32) -> Result<Knot, Error> {
        let directory = process::directory("knot")?;
        let root = directory.path();
        process::write(&root.join("picket.test.zone"), zone(serial))?;
        process::write(&root.join("2.0.192.in-addr.arpa.zone"), REVERSE)?;
        process::make_directory(&root.join("run"))?;
        process::make_directory(&root.join("db"))?;
        let port = ports::free_port()?;
        let configuration =
            CONFIGURATION.replace("@ROOT@", &root.display().to_string()).replace("@PORT@", &port.to_string());
        process::write(&root.join("knot.conf"), configuration)?;
        let running = run(root, port, "picket.test")?;
        Ok(Knot { port, _process: running, _directory: directory })
    }

    /// Where it answers on 127.0.0.1, over UDP and TCP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`, as the dns check's `server` wants it.
    pub fn server(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Runs Knot with the file `knot.conf` in `root`, until it answers for the zone over UDP and TCP.
pub(crate) fn run(root: &Path, port: u16, zone: &str) -> Result<Process, Error> {
    let program = process::find("knotd", "knot")?;
    let mut command = Command::new(program);
    command.arg("-c").arg(root.join("knot.conf"));
    let mut running = Process::start(&mut command, root.join("log"), Signal::TERM)?;
    running.wait_until(|| ports::accepts(port) && serves(port, zone))?;
    Ok(running)
}

/// Whether the SOA record of the zone comes back with NOERROR.
pub(crate) fn serves(port: u16, zone: &str) -> bool {
    let mut question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in zone.split('.') {
        question.push(u8::try_from(label.len()).unwrap_or_default());
        question.extend(label.bytes());
    }
    question.extend(b"\x00\x00\x06\x00\x01");
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return false };
    let mut answer = [0; 512];
    socket.set_read_timeout(Some(Duration::from_millis(200))).is_ok()
        && socket.send_to(&question, ("127.0.0.1", port)).is_ok()
        && socket.recv(&mut answer).is_ok_and(|length| length > 12)
        && answer[3] & 0x0f == 0
        && answer[7] == 1
}

fn zone(serial: u32) -> String {
    let large: String =
        (0..40).map(|index| format!("large TXT \"{index:03}{}\"\n", "x".repeat(197))).collect();
    format!("{}{large}", ZONE.replace("@SERIAL@", &serial.to_string()))
}

const SERIAL: u32 = 2_026_010_101;

const ZONE: &str = r#"$ORIGIN picket.test.
$TTL 300
@ SOA ns1 hostmaster @SERIAL@ 3600 900 604800 60
@ NS ns1
@ NS ns2
@ MX 10 mail
@ MX 20 backup
@ TXT "v=spf1 -all"
@ CAA 0 issue "letsencrypt.org"
ns1 A 192.0.2.1
ns2 A 192.0.2.2
mail A 192.0.2.25
backup A 192.0.2.26
sip A 192.0.2.50
www A 192.0.2.10
www AAAA 2001:db8::10
many A 192.0.2.21
many A 192.0.2.22
many A 192.0.2.23
here A 127.0.0.1
both A 127.0.0.1
both A 127.0.0.2
alias CNAME www
dangling CNAME nothing
_sip._tcp SRV 10 60 5060 sip
split TXT "picket-" "joined"
empty TXT "no address here"
web HTTPS 1 . alpn=h2
_dns.web SVCB 1 web alpn=dot port=853
_443._tcp.web TLSA 3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
key DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==
below NS ns1
below DS 4711 13 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
"#;

const REVERSE: &str = r#"$ORIGIN 2.0.192.in-addr.arpa.
$TTL 300
@ SOA ns1.picket.test. hostmaster.picket.test. 2026010101 3600 900 604800 60
@ NS ns1.picket.test.
10 PTR www.picket.test.
"#;

const CONFIGURATION: &str = r#"
server:
    rundir: "@ROOT@/run"
    listen: 127.0.0.1@@PORT@
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    tcp-idle-timeout: 30
log:
  - target: stderr
    any: warning
database:
    storage: "@ROOT@/db"
template:
  - id: default
    storage: "@ROOT@"
    file: "%s.zone"
    zonefile-sync: -1
    journal-content: none
zone:
  - domain: picket.test
  - domain: 2.0.192.in-addr.arpa
"#;
