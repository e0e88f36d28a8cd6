//! The fields that every monitor may have, whatever its check: read beside the others, so that every mistake is found at once. Most
//! are for the agent and come to a [`Manner`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::Url;
use serde_json::{Map, Value};
use wire::Mistake;
use wire::alert::Severity;
use wire::maintenance::{Day, Maintenance};
use wire::manner::{AddressMode, IpFamily, Manner, Proxy, Text, Tls};

use super::{Reader, found, millis};
use crate::maintenance::Window;

/// Reads how a single run is made, from the same keys; what concerns only what is planned is not known here.
///
/// # Errors
/// Every mistake, with a JSON pointer into the fields.
pub fn manner(fields: &Map<String, Value>, timeout: Duration) -> Result<Manner, Vec<Mistake>> {
    let mut read = Reader { at: "", name: None, fields, mistakes: Vec::new() };
    read.refuse_unknown_keys(OF_A_RUN);
    let manner = read.run(timeout);
    if read.mistakes.is_empty() { Ok(manner) } else { Err(read.mistakes) }
}

impl Reader<'_> {
    /// All of it.
    pub(super) fn manner(&mut self, interval: Duration, timeout: Duration) -> Manner {
        let (retries, pause) = self.attempts(interval, timeout);
        Manner { retries, retry_interval_ms: millis(pause), ..self.run(timeout) }
    }

    /// What one attempt needs.
    fn run(&mut self, timeout: Duration) -> Manner {
        let degraded_after = self.optional("degraded_after", Reader::duration);
        if degraded_after.is_some_and(|after| after >= timeout) {
            let timeout = humantime::format_duration(timeout);
            self.mistake(
                "/degraded_after",
                format!("what takes longer than the timeout {timeout} is down: write less"),
            );
        }
        Manner {
            retries: 0,
            retry_interval_ms: 0,
            degraded_after_ms: degraded_after.map(millis),
            ip_family: self.optional("ip_family", Reader::word::<IpFamily>).unwrap_or_default(),
            address_mode: self.optional("address_mode", Reader::word::<AddressMode>).unwrap_or_default(),
            resolver: self.optional("resolver", Reader::name_servers).unwrap_or_default(),
            proxy: self.optional("proxy", Reader::proxy),
            tls: self.optional("tls", Reader::tls).unwrap_or_default(),
            invert: self.optional("invert", Reader::flag).unwrap_or(false),
        }
    }

    /// How often, and after which pause: all of it before the next run is due.
    fn attempts(&mut self, interval: Duration, timeout: Duration) -> (u32, Duration) {
        let pause = self.optional("retry_interval", Reader::duration);
        let written = pause.is_some();
        let pause = pause.unwrap_or(RETRY_INTERVAL);
        let takes = |retries: u32| timeout * (retries + 1) + pause * retries;
        let most = (0..=MOST_RETRIES).rev().find(|retries| takes(*retries) < interval).unwrap_or(0);
        let retries = match self.optional("retries", Reader::retries) {
            None if written && most == 0 => 1,
            None => most.min(1),
            Some(retries) => retries,
        };
        if retries > most && timeout < interval {
            let within = if self.fields.contains_key("retries") { "/retries" } else { "/retry_interval" };
            let text = humantime::format_duration;
            let message = format!(
                "{} attempts of {} with pauses of {} take {}, which is not below the interval {}: write at most {most} retries, or a \
                 shorter timeout or retry_interval",
                retries + 1,
                text(timeout),
                text(pause),
                text(takes(retries)),
                text(interval),
            );
            self.mistake(within, message);
        }
        (retries, pause)
    }

    fn retries(&mut self, _: &str, value: &Value) -> Option<u32> {
        u32::try_from(value.as_u64()?).ok().filter(|retries| *retries <= MOST_RETRIES)
    }

    /// One of a few words.
    pub(super) fn word<T: serde::de::DeserializeOwned>(&mut self, _: &str, value: &Value) -> Option<T> {
        serde_json::from_value(value.clone()).ok()
    }

    fn name_servers(&mut self, within: &str, value: &Value) -> Option<Vec<SocketAddr>> {
        let texts = match value {
            Value::Array(items) => items.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?,
            one => vec![one.as_str()?],
        };
        if texts.is_empty() || texts.len() > MOST_NAME_SERVERS {
            self.mistake(within, format!("found {}, write 1 to {MOST_NAME_SERVERS} addresses", texts.len()));
            return None;
        }
        let mut servers = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            match name_server(text) {
                Some(server) => servers.push(server),
                None => self.mistake(
                    &if value.is_array() { format!("{within}/{index}") } else { within.to_owned() },
                    format!("found {text:?}, write an address like \"10.0.0.53\" or \"[fd00::53]:5353\""),
                ),
            }
        }
        Some(servers)
    }

    /// A message never repeats what may be a password.
    fn proxy(&mut self, within: &str, value: &Value) -> Option<Proxy> {
        if let Some(url) = value.as_str() {
            return self.proxy_url(within, url).map(|url| Proxy { url, user: None, password: None });
        }
        let fields = value.as_object()?;
        self.within(within, fields, &["url", "user", "password"], |inner| {
            let url = inner.required("url", Reader::text)?;
            let url = inner.proxy_url("/url", &url);
            let user = inner.optional("user", Reader::text_or_secret);
            if matches!(&user, Some(Text::Plain(user)) if user.contains(':')) {
                inner.mistake("/user", "a user name has no colon");
            }
            let password = inner.optional("password", Reader::secret);
            if password.is_some() && user.is_none() {
                inner.mistake("/password", "it belongs to a user: write user beside it");
            }
            Some(Proxy { url: url?, user, password })
        })
    }

    fn proxy_url(&mut self, within: &str, text: &str) -> Option<String> {
        let wanted = "write \"http://host:port\"";
        let wrong = match Url::parse(text) {
            Err(_) => format!("it is not an address: {wanted}"),
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                "there is a user or a password in it: write them as user and password beside url".to_owned()
            }
            Ok(url) if url.scheme() != "http" => format!("found the scheme {:?}, {wanted}", url.scheme()),
            Ok(url) if url.path() != "/" || url.query().is_some() || url.fragment().is_some() => {
                format!("there is a path behind the port: {wanted}")
            }
            Ok(url) if url.host_str().is_none() || url.port_or_known_default() == Some(0) => {
                wanted.to_owned()
            }
            Ok(url) => {
                let (host, port) = (url.host_str()?, url.port_or_known_default()?);
                return Some(format!("http://{host}:{port}"));
            }
        };
        self.mistake(within, wrong);
        None
    }

    fn tls(&mut self, within: &str, value: &Value) -> Option<Tls> {
        self.within(within, value.as_object()?, OF_TLS, |inner| {
            let tls = Tls {
                ca: inner.optional("ca", Reader::text_or_secret),
                cert: inner.optional("cert", Reader::text_or_secret),
                key: inner.optional("key", Reader::file_or_secret),
                server_name: inner.optional("server_name", Reader::server_name),
                verify: inner.optional("verify", Reader::flag).unwrap_or(true),
                min_version: inner.optional("min_version", Reader::version),
                max_version: inner.optional("max_version", Reader::version),
            };
            for (one, other) in [("cert", "key"), ("key", "cert")] {
                if inner.fields.contains_key(one) && !inner.fields.contains_key(other) {
                    inner.mistake("", format!("{one} is of no use without {other}: write both"));
                }
            }
            if let (Some(lowest), Some(highest)) = (&tls.min_version, &tls.max_version)
                && lowest > highest
            {
                inner.mistake("/min_version", format!("{lowest} is above max_version {highest}"));
            }
            Some(tls)
        })
    }

    fn version(&mut self, _: &str, value: &Value) -> Option<String> {
        value.as_str().filter(|text| ["1.2", "1.3"].contains(text)).map(str::to_owned)
    }

    fn server_name(&mut self, _: &str, value: &Value) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        value.as_str().filter(|text| !text.is_empty() && text.chars().all(plain)).map(str::to_owned)
    }

    fn text_or_secret(&mut self, within: &str, value: &Value) -> Option<Text> {
        match value {
            Value::String(text) => Some(Text::Plain(text.clone())),
            Value::Object(_) => self.secret(within, value),
            _ => None,
        }
    }

    /// A key does not stand in a monitor; where it lies may.
    fn file_or_secret(&mut self, within: &str, value: &Value) -> Option<Text> {
        match value.as_str() {
            Some(path) if is_file(path) => Some(Text::Plain(path.to_owned())),
            _ => self.secret(within, value),
        }
    }

    /// What was found is not repeated: it may be the secret itself.
    fn secret(&mut self, within: &str, value: &Value) -> Option<Text> {
        let name =
            value.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("$secret"));
        match name.and_then(Value::as_str).filter(|name| !name.is_empty()) {
            Some(name) => Some(Text::Secret { secret: name.to_owned() }),
            None => {
                let key = within.rsplit('/').next().unwrap_or_default();
                let wanted = super::explained(key);
                self.mistake(within, format!("found something else than a secret by name, write {wanted}"));
                None
            }
        }
    }

    pub(super) fn windows(&mut self, within: &str, value: &Value) -> Option<Vec<Maintenance>> {
        let items = value.as_array()?;
        if items.len() > MOST_WINDOWS {
            self.mistake(within, format!("found {} windows, write at most {MOST_WINDOWS}", items.len()));
        }
        let read = |(index, item): (usize, &Value)| self.window(&format!("{within}/{index}"), item);
        Some(items.iter().take(MOST_WINDOWS).enumerate().filter_map(read).collect())
    }

    fn window(&mut self, within: &str, value: &Value) -> Option<Maintenance> {
        let Value::Object(fields) = value else {
            self.mistake(within, format!("found {}, write {WINDOW}", found(value)));
            return None;
        };
        let kind = ["from", "cron", "at"].into_iter().find(|key| fields.contains_key(*key));
        let Some(kind) = kind else {
            self.mistake(within, format!("found {}, write {WINDOW}", found(value)));
            return None;
        };
        let known: &[&str] = match kind {
            "from" => &["from", "to", "time_zone"],
            "cron" => &["cron", "duration", "time_zone"],
            _ => &["days", "at", "duration", "time_zone"],
        };
        self.within(within, fields, known, |inner| {
            let time_zone = inner.optional("time_zone", Reader::text).unwrap_or_else(|| "UTC".to_owned());
            let read = match kind {
                "from" => Maintenance::Once {
                    from: inner.required("from", Reader::text)?,
                    to: inner.required("to", Reader::text)?,
                    time_zone,
                },
                "cron" => Maintenance::Cron {
                    cron: inner.required("cron", Reader::text)?,
                    duration: inner.required("duration", Reader::text)?,
                    time_zone,
                },
                _ => Maintenance::Weekly {
                    days: inner.optional("days", Reader::word::<Vec<Day>>).unwrap_or_default(),
                    at: inner.required("at", Reader::text)?,
                    duration: inner.required("duration", Reader::text)?,
                    time_zone,
                },
            };
            if let Err((key, message)) = Window::read(&read) {
                inner.mistake(&format!("/{key}"), message);
            }
            Some(read)
        })
    }

    pub(super) fn severity(&mut self, within: &str, value: &Value) -> Option<Severity> {
        self.word(within, value)
    }

    pub(super) fn address(&mut self, _: &str, value: &Value) -> Option<String> {
        let text = value.as_str().filter(|text| text.len() <= LONGEST_ADDRESS)?;
        let url = Url::parse(text).ok()?;
        (["http", "https"].contains(&url.scheme()) && url.host_str().is_some()).then(|| text.to_owned())
    }

    /// Reads an object inside the monitor: its mistakes are the monitor's.
    fn within<T>(
        &mut self,
        within: &str,
        fields: &Map<String, Value>,
        known: &[&str],
        read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        let at = format!("{}{within}", self.at);
        let mut inner = Reader { at: &at, name: self.name, fields, mistakes: Vec::new() };
        inner.refuse_unknown_keys(known);
        let outcome = read(&mut inner);
        self.mistakes.extend(inner.mistakes);
        outcome
    }
}

