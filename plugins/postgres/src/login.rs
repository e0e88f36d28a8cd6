//! Logging in: SCRAM-SHA-256 with and without channel binding (RFC 5802, RFC 7677), md5, or nothing where the server asks for
//! nothing. A password never enters the sandbox: the host makes the answers with the secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sdk::{Failure, Outcome, Stop};

use crate::binding::Binding;
use crate::choice::ChannelBinding;
use crate::inbox::broken;
use crate::refusal::{self, unsupported};
use crate::session::Session;
use crate::target::Target;
use crate::wire::{self, Message};

/// From the startup message to the first ReadyForQuery.
pub(crate) fn log_in(session: &mut Session, target: &Target, binding: &Binding) -> Result<(), Stop> {
    session.send(&wire::startup(&[
        ("user", &target.user),
        ("database", &target.dbname),
        ("application_name", "picket"),
        ("client_encoding", "UTF8"),
    ]))?;
    let mut bound = false;
    let mut questions = 0..MOST_QUESTIONS;
    loop {
        if questions.next().is_none() {
            return Err(broken("the server asks for proof again and again"));
        }
        match session.receive()? {
            Message::Welcome => break,
            Message::AskSasl(mechanisms) => {
                let manner = Manner::choose(target.channel_binding, binding, &mechanisms)?;
                prove_by_scram(session, target, &manner)?;
                bound = manner.mechanism == PLUS;
            }
            Message::AskMd5(salt) => {
                let answer = secret(target)?.open()?.postgres_md5(&target.user, &salt);
                session.send(&wire::password(&answer))?;
            }
            Message::AskCleartext => {
                return Err(unsupported(
                    "the server asks for the password in clear text, which is not given; write scram-sha-256 into its pg_hba.conf",
                ));
            }
            Message::AskOther(kind) => {
                return Err(unsupported(&format!(
                    "the server asks for {}; write scram-sha-256 into its pg_hba.conf for this role",
                    kind_of_authentication(kind)
                )));
            }
            Message::Error(report) => return Err(refusal::at_login(&report, target)),
            Message::Other => {}
            other => return Err(broken(&format!("the server says {} during the login", name(&other)))),
        }
    }
    if target.channel_binding == ChannelBinding::Require && !bound {
        return Err(unbound("it let us in without it"));
    }
    loop {
        match session.receive()? {
            Message::Ready => return Ok(()),
            Message::Parameter(name, value) => session.note(&name, value),
            Message::Error(report) => return Err(refusal::at_login(&report, target)),
            _ => {}
        }
    }
}

/// A mechanism, and the header that says how the login is tied to the session (`gs2-header`, and `cbind-input` in base64).
#[derive(Clone, Debug, PartialEq)]
struct Manner {
    mechanism: &'static str,
    header: &'static str,
    input: String,
}

impl Manner {
    fn choose(wanted: ChannelBinding, binding: &Binding, offered: &[String]) -> Result<Manner, Stop> {
        let offers = |mechanism: &str| offered.iter().any(|name| name == mechanism);
        let plain =
            |header: &'static str| Manner { mechanism: PLAIN, header, input: STANDARD.encode(header) };
        match (wanted, binding) {
            (ChannelBinding::Prefer | ChannelBinding::Require, Binding::EndPoint(hash)) if offers(PLUS) => {
                let input = STANDARD.encode([HEADER.as_bytes(), hash].concat());
                Ok(Manner { mechanism: PLUS, header: HEADER, input })
            }
            (ChannelBinding::Require, Binding::Unknown(algorithm)) => Err(unsupported(&format!(
                "the server's certificate is signed with {algorithm}, which no channel binding is defined for; set channel_binding: prefer",
            ))),
            (ChannelBinding::Require, _) => Err(unbound("it does not offer it")),
            _ if !offers(PLAIN) => {
                Err(unsupported(&format!("the server offers {}, not {PLAIN}", offered.join(", "))))
            }
            // "We could, but you did not offer": a server that did offer knows that somebody in between took it out.
            (ChannelBinding::Prefer, Binding::EndPoint(_)) => Ok(plain("y,,")),
            _ => Ok(plain("n,,")),
        }
    }
}

/// PostgreSQL takes the user's name from its own startup message.
fn prove_by_scram(session: &mut Session, target: &Target, manner: &Manner) -> Result<(), Stop> {
    let secret = secret(target)?.open()?;
    let first = format!("n=,r={}", nonce()?);
    session.send(&wire::sasl_initial(manner.mechanism, &format!("{}{first}", manner.header)))?;
    let challenge = match session.receive()? {
        Message::SaslContinue(challenge) => challenge,
        Message::Error(report) => return Err(refusal::at_login(&report, target)),
        other => return Err(broken(&format!("the server says {} instead of a challenge", name(&other)))),
    };
    let proof = secret
        .scram_sha256(&first, &challenge, &manner.input)
        .map_err(|reason| broken(&format!("the server's challenge is none: {reason}")))?;
    let (answer, signature) = proof
        .split_once('\n')
        .ok_or_else(|| Stop::Failure(Failure::Internal("the host gave no server signature".into())))?;
    session.send(&wire::sasl_response(answer))?;
    match session.receive()? {
        Message::SaslFinal(last) if last.strip_prefix("v=") == Some(signature) => Ok(()),
        Message::SaslFinal(_) => Err(Outcome::down(
            "postgres.impostor",
            "the server does not know the password either: it failed to prove that it does",
        )
        .into()),
        Message::Error(report) => Err(refusal::at_login(&report, target)),
        other => Err(broken(&format!("the server says {} instead of its proof", name(&other)))),
    }
}

