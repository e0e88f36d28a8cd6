//! One attempt at a monitor: its plugin's run on the address that answers, or on each, and what the monitor makes of it. The same for
//! a plan of the agent and for a run by hand.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use sandbox::{Fault, Job, Plugin, Report, Sandbox, Secrets};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use wire::manner::{AddressMode, IpFamily, Manner, Text};
use zeroize::Zeroizing;

use crate::judged;

/// What all attempts share.
#[derive(Debug)]
pub struct Attempts {
    sandbox: Sandbox,
    /// Slots for the second and further addresses of one attempt.
    beside: Semaphore,
}

impl Attempts {
    /// Slots that the sandbox should have beside one for each attempt at the same time.
    pub const BESIDE: usize = 16;

    /// Attempts are made in this sandbox.
    pub fn new(sandbox: Sandbox) -> Self {
        Self { sandbox, beside: Semaphore::new(Self::BESIDE) }
    }

    /// Makes one attempt. `targets` are those of the plugin's own configuration, for whoever wants each of their addresses.
    pub async fn make(
        &self,
        plugin: &Plugin,
        job: Job,
        manner: &Manner,
        targets: &[net::Endpoint],
    ) -> Report {
        let limit = manner.degraded_after_ms.map(Duration::from_millis);
        let report = match manner.address_mode {
            AddressMode::Any | AddressMode::First => judged::slow(self.sandbox.run(plugin, job).await, limit),
            AddressMode::All => self.on_each(plugin, job, targets, limit).await,
        };
        if manner.invert { judged::inverted(report) } else { report }
    }

    /// A run for each address of each name, all at the same time. A name that cannot be resolved is the plugin's to tell of.
    async fn on_each(
        &self,
        plugin: &Plugin,
        job: Job,
        targets: &[net::Endpoint],
        limit: Option<Duration>,
    ) -> Report {
        let ends = Instant::now() + job.timeout;
        let pins = self.pins(&job, targets, ends).await;
        let run = |(index, pin): (usize, (String, IpAddr))| {
            let mut job = job.clone();
            async move {
                let ip = pin.1;
                job.route.pinned = Some(pin);
                // The first has the attempt's own slot.
                let beside = async { if index > 0 { self.beside.acquire().await.ok() } else { None } };
                let Ok(_slot) = timeout_at(ends, beside).await else {
                    return (ip, Report::fault(Fault::Exhausted));
                };
                job.timeout = ends.saturating_duration_since(Instant::now());
                (ip, judged::slow(self.sandbox.run(plugin, job).await, limit))
            }
        };
        let reports = join_all(pins.into_iter().enumerate().map(run)).await;
        match judged::worst(reports) {
            Some(report) => report,
            None => judged::slow(self.sandbox.run(plugin, job).await, limit),
        }
    }

    /// Every address of every name.
    async fn pins(&self, job: &Job, targets: &[net::Endpoint], ends: Instant) -> Vec<(String, IpAddr)> {
        let network = self.sandbox.network();
        let session = network.session_by(job.route.clone(), job.grant.clone(), net::Budget::default(), ends);
        let mut pins = Vec::new();
        for target in targets {
            for ip in session.addresses(target).await.unwrap_or_default() {
                pins.push((target.host.clone(), ip));
            }
        }
        pins
    }
}

/// The names among what a configuration checks, each once.
pub fn targets(plugin: &Plugin, completed: &Value) -> Vec<net::Endpoint> {
    let grant = plugin.schema.grant(completed, &[]).unwrap_or_default();
    let mut targets = Vec::<net::Endpoint>::new();
    for rule in grant.targets {
        if !grant.beside.contains(&rule)
            && let net::Rule::Name { name, port: Some(port) } = rule
            && !targets.iter().any(|target| target.host == name)
        {
            targets.push(net::Endpoint::new(name, port));
        }
    }
    targets
}

/// What a monitor may reach beside its targets: the name servers that it names.
pub fn name_servers(manner: &Manner) -> Vec<net::Rule> {
    let rule = |server: &std::net::SocketAddr| net::Rule::target(&server.ip().to_string(), server.port());
    // An address and a port are a rule.
    manner.resolver.iter().filter_map(|server| rule(server).ok()).collect()
}

