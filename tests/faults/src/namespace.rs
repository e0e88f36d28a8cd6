//! A network of a row's own, and a wall in it: the kernel drops or rejects what goes to a port.
//!
//! The row runs in a child of this program, in a new network namespace with nothing but loopback. Rules of `nft` touch nothing outside
//! it, and it is gone with its last process, however that ends. Where this is not allowed, the proxy stands in for the wall.

use std::process::{Command, Stdio};

use crate::proxy::{Link, Proxy};

/// Whether this process may make namespaces and is not in one already.
pub fn possible() -> bool {
    !inside()
        && Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && nft list ruleset"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// Whether this process is the child that runs one row.
pub fn inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs the row of that name in a namespace; its line, or what it said when it failed.
pub fn run(name: &str, seed: u64) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new("unshare");
    command
        .args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(program)
        .args(["--exact", name])
        .env(MARK, "1")
        .env("SEED", seed.to_string())
        .env_remove("ROW");
    let out = servers::leash(&mut command).and_then(Command::output).map_err(|e| format!("unshare: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let line =
        text.lines().find(|line| line.starts_with(&format!("{name}: "))).unwrap_or_default().to_owned();
    if out.status.success() && !line.is_empty() {
        return Ok(line);
    }
    Err(format!("{}\n{text}\n{line}", String::from_utf8_lossy(&out.stderr)))
}

/// Stands between agents and their proxy.
pub struct Wall<'a> {
    proxy: &'a Proxy,
}

impl<'a> Wall<'a> {
    /// Open.
    pub fn before(proxy: &'a Proxy) -> Self {
        if inside() {
            nft("add table inet faults; add chain inet faults in { type filter hook input priority 0; }");
        }
        Self { proxy }
    }

    /// No byte passes any more, and nobody is told.
    pub fn drop(&self) {
        self.become_("drop", Link::Frozen);
    }

    /// Connections are refused, open ones are reset.
    pub fn reject(&self) {
        self.become_("reject with tcp reset", Link::Refused);
    }

    /// Everything passes.
    pub fn open(&self) {
        if inside() {
            nft("flush chain inet faults in");
        } else {
            self.proxy.link(Link::Up);
        }
    }

    fn become_(&self, verdict: &str, link: Link) {
        if !inside() {
            return self.proxy.link(link);
        }
        let port = self.proxy.port();
        nft(&format!(
            "flush chain inet faults in; add rule inet faults in tcp dport {port} {verdict}; \
             add rule inet faults in tcp sport {port} drop"
        ));
    }
}

fn nft(rules: &str) {
    let done = Command::new("nft").arg(rules).status();
    assert!(done.is_ok_and(|status| status.success()), "nft takes: {rules}");
}

const MARK: &str = "PICKET_FAULTS_NAMESPACE";
