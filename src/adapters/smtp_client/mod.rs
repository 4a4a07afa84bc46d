//! Hands sealed mail to the next hop by SMTP (RFC 5321): smtp.md sections 7 to 9.

pub mod config;
