//! `picket control`: turns options into the control plane's settings, says where it listens and where the admin token lies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::signals;

/// Run the control plane: agents, monitors, results, API and page, with an embedded store
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Directory for the store, the keys and the admin token; made when it is missing, for one control plane only
    #[arg(long, env = "PICKET_DATA", hide_env_values = true, default_value = "/data", value_name = "DIR")]
    data: PathBuf,
    /// Address and port; port 0 takes a free one
    #[arg(
        long,
        env = "PICKET_LISTEN",
        hide_env_values = true,
        default_value = "127.0.0.1:8440",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// PEM file of the certificate and its intermediates. Without it: plain HTTP, on loopback only
    #[arg(long, env = "PICKET_TLS_CERT", hide_env_values = true, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's private key
    #[arg(long, env = "PICKET_TLS_KEY", hide_env_values = true, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Speak plain HTTP on any address: a proxy in front does TLS
    #[arg(long, env = "PICKET_BEHIND_PROXY", hide_env_values = true, value_parser = clap::builder::BoolishValueParser::new())]
    behind_proxy: bool,
    /// How long results are kept after their receipt
    #[arg(long, env = "PICKET_RETENTION", hide_env_values = true, default_value = "30d", value_name = "AGE", value_parser = humantime::parse_duration)]
    retention: Duration,
    /// How long a setup token is good
    #[arg(long, env = "PICKET_SETUP_TOKEN_TTL", hide_env_values = true, default_value = "24h", value_name = "AGE", value_parser = humantime::parse_duration)]
    setup_token_ttl: Duration,
    /// Directory of the bundled checks, NAME.wasm each. Default: plugins beside the program, beside its directory, or /usr/lib/picket/plugins
    #[arg(long, env = "PICKET_PLUGINS", hide_env_values = true, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// YAML file with these options as keys, below flag and variable in precedence
    #[arg(long, env = "PICKET_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
SIGTERM and SIGINT end it in good order.

Exit status:
  0   ended by a signal
  64  the options are wrong, such as plain HTTP on a public address
  65  the store was written by a newer version; nothing in it was changed
  69  the address is taken, or the bundled checks cannot be loaded
  73  the data directory is in use by another control plane
  74  reading or writing failed
  77  no permission
  78  a certificate, a key or a file in the data directory is wrong";

pub(crate) async fn run(args: Args) -> Result<u8, Failure> {
    let token = args.data.join(TOKEN);
    let first = !token.exists();
    let scheme = if args.tls_cert.is_some() { "https" } else { "http" };
    let settings = control::Settings {
        data: args.data,
        listen: args.listen,
        tls: args.tls_cert.zip(args.tls_key).map(|(cert, key)| control::Tls { cert, key }),
        behind_proxy: args.behind_proxy,
        retention: args.retention,
        plugins: args.plugins,
        setup_token_ttl: args.setup_token_ttl,
    };
    let (ready, listening) = oneshot::channel();
    let welcome = async {
        // Without an address the server failed, and says why itself.
        if let Ok(address) = listening.await {
            anstream::eprintln!("{}", greeting(scheme, address, &token, first));
        }
    };
    let served = control::serve(settings, ready, signals::shutdown()?);
    let (served, ()) = tokio::join!(served, welcome);
    served.map_err(|e| Failure::new(e.exit_code(), e))?;
    Ok(0)
}

/// In the data directory; also what logs in on the page.
pub(crate) const TOKEN: &str = "admin.token";

/// What stands before the address; the demo looks for it.
pub(crate) const GREETING: &str = "picket control plane on ";

fn greeting(scheme: &str, address: SocketAddr, token: &Path, first: bool) -> String {
    let token = token.display();
    let line = format!("{GREETING}{scheme}://{address}/");
    if !first {
        return format!("{line} (admin token in {token})");
    }
    format!(
        "{line}\n  the admin token lies in {token}; it logs in on the page, and for the command line:\n    \
         export PICKET_CONTROL={scheme}://{address} PICKET_API_TOKEN=$(cat {token})\n  \
         next: picket agents create NAME --location PLACE"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::greeting;

    #[test]
    fn the_first_start_says_where_the_admin_token_lies() {
        let address = "127.0.0.1:8440".parse().unwrap();
        let text = greeting("http", address, Path::new("./cp/admin.token"), true);
        assert!(text.contains("the admin token lies in ./cp/admin.token"), "{text}");
        assert!(text.contains("PICKET_API_TOKEN=$(cat ./cp/admin.token)"), "{text}");
        let later = greeting("http", address, Path::new("./cp/admin.token"), false);
        assert_eq!(later, "picket control plane on http://127.0.0.1:8440/ (admin token in ./cp/admin.token)");
    }
}
