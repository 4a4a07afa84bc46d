//! The transition function.

use super::{Event, Exchange, Scheduled};

/// What becomes of `exchange` when `event` happens, and what must be done.
pub fn step(exchange: &Exchange, event: &Event) -> (Exchange, Vec<Scheduled>) {
    let _ = event;
    (exchange.clone(), Vec::new())
}
