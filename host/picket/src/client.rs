//! The way to the control plane's API for people: address, token, one request, and what each way of failing means.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::{Host, Url};
use wire::Problem;

use crate::failure::{Failure, exit};
use crate::settings_file::stronger;

/// Where the control plane is and how to prove who asks.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Control plane")]
pub(crate) struct Access {
    /// Address of the control plane; http:// only for this machine
    #[arg(
        long,
        env = "PICKET_CONTROL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8440",
        value_name = "URL"
    )]
    control: Url,
    /// The admin token. Better as variable or file: others on this machine see the command line
    #[arg(long, env = "PICKET_API_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    api_token: Option<Secret>,
    /// File with the admin token, such as admin.token in the control plane's data directory
    #[arg(long, env = "PICKET_API_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    api_token_file: Option<PathBuf>,
    /// PEM file of certificate authorities trusted beside the system's
    #[arg(long, env = "PICKET_CA_FILE", hide_env_values = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Access {
    /// A client for it; nothing is sent yet.
    pub(crate) fn client(self, matches: &ArgMatches) -> Result<Client, Failure> {
        let address = usable(self.control)?;
        let token = match stronger(matches, "api_token", "api_token_file")? {
            Some("api_token") => self.api_token,
            Some(_) => self.api_token_file.as_deref().map(Secret::read).transpose()?,
            None => None,
        };
        let token = token.ok_or_else(|| {
            Failure::text(exit::USAGE, "no API token is given").advice(
                "export PICKET_API_TOKEN=$(cat DATA/admin.token), with DATA the control plane's --data",
            )
        })?;
        Client::new(address, token, self.ca_file)
    }
}

/// An agent or a monitor by its name, at a control plane.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) access: Access,
}

impl Named {
    /// Its path, or that of a part of it, below "agents" or "monitors".
    pub(crate) fn path(&self, among: &str, part: &str) -> String {
        format!("/{among}/{}{part}", segment(&self.name))
    }
}

/// Asks the API.
pub(crate) struct Client {
    http: reqwest::Client,
    address: Url,
    token: Secret,
}

impl Client {
    /// A client for a usable address.
    pub(crate) fn new(address: Url, token: Secret, ca_file: Option<PathBuf>) -> Result<Self, Failure> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("picket/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(60));
        if is_loopback(&address) {
            http = http.no_proxy();
        }
        if let Some(path) = ca_file {
            let unread = |e: anyhow::Error| {
                Failure::new(exit::NO_INPUT, e).context(format!("cannot use --ca-file {}", path.display()))
            };
            let pem = std::fs::read(&path).map_err(|e| unread(e.into()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| unread(e.into()))?;
            http = http.tls_certs_merge(certificates);
        }
        let http = http.build().map_err(|e| Failure::new(exit::OS, e).context("cannot prepare requests"))?;
        Ok(Self { http, address, token })
    }

    /// The control plane's address, without a path's last slash.
    pub(crate) fn address(&self) -> &str {
        self.address.as_str().trim_end_matches('/')
    }

    /// Whether the control plane is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        is_loopback(&self.address)
    }

    /// `GET`, with the pairs of the query that have a value.
    pub(crate) async fn get<A: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
    ) -> Result<A, Failure> {
        let query: Vec<_> =
            query.iter().filter_map(|(key, value)| value.as_ref().map(|v| (key, v))).collect();
        let answer = self.send(self.request(Method::GET, path)?.query(&query)).await?;
        self.read(answer).await
    }

    /// `POST` of a body.
    pub(crate) async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, Failure> {
        let answer = self.send(self.request(Method::POST, path)?.json(body)).await?;
        self.read(answer).await
    }

    /// `DELETE`; the answer's body does not matter.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(self.request(Method::DELETE, path)?).await.map(|_| ())
    }

    fn request(&self, method: Method, path: &str) -> Result<reqwest::RequestBuilder, Failure> {
        let url = Url::parse(&format!("{}{}{path}", self.address(), wire::API)).map_err(|e| {
            Failure::new(exit::USAGE, e).context(format!("{path:?} cannot be part of an address"))
        })?;
        Ok(self.http.request(method, url).bearer_auth(&self.token.0))
    }

    /// Sends, and turns everything but a success of a control plane into a failure.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        let answer = request.send().await.map_err(|e| self.unreachable(e))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.bytes().await.map_err(|e| self.unreachable(e))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(refused(problem)),
            Err(_) => Err(self.not_ours(&format!("status {status}"))),
        }
    }

    async fn read<A: DeserializeOwned>(&self, answer: reqwest::Response) -> Result<A, Failure> {
        let body = answer.bytes().await.map_err(|e| self.unreachable(e))?;
        serde_json::from_slice(&body).map_err(|e| {
            Failure::new(exit::UNAVAILABLE, e).context(self.not_ours("an unknown text").message())
        })
    }

    fn not_ours(&self, what: &str) -> Failure {
        Failure::text(
            exit::UNAVAILABLE,
            format!("{} answered with {what}, which is not an answer of a control plane", self.address()),
        )
        .advice(
            "is --control (PICKET_CONTROL) the address of `picket control`, and is there a proxy between?",
        )
    }

    fn unreachable(&self, e: reqwest::Error) -> Failure {
        let text = causes(&e).map(ToString::to_string).collect::<Vec<_>>().join(": ");
        let advice = advice(&text, self.address.scheme());
        // Above the root cause stand only the libraries' own layers.
        let root = causes(&e).last().map(ToString::to_string).unwrap_or_default();
        let failure = Failure::text(
            exit::UNAVAILABLE,
            format!("cannot reach the control plane at {}: {root}", self.address()),
        );
        match advice {
            Some(advice) => failure.advice(advice),
            None => failure,
        }
    }
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

