//! The rows, one file a family.

use crate::Row;
use crate::http::Message;
use crate::proxy::Fate;

mod age;
mod alerts;
mod cut;
mod damage;
mod directory;
mod disk;
mod drain;
mod forgery;
mod link;
mod names;
mod points;
mod power;
mod process;
mod signed;
mod stream;
mod sync;
mod time;
mod tls;
mod token;

pub use drain::{Drain, drain};

/// All rows, the longest first, so that none of them is alone at the end.
pub fn all() -> Vec<Row> {
    let long = [
        points::ROWS,
        alerts::ROWS,
        age::ROWS,
        forgery::ROWS,
        process::ROWS,
        names::ROWS,
        cut::ROWS,
        link::ROWS,
        power::ROWS,
    ];
    let mixed = [damage::ROWS, directory::ROWS, disk::ROWS, sync::ROWS, time::ROWS];
    let short = [signed::ROWS, stream::ROWS, drain::ROWS, tls::ROWS, token::ROWS];
    [long.concat(), mixed.concat(), short.concat()].concat()
}

/// A policy for agents that shall speak by requests: no stream comes through, as behind many a proxy.
fn requests_only(mut policy: impl FnMut(&Message) -> Fate + Send) -> impl FnMut(&Message) -> Fate + Send {
    move |request| {
        if request.path().starts_with("/v1/stream") {
            return Fate::Answer(Message::answer("426 Upgrade Required", &[], b""));
        }
        policy(request)
    }
}
