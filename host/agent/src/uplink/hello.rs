//! How a session begins: a nonce, a hello, and what the welcome means for the spool.

use std::sync::Arc;

use wire::Problem;
use wire::session::Hello;

use super::client::Trouble;
use super::machine::Greeting;
use super::{Uplink, trouble};
use crate::{clock, record};

impl Uplink {
    /// Says hello. It may be dropped at any point: without an answer, nobody knows which lease was given out last.
    pub(super) async fn greet(&mut self) {
        let nonce = match self.client.nonce().await {
            Ok(nonce) => nonce,
            Err(trouble) => return self.fail(trouble, &[]),
        };
        let status = self.spool.status();
        let recorded = record::from_spool(status.recorded);
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            recorded: self.machine.declared(clock::boot(), recorded),
            pending: status.pending,
            previous_lease: self.lease.last().map(str::to_owned),
            kept_lease: self.lease.kept_instead().map(str::to_owned),
            boot_id: self.boot_id.clone(),
            host: clock::host(),
            stood_by: self.lease.stood_by(),
        };
        self.session = None;
        match self.client.hello(nonce, &hello).await {
            Ok((session, welcome)) => {
                self.lease.keep(session.lease(), welcome.renumber);
                let kept = self.lease.kept_instead();
                if kept.is_some() && kept != hello.kept_lease.as_deref() {
                    // Another hello says so before this lease is used: from then on only that would tell a restart from a copy.
                    return;
                }
                self.session = Some(Arc::new(session));
                let greeting = Greeting {
                    mark: hello.recorded,
                    recorded,
                    backlog: status.pending + status.gaps > 0,
                    cursor: welcome.cursor,
                    seen: welcome.seen,
                    renumber: welcome.renumber,
                };
                let verdict = self.machine.welcomed(clock::boot(), greeting, rand::random());
                match self.apply(verdict, &[]).await {
                    Ok(()) if !verdict.later_life => self.lease.renumbered(),
                    Ok(()) => {}
                    Err(error) => {
                        let reason = format!("cannot move the spool's acknowledged position: {error}");
                        return self.fail(Trouble::Network(reason), &[]);
                    }
                }
                self.tell(trouble(verdict));
            }
            Err(trouble) => {
                if trouble.is(Problem::FORKED) {
                    self.lease.stand_by();
                }
                self.fail(trouble, &[]);
            }
        }
    }
}
