//! Test grounds: builders, counterparts and servers that the behaviour files share.

pub(crate) mod folder;
pub(crate) mod tls;
