//! What travels on the wire: bytes to types and back. Pure: readers take [`std::io::Read`], writers take
//! [`std::io::Write`]; no paths, no sockets, no clock, no async.

pub mod audit;
mod base64_blocks;
pub mod cda;
pub mod context;
pub mod document;
pub mod finding;
pub mod ids;
pub mod keyed_hash;
pub mod ldap;
pub mod limits;
pub mod metadata;
pub mod mime;
pub mod notification;
pub mod redacted;
pub mod smime;
pub mod soap;
pub mod units;
pub mod xdm;
pub mod xdr;
pub mod xml;
