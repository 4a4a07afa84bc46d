//! An XDR endpoint of any conduct: TLS with client certificates, one request after the other, and then whatever the
//! test's script says.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use openssl::ssl::{HandshakeError, SslAcceptor, SslMethod, SslStream, SslVerifyMode};

use super::tls::Identity;

/// What the endpoint does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Reads it whole and answers.
    Answer {
        status: u16,
        content_type: &'static str,
        body: Vec<u8>,
    },
    /// Reads it whole and sends the client to another place.
    Redirect(String),
    /// Breaks the connection off once it has read the head.
    CloseInBody,
    /// Reads it whole and breaks the connection off.
    CloseAfterBody,
    /// Reads it whole, and breaks off in the middle of its answer.
    CutAnswer,
    /// Reads it whole and says nothing more.
    Stall,
    /// Reads it whole and answers without end.
    Endless,
    /// Takes its time for each of the first pieces of the request, as many as this, and answers 200.
    Slow(usize),
    /// Reads it whole, keeps nothing of it, and does as this says.
    Judge(Judge),
}

/// Says what is done with a whole request.
#[derive(Clone)]
pub(crate) struct Judge(Arc<dyn Fn(&Seen) -> Act + Send + Sync>);

impl std::fmt::Debug for Judge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Judge")
    }
}

impl Act {
    /// An answer in SOAP 1.2.
    pub(crate) fn soap(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::Answer {
            status,
            content_type: "application/soap+xml; charset=UTF-8",
            body: body.into(),
        }
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Request line and header.
    pub(crate) head: String,
    /// The body, its chunks joined; cut where the client broke off.
    pub(crate) body: Vec<u8>,
    /// Whether it came to its end.
    pub(crate) is_whole: bool,
    /// The connection's number, from 0.
    pub(crate) connection: usize,
}

/// The endpoint. It ends when it is dropped.
pub(crate) struct ScriptedXdr {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    is_over: Arc<AtomicBool>,
    /// Connections that have not ended.
    open: Arc<AtomicUsize>,
}

type Script = dyn Fn(usize) -> Act + Send + Sync;

impl ScriptedXdr {
    /// Listens as `server`, lets in whom `client_ca` vouches for, and does with the n-th request what `script` says.
    pub(crate) fn start(
        server: &Identity,
        client_ca: &Identity,
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0", server, client_ca, script)
    }

