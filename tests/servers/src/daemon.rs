//! Debian's servers of protocols in which TLS begins after a dialogue: mail, files, a directory, chat, a database. Each with no more
//! configuration than it takes to offer that; nobody can log in.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{Authority, Error, Shape, ports};

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Dovecot: IMAP, POP3, and SMTP as mail programs speak it (RFC 6409), each on a port of its own.
    Dovecot,
    /// vsftpd: FTP.
    Vsftpd,
    /// OpenLDAP's slapd: LDAP.
    Slapd,
    /// Prosody: XMPP for the domain `localhost`.
    Prosody,
    /// MariaDB: MySQL's protocol.
    Mariadb,
}

/// A running server.
#[derive(Debug)]
pub struct Daemon {
    ports: [u16; 3],
    _process: Process,
    _directory: TempDir,
}

impl Daemon {
    /// Starts it with a certificate of that shape.
    pub fn start(program: Program, authority: &Authority, shape: Shape) -> Result<Daemon, Error> {
        process::start_anew(|| Daemon::launch(program, authority, shape))
    }

    fn launch(program: Program, authority: &Authority, shape: Shape) -> Result<Daemon, Error> {
        let (name, package) = program.names();
        let path = process::find(name, package)?;
        let directory = process::directory(name)?;
        let at = directory.path();
        let identity = authority.issue(shape)?;
        process::write(&at.join("chain.pem"), &identity.chain_pem)?;
        process::write(&at.join("key.pem"), &identity.key_pem)?;
        // Some of their processes are nobody in particular, and look for their files as such.
        open(at, 0o755)?;
        process::make_directory(&at.join("data"))?;
        let ports = [ports::free_port()?, ports::free_port()?, ports::free_port()?];
        let file = at.join(CONFIGURATION);
        let [uid, gid] = [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()];
        let values = [
            ("@AT@", at.display().to_string()),
            ("@PORT@", ports[0].to_string()),
            ("@POP3@", ports[1].to_string()),
            ("@SMTP@", ports[2].to_string()),
            ("@USER@", named("/etc/passwd", uid)),
            ("@GROUP@", named("/etc/group", gid)),
        ];
        let text: String = program.configuration().lines().filter(|line| applies(line)).map(bare).collect();
        let text = values.iter().fold(text, |text, (place, value)| text.replace(place, value));
        process::write(&file, text)?;
        let mut command = Command::new(path);
        program.arguments(&mut command, at, ports[0]);
        let mut running = Process::start(&mut command, at.join("log"), Signal::TERM)?;
        // They listen before they serve, and some start a process for the first who comes.
        running.wait_until(|| {
            let dialogues = program.dialogues();
            ports.iter().zip(dialogues).all(|(port, (say, hear))| ports::answers(*port, say, hear))
        })?;
        Ok(Daemon { ports, _process: running, _directory: directory })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Where Dovecot listens for POP3.
    pub fn pop3_port(&self) -> u16 {
        self.ports[1]
    }

    /// Where Dovecot listens for SMTP.
    pub fn smtp_port(&self) -> u16 {
        self.ports[2]
    }
}

impl Program {
    /// Of the program and of Debian's package.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Program::Dovecot => ("dovecot", "dovecot-imapd dovecot-pop3d dovecot-submissiond"),
            Program::Vsftpd => ("vsftpd", "vsftpd"),
            Program::Slapd => ("slapd", "slapd"),
            Program::Prosody => ("prosody", "prosody"),
            Program::Mariadb => ("mariadbd", "mariadb-server-core"),
        }
    }

    /// For each port on which it listens: what is said there, and what in the answer shows that it serves, and nobody in its place.
    fn dialogues(self) -> &'static [(&'static [u8], &'static [u8])] {
        match self {
            Program::Dovecot => &[(b"", b"* OK "), (b"", b"+OK Dovecot"), (b"", b"220 mail.picket.test ")],
            Program::Vsftpd => &[(b"", b"(vsFTPd ")],
            // An anonymous bind, and that it came through (RFC 4511, section 4.2).
            Program::Slapd => &[(
                b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00",
                b"\x02\x01\x01\x61\x07\x0a\x01\x00",
            )],
            Program::Prosody => &[(
                b"<stream:stream to='localhost' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
                b"<stream:features>",
            )],
            Program::Mariadb => &[(b"", b"-MariaDB-")],
        }
    }

    fn arguments(self, command: &mut Command, at: &Path, port: u16) {
        let file = at.join(CONFIGURATION);
        match self {
            Program::Dovecot => command.arg("-F").arg("-c").arg(file),
            Program::Vsftpd => command.arg(file),
            Program::Slapd => {
                command.args(["-d", "0", "-h", &format!("ldap://127.0.0.1:{port}")]).arg("-f").arg(file)
            }
            Program::Prosody => command.arg("-F").arg("--config").arg(file),
            // It reads its own system tables out of nothing: nobody is known, and nobody gets in.
            Program::Mariadb => command.arg(format!("--defaults-file={}", file.display())),
        };
    }

    /// Lines behind `root:` are for root only, those behind `user:` for everybody else.
    fn configuration(self) -> &'static str {
        match self {
            Program::Dovecot => DOVECOT,
            Program::Vsftpd => VSFTPD,
            Program::Slapd => SLAPD,
            Program::Prosody => PROSODY,
            Program::Mariadb => MARIADB,
        }
    }
}

