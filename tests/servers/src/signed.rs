//! Knot DNS as the authority for a tree of signed zones, whole and damaged.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{Error, knot, ports};

/// A running name server: authoritative for `signed.test.` and the zones below it, each with `www` as an address.
///
/// | zone | signatures | DS above | `www` |
/// |---|---|---|---|
/// | `signed.test` | good | the anchor | 192.0.2.40 |
/// | `child.signed.test` | good | yes | 192.0.2.41 |
/// | `plain.signed.test` | none | none: insecure | 192.0.2.42 |
/// | `expired.signed.test` | of January 2020 | yes | 192.0.2.43 |
/// | `forged.signed.test` | good, but of another address | yes | 192.0.2.66 |
/// | `bare.signed.test` | none | yes | 192.0.2.45 |
/// | `stray.signed.test` | good | of another key | 192.0.2.46 |
///
/// `alias.signed.test` is a CNAME to `www.child`, `astray.signed.test` one to `www.forged`; what else is asked for does not exist, and
/// that is proven by NSEC records.
#[derive(Debug)]
pub struct Signed {
    port: u16,
    anchor: String,
    _process: Process,
    _directory: TempDir,
}

impl Signed {
    /// Signs the zones and serves them on a free port, UDP and TCP.
    pub fn start() -> Result<Signed, Error> {
        process::start_anew(Signed::launch)
    }

    fn launch() -> Result<Signed, Error> {
        let directory = process::directory("signed")?;
        let root = directory.path();
        for name in ["run", "db", "keys", "served"] {
            process::make_directory(&root.join(name))?;
        }
        process::write(&root.join("sign.conf"), signing(root))?;
        let mut delegations = String::new();
        for zone in ["child", "expired", "forged", "stray"] {
            let name = format!("{zone}.signed.test");
            process::write(&root.join(format!("{name}.zone")), child(zone))?;
            sign(root, &name, (zone == "expired").then_some(JANUARY_2020))?;
            let delegation = tell(root, &name, "ds")?;
            // The other digests say the same.
            let first = delegation.lines().next().unwrap_or_default();
            delegations.push_str(&match zone {
                "stray" => format!("{}\n", flipped(first)),
                _ => format!("{first}\n"),
            });
        }
        let forged = root.join("served/forged.signed.test.zone");
        let good = std::fs::read_to_string(&forged).map_err(|source| Error::File {
            action: "read",
            path: forged.clone(),
            source,
        })?;
        process::write(&forged, good.replace("192.0.2.44", "192.0.2.66"))?;
        process::write(&root.join("served/plain.signed.test.zone"), child("plain"))?;
        process::write(&root.join("served/bare.signed.test.zone"), child("bare"))?;
        delegations.push_str(BARE_DS);
        process::write(&root.join("signed.test.zone"), format!("{ROOT_ZONE}{delegations}"))?;
        sign(root, "signed.test", None)?;
        let anchor = tell(root, "signed.test", "dnskey")?.replace(" DNSKEY ", " 300 IN DNSKEY ");
        let port = ports::free_port()?;
        process::write(&root.join("knot.conf"), serving(root, port))?;
        let running = knot::run(root, port, "signed.test")?;
        Ok(Signed { port, anchor, _process: running, _directory: directory })
    }

    /// Where it answers on 127.0.0.1, over UDP and TCP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn server(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The DNSKEY record of `signed.test.` as a zone file has it.
    pub fn anchor(&self) -> &str {
        &self.anchor
    }
}

fn sign(root: &Path, zone: &str, at: Option<&str>) -> Result<(), Error> {
    let program = process::find("kzonesign", "knot-dnssecutils")?;
    let mut command = Command::new(program);
    command.arg("-c").arg(root.join("sign.conf")).arg("-o").arg(root.join("served"));
    if let Some(at) = at {
        command.arg("-t").arg(at);
    }
    process::run(command.arg(zone)).map(drop)
}

/// What Knot's key manager says of the zone's key.
fn tell(root: &Path, zone: &str, what: &str) -> Result<String, Error> {
    let program = process::find("keymgr", "knot")?;
    process::run(Command::new(program).arg("-c").arg(root.join("sign.conf")).arg(zone).arg(what))
}

/// A DS record with another digest.
fn flipped(record: &str) -> String {
    let (front, digest) = record.rsplit_once(' ').unwrap_or(("", record));
    let other = if digest.starts_with('0') { "1" } else { "0" };
    format!("{front} {other}{}", digest.get(1..).unwrap_or_default())
}

fn child(zone: &str) -> String {
    let (_, last) = ADDRESSES.iter().find(|(name, _)| *name == zone).copied().unwrap_or_default();
    format!(
        "$ORIGIN {zone}.signed.test.\n$TTL 300\n@ SOA ns.signed.test. hostmaster.signed.test. 1 3600 900 604800 60\n\
         @ NS ns.signed.test.\nwww A 192.0.2.{last}\n"
    )
}

const ADDRESSES: [(&str, u8); 6] =
    [("child", 41), ("plain", 42), ("expired", 43), ("forged", 44), ("bare", 45), ("stray", 46)];

const ROOT_ZONE: &str = "$ORIGIN signed.test.
$TTL 300
@ SOA ns hostmaster 2026010101 3600 900 604800 60
@ NS ns
ns A 127.0.0.1
www A 192.0.2.40
alias CNAME www.child
astray CNAME www.forged
child NS ns
plain NS ns
expired NS ns
forged NS ns
bare NS ns
stray NS ns
";

const BARE_DS: &str =
    "bare.signed.test. DS 4711 13 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";

/// The time of the signatures in seconds since 1970; they last for two weeks.
const JANUARY_2020: &str = "1577836800";

fn signing(root: &Path) -> String {
    let root = root.display();
    let zones: String = ["child", "expired", "forged", "stray"]
        .iter()
        .map(|zone| format!("  - domain: {zone}.signed.test\n"))
        .collect();
    format!(
        "database:\n    storage: \"{root}/keys\"\n\
         policy:\n  - id: one\n    algorithm: ecdsap256sha256\n    single-type-signing: on\n    rrsig-lifetime: 14d\n\
         template:\n  - id: default\n    storage: \"{root}\"\n    file: \"%s.zone\"\n    dnssec-signing: on\n    dnssec-policy: one\n\
         zone:\n  - domain: signed.test\n{zones}"
    )
}

fn serving(root: &Path, port: u16) -> String {
    let root = root.display();
    let zones: String =
        ADDRESSES.iter().map(|(zone, _)| format!("  - domain: {zone}.signed.test\n")).collect();
    format!(
        "server:\n    rundir: \"{root}/run\"\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n\
         \x20   background-workers: 1\n\
         log:\n  - target: stderr\n    any: warning\n\
         database:\n    storage: \"{root}/db\"\n\
         template:\n  - id: default\n    storage: \"{root}/served\"\n    file: \"%s.zone\"\n    zonefile-sync: -1\n    journal-content: none\n\
         zone:\n  - domain: signed.test\n{zones}"
    )
}
