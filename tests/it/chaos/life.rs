//! The life of one process, from its start to its end.

use std::{os::unix::process::ExitStatusExt, path::Path, time::Duration};

use rustix::process::Signal;

use super::{
    ground::{Node, World},
    plan::{End, Life},
};
use crate::support::process::BridgeProcess;

const SIGKILL: i32 = 9;
/// How long a life waits for its fault point before it is killed from outside.
const POINT_PATIENCE: Duration = Duration::from_secs(15);

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It killed itself there.
    AtPoint(&'static str),
    /// It did not come to its point, and was killed.
    Missed(&'static str),
    Killed,
    Stopped,
    /// Its start could not be recorded; it was to be killed there, if anywhere.
    RefusedToStart(Option<&'static str>),
    /// As it must not.
    Wrong,
}

/// Starts the bridge of this number in `folder`, lets it live as long as it has to, and ends it. `silence` waits until
/// nothing of it is on its way any more.
pub(super) fn live(
    world: &World,
    life: &Life,
    (number, folder): (usize, &Path),
    silence: impl FnOnce(),
) -> Ended {
    let fails = life.failing > 0;
    if fails {
        world.begin_trouble(number..number + 1);
    } else {
        world.begin_era();
    }
    let ended = live_on(world, life, number, folder);
    silence();
    if fails {
        world.end_trouble(number..number + 1);
    }
    ended
}

fn live_on(world: &World, life: &Life, number: usize, folder: &Path) -> Ended {
    let before = world.troubles();
    let mut bridge = BridgeProcess::start(folder, &life.faults);
    let node = bridge.is_listening().then(|| Node::of(&bridge));
    if let Some(node) = node {
        world.add_node(node);
    }
    let (patience, point) = match life.end {
        End::AtPoint(point) => (POINT_PATIENCE, Some(point)),
        End::After(time) | End::Stop(time) => (time, None),
    };
    let by_itself = bridge.ended_within(patience);
    let is_stopped = matches!(life.end, End::Stop(_));
    if by_itself.is_none() {
        let signal = if is_stopped {
            Signal::TERM
        } else {
            Signal::KILL
        };
        bridge.signal(signal);
    }
    let status = by_itself.unwrap_or_else(|| bridge.ended());
    if let Some(node) = node {
        world.remove_node(node);
    }
    let was_killed = status.signal() == Some(SIGKILL);
    if was_killed {
        world.note_kill(number);
    }
    if bridge.log_text().contains("panicked at") {
        world.complain(format!("{}: a panic\n{}", life.faults, bridge.log_text()));
    }
    let may_fail = before.is_any() || world.troubles() != before;
    match (by_itself.is_some(), point) {
        (true, Some(point)) if was_killed => Ended::AtPoint(point),
        (true, point) if node.is_none() && status.code() == Some(1) => Ended::RefusedToStart(point),
        (false, Some(point)) => Ended::Missed(point),
        // Without its store it cannot end in order, and says so.
        (false, None)
            if is_stopped && (status.success() || may_fail && status.code() == Some(1)) =>
        {
            Ended::Stopped
        }
        (false, None) if !is_stopped => Ended::Killed,
        _ => {
            let log = bridge.log_text();
            world.complain(format!("{}: ended with {status}\n{log}", life.faults));
            Ended::Wrong
        }
    }
}
