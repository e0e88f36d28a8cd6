//! The TLS handshake and what it tells. What is wrong with a certificate is found in `chain`, along the `path` to one of the `roots`
//! and by the `rules`; the certificate itself is read in `certificate`, and `verify` stands between them and rustls. Whether a
//! certificate was revoked is read from a `staple`, or asked for by `revocation`, in the forms of `ocsp` and `crl`.

mod certificate;
mod chain;
mod crl;
#[cfg(test)]
mod fixture;
mod identity;
mod ocsp;
mod path;
pub(crate) mod revocation;
mod roots;
mod rules;
mod signature;
mod staple;
mod taken;
mod verify;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, PeerIncompatible, SupportedProtocolVersion};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use certificate::Certificate;
pub(crate) use roots::{Named, Roots};

use crate::errno::io_failure;
use crate::files::Unread;
use crate::host::Host;
use crate::route;
use crate::session::{Run, fail};
use crate::stream::Metered;
use crate::types::{Cause, Defect, Endpoint, Failure, Phase, Revocation, TlsOptions, Trust};
use crate::written;
use verify::Verifier;

/// A finished handshake. Clones share the certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSession {
    /// "1.2", "1.3".
    pub version: String,
    /// IANA's name as rustls spells it: "TLS13_AES_128_GCM_SHA256".
    pub cipher: String,
    /// The protocol chosen.
    pub alpn: Option<String>,
    /// The chain as served, leaf first; certificates that cannot be read are left out and are a defect.
    #[serde(with = "written::chain")]
    pub served: Vec<Arc<Certificate>>,
    /// The chain as verified, leaf first, root last; or every defect found.
    #[serde(with = "written::verified")]
    pub verified: Result<Vec<Arc<Certificate>>, Vec<Defect>>,
    /// The same chain also where it has defects: from the leaf up as far as issuers are known.
    #[serde(default, with = "written::chain")]
    pub path: Vec<Arc<Certificate>>,
    /// What the server stapled, if that can be believed.
    pub stapled: Revocation,
    /// The OCSP response that the server stapled, as it came.
    #[serde(default)]
    pub staple: Option<Vec<u8>>,
    /// The server asked for a client certificate.
    #[serde(default)]
    pub wants_client_certificate: bool,
}

/// A session about which nothing is known: where tests and replays begin.
impl Default for TlsSession {
    fn default() -> Self {
        Self {
            version: String::new(),
            cipher: String::new(),
            alpn: None,
            served: Vec::new(),
            verified: Ok(Vec::new()),
            path: Vec::new(),
            stapled: Revocation::Unknown,
            staple: None,
            wants_client_certificate: false,
        }
    }
}

/// Shakes hands with `peer` over the stream, as `options` say. There is no stream where a recorded handshake has told everything but
/// was ended by the server, which wants a client certificate (before 1.3 it says so that early).
pub(crate) async fn handshake(
    run: &Run,
    stream: Metered,
    peer: &Endpoint,
    options: &TlsOptions,
) -> Result<(Option<TlsStream<Metered>>, TlsSession), Failure> {
    let refused = |message: String| fail(Cause::Invalid(message.clone()), Phase::Handshake, message);
    let unread = |unread: Unread| match unread {
        Unread::Denied(refusal) => run.denied(refusal),
        Unread::Unusable(message) => refused(message),
    };
    let files = &run.shared.ceiling.files;
    let identity = match (options.client_identity.as_deref(), &run.route.tls.identity) {
        (None, _) => None,
        (Some(route::Tls::IDENTITY), Some(_)) if !run.grant.is_own(peer) => None,
        (Some(route::Tls::IDENTITY), Some(own)) => {
            let reading = identity::certified(own, files);
            Some(run.within(Phase::Handshake, peer, reading).await?.map_err(unread)?)
        }
        (Some(route::Tls::IDENTITY), None) => {
            let wanted = "add tls.cert and tls.key to the monitor";
            return Err(refused(format!("the monitor has no client certificate; {wanted}")));
        }
        (Some(other), _) => {
            return Err(refused(format!("the agent has no client identity {other:?}; leave it out")));
        }
    };
    let shows = identity.is_some();
    let name = server_name(options.server_name.as_deref().unwrap_or(&peer.host)).map_err(refused)?;
    let versions = versions(options).map_err(refused)?;
    let ca = options.ca.as_deref().map(route::Pem::said).or_else(|| run.route.tls.ca.clone());
    let roots = match &ca {
        Some(ca) => {
            run.within(Phase::Handshake, peer, run.shared.named.read(ca, files)).await?.map_err(unread)?
        }
        None => run.shared.roots.clone(),
    };
    let verifier = Arc::new(Verifier::new(options.trust, roots, identity));
    let config = config(&verifier, &versions, &options.alpn)
        .map_err(|e| refused(format!("cannot set up TLS: {e}")))?;
    let shaking = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let mut stream = match run.within(Phase::Handshake, peer, shaking).await? {
        Ok(stream) => stream,
        Err(error) => {
            return Err(match verifier.defects().split_first() {
                Some((first, others)) if options.trust == Trust::Required => untrusted(peer, first, others),
                _ if verifier.was_asked() && is_alert(&error) && shows => identity_refused(peer),
                _ if verifier.was_asked() && is_alert(&error) => match options.trust {
                    // Before 1.3; the cipher is gone with the connection.
                    Trust::Recorded => return Ok((None, session(&verifier, "1.2", "", None))),
                    Trust::Required | Trust::Unverified => {
                        no_identity(peer, run.route.tls.identity.is_some())
                    }
                },
                _ => io_failure(&error, Phase::Handshake, peer),
            });
        }
    };
    let newest = stream.get_ref().1.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
    // Who goes on to talk hears of a refusal with the first answer.
    if newest && shows && verifier.was_asked() && options.trust == Trust::Recorded {
        let heard = run.within(Phase::Handshake, peer, taken::heard(&mut stream)).await?;
        heard.map_err(|error| match is_alert(&error) {
            true => identity_refused(peer),
            false => io_failure(&error, Phase::Handshake, peer),
        })?;
    }
    let connection = stream.get_ref().1;
    let session = session(
        &verifier,
        match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        },
        connection.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or_default(),
        connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
    );
    Ok((Some(stream), session))
}

