//! MIME messages: reading and writing them (direct.md sections 3 and 4).

pub mod base64_lines;
pub mod read;
pub mod write;
