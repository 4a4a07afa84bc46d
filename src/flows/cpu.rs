//! The threads that CMS, zip, base64 and XML run on: as many as there are cores, so that heavy messages queue among
//! themselves and never starve the sockets.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Which queue a job stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A peer waits for the answer.
    PeerWaits,
    /// Nobody waits; it may take long.
    CanWait,
}

/// A fixed set of threads. Its queues are short: accept is bounded by the byte budget, delivery by the number of the
/// outbox's workers.
#[derive(Clone)]
pub struct CpuPool {
    queues: Arc<Queues>,
    // The last clone ends the threads.
    _end: Arc<EndOfQueues>,
}

/// The job panicked. The message that caused it fails; the process goes on.
#[derive(Debug, thiserror::Error)]
#[error("a worker thread panicked on this message")]
pub struct JobPanicked;

#[derive(Default)]
struct Queues {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    first: VecDeque<Job>,
    rest: VecDeque<Job>,
    is_ended: bool,
}

struct EndOfQueues(Arc<Queues>);

impl CpuPool {
    /// Starts one thread for each core that the process may use.
    pub fn start() -> std::io::Result<Self> {
        let queues = Arc::new(Queues::default());
        let threads = thread::available_parallelism().map_or(1, usize::from);
        for index in 0..threads {
            let queues = Arc::clone(&queues);
            thread::Builder::new()
                .name(format!("crunch-{index}"))
                .spawn(move || {
                    while let Some(job) = queues.next() {
                        // A panic ends this job alone; its caller sees the dropped channel.
                        let _ = catch_unwind(AssertUnwindSafe(job));
                    }
                })?;
        }
        let _end = Arc::new(EndOfQueues(Arc::clone(&queues)));
        Ok(Self { queues, _end })
    }

    /// Runs `job` on one of the threads and gives its result. Jobs that a peer waits for go before all others.
    pub async fn run<T, F>(&self, urgency: Urgency, job: F) -> Result<T, JobPanicked>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        self.queues.push(
            urgency,
            Box::new(move || {
                // The caller may have gone away: then nobody wants the result.
                let _ = answer.send(job());
            }),
        );
        result.await.map_err(|_| JobPanicked)
    }
}

impl Queues {
    fn push(&self, urgency: Urgency, job: Job) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match urgency {
            Urgency::PeerWaits => waiting.first.push_back(job),
            Urgency::CanWait => waiting.rest.push_back(job),
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// The next job, waited for; `None` at the end.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = waiting.first.pop_front() {
                return Some(job);
            }
            if let Some(job) = waiting.rest.pop_front() {
                return Some(job);
            }
            if waiting.is_ended {
                return None;
            }
            waiting = self
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for EndOfQueues {
    fn drop(&mut self) {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_ended = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_fails_its_own_job_and_no_other() {
        let pool = CpuPool::start().unwrap();
        let panicked = pool
            .run(Urgency::CanWait, || -> u32 { panic!("as planned") })
            .await;
        assert!(panicked.is_err());
        for number in 0..8 {
            assert_eq!(
                pool.run(Urgency::CanWait, move || number + 1)
                    .await
                    .unwrap(),
                number + 1
            );
        }
    }

    #[test]
    fn what_a_peer_waits_for_goes_first() {
        let queues = Queues::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        for (name, urgency) in [("seal", Urgency::CanWait), ("answer", Urgency::PeerWaits)] {
            let order = Arc::clone(&order);
            queues.push(urgency, Box::new(move || order.lock().unwrap().push(name)));
        }
        queues.next().unwrap()();
        queues.next().unwrap()();
        assert_eq!(*order.lock().unwrap(), ["answer", "seal"]);
    }
}
