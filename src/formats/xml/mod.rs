//! XML as it comes from outside: hardened reading, and metadata kept as the text that was received.

pub mod kept;
pub mod names;
