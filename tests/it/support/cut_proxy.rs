//! A TCP port that leads to a Unix socket, and can break off whatever goes through it.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// The port. It closes when it is dropped.
pub(crate) struct CutProxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_over: AtomicBool,
    /// New connections are refused.
    is_closed: AtomicBool,
    connections: Mutex<Vec<(TcpStream, UnixStream)>>,
}

impl State {
    fn cut(&self) {
        for (near, far) in self.connections.lock().unwrap().drain(..) {
            let _ = near.shutdown(Shutdown::Both);
            let _ = far.shutdown(Shutdown::Both);
        }
    }
}

impl CutProxy {
    pub(crate) fn start(to: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        let state = Arc::clone(&proxy.state);
        thread::spawn(move || {
            for near in listener.incoming() {
                if state.is_over.load(Ordering::SeqCst) {
                    break;
                }
                let (Ok(near), false) = (near, state.is_closed.load(Ordering::SeqCst)) else {
                    continue;
                };
                // While the server is not there, its clients find nobody here either.
                if let Ok(far) = UnixStream::connect(&to) {
                    join(&near, &far).unwrap();
                    state.connections.lock().unwrap().push((near, far));
                }
            }
        });
        proxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks off every connection and lets nobody through for a while.
    pub(crate) fn cut_for(&self, time: Duration) {
        self.state.is_closed.store(true, Ordering::SeqCst);
        self.state.cut();
        thread::sleep(time);
        self.state.is_closed.store(false, Ordering::SeqCst);
    }
}

impl Drop for CutProxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        self.state.cut();
        // Wakes the listener up, so that it sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

/// Carries octets both ways until either side ends.
fn join(near: &TcpStream, far: &UnixStream) -> io::Result<()> {
    let (mut from_near, mut to_near) = (near.try_clone()?, near.try_clone()?);
    let (mut from_far, mut to_far) = (far.try_clone()?, far.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_near, &mut to_far);
        let _ = to_far.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let _ = io::copy(&mut from_far, &mut to_near);
        let _ = to_near.shutdown(Shutdown::Both);
    });
    Ok(())
}
