//! nginx with pages that an http check can be right or wrong about, over http and https.

use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{Authority, Error, Shape, ports};

/// User name of `/private`.
pub const USER: &str = "picket";
/// Password of `/private`.
pub const PASSWORD: &str = "sentinel-basic-7c1f";
/// Token of `/bearer`.
pub const TOKEN: &str = "sentinel-bearer-93ad";

/// Identifier of the client that `/token` knows.
pub const CLIENT: &str = "probe";
/// Secret of that client; it has what a form and a header encode.
pub const CLIENT_SECRET: &str = "sentinel client+secret";

/// A running nginx.
///
/// | path | answer |
/// |---|---|
/// | `/` | 200, HTML with "Welcome to Picket" |
/// | `/status/404`, `/status/500`, `/status/204`, `/status/503` | that status |
/// | `/redirect`, `/redirect-twice`, `/redirect-loop` | 302 to `/`, through one more hop, to itself |
/// | `/redirect-away` | 302 to `http://127.0.0.2/`, which no grant holds |
/// | `/private` | 401 without basic [`USER`] and [`PASSWORD`], else 200 "inside" |
/// | `/bearer` | 401 without `Authorization: Bearer` [`TOKEN`], else 200 "inside" |
/// | `/json` | 200, `{"status": "ok", "queue": {"length": 3}}` |
/// | `/method` | 200, the method |
/// | `/header` | 200, the value of the request's `X-Picket` header |
/// | `/body` | 200, the request's body |
/// | `/length` | 200, the request's `Content-Length` |
/// | `/host` | 200, the request's `Host` |
/// | `/large` | 200, 2 MiB of `a`, "end" behind them |
/// | `/64k` | 200, 64 KiB of `b`, "end" behind them |
/// | `/slow` | 200, 4 KiB at 1 KiB a second |
/// | `/gzip` | 200, the page of `/`, in gzip where that is asked for |
/// | `/coding` | 200, the request's `Accept-Encoding` |
/// | `/redirect-to?URL` | 302 to that URL |
/// | `/version` | 200, "HTTP/1.1" or "HTTP/2.0" |
/// | `/connection` | 200, how many requests came over this connection; `/redirect-connection` leads there |
/// | `/agent`, `/authorization` | 200, the request's `User-Agent`, its `Authorization` |
/// | `/token` | 200, an access token that is [`TOKEN`], for [`CLIENT`] and [`CLIENT_SECRET`] by HTTP Basic, else 401 `invalid_client` |
/// | `/token-by-body` | the same for a client that writes both in the body |
/// | `/token-for-the-shop` | the same for whoever asks for the audience "the shop" |
/// | `/token-moved`, `/token-odd` | 307 to `/token`; 200 with a token of another type |
///
/// A third port serves the same page, `/bearer` and `/token` over https to clients that show a certificate of the authority, and 400 to
/// others.
#[derive(Debug)]
pub struct Nginx {
    http: u16,
    https: u16,
    mutual: u16,
    _process: Process,
    _directory: TempDir,
}

impl Nginx {
    /// Starts it with a valid certificate of the authority for https.
    pub fn start(authority: &Authority) -> Result<Nginx, Error> {
        Nginx::start_with(authority, Shape::Valid)
    }

    /// The same with a certificate of that shape.
    pub fn start_with(authority: &Authority, shape: Shape) -> Result<Nginx, Error> {
        process::start_anew(|| Nginx::launch(authority, shape))
    }

    fn launch(authority: &Authority, shape: Shape) -> Result<Nginx, Error> {
        let program = process::find("nginx", "nginx-light")?;
        let directory = process::directory("nginx")?;
        let root = directory.path();
        let identity = authority.issue(shape)?;
        process::write(&root.join("chain.pem"), &identity.chain_pem)?;
        process::write(&root.join("key.pem"), &identity.key_pem)?;
        process::write(&root.join("authority.pem"), authority.pem())?;
        process::write(&root.join("users"), format!("{USER}:{{PLAIN}}{PASSWORD}\n"))?;
        let pages = root.join("pages");
        process::make_directory(&pages)?;
        process::write(&pages.join("index.html"), PAGE)?;
        process::write(&pages.join("private"), "inside\n")?;
        process::write(&pages.join("slow"), "s".repeat(4096))?;
        process::write(&pages.join("64k"), format!("{}end\n", "b".repeat(64 << 10)))?;
        process::write(&pages.join("large"), format!("{}end\n", "a".repeat(2 << 20)))?;
        let [http, https, mutual] = [ports::free_port()?, ports::free_port()?, ports::free_port()?];
        let configuration = CONFIGURATION
            .replace("@ROOT@", &root.display().to_string())
            .replace("@HTTP@", &http.to_string())
            .replace("@HTTPS@", &https.to_string())
            .replace("@MUTUAL@", &mutual.to_string())
            .replace("@TOKEN@", TOKEN);
        process::write(&root.join("nginx.conf"), configuration)?;
        let mut running = Process::start(
            Command::new(program)
                .arg("-e")
                .arg("stderr")
                .arg("-p")
                .arg(root)
                .arg("-c")
                .arg(root.join("nginx.conf")),
            root.join("log"),
            Signal::TERM,
        )?;
        running.wait_until(|| [http, https, mutual].iter().all(|port| ports::accepts(*port)))?;
        Ok(Nginx { http, https, mutual, _process: running, _directory: directory })
    }

