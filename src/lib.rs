//! xdbridge joins two ways of pushing health records: **XDR** (IHE ITI-41 over SOAP and MTOM) and
//! **Direct** (S/MIME over SMTP), so that neither side has to change.
//!
//! The map, in reading order. A layer uses only layers listed before it.
//!
//! - [`formats`]: what travels on the wire. Bytes become types and types become bytes; no I/O of its own, no
//!   clock, no async. The *metadata mapper* begins here: [`formats::metadata`], [`formats::xdm`].
//! - [`bridge`]: what we decide. Pure functions over `formats`: the other half of the metadata mapper
//!   ([`bridge::to_direct`], [`bridge::to_xdr`]), trust, routing, and the *correlator*
//!   ([`bridge::exchange`]), which ties MDNs to XDR responses.
//! - [`flows`]: what happens, in order, one file for each use case, speaking to the world through the
//!   small traits of [`flows::ports`].
//! - [`adapters`]: the outside world, one folder for each protocol. Adapters never use one another, but for what lies
//!   beside them: [`adapters::pem_files`], and [`adapters::http_tls`] of the two that serve HTTP.
//! - [`app`]: joins settings, picks the adapters, and holds one file for each subcommand.
//!
//! `ARCHITECTURE.md` follows one message through these layers.

pub mod adapters;
pub mod app;
pub mod bridge;
pub mod flows;
pub mod formats;
