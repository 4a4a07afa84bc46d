//! XML as it comes from outside: hardened reading, and metadata kept as the text that was received.

pub mod c14n;
pub mod chars;
pub mod kept;
pub mod names;
pub mod prefixless;
pub mod pull;
mod scan;
pub mod schema;
mod scopes;
pub mod source;
mod tag;
pub mod write;

pub use scan::XmlLimitError;
pub(in crate::formats) use scan::{check_limits, start_tag_at};
