//! What the process does for its own safety before it touches a message (T-30).

use std::{
    io,
    panic::{self, PanicHookInfo},
    thread,
};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing::error;

/// Turns core dumps off and makes panics silent about values. Call it first in every command that handles messages
/// or keys.
pub fn harden() -> io::Result<()> {
    turn_core_dumps_off()?;
    panic::set_hook(Box::new(tell_of));
    Ok(())
}

/// Memory holds keys and documents. The limit keeps the kernel from writing it to a file; not being dumpable also
/// keeps it from a core handler, and other processes of the same user from reading it.
fn turn_core_dumps_off() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn tell_of(panic: &PanicHookInfo<'_>) {
    let current = thread::current();
    let thread = current.name().unwrap_or("unnamed");
    let place = panic
        .location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let message = message_of(panic.payload());
    error!(thread, place, "panicked at {place}: {message}");
    if !tracing::enabled!(tracing::Level::ERROR) {
        eprintln!("thread {thread} panicked at {place}: {message}");
    }
}

/// A message that was formatted may hold a value: a slice error quotes the text that it cut. A literal cannot.
fn message_of(payload: &(dyn std::any::Any + Send)) -> &'static str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("(its message is withheld: it may hold values)")
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn core_dumps_are_off_for_good() {
        turn_core_dumps_off().unwrap();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }

    #[test]
    fn a_panic_tells_its_literal_and_withholds_what_was_formatted() {
        let literal = panic::catch_unwind(|| panic!("as planned")).unwrap_err();
        assert_eq!(message_of(&*literal), "as planned");
        let patient = "Ada Quill".to_owned();
        let formatted = panic::catch_unwind(|| panic!("cut in {patient}")).unwrap_err();
        assert!(!message_of(&*formatted).contains("Ada"));
    }
}
