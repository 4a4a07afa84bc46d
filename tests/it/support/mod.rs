//! Test grounds: builders, counterparts and servers that the behaviour files share.

use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) mod asking;
pub(crate) mod bind;
pub(crate) mod bridge;
pub(crate) mod crl;
#[cfg_attr(
    not(feature = "fault-points"),
    allow(dead_code, reason = "some of it serves only tests with fault points")
)]
pub(crate) mod crossing_ground;
#[cfg(feature = "fault-points")]
pub(crate) mod cut_proxy;
pub(crate) mod dns_server;
pub(crate) mod envelopes;
pub(crate) mod fetch_ground;
pub(crate) mod folder;
pub(crate) mod json_schema;
pub(crate) mod keys;
pub(crate) mod ldap_server;
pub(crate) mod mail;
pub(crate) mod mailbox;
pub(crate) mod medium;
pub(crate) mod mutations;
pub(crate) mod notices_ground;
pub(crate) mod openssl_peer;
pub(crate) mod operated;
pub(crate) mod postfix;
pub(crate) mod postgres;
pub(crate) mod postgres_server;
#[cfg_attr(
    not(feature = "fault-points"),
    allow(dead_code, reason = "some of it serves only tests with fault points")
)]
pub(crate) mod process;
pub(crate) mod raw_zip;
pub(crate) mod receiving_ground;
pub(crate) mod request;
pub(crate) mod room;
pub(crate) mod saved;
#[cfg_attr(
    not(feature = "fault-points"),
    allow(dead_code, reason = "some of it serves only tests with fault points")
)]
pub(crate) mod scripted_smtp;
#[cfg_attr(
    not(feature = "fault-points"),
    allow(dead_code, reason = "some of it serves only tests with fault points")
)]
pub(crate) mod scripted_xdr;
pub(crate) mod slapd;
pub(crate) mod smtp_ground;
#[cfg(feature = "fault-points")]
pub(crate) mod smtp_sender;
pub(crate) mod smtp_server_ground;
pub(crate) mod soap_answer;
pub(crate) mod soap_ground;
pub(crate) mod store;
pub(crate) mod stores;
pub(crate) mod submission;
#[cfg_attr(
    not(feature = "fault-points"),
    allow(dead_code, reason = "some of it serves only tests with fault points")
)]
pub(crate) mod tls;
pub(crate) mod tools;
mod unprivileged;
pub(crate) mod web;
pub(crate) mod xmllint;

/// Asks again and again until it is so. Only a test that fails waits to the end.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(60);
    const PAUSE: Duration = Duration::from_millis(10);
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        thread::sleep(PAUSE);
    }
}

/// The measures of this process: there can be one recorder only, whichever test comes first.
pub(crate) fn measured() -> &'static xdbridge::adapters::operator::Measured {
    use xdbridge::adapters::operator::Measured;
    static MEASURED: std::sync::OnceLock<Measured> = std::sync::OnceLock::new();
    MEASURED.get_or_init(|| Measured::install().unwrap())
}
