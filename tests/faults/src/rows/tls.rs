//! N6: somebody else answers where the control plane should, with a certificate that does not prove it. Not a byte is told to them.

use std::time::Duration;

use servers::{Authority, Shape, TlsServer};

use crate::row::row;
use crate::{Row, Run, Stage, Tally, until};

pub(super) const ROWS: &[Row] = &[row("N6", "certificates that prove nothing", (8, 40), defects)];

/// What is wrong with the certificate; with the last nothing, so that the meter is known to count.
const DEFECTS: [(&str, Shape); 8] = [
    ("expired", Shape::Expired),
    ("not valid yet", Shape::NotYetValid),
    ("another name", Shape::WrongName),
    ("signed by itself", Shape::SelfSigned),
    ("without its intermediate", Shape::IncompleteChain),
    ("an authority's own", Shape::AuthorityAsLeaf),
    ("an unknown authority", Shape::Valid),
    ("nothing", Shape::Valid),
];

/// An agent with a setup token to lose tries twice to enrol.
fn defects(run: &Run) -> Tally {
    let stage = Stage::new("N6");
    let (authority, stranger) = (Authority::new().expect("a key"), Authority::new().expect("a key"));
    let trusted = stage.write("ca.pem", &authority.pem());
    run.side_by_side(4, |lane, times| {
        for n in 0..times {
            let (defect, shape) = DEFECTS[((lane + n * 4) % DEFECTS.len() as u64) as usize];
            let issuer = if defect == "an unknown authority" { &stranger } else { &authority };
            let server = TlsServer::start(issuer, shape).expect("a server starts");
            let name = format!("edge-{lane}-{n}");
            let mut command = stage.agent_at(&name, &format!("https://localhost:{}", server.port()));
            command.arg("--ca-file").arg(&trusted).env("PICKET_SETUP_TOKEN", "pst_secret");
            let agent = stage.start(&name, &mut command);
            until(&format!("an agent before a certificate with {defect} tries twice"), PATIENCE, || {
                let refused = stage.log(&name).matches("failed to verify TLS certificate").count();
                (refused >= 2 || (defect == "nothing" && server.heard() > 0)).then_some(())
            });
            assert_eq!(server.heard() > 0, defect == "nothing", "{defect}: {} bytes told", server.heard());
            agent.kill();
        }
    });
    Tally::of(run.count, "certificates").and(DEFECTS.len() as u64 - 1, "defects").and(0, "bytes told")
}

const PATIENCE: Duration = Duration::from_secs(40);
