//! A network of a test's own, where root allows one: every address there is this machine's, so that whoever is reached at all is noticed, and
//! `nft` counts every packet that leaves for anybody else than those who were named.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// Says that this process is the child in the namespace.
const MARK: &str = "PICKET_HOSTILE_NAMESPACE";

/// Whether this process has a network of its own.
pub fn is_own() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs the test of that name in a namespace, in a child of this program, and says whether it did. False inside of it, and where this machine
/// allows none: then the test is to be made here.
///
/// # Panics
/// When the test failed.
pub fn delegated(test: &str) -> bool {
    let ready =
        "ip link set lo up && ip route add local 0.0.0.0/0 dev lo && ip -6 route add local ::/0 dev lo";
    if is_own() || !unshare(&format!("{ready} && nft list ruleset"), &[]) {
        return false;
    }
    let program = std::env::current_exe().expect("this program has a path");
    let passed = unshare(
        &format!("{ready} && {MARK}=1 exec \"$0\" \"$@\""),
        &[&program.to_string_lossy(), "--exact", test, "--nocapture"],
    );
    assert!(passed, "{test} failed in a network namespace; its output stands above");
    true
}

fn unshare(script: &str, args: &[&str]) -> bool {
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script]).args(args).stdin(Stdio::null());
    if args.is_empty() {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    command.status().is_ok_and(|status| status.success())
}

/// Counts the packets that leave for others than the named ones. Nobody counts where the network is not our own.
#[derive(Debug)]
pub struct Counter(());

impl Counter {
    /// Begins to count. Packets between anybody and these, and answers of them, are not counted.
    ///
    /// # Panics
    /// When `nft` does not take the rules.
    pub fn start(named: &[SocketAddr]) -> Option<Counter> {
        if !is_own() {
            return None;
        }
        let family = |address: &SocketAddr| if address.is_ipv6() { "ip6" } else { "ip" };
        let rules: String = named
            .iter()
            .map(|address| {
                let (family, ip, port) = (family(address), address.ip(), address.port());
                format!(
                    "add rule inet hostile out {family} daddr {ip} th dport {port} accept\n\
                     add rule inet hostile out {family} saddr {ip} th sport {port} accept\n"
                )
            })
            .collect();
        nft(&format!(
            "add table inet hostile\nadd counter inet hostile others\n\
             add chain inet hostile out {{ type filter hook output priority 0; }}\n{rules}\
             add rule inet hostile out counter name others\n"
        ));
        Some(Counter(()))
    }

    /// Packets so far.
    ///
    /// # Panics
    /// When `nft` does not answer.
    pub fn packets(&self) -> u64 {
        let listed = nft("list counter inet hostile others");
        let mut words = listed.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        words.next().and_then(|count| count.parse().ok()).expect("nft prints its counters")
    }
}

fn nft(rules: &str) -> String {
    let out = Command::new("nft").arg(rules).output().expect("nft is installed");
    assert!(out.status.success(), "nft takes:\n{rules}{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}
