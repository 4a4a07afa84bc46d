//! A web server of any conduct on loopback: what CAs, responders and distributors of bundles publish, and what attackers
//! put in its place.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use openssl::ssl::{SslAcceptor, SslMethod};

use super::tls::Identity;

/// Makes an answer of what was posted.
pub(crate) type Maker = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// What is served under a path.
#[derive(Clone)]
pub(crate) enum Page {
    /// 200 with these octets, under a media type that says nothing.
    Octets(Vec<u8>),
    /// 200 with what this makes of the octets that were posted.
    Made(Maker),
    /// This status, without a body.
    Status(u16),
    /// 302 to another place.
    Redirect(String),
    /// 200, with so many octets announced and none sent.
    Announced(u64),
    /// 200, and octets without end.
    Endless,
    /// Nothing at all.
    Silent,
    /// The beginning of an answer, and then nothing.
    Stalled,
}

/// What all connections share.
#[derive(Default)]
struct Shared {
    pages: Mutex<HashMap<String, Page>>,
    seen: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

/// The server. It ends when it is dropped.
pub(crate) struct Web {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Web {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    /// Listens at this address.
    pub(crate) fn start_at(address: &str) -> Self {
        Self::listen(address, None)
    }

    /// Speaks TLS as `server`.
    pub(crate) fn secure(server: &Identity) -> Self {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_certificate(&server.certificate).unwrap();
        acceptor.set_private_key(&server.key).unwrap();
        Self::listen("127.0.0.1:0", Some(acceptor.build()))
    }

    fn listen(address: &str, acceptor: Option<SslAcceptor>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let server = Self {
            address,
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            for socket in listener.incoming() {
                if shared.is_over.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(socket) = socket else { continue };
                let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
                thread::spawn(move || match acceptor {
                    None => serve(socket, &shared),
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(socket) {
                            serve(stream, &shared);
                        }
                    }
                });
            }
        });
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this is under `path`.
    pub(crate) fn put(&self, path: &str, page: Page) {
        self.shared
            .pages
            .lock()
            .unwrap()
            .insert(path.to_owned(), page);
    }

    /// The URL of `path`, by address.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The URL of `path` at this host.
    pub(crate) fn url_at(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    /// The paths that were asked for, in that order.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener up, so that it sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

/// One request, one answer.
fn serve<S: Read + Write>(stream: S, shared: &Shared) {
    let mut stream = BufReader::new(stream);
    let Some((path, body)) = read(&mut stream) else {
        return;
    };
    shared.seen.lock().unwrap().push(path.clone());
    let page = shared.pages.lock().unwrap().get(&path).cloned();
    let head = |status: u16, length: u64, more: &str| {
        format!("HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n").into_bytes()
    };
    let whole = |octets: Vec<u8>| [head(200, octets.len() as u64, ""), octets].concat();
    let out = stream.get_mut();
    let answer = match &page {
        None => head(404, 0, ""),
        Some(Page::Octets(octets)) => whole(octets.clone()),
        Some(Page::Made(make)) => whole(make(&body)),
        Some(Page::Status(status)) => head(*status, 0, ""),
        Some(Page::Redirect(to)) => head(302, 0, &format!("Location: {to}\r\n")),
        Some(Page::Announced(length)) => head(200, *length, ""),
        Some(Page::Endless) => b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n".to_vec(),
        Some(Page::Silent) => Vec::new(),
        Some(Page::Stalled) => [head(200, 1_000, ""), vec![0; 10]].concat(),
    };
    if out.write_all(&answer).and_then(|()| out.flush()).is_err() {
        return;
    }
    match page {
        Some(Page::Endless) => while out.write_all(&[0; 4096]).is_ok() {},
        Some(Page::Silent | Page::Stalled | Page::Announced(_)) => {
            while !shared.is_over.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(20));
            }
        }
        _ => {}
    }
}

/// The path that is asked for, and what is posted.
fn read(stream: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).ok()?;
            return Some((path, body));
        }
    }
}
