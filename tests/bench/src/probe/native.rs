//! The floor: the same probes by hand, with the same libraries, nothing between them and the kernel. A fresh connection each, a full
//! handshake each, nothing kept.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use memchr::memmem;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

use super::Probe;

/// Makes one kind of probe.
#[derive(Clone)]
pub(super) enum Prober {
    Http(Arc<Page>),
    Tcp(u16),
    Dns(Arc<Question>),
}

pub(super) struct Page {
    uri: Uri,
    port: u16,
    keyword: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

pub(super) struct Question {
    port: u16,
    name: Name,
    address: Ipv4Addr,
}

impl Prober {
    pub(super) fn new(probe: &Probe) -> Result<Self> {
        Ok(match probe {
            Probe::Http { url, ca, keyword } => {
                let uri: Uri = url.parse()?;
                let host = uri.host().context("the URL has a host")?.to_owned();
                let tls = ca.as_ref().map(|ca| anyhow::Ok((connector(ca)?, ServerName::try_from(host)?)));
                let port = uri.port_u16().context("the URL has a port")?;
                Self::Http(Arc::new(Page { port, keyword: keyword.clone(), tls: tls.transpose()?, uri }))
            }
            Probe::Tcp { port } => Self::Tcp(*port),
            Probe::Dns { port, name, address } => {
                let name = Name::from_ascii(format!("{name}."))?;
                Self::Dns(Arc::new(Question { port: *port, name, address: address.parse()? }))
            }
            Probe::Nothing => bail!("by hand, nothing costs nothing"),
        })
    }

    /// Whether the target is up.
    pub(super) async fn probe(&self) -> bool {
        let found = match self {
            Self::Http(page) => page.probe().await,
            Self::Tcp(port) => dial(*port).await.map(|_| true),
            Self::Dns(question) => question.probe().await,
        };
        found.unwrap_or(false)
    }
}

async fn dial(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Offers HTTP/2 first, as a check does; no session is ever resumed.
fn connector(ca: &str) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Page {
    async fn probe(&self) -> Result<bool> {
        let stream = dial(self.port).await?;
        match &self.tls {
            None => self.exchange(stream, false).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.exchange(stream, two).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S, two: bool) -> Result<bool>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let request = Request::get(if two { self.uri.to_string() } else { self.uri.path().to_owned() });
        let authority = self.uri.authority().context("the URL has an authority")?.as_str();
        let request = if two { request } else { request.header("host", authority) };
        let request = request.header("user-agent", "picket").body(Empty::<Bytes>::new())?;
        let (response, driver) = if two {
            let (mut sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            let driver = tokio::spawn(driver);
            (sender.send_request(request).await?, driver)
        } else {
            let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
            let driver = tokio::spawn(driver);
            (sender.send_request(request).await?, driver)
        };
        let good = response.status().is_success();
        let body = response.into_body().collect().await?.to_bytes();
        driver.abort();
        Ok(good && memmem::find(&body, self.keyword.as_bytes()).is_some())
    }
}

impl Question {
    async fn probe(&self) -> Result<bool> {
        let mut message = Message::query();
        message.add_query(Query::query(self.name.clone(), RecordType::A));
        message.metadata.recursion_desired = true;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        socket.send(&message.to_vec()?).await?;
        let mut buffer = [0; 1_500];
        let length = socket.recv(&mut buffer).await?;
        let answer = Message::from_vec(&buffer[..length])?;
        let mut answers = answer.answers.iter();
        let is_ours = |data: &RData| matches!(data, RData::A(address) if address.0 == self.address);
        Ok(answer.metadata.id == message.metadata.id && answers.any(|record| is_ours(&record.data)))
    }
}
