//! Alerts: what is told, to whom, and that it arrives. A file a concern, pure but for `desk` and `delivery`:
//!
//! | file | owns |
//! |---|---|
//! | `machine` | the alert state of one monitor at one location |
//! | `absence` | agents that are silent, in how few events |
//! | `clocks` | clocks that are off, in how few events |
//! | `digest` | what an outage hid |
//! | `event` | what is kept of each event, and its words |
//! | `channel` | channels as people write them |
//! | `outbox` | what waits to be delivered, in which order |
//! | `book` | all of these, and what becomes of results |
//! | `tick` | what time alone brings |
//! | `draft` | what is to be written before it is true |
//! | `desk` | the control plane's way to the book, under one lock |
//! | `delivery` | the requests to channels: the only connections that the control plane opens |

mod absence;
mod book;
pub(crate) mod channel;
mod clocks;
mod delivery;
mod desk;
mod digest;
mod draft;
mod event;
mod machine;
mod outbox;
mod tick;

pub(crate) use book::{Book, KeptUnit};
pub(crate) use channel::Channel;
pub(crate) use delivery::deliver;
pub(crate) use digest::Digest;
pub(crate) use event::Event;
#[cfg(test)]
pub(crate) use machine::Level;
pub(crate) use outbox::Parcel;
pub(crate) use tick::Watch;
