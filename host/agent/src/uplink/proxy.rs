//! The proxy between the agent and its control plane: which one, if any, and what its refusals mean. Owns no connection, and shows
//! the proxy's user and password to nobody but the proxy.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::Error;

/// How the operator wants the proxy. Where nothing is set, the environment's `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`
/// count, but not for a control plane on this machine.
#[derive(Clone, Default)]
pub struct Proxy {
    /// "http://host:port"; user and password may stand in it.
    pub url: Option<String>,
    /// For a proxy that wants to know who asks.
    pub user: Option<String>,
    /// The user's.
    pub password: Option<String>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy")
    }
}

/// The proxy that is used.
#[derive(Clone)]
pub(crate) struct Chosen {
    /// Without user and password.
    pub(crate) url: Url,
    pub(crate) credentials: Option<HeaderValue>,
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chosen({})", self.address())
    }
}

impl Proxy {
    /// The proxy on the way to `control`. `environment` tells of the variables; on the way to this machine they do not count.
    pub(crate) fn choose(
        &self,
        control: &Url,
        loopback: bool,
        environment: impl FnOnce() -> Matcher,
    ) -> Result<Option<Chosen>, Error> {
        let (matcher, origin) = match &self.url {
            Some(url) => (Matcher::builder().all(url.as_str()).build(), "--proxy (PICKET_PROXY)"),
            None if loopback => return Ok(None),
            None => (environment(), "HTTPS_PROXY or ALL_PROXY"),
        };
        let wrong = || {
            // What was found is not repeated: it may hold a password.
            Error::Usage(format!(
                "{origin}: expected http://host:port, with user:password@ before the host where the proxy wants it"
            ))
        };
        let target = control.as_str().parse().map_err(|_| wrong())?;
        let Some(found) = matcher.intercept(&target) else {
            return if self.url.is_some() { Err(wrong()) } else { Ok(None) };
        };
        let (scheme, authority) = (found.uri().scheme_str(), found.uri().authority());
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (scheme, authority) else {
            return Err(wrong());
        };
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let url = Url::parse(&format!("{scheme}://{host}")).map_err(|_| wrong())?;
        let credentials = match &self.user {
            Some(user) => Some(basic(user, self.password.as_deref().unwrap_or_default())?),
            None => found.basic_auth().cloned(),
        };
        Ok(Some(Chosen { url, credentials }))
    }
}

impl Chosen {
    /// "host:port", for messages.
    pub(crate) fn address(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        format!("{host}:{}", self.url.port_or_known_default().unwrap_or_default())
    }

    /// The sentence about an answer 407.
    pub(crate) fn unauthorized(&self) -> String {
        let how = "write them in PICKET_PROXY_USER and PICKET_PROXY_PASSWORD, or in the proxy's address";
        match self.credentials {
            None => format!("proxy: the proxy at {} wants a user and a password: {how}", self.address()),
            Some(_) => {
                format!("proxy: the proxy at {} wants another user or password: {how}", self.address())
            }
        }
    }

    /// What a failed exchange says about the proxy, if the proxy is where it failed.
    pub(crate) fn explain(&self, failure: &str) -> Option<String> {
        let has = |text: &str| failure.contains(text);
        if has("proxy authorization required") {
            return Some(self.unauthorized());
        }
        if has("tunnel error") {
            let what = "does not open a way to the control plane";
            return Some(format!("proxy: the proxy at {} {what}: {failure}", self.address()));
        }
        // Names and ports that are dialled are the proxy's.
        let dialled = has("tcp connect error") || has("dns error") || has("tcp open error");
        dialled.then(|| format!("proxy: cannot reach the proxy at {}: {failure}", self.address()))
    }
}

