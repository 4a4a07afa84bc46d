//! The threads that CMS, zip, base64 and XML run on: as many as there are cores, so that heavy messages queue among
//! themselves and never starve the sockets.

use std::sync::{Arc, Mutex, mpsc};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed set of threads. Its queue is bounded by the byte budget: whoever submits holds a reservation.
#[derive(Clone)]
pub struct CpuPool {
    jobs: mpsc::Sender<Job>,
}

/// The job panicked. The message that caused it fails; the process goes on.
#[derive(Debug, thiserror::Error)]
#[error("a worker thread panicked on this message")]
pub struct JobPanicked;

impl CpuPool {
    /// Starts one thread for each core that the process may use.
    pub fn start() -> std::io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..threads {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new()
                .name(format!("crunch-{index}"))
                .spawn(move || work(&queue))?;
        }
        Ok(Self { jobs })
    }

    /// Runs `job` on one of the threads and gives its result.
    pub async fn run<T, F>(&self, job: F) -> Result<T, JobPanicked>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let job = Box::new(move || {
            // The caller may have gone away: then nobody wants the result.
            let _ = answer.send(job());
        });
        self.jobs.send(job).map_err(|_| JobPanicked)?;
        result.await.map_err(|_| JobPanicked)
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(poisoned) => poisoned.into_inner().recv(),
        };
        let Ok(job) = job else { return };
        // A panic ends this job alone; its caller sees the dropped channel.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_fails_its_own_job_and_no_other() {
        let pool = CpuPool::start().unwrap();
        let panicked = pool.run(|| -> u32 { panic!("as planned") }).await;
        assert!(panicked.is_err());
        for number in 0..8 {
            assert_eq!(pool.run(move || number + 1).await.unwrap(), number + 1);
        }
    }
}