/// How a session of this monitor goes to its targets. `secrets` are those that the manner names.
pub fn route(manner: &Manner, secrets: &Secrets) -> net::Route {
    let bytes = |text: &Text| match text {
        Text::Plain(text) => Zeroizing::new(text.as_bytes().to_vec()),
        Text::Secret { secret } => Zeroizing::new(secrets.bytes(secret).unwrap_or_default().to_vec()),
    };
    let pem = |text: &Text| match text {
        Text::Plain(text) => net::Pem::said(text),
        // Whatever it holds, a secret is no file's name: names are told.
        secret => net::Pem::Text(bytes(secret)),
    };
    let wire::manner::Tls { ca, cert, key, server_name, verify, min_version, max_version } = &manner.tls;
    net::Route {
        family: match manner.ip_family {
            IpFamily::Any => net::Family::Any,
            IpFamily::V4 => net::Family::V4,
            IpFamily::V6 => net::Family::V6,
        },
        first_only: manner.address_mode == AddressMode::First,
        pinned: None,
        name_servers: manner.resolver.clone(),
        proxy: manner.proxy.as_ref().and_then(|proxy| {
            let credentials = proxy.user.as_ref().map(|user| {
                let password = proxy.password.as_ref().map(bytes).unwrap_or_default();
                Zeroizing::new([&bytes(user)[..], b":", &password].concat())
            });
            Some(net::Proxy { at: endpoint(&proxy.url)?, credentials })
        }),
        tls: net::Tls {
            ca: ca.as_ref().map(pem),
            identity: cert
                .as_ref()
                .zip(key.as_ref())
                .map(|(certificates, key)| net::Identity { certificates: pem(certificates), key: pem(key) }),
            server_name: server_name.clone(),
            unverified: !verify,
            min_version: min_version.clone(),
            max_version: max_version.clone(),
        },
    }
}

/// Of "http://host:port", which the control plane has checked.
fn endpoint(url: &str) -> Option<net::Endpoint> {
    let url = reqwest::Url::parse(url).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']);
    Some(net::Endpoint::new(host, url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manner(said: Value) -> Manner {
        serde_json::from_value(said).unwrap()
    }

    #[test]
    fn a_manner_becomes_a_route_with_its_secrets_in_place() {
        let mut secrets = Secrets::new();
        secrets.insert("key", b"-----BEGIN PRIVATE KEY-----".to_vec());
        secrets.insert("proxy", b"hunter22".to_vec());
        let route = route(
            &manner(json!({
                "ip_family": "v6", "address_mode": "first", "resolver": ["10.0.0.53:53"],
                "proxy": {"url": "http://[fd00::1]:3128", "user": "guard", "password": {"$secret": "proxy"}},
                "tls": {"ca": "/ca.pem", "cert": "/cert.pem", "key": {"$secret": "key"}, "verify": false, "min_version": "1.3"},
            })),
            &secrets,
        );
        assert_eq!((route.family, route.first_only), (net::Family::V6, true));
        assert_eq!(route.name_servers, ["10.0.0.53:53".parse().unwrap()]);
        let proxy = route.proxy.as_ref().unwrap();
        assert_eq!(proxy.at, net::Endpoint::new("fd00::1", 3128));
        assert_eq!(proxy.credentials.as_ref().unwrap().as_slice(), b"guard:hunter22");
        assert_eq!((route.tls.unverified, route.tls.min_version.as_deref()), (true, Some("1.3")));
        let identity = route.tls.identity.as_ref().unwrap();
        assert!(matches!(&identity.certificates, net::Pem::File(path) if path == "/cert.pem"));
        assert!(matches!(&identity.key, net::Pem::Text(text) if text.starts_with(b"-----BEGIN")));
        assert!(!format!("{route:?}").contains("hunter22"));
    }

    #[test]
    fn a_secret_is_never_the_name_of_a_file() {
        let mut secrets = Secrets::new();
        secrets.insert("word", b"/etc/hunter22".to_vec());
        let secret = json!({"$secret": "word"});
        let said = json!({"tls": {"ca": secret, "cert": secret, "key": secret}});
        let tls = route(&manner(said), &secrets).tls;
        let identity = tls.identity.unwrap();
        for pem in [tls.ca.unwrap(), identity.certificates, identity.key] {
            assert!(matches!(pem, net::Pem::Text(text) if text.as_slice() == b"/etc/hunter22"));
        }
    }

    #[test]
    fn a_named_name_server_becomes_a_rule_of_its_own() {
        let rules = name_servers(&manner(json!({"resolver": ["10.0.0.53:53", "[fd00::53]:5353"]})));
        assert_eq!(
            rules.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.53:53", "[fd00::53]:5353"]
        );
    }
}
