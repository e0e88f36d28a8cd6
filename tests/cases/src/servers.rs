//! The servers that cases name: each distinct kind with its settings is started once, when the first case needs it, and ends
//! with the [`Fleet`].

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use servers::{
    Authority, BlackHole, Daemon, Frames, Knot, Manner, Nginx, OpensslServer, Program, Registry,
    RegistryAnswers, Rogue, RogueDns, RogueFrames, Shape, Signed, Starttls, StarttlsServer, TcpServer,
    Tinyproxy, TlsServer, Unbound, Versions,
};

use crate::databases;

/// All servers of one process.
#[derive(Default)]
pub struct Fleet {
    authority: OnceLock<Authority>,
    started: Mutex<BTreeMap<String, Slot>>,
}

/// Filled by the first that needs it, while others wait.
type Slot = Arc<OnceLock<Result<Server, String>>>;

/// A running server: its values by field, and what ends it when dropped.
pub(crate) struct Server {
    values: BTreeMap<String, String>,
    _running: Box<dyn Any + Send + Sync>,
}

/// All at the same time: ending a database takes a moment, and there are many.
impl Drop for Fleet {
    fn drop(&mut self) {
        let started = self.started.get_mut().unwrap_or_else(PoisonError::into_inner);
        let ending: Vec<_> = std::mem::take(started)
            .into_values()
            .map(|slot| std::thread::spawn(move || drop(slot)))
            .collect();
        for server in ending {
            // A server that panics while it ends has said so itself.
            let _ = server.join();
        }
    }
}