    /// Where it serves http on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.http
    }

    /// Where it serves https on 127.0.0.1.
    pub fn tls_port(&self) -> u16 {
        self.https
    }

    /// Where it serves https on 127.0.0.1 to those who show a certificate.
    pub fn mutual_port(&self) -> u16 {
        self.mutual
    }

    /// `http://127.0.0.1:port` and the path, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// `https://localhost:port` and the path, which begins with a slash.
    pub fn tls_url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.https)
    }
}

const PAGE: &str =
    "<!doctype html>\n<title>Picket</title>\n<h1>Welcome to Picket</h1>\n<p>All systems fine.</p>\n";

// One process, so that its end is the end of all of it.
const CONFIGURATION: &str = r#"
daemon off;
master_process off;
pid @ROOT@/pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path @ROOT@/body;
  proxy_temp_path @ROOT@/proxy;
  fastcgi_temp_path @ROOT@/fastcgi;
  uwsgi_temp_path @ROOT@/uwsgi;
  scgi_temp_path @ROOT@/scgi;
  types { text/html html; }
  default_type text/plain;
  map $http_authorization $known { default 0; "Bearer @TOKEN@" 1; }
  # "probe:sentinel+client%2Bsecret", as RFC 6749 encodes both before HTTP Basic does.
  map $http_authorization $client { default 0; "Basic cHJvYmU6c2VudGluZWwrY2xpZW50JTJCc2VjcmV0" 1; }
  map $request_body $named { default 0; "~^grant_type=client_credentials&scope=read&client_id=probe&client_secret=sentinel\+client%2Bsecret$" 1; }
  map $request_body $meant { default 0; "~(^|&)audience=the\+shop(&|$)" 1; }
  server {
    listen 127.0.0.1:@HTTP@;
    listen 127.0.0.1:@HTTPS@ ssl http2;
    server_name localhost;
    absolute_redirect off;
    ssl_certificate @ROOT@/chain.pem;
    ssl_certificate_key @ROOT@/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    root @ROOT@/pages;
    add_header X-Server picket-test always;
    location = /status/204 { return 204; }
    location = /status/404 { return 404 "nothing here\n"; }
    location = /status/500 { return 500 "broken\n"; }
    location = /status/503 { return 503 "busy\n"; }
    location = /redirect { return 302 /; }
    location = /redirect-twice { return 301 /redirect; }
    location = /redirect-loop { return 302 /redirect-loop; }
    location = /redirect-away { return 302 http://127.0.0.2/; }
    location = /private { auth_basic "picket"; auth_basic_user_file @ROOT@/users; }
    location = /bearer { if ($known = 0) { return 401 "who are you?\n"; } return 200 "inside\n"; }
    location = /json { default_type application/json; return 200 '{"status": "ok", "queue": {"length": 3}}'; }
    location = /method { return 200 "$request_method\n"; }
    location = /header { return 200 "$http_x_picket\n"; }
    location = /body { proxy_set_header X-Picket $request_body; proxy_pass http://127.0.0.1:@HTTP@/header; }
    location = /length { return 200 "$http_content_length\n"; }
    location = /host { return 200 "$http_host\n"; }
    location = /slow { limit_rate 1k; }
    location = /gzip { gzip on; gzip_min_length 1; default_type text/html; try_files /index.html =404; }
    location = /coding { return 200 "$http_accept_encoding\n"; }
    location = /redirect-to { return 302 $query_string; }
    location = /version { return 200 "$server_protocol\n"; }
    location = /connection { return 200 "request $connection_requests\n"; }
    location = /redirect-connection { return 302 /connection; }
    location = /authorization { return 200 "$http_authorization\n"; }
    location = /agent { return 200 "$http_user_agent\n"; }
    location = /token {
      default_type application/json;
      if ($client = 0) { return 401 '{"error": "invalid_client", "error_description": "nobody knows it"}'; }
      return 200 '{"access_token": "@TOKEN@", "token_type": "Bearer", "expires_in": 60}';
    }
    location = /token-by-body {
      # A body is read where it is passed on.
      client_body_in_single_buffer on;
      proxy_pass http://127.0.0.1:@HTTP@/token-for;
      proxy_set_header X-Named $named;
    }
    location = /token-for-the-shop {
      client_body_in_single_buffer on;
      proxy_pass http://127.0.0.1:@HTTP@/token-for;
      proxy_set_header X-Named $meant;
    }
    location = /token-for {
      default_type application/json;
      if ($http_x_named = 0) { return 401 '{"error": "invalid_client"}'; }
      return 200 '{"access_token": "@TOKEN@", "token_type": "Bearer"}';
    }
    location = /token-moved { return 307 /token; }
    location = /token-odd { default_type application/json; return 200 '{"access_token": "x", "token_type": "mac"}'; }
  }
  server {
    listen 127.0.0.1:@MUTUAL@ ssl;
    server_name localhost;
    ssl_certificate @ROOT@/chain.pem;
    ssl_certificate_key @ROOT@/key.pem;
    ssl_client_certificate @ROOT@/authority.pem;
    ssl_verify_client on;
    ssl_verify_depth 2;
    root @ROOT@/pages;
    location = /bearer { if ($known = 0) { return 401 "who are you?\n"; } return 200 "inside\n"; }
    location = /token {
      default_type application/json;
      if ($client = 0) { return 401 '{"error": "invalid_client"}'; }
      return 200 '{"access_token": "@TOKEN@", "token_type": "Bearer"}';
    }
  }
}
"#;