    /// As [`Self::start`], at an address of the test's choice.
    pub(crate) fn start_at(
        address: &str,
        server: &Identity,
        client_ca: &Identity,
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_certificate(&server.certificate).unwrap();
        acceptor.set_private_key(&server.key).unwrap();
        let ca = client_ca.certificate.clone();
        acceptor.cert_store_mut().add_cert(ca).unwrap();
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        let acceptor = acceptor.build();
        let listener = TcpListener::bind(address).unwrap();
        let endpoint = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            is_over: Arc::default(),
            open: Arc::default(),
        };
        let open = Arc::clone(&endpoint.open);
        let (seen, is_over) = (Arc::clone(&endpoint.seen), Arc::clone(&endpoint.is_over));
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || {
            for (connection, socket) in listener.incoming().enumerate() {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(socket) = socket else { continue };
                let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
                let (seen, is_over) = (Arc::clone(&seen), Arc::clone(&is_over));
                let open = Arc::clone(&open);
                open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    match acceptor.accept(socket) {
                        Ok(stream) => serve(stream, connection, &script, &seen, &is_over),
                        Err(HandshakeError::Failure(refused)) => linger(refused.get_ref()),
                        Err(_) => {}
                    }
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        endpoint
    }

    /// An endpoint that does with every whole request what `judge` says of it. It keeps none, and a request that was cut
    /// is nobody's.
    pub(crate) fn judging(
        server: &Identity,
        client_ca: &Identity,
        judge: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let judge = Judge(Arc::new(judge));
        Self::start(server, client_ca, move |_| Act::Judge(judge.clone()))
    }

    /// Waits until every connection that there was has ended.
    pub(crate) fn wait_for_silence(&self) {
        super::wait_until("the connections to the endpoint end", || {
            self.open.load(Ordering::SeqCst) == 0
        });
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("https://{}/xdr", self.address)
    }

    /// The requests that came whole, each once. Whoever is killed may have been in the middle of one: what was cut must be
    /// the beginning of a whole one, if there is any.
    pub(crate) fn whole_bodies(&self, case: &str) -> BTreeSet<Vec<u8>> {
        let (whole, cut): (Vec<Seen>, Vec<Seen>) =
            self.seen().into_iter().partition(|post| post.is_whole);
        let bodies: BTreeSet<Vec<u8>> = whole.into_iter().map(|post| post.body).collect();
        for post in cut {
            let is_part = bodies.iter().any(|body| body.starts_with(&post.body));
            assert!(is_part || bodies.is_empty(), "{case}: cut");
        }
        bodies
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for ScriptedXdr {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener up, so that it sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: SslStream<TcpStream>,
    connection: usize,
    script: &Arc<Script>,
    seen: &Mutex<Vec<Seen>>,
    is_over: &AtomicBool,
) {
    let mut stream = BufReader::new(stream);
    while let Some(head) = read_head(&mut stream) {
        let mut act = script(seen.lock().unwrap().len());
        let mut request = Seen {
            head,
            body: Vec::new(),
            is_whole: false,
            connection,
        };
        if matches!(act, Act::CloseInBody) {
            seen.lock().unwrap().push(request);
            break_off(&stream);
            return;
        }
        let slow = match act {
            Act::Slow(pieces) => pieces,
            _ => 0,
        };
        request.is_whole = read_chunks(&mut stream, &mut request.body, slow).is_some();
        if let Act::Judge(Judge(judge)) = &act {
            if !request.is_whole {
                return;
            }
            let judged = judge(&request);
            act = judged;
        } else {
            seen.lock().unwrap().push(request);
        }
        let answer = match &act {
            Act::Answer {
                status,
                content_type,
                body,
            } => {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
                );
                [head.into_bytes(), body.clone()].concat()
            }
            Act::Redirect(to) => {
                format!("HTTP/1.1 307 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
            }
            Act::CutAnswer => {
                b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\nContent-Length: 900\r\n\r\n<s:E"
                    .to_vec()
            }
            Act::Slow(_) => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Act::Endless => b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n".to_vec(),
            Act::CloseInBody | Act::CloseAfterBody | Act::Stall | Act::Judge(_) => Vec::new(),
        };
        if stream.get_mut().write_all(&answer).is_err() {
            return;
        }
        match act {
            Act::Answer { .. } | Act::Redirect(_) | Act::Slow(_) => {}
            Act::CloseInBody | Act::CloseAfterBody | Act::CutAnswer | Act::Judge(_) => {
                break_off(&stream);
                return;
            }
            Act::Stall => {
                while !is_over.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(20));
                }
                return;
            }
            Act::Endless => {
                while stream.get_mut().write_all(&[b' '; 4096]).is_ok() {}
                return;
            }
        }
    }
}

fn break_off(stream: &BufReader<SslStream<TcpStream>>) {
    let _ = stream.get_ref().get_ref().shutdown(Shutdown::Both);
}

/// Takes in what a refused client still sends. With TLS 1.3 that may be a whole request, and a socket that is closed on it
/// is reset, which may overtake the alert that says why.
fn linger(mut socket: &TcpStream) {
    let _ = socket.shutdown(Shutdown::Write);
    let _ = socket.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = io::copy(&mut socket, &mut io::sink());
}

fn read_head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        head += &line;
        if line == "\r\n" {
            return Some(head);
        }
    }
}

/// `None` if the client broke off.
fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>, mut slow: usize) -> Option<()> {
    loop {
        if slow > 0 {
            thread::sleep(Duration::from_millis(20));
            slow -= 1;
        }
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        stream.read_exact(&mut chunk).ok()?;
        if length == 0 {
            return Some(());
        }
        body.extend_from_slice(chunk.get(..length)?);
    }
}
