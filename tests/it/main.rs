//! The one integration-test binary: `support/` holds the test grounds, each other file one behaviour.
#![allow(clippy::unwrap_used, reason = "a test that cannot unwrap has failed")]

mod address_block;
mod architecture;
mod canary;
mod config;
mod conformance;
mod crash;
mod crossing;
mod deadlines;
#[cfg(feature = "demo")]
mod demo;
mod dependencies;
mod dialects;
mod dns_mail_hosts;
mod faults;
mod fidelity;
mod gate;
mod inspect;
mod inspect_is_the_server;
mod mail_to_xdr;
mod metadata;
mod operator;
mod packaging;
mod partners;
mod readme;
mod received_trust;
mod recipients;
mod responses;
mod resubmission;
mod rules;
mod schemas;
mod signals;
mod smime;
mod smtp_client;
mod smtp_client_tls;
mod smtp_server;
mod smtp_server_attacks;
mod smtp_server_interop;
mod soap_client;
mod soap_server;
mod sqlite_store;
mod store;
mod support;
mod xdm_attacks;
mod xdm_fixtures;
mod xdr_attacks;