/// What to do about a request that got no answer, by the text of its causes: the libraries' types are not ours to see.
fn advice(causes: &str, scheme: &str) -> Option<&'static str> {
    let has = |text: &str| causes.to_lowercase().contains(text);
    if has("connection refused") {
        Some(
            "nothing listens there: start it with `picket control`, or say where it is with --control (PICKET_CONTROL)",
        )
    } else if has("invalidcontenttype") || has("corrupt message") {
        Some(
            "it answers, but not with TLS: if it is on this machine or behind your own proxy, its address begins with http://",
        )
    } else if has("certificate") || has("unknownissuer") {
        Some("its certificate is not trusted here: name its authority with --ca-file (PICKET_CA_FILE)")
    } else if scheme == "http"
        && (has("invalid http version")
            || has("connection closed before message completed")
            || has("connection reset"))
    {
        Some(
            "it does not speak plain HTTP: if it was started with --tls-cert, its address begins with https://",
        )
    } else if has("dns error") || has("failed to lookup") || has("no records found") {
        Some("its name is not known here: check --control (PICKET_CONTROL)")
    } else if has("timed out") {
        Some("no answer in time: check --control (PICKET_CONTROL), and whether a firewall is between")
    } else {
        None
    }
}

fn causes(e: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(Some(e as &(dyn std::error::Error + 'static)), |e| e.source())
}

/// An answer that says no.
fn refused(problem: Problem) -> Failure {
    let status = match problem.code.as_str() {
        Problem::UNAUTHORIZED => exit::NO_PERMISSION,
        Problem::INVALID | Problem::TOO_LARGE => exit::DATA,
        Problem::INTERNAL => exit::UNAVAILABLE,
        _ => exit::GENERAL,
    };
    let wrong_token = problem.code == Problem::UNAUTHORIZED;
    let failure = Failure::new(status, problem);
    if wrong_token {
        return failure
            .context("the control plane refuses the API token")
            .advice("PICKET_API_TOKEN is the text of admin.token in the control plane's data directory");
    }
    failure
}

/// The address, when a token may be sent to it.
pub(crate) fn usable(address: Url) -> Result<Url, Failure> {
    match address.scheme() {
        "https" => Ok(address),
        "http" if is_loopback(&address) => Ok(address),
        "http" => Err(Failure::text(
            exit::USAGE,
            format!("{address} would carry the token unprotected: http:// is for this machine only"),
        )
        .advice(
            "write https://, and give the control plane --tls-cert and --tls-key, or a proxy that does TLS",
        )),
        other => Err(Failure::text(
            exit::USAGE,
            format!("{address} begins with {other:?}: write http:// or https://"),
        )),
    }
}

/// Whether it is this machine.
pub(crate) fn is_loopback(address: &Url) -> bool {
    match address.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// A text that never shows itself.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl Secret {
    /// The text of a file, without the line end.
    pub(crate) fn read(path: &std::path::Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Failure::new(exit::NO_INPUT, e).context(format!("cannot read the token in {}", path.display()))
        })?;
        Ok(Self(text.trim().to_owned()))
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(address: &str) -> String {
        usable(address.parse().unwrap()).unwrap_err().message()
    }

    #[test]
    fn a_token_goes_unprotected_to_this_machine_only() {
        for good in [
            "http://127.0.0.1:8440",
            "http://[::1]:8440/",
            "http://localhost:1",
            "https://picket.example.com",
        ] {
            usable(good.parse().unwrap()).unwrap();
        }
        assert!(refusal("http://picket.example.com").contains("write https://"));
        assert!(refusal("http://10.0.0.1:8440").contains("unprotected"));
        assert!(refusal("ftp://10.0.0.1").contains("write http:// or https://"));
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        assert_eq!(format!("{:?}", " pst_1 \n".parse::<Secret>().unwrap()), "(secret)");
    }

    #[test]
    fn a_wrong_token_says_where_the_right_one_lies() {
        let failure = refused(Problem::new(Problem::UNAUTHORIZED, "no or a wrong token"));
        assert_eq!(failure.status, exit::NO_PERMISSION);
        assert!(failure.message().contains("admin.token"), "{}", failure.message());
    }

    #[test]
    fn each_way_of_not_getting_an_answer_has_its_advice() {
        let has = |causes, scheme, word: &str| advice(causes, scheme).is_some_and(|a| a.contains(word));
        assert!(has("tcp connect error: Connection refused (os error 111)", "http", "picket control"));
        assert!(has("received corrupt message of type InvalidContentType", "https", "http://"));
        assert!(has("invalid peer certificate: UnknownIssuer", "https", "--ca-file"));
        assert!(has("connection closed before message completed", "http", "https://"));
        assert_eq!(advice("something else", "http"), None);
    }
}