fn applies(line: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    !(is_root && line.starts_with("user:") || !is_root && line.starts_with("root:"))
}

fn bare(line: &str) -> String {
    let bare = line.strip_prefix("user:").or_else(|| line.strip_prefix("root:")).unwrap_or(line);
    format!("{bare}\n")
}

/// The name of a user or a group in a file of these; root where it has none.
fn named(file: &str, id: u32) -> String {
    let known = std::fs::read_to_string(file).unwrap_or_default();
    let own = known.lines().find(|line| line.split(':').nth(2) == Some(&id.to_string()));
    own.and_then(|line| line.split(':').next()).unwrap_or("root").to_owned()
}

fn open(path: &Path, mode: u32) -> Result<(), Error> {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|source| Error::File {
        action: "change the permissions of",
        path: path.to_owned(),
        source,
    })
}

/// Prosody insists on the end of the name.
const CONFIGURATION: &str = "configuration.cfg.lua";

const DOVECOT: &str = "
protocols = imap pop3 submission
hostname = mail.picket.test
submission_relay_host = 127.0.0.1
base_dir = @AT@/data
state_dir = @AT@/data
log_path = /dev/stderr
listen = 127.0.0.1
ssl = yes
ssl_cert = <@AT@/chain.pem
ssl_key = <@AT@/key.pem
user:default_internal_user = @USER@
user:default_internal_group = @GROUP@
user:default_login_user = @USER@
service anvil {
  chroot =
}
service imap-login {
  chroot =
  service_count = 0
  inet_listener imap {
    port = @PORT@
  }
  inet_listener imaps {
    port = 0
  }
}
service pop3-login {
  chroot =
  service_count = 0
  inet_listener pop3 {
    port = @POP3@
  }
  inet_listener pop3s {
    port = 0
  }
}
service submission-login {
  chroot =
  service_count = 0
  inet_listener submission {
    port = @SMTP@
  }
  inet_listener submissions {
    port = 0
  }
}
passdb {
  driver = static
  args = password=of-nobody
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=@AT@/data
}
";

const VSFTPD: &str = "
listen=YES
listen_address=127.0.0.1
listen_port=@PORT@
background=NO
anonymous_enable=NO
local_enable=YES
ssl_enable=YES
rsa_cert_file=@AT@/chain.pem
rsa_private_key_file=@AT@/key.pem
secure_chroot_dir=@AT@/data
seccomp_sandbox=NO
run_as_launching_user=YES
xferlog_enable=NO
";

const SLAPD: &str = "
pidfile @AT@/data/pid
argsfile @AT@/data/args
TLSCertificateFile @AT@/chain.pem
TLSCertificateKeyFile @AT@/key.pem
TLSVerifyClient never
";

const PROSODY: &str = "
pidfile = '@AT@/data/pid'
data_path = '@AT@/data'
root:run_as_root = true
interfaces = { '127.0.0.1' }
c2s_ports = { @PORT@ }
c2s_direct_tls_ports = {}
legacy_ssl_ports = {}
s2s_ports = {}
modules_enabled = { 'tls', 'saslauth' }
modules_disabled = { 's2s' }
ssl = { key = '@AT@/key.pem', certificate = '@AT@/chain.pem' }
log = { warn = '*console' }
VirtualHost 'localhost'
";

const MARIADB: &str = "
[mariadbd]
skip-grant-tables
root:user=root
datadir=@AT@/data
port=@PORT@
bind-address=127.0.0.1
socket=@AT@/data/socket
pid-file=@AT@/data/pid
ssl-cert=@AT@/chain.pem
ssl-key=@AT@/key.pem
innodb=OFF
default-storage-engine=MyISAM
aria-log-dir-path=@AT@/data
";
