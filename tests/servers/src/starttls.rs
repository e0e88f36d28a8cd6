//! Servers that talk in the clear before TLS: SMTP (RFC 3207) and PostgreSQL's SSLRequest. Only as much of each as a
//! STARTTLS dialogue needs; behind the handshake they echo.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustls::ServerConfig;

use crate::listener::Listener;
use crate::tls::{self, Versions};
use crate::{Authority, Error, Shape};

/// What is spoken before TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starttls {
    /// SMTP with the STARTTLS extension.
    Smtp,
    /// SMTP that does not offer STARTTLS.
    SmtpWithout,
    /// PostgreSQL that answers `S` to an SSLRequest.
    Postgres,
    /// PostgreSQL that answers `N` to an SSLRequest.
    PostgresWithout,
}

/// The server.
#[derive(Debug)]
pub struct StarttlsServer {
    listener: Listener,
}

impl StarttlsServer {
    /// Speaks the dialogue and then serves a chain of that shape.
    pub fn start(authority: &Authority, shape: Shape, dialogue: Starttls) -> Result<StarttlsServer, Error> {
        let config = tls::configuration(authority, shape, Versions::Both)?;
        let listener = Listener::start(move |stream| {
            let _ = match dialogue {
                Starttls::Smtp => smtp(stream, Some(config.clone())),
                Starttls::SmtpWithout => smtp(stream, None),
                Starttls::Postgres => postgres(stream, Some(config.clone())),
                Starttls::PostgresWithout => postgres(stream, None),
            };
        })?;
        Ok(StarttlsServer { listener })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }
}

fn smtp(mut stream: TcpStream, config: Option<Arc<ServerConfig>>) -> std::io::Result<()> {
    stream.write_all(b"220-mail.picket.test ESMTP\r\n220 at your service\r\n")?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(line) = lines.next().transpose()? {
        let verb = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        match (verb.as_str(), &config) {
            ("EHLO", Some(_)) => {
                stream.write_all(
                    b"250-mail.picket.test\r\n250-SIZE 1000000\r\n250-STARTTLS\r\n250 8BITMIME\r\n",
                )?;
            }
            ("EHLO", None) => stream.write_all(b"250-mail.picket.test\r\n250 8BITMIME\r\n")?,
            ("STARTTLS", Some(config)) => {
                stream.write_all(b"220 go ahead\r\n")?;
                return tls::echo(stream, config.clone(), &AtomicU64::default());
            }
            ("QUIT", _) => return stream.write_all(b"221 bye\r\n"),
            _ => stream.write_all(b"502 not here\r\n")?,
        }
    }
    Ok(())
}

fn postgres(mut stream: TcpStream, config: Option<Arc<ServerConfig>>) -> std::io::Result<()> {
    let mut request = [0; 8];
    stream.read_exact(&mut request)?;
    match config {
        Some(config) if request == SSL_REQUEST => {
            stream.write_all(b"S")?;
            tls::echo(stream, config, &AtomicU64::default())
        }
        _ => stream.write_all(b"N"),
    }
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
