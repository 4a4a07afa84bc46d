//! S/MIME on CMS (smime.md): sign, encrypt, decrypt, verify. Keys and the present time come in as arguments.
//!
//! [`seal()`] writes the CMS part of a Direct mail in one pass: EnvelopedData over multipart/signed over one MIME
//! entity. [`open()`] reads such a part back. Neither decides whom to trust: that is [`crate::bridge::trust`].
//! Standards: RFC 5652 (CMS), RFC 8551 (S/MIME 4.0), RFC 1847 (multipart/signed).

mod ber;
pub mod certificate;
pub mod certs_only;
pub mod crl;
mod entity;
pub mod extensions;
pub mod facts;
mod ffi;
mod front;
pub mod header;
mod look;
pub mod ocsp;
mod octets;
mod open;
pub mod policy;
mod seal;
mod verify;

pub use certs_only::certificates_in;
pub use front::{FrontError, is_sealed_for};
pub use header::{OUTER_SUBJECT, SealHeader, seal_header};
pub use look::{Look, SecuredForm, look, look_at_cms};
pub use open::{OpenError, OpenOptions, Opened, open, open_from};
pub use policy::{ContentCipher, Digest, Legacy};
pub use seal::{
    SealError, SealOptions, SigningIdentity, seal, sealed_len_estimate, signature_boundary,
};
pub use verify::{Leniency, SignerFault, VerifiedSigner};