fn session(verifier: &Verifier, version: &str, cipher: &str, alpn: Option<String>) -> TlsSession {
    let found = verifier.found();
    TlsSession {
        version: version.to_owned(),
        cipher: cipher.to_owned(),
        alpn,
        served: found.served,
        verified: match found.defects.is_empty() {
            true => Ok(found.path.clone()),
            false => Err(found.defects),
        },
        path: found.path,
        stapled: found.stapled,
        staple: found.staple,
        wants_client_certificate: verifier.was_asked(),
    }
}

/// What a TLS error means; for [`io_failure`].
pub(crate) fn failure(error: &rustls::Error, phase: Phase, peer: &impl std::fmt::Display) -> Failure {
    use rustls::Error as E;
    if let E::FailedToGetCurrentTime | E::FailedToGetRandomBytes | E::InconsistentKeys(_) | E::EncryptError =
        error
    {
        let message = format!("nothing is known of {peer}: TLS failed on this machine ({phase}: {error})");
        return fail(Cause::Other(error.to_string()), phase, message);
    }
    let (code, words) = match error {
        E::AlertReceived(AlertDescription::ProtocolVersion)
        | E::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => (
            "version",
            "speaks no TLS version that we accept (1.2 and 1.3, unless the options say less)".to_owned(),
        ),
        E::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity)
        | E::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoKxGroupsInCommon,
        )
        | E::PeerMisbehaved(rustls::PeerMisbehaved::SelectedUnofferedCipherSuite) => {
            ("cipher", "has no cipher or key exchange in common with us".to_owned())
        }
        E::AlertReceived(AlertDescription::CertificateRequired) => {
            ("alert", "asks for a client certificate, and none is configured".to_owned())
        }
        E::AlertReceived(AlertDescription::UnrecognisedName) => {
            ("alert", "does not know the server name that it was asked for".to_owned())
        }
        E::AlertReceived(alert) => ("alert", format!("ended TLS with the alert {alert:?}")),
        E::NoApplicationProtocol => ("alert", "speaks none of the offered protocols (ALPN)".to_owned()),
        E::InvalidMessage(_) => ("other", "does not speak TLS here".to_owned()),
        E::InvalidCertificate(_) => ("other", format!("cannot be trusted: {error}")),
        other => ("other", format!("broke the handshake: {other}")),
    };
    fail(Cause::Tls(code.to_owned()), phase, format!("{peer} {words}"))
}

fn untrusted(peer: &Endpoint, first: &Defect, others: &[Defect]) -> Failure {
    let others: String = others.iter().map(|defect| format!("; {}", defect.message)).collect();
    let message = format!("{peer} cannot be trusted: {}{others}", first.message);
    fail(Cause::Tls(first.code.clone()), Phase::Handshake, message)
}

/// Before 1.3 a server says no more than that the handshake failed.
fn is_alert(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

/// `kept`: there is one, for others.
fn no_identity(peer: &Endpoint, kept: bool) -> Failure {
    let why = if kept { "the monitor's own is for what it checks alone" } else { "none is configured" };
    let message = format!("{peer} asks for a client certificate, and {why}");
    fail(Cause::Tls("alert".to_owned()), Phase::Handshake, message)
}

fn identity_refused(peer: &Endpoint) -> Failure {
    let message =
        format!("{peer} asks for a client certificate, and does not take the one that it was shown");
    fail(Cause::Tls("alert".to_owned()), Phase::Handshake, message)
}

fn config(
    verifier: &Arc<Verifier>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[String],
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_client_cert_resolver(verifier.clone());
    config.alpn_protocols = alpn.iter().map(|name| name.clone().into_bytes()).collect();
    // A probe looks at the certificate every time.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    match text.parse().map_err(|e: crate::Error| e.to_string())? {
        Host::Name(name) => ServerName::try_from(name).map_err(|_| format!("{text:?} is not a server name")),
        Host::Address(ip) => Ok(ServerName::IpAddress(ip.into())),
    }
}

fn versions(options: &TlsOptions) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let spoken = [("1.2", &rustls::version::TLS12), ("1.3", &rustls::version::TLS13)];
    let at = |text: &Option<String>, default: usize| match text {
        None => Ok(default),
        Some(text) => spoken
            .iter()
            .position(|(name, _)| name == text)
            .ok_or_else(|| format!("{text:?} is not a TLS version; write \"1.2\" or \"1.3\"")),
    };
    let (lowest, highest) = (at(&options.min_version, 0)?, at(&options.max_version, 1)?);
    match lowest <= highest {
        true => Ok(spoken[lowest..=highest].iter().map(|(_, version)| *version).collect()),
        false => Err("the lowest TLS version is above the highest".to_owned()),
    }
}
