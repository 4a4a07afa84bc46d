//! LDAPv3 messages, as far as a look-up of certificates needs them (RFC 4511): what a client asks, and what a server
//! answers. Answers are hostile until they are read: no part of one is looked into deeper than its own form goes.

mod request;
mod response;

pub use request::{Filter, Scope, Search, bind, search, unbind};
pub use response::{
    Attribute, Entry, FrameError, MAX_HEAD_BYTES, Malformed, Message, Response, ResultCode,
    frame_bytes, read,
};
