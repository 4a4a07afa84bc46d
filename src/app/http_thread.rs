//! Runs an HTTP server of actix on a thread of its own, apart from the runtime of the flows.

use std::{
    io,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use actix_web::{
    dev::{Server, ServerHandle},
    rt::System,
};
use tokio::task::spawn_blocking;

/// A running HTTP server. Dropped, it stops at once; [`HttpThread::drain`] lets it finish first.
pub struct HttpThread {
    handle: ServerHandle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl HttpThread {
    /// Starts a thread called `name` and returns once `make`, called on that thread inside its actix system, has
    /// made the server. Its socket is bound before, so a connection made from now on is served.
    pub fn start<F>(name: &str, make: F) -> io::Result<Self>
    where
        F: FnOnce() -> io::Result<Server> + Send + 'static,
    {
        let (started, outcome) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                System::new().block_on(async move {
                    match make() {
                        Ok(server) => {
                            // Nobody listens any more only if `start` itself is gone.
                            let _ = started.send(Ok(server.handle()));
                            server.await
                        }
                        Err(error) => {
                            let _ = started.send(Err(error));
                            Ok(())
                        }
                    }
                })
            })?;
        let handle = outcome
            .recv()
            .map_err(|_| io::Error::other("the HTTP server panicked at its start"))??;
        Ok(Self {
            handle,
            thread: Some(thread),
        })
    }

    /// Accepts no more connections, closes idle ones, lets running requests end within the server's own drain
    /// time, and waits for the end.
    pub async fn drain(mut self) -> io::Result<()> {
        self.handle.stop(true).await;
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let ended = spawn_blocking(move || thread.join()).await;
        match ended {
            Ok(Ok(outcome)) => outcome,
            _ => Err(io::Error::other("the HTTP server panicked")),
        }
    }
}

impl Drop for HttpThread {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // The command is sent when it is made; nobody waits for its completion.
            drop(self.handle.stop(false));
        }
    }
}
