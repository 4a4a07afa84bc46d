//! Notifications: what became of a message, as its recipient's side tells it. MDN (RFC 8098, with the dispositions that
//! Direct adds) and DSN (RFC 3464), written and read; and how a sender asks for one (mdn.md sections 1 to 6).
//!
//! Readers take the report part alone, decoded. Whether a notification may be believed is not decided here.

pub mod dsn;
mod fields;
pub mod mdn;
pub mod request;

pub use fields::ReportError;
