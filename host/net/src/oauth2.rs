//! Access tokens by client credentials (RFC 6749, section 4.4): one POST, and of its answer nothing but the token or the words of
//! the refusal. What the token is sent with is an exchange of its own.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

use crate::grant::Refusal;
use crate::session::Run;
use crate::types::{Header, Hidden, NoToken, Proof, Request, Response, TlsOptions, TokenRequest, Trust};

/// Asks once. A redirect is not followed: the request carries the client's secret.
pub(crate) async fn token(run: &Arc<Run>, asked: TokenRequest) -> Result<Hidden, NoToken> {
    // Basic would be refused with the header that holds it; in the body nobody would see the secret.
    let tls = run.route.tls.beneath(asked.tls.clone().unwrap_or_default());
    if asked.url.starts_with("https:") && tls.trust != Trust::Required {
        let refusal = format!("{} is not verified, so it is not sent the client's secret", asked.url);
        return Err(run.denied(Refusal(refusal)).into());
    }
    let response = crate::http::send(run, request(&asked)).await?;
    read(&response)
}

fn request(asked: &TokenRequest) -> Request {
    let mut headers = vec![
        Header::plain("content-type", "application/x-www-form-urlencoded"),
        Header::plain("accept", "application/json"),
    ];
    let mut body = Serializer::new(String::new());
    body.append_pair("grant_type", "client_credentials");
    if !asked.scopes.is_empty() {
        body.append_pair("scope", &asked.scopes.join(" "));
    }
    for (name, value) in &asked.parameters {
        body.append_pair(name, value);
    }
    let mut body = body.finish();
    let encoded = |bytes: &[u8]| Zeroizing::new(byte_serialize(bytes).collect::<String>());
    let (id, secret) = (encoded(asked.client_id.as_bytes()), encoded(&asked.client_secret.0));
    match asked.proof {
        Proof::Basic => {
            let pair = Zeroizing::new(format!("{}:{}", *id, *secret));
            let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
            headers.push(Header::sensitive("authorization", value.as_bytes()));
        }
        Proof::Body => body.push_str(&format!("&client_id={}&client_secret={}", *id, *secret)),
    }
    Request {
        method: "POST".to_owned(),
        url: asked.url.clone(),
        headers,
        body: body.into_bytes(),
        versions: Vec::new(),
        family: asked.family,
        tls: Some(tls(asked)),
        max_redirects: 0,
        max_body: MOST_OF_AN_ANSWER,
    }
}

/// The endpoint is verified by its own name, whatever name the page's server is to have.
fn tls(asked: &TokenRequest) -> TlsOptions {
    let url = Url::parse(&asked.url).ok();
    let own = url.as_ref().and_then(Url::host_str).map(|host| host.trim_matches(['[', ']']).to_owned());
    let tls = asked.tls.clone().unwrap_or_default();
    TlsOptions { server_name: tls.server_name.clone().or(own), ..tls }
}

/// RFC 6749, sections 5.1 and 5.2.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    access_token: String,
    token_type: String,
    error: String,
    error_description: String,
}

fn read(response: &Response) -> Result<Hidden, NoToken> {
    let refused = |reason: String| NoToken::Refused { status: response.status, reason };
    let said: Said = match serde_json::from_slice(&response.body) {
        Ok(said) => said,
        Err(_) if response.status == 200 => {
            return Err(refused("the answer is not the JSON of a token".to_owned()));
        }
        Err(_) => Said::default(),
    };
    match (response.status, said.error.as_str()) {
        (200, "") => {}
        (_, "") => return Err(refused("no token".to_owned())),
        (_, error) if said.error_description.is_empty() => return Err(refused(line(error))),
        (_, error) => return Err(refused(line(&format!("{error}: {}", said.error_description)))),
    }
    if said.access_token.is_empty() {
        return Err(refused("the answer has no access_token".to_owned()));
    }
    if !said.token_type.is_empty() && !said.token_type.eq_ignore_ascii_case("bearer") {
        return Err(refused(line(&format!("the token is of type {}, not Bearer", said.token_type))));
    }
    // RFC 6750, section 2.1: what a header can carry.
    match said.access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Hidden(Zeroizing::new(said.access_token.into_bytes()))),
        false => Err(refused("the access_token has characters that no header can carry".to_owned())),
    }
}

/// The words of a peer in one line of bounded length.
fn line(text: &str) -> String {
    let printed = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printed.take(LINE).collect()
}

const MOST_OF_AN_ANSWER: u32 = 64 * 1024;
const LINE: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Family, Timings};

    fn asked(proof: Proof) -> TokenRequest {
        TokenRequest {
            url: "https://id.example/token".to_owned(),
            client_id: "shop:probe".to_owned(),
            client_secret: Hidden(Zeroizing::new(b"p ss&w%rd".to_vec())),
            scopes: vec!["read".to_owned(), "write".to_owned()],
            parameters: vec![("audience".to_owned(), "https://api.example/".to_owned())],
            proof,
            family: Family::Any,
            tls: None,
        }
    }

    #[test]
    fn a_client_proves_itself_as_the_rfc_encodes_it() {
        let by_header = request(&asked(Proof::Basic));
        let expected = format!("Basic {}", STANDARD.encode("shop%3Aprobe:p+ss%26w%25rd"));
        let header = by_header.headers.iter().find(|header| header.name == "authorization").unwrap();
        assert_eq!(&**header.value, expected.as_bytes());
        assert!(header.sensitive);
        let parameters =
            "grant_type=client_credentials&scope=read+write&audience=https%3A%2F%2Fapi.example%2F";
        assert_eq!(String::from_utf8(by_header.body).unwrap(), parameters);
        let by_body = request(&asked(Proof::Body));
        assert!(by_body.headers.iter().all(|header| header.name != "authorization"));
        let expected = format!("{parameters}&client_id=shop%3Aprobe&client_secret=p+ss%26w%25rd");
        assert_eq!(String::from_utf8(by_body.body).unwrap(), expected);
        assert_eq!(by_body.max_redirects, 0);
    }

    fn check(status: u16, body: &str, expected: Result<&str, &str>) {
        let response = Response {
            status,
            version: "1.1".to_owned(),
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
            truncated: false,
            decoded: false,
            hops: Vec::new(),
            remote: ([127, 0, 0, 1], 443).into(),
            session: None,
            timings: Timings::default(),
            hop_timings: Vec::new(),
        };
        let found = match read(&response) {
            Ok(token) => Ok(String::from_utf8(token.0.to_vec()).unwrap()),
            Err(NoToken::Refused { reason, .. }) => Err(reason),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{body}");
    }

    #[test]
    fn an_answer_is_a_token_or_says_why_not() {
        check(200, r#"{"access_token": "abc", "token_type": "bearer", "expires_in": 60}"#, Ok("abc"));
        check(200, r#"{"access_token": "abc"}"#, Ok("abc"));
        check(
            200,
            r#"{"access_token": "abc", "token_type": "mac"}"#,
            Err("the token is of type mac, not Bearer"),
        );
        check(
            200,
            r#"{"access_token": "a\nb"}"#,
            Err("the access_token has characters that no header can carry"),
        );
        check(200, r#"{"token": "abc"}"#, Err("the answer has no access_token"));
        check(200, "<html>", Err("the answer is not the JSON of a token"));
        check(401, r#"{"error": "invalid_client"}"#, Err("invalid_client"));
        check(
            400,
            r#"{"error": "invalid_scope", "error_description": "no\nsuch"}"#,
            Err("invalid_scope: no such"),
        );
        check(503, "busy", Err("no token"));
        check(302, "", Err("no token"));
    }
}
