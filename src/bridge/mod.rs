//! What we decide: pure functions over [`crate::formats`]. No I/O, no clock, no async.

pub mod bounce;
pub mod destination;
pub mod discovery;
pub mod endpoint;
pub mod exchange;
pub mod fetch_target;
pub mod judge;
pub mod network;
pub mod notice;
pub mod overview;
pub mod own_domain;
pub mod partner;
pub mod post;
pub mod received;
pub mod retry;
pub mod routing;
pub mod rules;
pub mod status;
pub mod to_direct;
pub mod to_xdr;
pub mod trust;
