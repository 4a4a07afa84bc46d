//! Test grounds: builders, counterparts and servers that the behaviour files share.

#[cfg_attr(
    not(feature = "fault-points"),
    allow(dead_code, reason = "some of it serves only tests with fault points")
)]
pub(crate) mod crossing_ground;
pub(crate) mod dns_server;
pub(crate) mod folder;
pub(crate) mod mail;
#[cfg_attr(
    not(feature = "fault-points"),
    allow(dead_code, reason = "some of it serves only tests with fault points")
)]
pub(crate) mod process;
pub(crate) mod raw_zip;
#[cfg_attr(
    not(feature = "fault-points"),
    allow(dead_code, reason = "some of it serves only tests with fault points")
)]
pub(crate) mod scripted_smtp;
pub(crate) mod smtp_ground;
pub(crate) mod soap_ground;
pub(crate) mod store;
pub(crate) mod submission;
#[cfg_attr(
    not(feature = "fault-points"),
    allow(dead_code, reason = "some of it serves only tests with fault points")
)]
pub(crate) mod tls;