fn secret(target: &Target) -> Result<&sdk::Secret, Stop> {
    target.password.as_ref().ok_or_else(|| {
        Stop::mistake(
            format!("{}/password", target.at),
            "the server asks for a password: write {\"$secret\": NAME} and give the agent that secret",
        )
    })
}

/// Channel binding is required, and the server is without.
fn unbound(why: &str) -> Stop {
    let summary = format!(
        "the server does not tie the login to the TLS session, as channel_binding: require wants: {why}"
    );
    Outcome::down("postgres.channel_binding", summary).into()
}

/// 18 random bytes as text that SCRAM allows.
fn nonce() -> Result<String, Stop> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Internal(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn kind_of_authentication(kind: u32) -> String {
    match kind {
        2 => "Kerberos V5".into(),
        7 | 8 => "GSSAPI".into(),
        9 => "SSPI".into(),
        other => format!("an authentication of kind {other}"),
    }
}

fn name(message: &Message) -> &'static str {
    match message {
        Message::Welcome => "AuthenticationOk",
        Message::AskCleartext | Message::AskMd5(_) | Message::AskSasl(_) | Message::AskOther(_) => {
            "an authentication request"
        }
        Message::SaslContinue(_) => "AuthenticationSASLContinue",
        Message::SaslFinal(_) => "AuthenticationSASLFinal",
        Message::Error(_) => "ErrorResponse",
        Message::Parameter(..) => "ParameterStatus",
        Message::Row(_) => "DataRow",
        Message::Ready => "ReadyForQuery",
        Message::Other => "something else",
    }
}

const PLAIN: &str = "SCRAM-SHA-256";
const PLUS: &str = "SCRAM-SHA-256-PLUS";
const HEADER: &str = "p=tls-server-end-point,,";
/// A server asks once, and sends a notice or two beside that.
const MOST_QUESTIONS: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_never_the_same_and_has_no_comma() {
        let (one, other) = (nonce().unwrap(), nonce().unwrap());
        assert_ne!(one, other);
        assert!(one.len() == 36 && one.chars().all(|c| c.is_ascii_hexdigit()));
    }

    fn choose(wanted: ChannelBinding, binding: &Binding, offered: &[&str]) -> String {
        let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
        match Manner::choose(wanted, binding, &offered) {
            Ok(manner) => format!("{} {}", manner.mechanism, manner.header),
            Err(Stop::Outcome(outcome)) => outcome.code,
            Err(Stop::Failure(failure)) => format!("{failure:?}"),
        }
    }

    #[test]
    fn a_login_is_tied_to_its_session_where_both_can_and_says_so_where_only_we_can() {
        use ChannelBinding::{Disable, Prefer, Require};
        let (both, plain) = ([PLUS, PLAIN], [PLAIN]);
        let hash = Binding::EndPoint(vec![1; 32]);
        let other = Binding::Unknown("Ed25519".into());
        assert_eq!(choose(Prefer, &hash, &both), format!("{PLUS} {HEADER}"));
        assert_eq!(choose(Require, &hash, &both), format!("{PLUS} {HEADER}"));
        assert_eq!(choose(Disable, &hash, &both), format!("{PLAIN} n,,"));
        assert_eq!(choose(Prefer, &hash, &plain), format!("{PLAIN} y,,"));
        assert_eq!(choose(Require, &hash, &plain), "postgres.channel_binding");
        // Without a hash we cannot, whatever the server offers: "y" would be taken for a downgrade.
        assert_eq!(choose(Prefer, &other, &both), format!("{PLAIN} n,,"));
        assert!(choose(Require, &other, &both).contains("Ed25519"));
        assert_eq!(choose(Prefer, &Binding::NoTls, &plain), format!("{PLAIN} n,,"));
        assert!(choose(Prefer, &hash, &["SCRAM-SHA-512"]).contains("SCRAM-SHA-512"));
    }

    #[test]
    fn the_header_and_the_hash_are_sent_in_base64() {
        let manner =
            Manner::choose(ChannelBinding::Prefer, &Binding::EndPoint(b"hash".to_vec()), &[PLUS.into()])
                .unwrap();
        assert_eq!(STANDARD.decode(manner.input).unwrap(), b"p=tls-server-end-point,,hash");
        let plain = Manner::choose(ChannelBinding::Prefer, &Binding::NoTls, &[PLAIN.into()]).unwrap();
        assert_eq!(plain.input, "biws");
    }
}
