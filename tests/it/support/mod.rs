//! Test grounds: builders, counterparts and servers that the behaviour files share.