impl Fleet {
    /// The values of the servers that a file names, as "alias.field"; starts those that do not run yet. An error names the
    /// server, and the package that is missing.
    pub fn values(&self, named: &BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, String> {
        let mut values = BTreeMap::new();
        for (alias, wanted) in named {
            let slot = {
                let mut started =
                    self.started.lock().expect("no server's start panics while it holds the map");
                started.entry(wanted.to_string()).or_default().clone()
            };
            let server = slot.get_or_init(|| self.start(wanted)).as_ref();
            let server = server.map_err(|error| format!("server `{alias}`: {error}"))?;
            values.extend(
                server.values.iter().map(|(field, value)| (format!("{alias}.{field}"), value.clone())),
            );
        }
        Ok(values)
    }

    fn start(&self, wanted: &Value) -> Result<Server, String> {
        let (kind, settings) = match wanted {
            Value::String(kind) => (kind.as_str(), Value::Null),
            Value::Object(members) if members.len() == 1 => {
                let (kind, settings) = members.iter().next().expect("it has one member");
                (kind.as_str(), settings.clone())
            }
            other => return Err(format!("found {other}, write a kind or {{kind: settings}}")),
        };
        let authority = self.authority();
        let mut server = launch(kind, &settings, authority)?;
        server.values.entry("host".into()).or_insert_with(|| "127.0.0.1".into());
        server.values.entry("ca".into()).or_insert_with(|| authority.pem());
        Ok(server)
    }

    fn authority(&self) -> &Authority {
        self.authority.get_or_init(|| Authority::new().expect("a certificate from constants can be made"))
    }
}

fn launch(kind: &str, settings: &Value, authority: &Authority) -> Result<Server, String> {
    let text = |key: &str| settings.get(key).and_then(Value::as_str);
    let shape = shape(settings.get("certificate"))?;
    match kind {
        "nginx" => {
            let nginx = Nginx::start_with(authority, shape).map_err(said)?;
            let values = [
                ("port", nginx.port().to_string()),
                ("url", format!("http://127.0.0.1:{}", nginx.port())),
                ("tls_port", nginx.tls_port().to_string()),
                ("tls_url", format!("https://localhost:{}", nginx.tls_port())),
                ("mutual_port", nginx.mutual_port().to_string()),
                ("mutual_url", format!("https://localhost:{}", nginx.mutual_port())),
                ("user", servers::NGINX_USER.into()),
                ("password", servers::NGINX_PASSWORD.into()),
                ("token", servers::NGINX_TOKEN.into()),
                ("client_id", servers::NGINX_CLIENT.into()),
                ("client_secret", servers::NGINX_CLIENT_SECRET.into()),
            ];
            Ok(Server::new(values, nginx))
        }
        "knot" => {
            let serial = settings.get("serial").and_then(Value::as_u64).map(u32::try_from);
            let knot = match serial {
                None => Knot::start(),
                Some(Ok(serial)) => Knot::start_at(serial),
                Some(Err(_)) => return Err("serial: write a number of 32 bits".into()),
            }
            .map_err(said)?;
            Ok(Server::new([("port", knot.port().to_string()), ("server", knot.server())], knot))
        }
        "signed" => {
            let signed = Signed::start().map_err(said)?;
            let values = [
                ("port", signed.port().to_string()),
                ("server", signed.server()),
                ("anchor", signed.anchor().into()),
            ];
            Ok(Server::new(values, signed))
        }
        "unbound" => {
            let unbound = Unbound::start(authority, shape).map_err(said)?;
            let values = [
                ("port", unbound.port().to_string()),
                ("tls_port", unbound.tls_port().to_string()),
                ("https_port", unbound.https_port().to_string()),
                ("anchor", unbound.anchor().into()),
            ];
            Ok(Server::new(values, unbound))
        }
        "rogue" => {
            let rogue = Rogue::start().map_err(said)?;
            let values =
                [("port", rogue.port().to_string()), ("url", format!("http://127.0.0.1:{}", rogue.port()))];
            Ok(Server::new(values, rogue))
        }
        "rogue-frames" => {
            let frames = match text("frames") {
                Some("goaway") => Frames::GoAway,
                Some("reset") => Frames::Reset,
                Some("silent") => Frames::Silent,
                Some("oversize") => Frames::Oversize,
                other => {
                    return Err(format!("frames: found {other:?}, write goaway, reset, silent or oversize"));
                }
            };
            let rogue = RogueFrames::start(frames).map_err(said)?;
            let values =
                [("port", rogue.port().to_string()), ("url", format!("http://127.0.0.1:{}", rogue.port()))];
            Ok(Server::new(values, rogue))
        }
        "rogue-dns" => {
            let rogue = RogueDns::start().map_err(said)?;
            Ok(Server::new([("port", rogue.port().to_string())], rogue))
        }
        "tinyproxy" => {
            let proxy = Tinyproxy::start().map_err(said)?;
            let values = [
                ("port", proxy.port().to_string()),
                ("url", format!("http://127.0.0.1:{}", proxy.port())),
                ("user", servers::PROXY_USER.into()),
                ("password", servers::PROXY_PASSWORD.into()),
            ];
            Ok(Server::new(values, proxy))
        }
        "client" => {
            let authority = match text("of") {
                None | Some("us") => authority,
                Some("somebody") => {
                    &Authority::called("Somebody else's").map_err(|error| error.to_string())?
                }
                Some(other) => return Err(format!("of: found {other}, write us or somebody")),
            };
            let identity = authority.issue_client().map_err(said)?;
            Ok(Server::new([("cert", identity.chain_pem), ("key", identity.key_pem)], ()))
        }
        "tls" => {
            let versions = match text("versions") {
                None | Some("both") => Versions::Both,
                Some("1.2") => Versions::Only12,
                Some("1.3") => Versions::Only13,
                Some(other) => {
                    return Err(format!("versions: found {other}, write both, \"1.2\" or \"1.3\""));
                }
            };
            let server = TlsServer::start_with(authority, shape, versions).map_err(said)?;
            let values = [
                ("port", server.port().to_string()),
                ("ca", server.root_pem().to_owned()),
                ("path_ca", format!("{}{}", server.root_pem(), authority.intermediate_pem())),
                ("pin", hex::encode(server.pin())),
                ("pin_base64", STANDARD.encode(server.pin())),
                ("root_pin", STANDARD.encode(authority.root_pin())),
            ];
            Ok(Server::new(values, server))
        }
        "openssl" => {
            let options = text("options").unwrap_or_default();
            let server = OpensslServer::start(authority, shape, options).map_err(said)?;
            let values = [("port", server.port().to_string()), ("ca", server.root_pem().to_owned())];
            Ok(Server::new(values, server))
        }
        "registry" => registry(settings, authority),
        "dovecot" => daemon(Program::Dovecot, authority, shape),
        "vsftpd" => daemon(Program::Vsftpd, authority, shape),
        "slapd" => daemon(Program::Slapd, authority, shape),
        "prosody" => daemon(Program::Prosody, authority, shape),
        "mariadb" => daemon(Program::Mariadb, authority, shape),
        "starttls" => {
            let dialogue = match text("dialogue") {
                Some("smtp") => Starttls::Smtp,
                Some("smtp-without") => Starttls::SmtpWithout,
                Some("postgres") => Starttls::Postgres,
                Some("postgres-without") => Starttls::PostgresWithout,
                other => {
                    return Err(format!(
                        "dialogue: found {other:?}, write smtp, smtp-without, postgres or postgres-without"
                    ));
                }
            };
            let server = StarttlsServer::start(authority, shape, dialogue).map_err(said)?;
            Ok(Server::new([("port", server.port().to_string())], server))
        }
        "tcp" => {
            let server = TcpServer::start(manner(settings)?).map_err(said)?;
            Ok(Server::new([("port", server.port().to_string())], server))
        }
        "closed-port" => {
            let port = servers::closed_port().map_err(said)?;
            Ok(Server::new([("port", port.to_string())], ()))
        }
        "black-hole" => {
            let hole = BlackHole::start().map_err(said)?;
            Ok(Server::new([("port", hole.port().to_string())], hole))
        }
        "postgres" => databases::postgres(settings, authority),
        "liar" => databases::liar(settings),
        "cluster" => databases::cluster(settings, authority),
        "subscription" => databases::subscription(settings, authority),
        other => Err(format!("found kind {other}; the known ones stand in tests/cases/README.md")),
    }
}

fn daemon(program: Program, authority: &Authority, shape: Shape) -> Result<Server, String> {
    let daemon = Daemon::start(program, authority, shape).map_err(said)?;
    let values = [
        ("port", daemon.port().to_string()),
        ("pop3_port", daemon.pop3_port().to_string()),
        ("smtp_port", daemon.smtp_port().to_string()),
    ];
    Ok(Server::new(values, daemon))
}

fn registry(settings: &Value, authority: &Authority) -> Result<Server, String> {
    let answers = match settings.get("answers").map(|answers| answers.as_str().unwrap_or_default()) {
        None | Some("right") => RegistryAnswers::Right,
        Some("delegated") => RegistryAnswers::Delegated,
        Some("unauthorised") => RegistryAnswers::Unauthorised,
        Some("corrupt") => RegistryAnswers::Corrupt,
        Some("list-stale") => RegistryAnswers::ListStale,
        Some("list-forged") => RegistryAnswers::ListForged,
        Some("list-of-another-part") => RegistryAnswers::ListOfAnotherPart,
        Some("intermediate-revoked") => RegistryAnswers::IntermediateRevoked,
        Some("refusing") => RegistryAnswers::Refusing,
        Some("hanging") => RegistryAnswers::Hanging,
        Some("endless") => RegistryAnswers::Endless,
        Some(other) => {
            return Err(format!("answers: found {other}; the known ones stand in tests/cases/README.md"));
        }
    };
    let registry = Registry::start(authority, answers).map_err(said)?;
    let mut values = BTreeMap::from([
        ("port".to_owned(), registry.port().to_string()),
        ("ca".to_owned(), registry.root_pem().to_owned()),
    ]);
    values.extend(registry.servers().map(|(name, port)| (name.to_owned(), port.to_string())));
    Ok(Server { values, _running: Box::new(registry) })
}

fn manner(settings: &Value) -> Result<Manner, String> {
    let banner = settings.get("banner").and_then(Value::as_str).map(|banner| banner.as_bytes().to_vec());
    if let Some(turns) = settings.get("dialogue").and_then(Value::as_object) {
        let turn = |(said, answer): (&String, &Value)| {
            answer
                .as_str()
                .map(|answer| (said.clone(), answer.to_owned()))
                .ok_or("dialogue: write {said: answer}")
        };
        let turns = turns.iter().map(turn).collect::<Result<_, _>>()?;
        return Ok(Manner::Dialogue(banner.unwrap_or_default(), turns));
    }
    if let Some(banner) = banner {
        return Ok(Manner::Banner(banner));
    }
    match settings.get("manner").and_then(Value::as_str) {
        Some("echo") => Ok(Manner::Echo),
        Some("silent") => Ok(Manner::Silent),
        Some("reset") => Ok(Manner::Reset),
        Some("close") => Ok(Manner::Close),
        _ => {
            Err(format!("found {settings}, write banner, dialogue, or manner: echo, silent, reset or close"))
        }
    }
}

fn shape(named: Option<&Value>) -> Result<Shape, String> {
    let days = |key: &str| named.and_then(|value| value.get(key)).and_then(Value::as_u64);
    if let Some(days) = days("expires_in_days") {
        return Ok(Shape::ExpiresInDays(days));
    }
    if let Some(days) = days("intermediate_expires_in_days") {
        return Ok(Shape::IntermediateExpiresInDays(days));
    }
    let Some(name) = named.map(|value| value.as_str().unwrap_or_default()) else { return Ok(Shape::Valid) };
    Shape::named(name)
        .ok_or_else(|| format!("found certificate {named:?}; the known ones stand in tests/cases/README.md"))
}

pub(crate) fn said(error: servers::Error) -> String {
    error.to_string()
}

impl Server {
    pub(crate) fn new<'a>(
        values: impl IntoIterator<Item = (&'a str, String)>,
        running: impl Any + Send + Sync,
    ) -> Self {
        let values = values.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
        Self { values, _running: Box::new(running) }
    }
}