/// RFC 7617.
fn basic(user: &str, password: &str) -> Result<HeaderValue, Error> {
    use base64::Engine as _;
    let wrong = || Error::Usage("PICKET_PROXY_USER: a user name has no colon".to_owned());
    if user.contains(':') {
        return Err(wrong());
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(proxy: &Proxy, control: &str, environment: [&str; 3]) -> Result<Option<Chosen>, Error> {
        let control = Url::parse(control).unwrap();
        let loopback = control.host_str() == Some("127.0.0.1");
        let [https, all, no] = environment;
        proxy.choose(&control, loopback, || Matcher::builder().https(https).all(all).no(no).build())
    }

    fn address(proxy: &Proxy, control: &str, environment: [&str; 3]) -> Option<String> {
        chosen(proxy, control, environment).unwrap().map(|chosen| chosen.address())
    }

    fn given(url: &str) -> Proxy {
        Proxy { url: Some(url.to_owned()), ..Proxy::default() }
    }

    const CONTROL: &str = "https://picket.example.com";

    #[test]
    fn the_operators_proxy_counts_above_the_environments_and_on_this_machine_too() {
        let env = ["http://env:1", "", ""];
        assert_eq!(address(&Proxy::default(), CONTROL, env).as_deref(), Some("env:1"));
        assert_eq!(address(&Proxy::default(), CONTROL, ["", "http://all:2", ""]).as_deref(), Some("all:2"));
        assert_eq!(address(&Proxy::default(), CONTROL, ["http://env:1", "", "example.com"]), None);
        assert_eq!(address(&Proxy::default(), CONTROL, ["", "", ""]), None);
        assert_eq!(address(&Proxy::default(), "https://127.0.0.1:8440", env), None);
        assert_eq!(address(&given("http://mine:3"), CONTROL, env).as_deref(), Some("mine:3"));
        assert_eq!(address(&given("mine:3"), "https://127.0.0.1:8440", env).as_deref(), Some("mine:3"));
    }

    #[test]
    fn credentials_go_to_the_proxy_and_nowhere_else() {
        let header = |proxy: &Proxy| {
            let chosen = chosen(proxy, CONTROL, ["", "", ""]).unwrap().unwrap();
            assert!(
                !format!("{chosen:?} {:?} {proxy:?} {}", chosen.credentials, chosen.unauthorized())
                    .contains("hunter2")
            );
            assert!(!chosen.url.as_str().contains('@'));
            chosen.credentials.map(|value| value.to_str().unwrap().to_owned())
        };
        // "ed:hunter2" and "al:hunter2".
        assert_eq!(header(&given("http://ed:hunter2@mine:3")).as_deref(), Some("Basic ZWQ6aHVudGVyMg=="));
        let apart =
            Proxy { user: Some("al".into()), password: Some("hunter2".into()), ..given("http://mine:3") };
        assert_eq!(header(&apart).as_deref(), Some("Basic YWw6aHVudGVyMg=="));
        assert_eq!(header(&given("http://mine:3")), None);
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_repeating_it() {
        for url in ["socks5://ed:hunter2@mine:3", "http://", "", "ftp://ed:hunter2@mine"] {
            let error = chosen(&given(url), CONTROL, ["", "", ""]).unwrap_err();
            assert_eq!(error.exit_code(), 64, "{url}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let user = Proxy { user: Some("a:b".into()), ..given("http://mine:3") };
        assert!(chosen(&user, CONTROL, ["", "", ""]).is_err());
    }

    #[test]
    fn failures_of_the_proxy_say_its_address_and_others_are_left_alone() {
        let proxy = chosen(&given("http://mine:3"), CONTROL, ["", "", ""]).unwrap().unwrap();
        let explained = |text: &str| proxy.explain(text).unwrap_or_default();
        assert!(
            explained("a: tunnel error: proxy authorization required")
                .starts_with("proxy: the proxy at mine:3 wants a user")
        );
        assert!(explained("a: tunnel error: unsuccessful").contains("does not open a way"));
        assert!(
            explained("client error: tcp connect error: connection refused")
                .contains("cannot reach the proxy at mine:3")
        );
        assert_eq!(proxy.explain("invalid peer certificate: UnknownIssuer"), None);
    }
}
