//! Ends connections that hold a place and do nothing with it. actix times the head of a connection's first request
//! and an idle connection, but neither the head of a later request nor a peer that does not take its answer.

use std::{
    cell::Cell,
    io,
    net::{Shutdown, TcpStream as Socket},
    os::fd::AsFd,
    rc::Rc,
    time::Duration,
};

use actix_web::rt::{self, net::TcpStream, task::JoinHandle};
use tokio::time::{Instant, sleep};

/// Watches one connection for as long as the connection keeps it.
pub(super) struct Watch {
    activity: Rc<Activity>,
    watchman: JoinHandle<()>,
}

/// A request that is being served; dropped once its answer is written.
pub(super) struct Running {
    activity: Rc<Activity>,
}

struct Activity {
    running: Cell<u32>,
    idle_since: Cell<Instant>,
}

impl Watch {
    /// Ends the connection once it was without a request for `limit`.
    pub(super) fn start(connection: &TcpStream, limit: Duration) -> io::Result<Self> {
        let socket = Socket::from(connection.as_fd().try_clone_to_owned()?);
        let activity = Rc::new(Activity::begun(Instant::now()));
        let watched = Rc::clone(&activity);
        let watchman = rt::spawn(async move {
            while let Some(wait) = watched.left(Instant::now(), limit) {
                sleep(wait).await;
            }
            // It fails on a connection that has ended already, which is as well.
            let _ = socket.shutdown(Shutdown::Both);
        });
        Ok(Self { activity, watchman })
    }

    /// Says that a request is being served.
    pub(super) fn request(&self) -> Running {
        let running = &self.activity.running;
        running.set(running.get().saturating_add(1));
        Running {
            activity: Rc::clone(&self.activity),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The watchman's copy of the socket would keep the connection open.
        self.watchman.abort();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let running = &self.activity.running;
        running.set(running.get().saturating_sub(1));
        self.activity.idle_since.set(Instant::now());
    }
}

impl Activity {
    fn begun(now: Instant) -> Self {
        Self {
            running: Cell::new(0),
            idle_since: Cell::new(now),
        }
    }

    /// When to look again; `None` when the connection is over.
    fn left(&self, now: Instant, limit: Duration) -> Option<Duration> {
        if self.running.get() > 0 {
            return Some(limit);
        }
        let idle = now.saturating_duration_since(self.idle_since.get());
        limit.checked_sub(idle).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_connection_without_a_request_is_over_after_the_limit() {
        let begin = Instant::now();
        let activity = Activity::begun(begin);
        assert_eq!(activity.left(begin, 5 * SECOND), Some(5 * SECOND));
        assert_eq!(
            activity.left(begin + 3 * SECOND, 5 * SECOND),
            Some(2 * SECOND)
        );
        assert_eq!(activity.left(begin + 5 * SECOND, 5 * SECOND), None);
    }

    #[test]
    fn a_request_may_take_longer_and_the_limit_counts_from_its_end() {
        let begin = Instant::now();
        let activity = Rc::new(Activity::begun(begin));
        let running = Running {
            activity: Rc::clone(&activity),
        };
        activity.running.set(1);
        assert_eq!(
            activity.left(begin + 60 * SECOND, 5 * SECOND),
            Some(5 * SECOND)
        );
        drop(running);
        let end = activity.idle_since.get();
        assert_eq!(activity.left(end + SECOND, 5 * SECOND), Some(4 * SECOND));
        assert_eq!(activity.left(end + 6 * SECOND, 5 * SECOND), None);
    }
}
