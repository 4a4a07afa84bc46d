//! Test grounds: builders, counterparts and servers that the behaviour files share.

pub(crate) mod dns_server;
pub(crate) mod folder;
pub(crate) mod mail;
pub(crate) mod raw_zip;
pub(crate) mod scripted_smtp;
pub(crate) mod smtp_ground;
pub(crate) mod soap_ground;
pub(crate) mod store;
pub(crate) mod submission;
pub(crate) mod tls;
