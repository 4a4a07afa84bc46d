//! The `xdbridge` command.

fn main() {}
