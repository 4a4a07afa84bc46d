//! Named fault points in accept and deliver: the places where a test kills the process, fails a write, or tears a
//! file. Without the feature `fault-points` every call is nothing at all.
//!
//! A test sets `XDBRIDGE_FAULTS` to a comma-separated list of `name=action` or `name@n=action` (the n-th passage,
//! counted from 1). Actions: `kill` (SIGKILL to ourselves), `stop` (SIGSTOP, as a host that hangs: the test continues
//! us), `enospc`, `eio`, and `tear` (the file at hand loses its last octets, as after a lost page).

#[cfg(not(feature = "fault-points"))]
use std::io;

/// Every fault point that a submission passes, in its order.
pub const TO_DIRECT: [&str; 14] = [
    "accept.body_received",
    "body.write",
    "body.sync",
    "accept.decided",
    "store.before_commit",
    "store.after_commit",
    "accept.before_answer",
    "deliver.before_seal",
    "deliver.sealed",
    "deliver.seal_recorded",
    "deliver.before_send",
    "smtp.before_final_dot",
    "deliver.sent",
    "deliver.send_recorded",
];

/// The fault points that a received mail passes beside those of the store, in its order.
pub const TO_XDR: [&str; 14] = [
    "receive.before_record",
    "receive.before_answer",
    "open.before",
    "open.prepared",
    "open.recorded",
    "post.started",
    "post.ended",
    "post.recorded",
    "notify.before_seal",
    "notify.sealed",
    "notify.seal_recorded",
    "notify.before_send",
    "notify.sent",
    "notify.recorded",
];

/// The fault points that a received notice passes beside those of a received mail.
pub const NOTICES: [&str; 1] = ["notice.taken"];

/// The fault points that a status submission passes beside those of the store, in its order.
pub const STATUS: [&str; 5] = [
    "report.made",
    "report.recorded",
    "status.before_post",
    "status.posted",
    "status.recorded",
];

/// The fault points that an unsigned bounce passes beside those of a received mail.
pub const BOUNCES: [&str; 1] = ["bounce.taken"];

/// The fault points that a mail for the postmaster passes beside those of the store.
pub const POSTMASTER: [&str; 2] = ["postmaster.written", "postmaster.kept"];

/// The fault points that a mail for a domain of this bridge's own passes beside those of its submission, or of the mail
/// that it answers, and those of a received mail: between `deliver.before_send` and `deliver.sent`, or
/// `notify.before_send` and `notify.sent`.
pub const OWN_MAIL: [&str; 3] = ["own_mail.before", "own_mail.copied", "own_mail.taken"];

/// Whether there is a fault point of this name.
#[cfg(feature = "fault-points")]
fn is_known(name: &str) -> bool {
    let ways = [
        &TO_DIRECT[..],
        &TO_XDR,
        &NOTICES,
        &STATUS,
        &BOUNCES,
        &POSTMASTER,
        &OWN_MAIL,
    ];
    ways.iter().any(|points| points.contains(&name))
}

/// Passes the point `name`: does nothing, fails with an I/O error, or never returns.
#[cfg(not(feature = "fault-points"))]
#[inline]
pub fn pass(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// Passes the point `name` with a file at hand, which the action `tear` shortens.
#[cfg(not(feature = "fault-points"))]
#[inline]
pub fn pass_with_file(_name: &'static str, _file: &std::fs::File) -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "fault-points")]
pub use armed::{pass, pass_with_file};

#[cfg(feature = "fault-points")]
mod armed {
    use std::{
        collections::HashMap,
        fs::File,
        io,
        sync::{Mutex, OnceLock},
    };

    use rustix::{io::Errno, process::Signal};

    /// Octets that a torn file loses.
    const TORN_BYTES: u64 = 100;

    #[derive(Clone, Copy)]
    enum Action {
        Kill,
        Stop,
        Fail(i32),
        Tear,
    }

    struct Fault {
        action: Action,
        at_passage: Option<u32>,
        passages: u32,
    }

    fn faults() -> &'static Mutex<HashMap<String, Fault>> {
        static FAULTS: OnceLock<Mutex<HashMap<String, Fault>>> = OnceLock::new();
        FAULTS.get_or_init(|| {
            let setting = std::env::var("XDBRIDGE_FAULTS").unwrap_or_default();
            Mutex::new(
                setting
                    .split(',')
                    .filter(|item| !item.is_empty())
                    .map(parse)
                    .collect(),
            )
        })
    }

    fn parse(item: &str) -> (String, Fault) {
        let (point, action) = item
            .split_once('=')
            .expect("XDBRIDGE_FAULTS has the form name=action");
        let (name, at_passage) = match point.split_once('@') {
            Some((name, n)) => (name, Some(n.parse().expect("a passage is a whole number"))),
            None => (point, None),
        };
        assert!(super::is_known(name), "there is no fault point {name}");
        let action = match action {
            "kill" => Action::Kill,
            "stop" => Action::Stop,
            "enospc" => Action::Fail(Errno::NOSPC.raw_os_error()),
            "eio" => Action::Fail(Errno::IO.raw_os_error()),
            "tear" => Action::Tear,
            other => panic!("there is no fault action {other}"),
        };
        (
            name.to_owned(),
            Fault {
                action,
                at_passage,
                passages: 0,
            },
        )
    }

    fn due(name: &str) -> Option<Action> {
        debug_assert!(super::is_known(name), "{name} is in no list");
        let mut faults = faults().lock().ok()?;
        let fault = faults.get_mut(name)?;
        fault.passages += 1;
        let is_due = fault.at_passage.is_none_or(|n| n == fault.passages);
        is_due.then_some(fault.action)
    }

    /// Passes the point `name`.
    pub fn pass(name: &'static str) -> io::Result<()> {
        match due(name) {
            None | Some(Action::Tear) => Ok(()),
            Some(Action::Fail(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Action::Stop) => {
                stop();
                Ok(())
            }
            Some(Action::Kill) => kill(),
        }
    }

    /// Passes the point `name` with a file at hand.
    pub fn pass_with_file(name: &'static str, file: &File) -> io::Result<()> {
        match due(name) {
            None => Ok(()),
            Some(Action::Tear) => {
                let length = file.metadata()?.len();
                file.set_len(length.saturating_sub(TORN_BYTES))
            }
            Some(Action::Fail(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Action::Stop) => {
                stop();
                Ok(())
            }
            Some(Action::Kill) => kill(),
        }
    }

    fn stop() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
        // Another thread may have been given the signal: this one is stopped before this is over.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }

    fn kill() -> ! {
        // `std::process::abort` would run signal handlers and dump core; SIGKILL is what the tests mean.
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}