/// A path, or a name with an extension: a key in base64 has no dot in it.
fn is_file(text: &str) -> bool {
    let name = text.rsplit('/').next().unwrap_or_default();
    let extended =
        name.rsplit_once('.').is_some_and(|(name, extension)| !name.is_empty() && !extension.is_empty());
    let plain = |c: char| !c.is_control() && !c.is_whitespace();
    text.starts_with('/') || extended && text.len() <= LONGEST_NAME && text.chars().all(plain)
}

fn name_server(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let alone = || Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, DNS));
    text.parse().ok().or_else(alone).filter(|server: &SocketAddr| server.port() > 0)
}

const OF_A_RUN: &[&str] =
    &["degraded_after", "ip_family", "address_mode", "resolver", "proxy", "tls", "invert"];
const OF_TLS: &[&str] = &["ca", "cert", "key", "server_name", "verify", "min_version", "max_version"];

const WINDOW: &str =
    "a window: from and to; or at, duration and perhaps days; or cron and duration; perhaps time_zone";

const RETRY_INTERVAL: Duration = Duration::from_secs(5);
const MOST_RETRIES: u32 = 10;
const MOST_NAME_SERVERS: usize = 8;
const MOST_WINDOWS: usize = 20;
/// What a file's own name has at most, on most disks.
const LONGEST_NAME: usize = 255;
const LONGEST_ADDRESS: usize = 2048;
/// RFC 1035, section 4.2.
const DNS: u16 = 53;
