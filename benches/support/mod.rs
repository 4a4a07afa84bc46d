//! What the benches share: documents to send, a bridge of their own, a load, a sink, and the floor.
#![allow(dead_code, reason = "each bench takes a part of it")]

pub(crate) mod bridge;
pub(crate) mod documents;
pub(crate) mod endpoint;
pub(crate) mod floor;
pub(crate) mod load;
pub(crate) mod mails;
pub(crate) mod many;
pub(crate) mod report;
pub(crate) mod sink;
