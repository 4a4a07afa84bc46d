//! An LDAP server on loopback that does what it is told to, also what no server should.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use xdbridge::formats::ldap::frame_bytes;

/// What a [`LdapServer`] does.
#[derive(Clone, Debug)]
pub(crate) enum Conduct {
    /// It has these certificates, each under a value of `mail`.
    Serves(Vec<(String, Vec<u8>)>),
    /// It takes connections, and says nothing.
    Silent,
    /// It says nothing once it is asked for something.
    SilentAtSearch,
    /// It answers octet by octet, and never comes to an end.
    Trickles,
    /// It closes the connection when it is asked for something.
    Closes,
    /// It tells that it closes the session (RFC 4511 §4.4.1).
    Disconnects,
    /// It speaks another protocol.
    Garbage,
    /// It nests as deep as a message may be long.
    Deep,
    /// It sends more entries than were asked for.
    Floods,
    /// It announces a message that is longer than anything.
    Endless,
    /// It sends references without end.
    References,
    /// It has one entry, and a reference beside it.
    Continues(String, Vec<u8>),
    /// It names another server instead of an answer.
    Refers,
    /// It answers another question.
    OtherId,
    /// It has no place where entries could be.
    NoBases,
    /// It takes no anonymous bind.
    RefusesBind,
    /// It is busy.
    Busy,
    /// It sends what it may of entries, and tells that there are more.
    CutShort(String, Vec<u8>),
}

/// The server. It stops when it is dropped.
pub(crate) struct LdapServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl LdapServer {
    pub(crate) async fn start(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, conduct.clone()));
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many have connected to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for LdapServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, conduct: Conduct) {
    let mut octets = Vec::new();
    loop {
        let whole = frame_bytes(&octets, 1 << 20).expect("the bridge speaks LDAP");
        let Some(request) = whole.filter(|bytes| *bytes <= octets.len()) else {
            match stream.read_buf(&mut octets).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let request: Vec<u8> = octets.drain(..request).collect();
        if answer(&mut stream, &request, &conduct).await.is_none() {
            return;
        }
    }
}

/// `None`: the connection ends.
async fn answer(stream: &mut TcpStream, request: &[u8], conduct: &Conduct) -> Option<()> {
    // Tag, length, and the id in one octet: the bridge makes no more requests than that.
    let longer = match request[1] {
        0..=0x7f => 0,
        octets => usize::from(octets & 0x7f),
    };
    let (id, operation) = (request[4 + longer], request[5 + longer]);
    let told: Vec<Vec<u8>> = match (operation, conduct) {
        // An unbind.
        (0x42, _) => return None,
        (_, Conduct::Silent) => return Some(()),
        (0x60, Conduct::RefusesBind) => vec![result(id, 0x61, 48)],
        (0x60, _) => vec![result(id, 0x61, 0)],
        (_, Conduct::SilentAtSearch) => return Some(()),
        (_, Conduct::Closes) => return None,
        (_, Conduct::Disconnects) => vec![result(0, 0x78, 52)],
        (_, Conduct::Garbage) => vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()],
        (_, Conduct::Deep) => vec![deep()],
        (_, Conduct::Endless) => vec![vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff]],
        (_, Conduct::Refers) => vec![result(id, 0x65, 10)],
        (_, Conduct::Busy) => vec![result(id, 0x65, 51)],
        (_, Conduct::OtherId) => vec![result(id + 1, 0x65, 0)],
        (_, Conduct::NoBases) => vec![result(id, 0x65, 0)],
        (_, Conduct::Trickles) => {
            stream.write_all(&[0x30, 0x82, 0x7f, 0xff]).await.ok()?;
            loop {
                stream.write_all(&[0]).await.ok()?;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
        (_, _) if contains(request, b"namingContexts") => vec![
            entry(id, "", "namingContexts", b"dc=hisp,dc=example"),
            result(id, 0x65, 0),
        ],
        (_, Conduct::Floods) => {
            let one = entry(id, "cn=flood", "userCertificate;binary", b"\x30\0");
            vec![one; 1_000]
        }
        (_, Conduct::References) => vec![reference(id); 1_000],
        (_, Conduct::Serves(served)) => {
            let wanted = served
                .iter()
                .filter(|(mail, _)| is_asked_for(request, mail));
            let entries = wanted.map(|(_, der)| entry(id, "cn=one", "userCertificate;binary", der));
            entries.chain([result(id, 0x65, 0)]).collect()
        }
        (_, Conduct::Continues(mail, der)) if is_asked_for(request, mail) => vec![
            reference(id),
            entry(id, "cn=one", "userCertificate;binary", der),
            result(id, 0x65, 0),
        ],
        (_, Conduct::CutShort(mail, der)) if is_asked_for(request, mail) => vec![
            entry(id, "cn=one", "userCertificate;binary", der),
            result(id, 0x65, 4),
        ],
        (_, Conduct::Continues(..) | Conduct::CutShort(..) | Conduct::RefusesBind) => {
            vec![result(id, 0x65, 0)]
        }
    };
    stream.write_all(&told.concat()).await.ok()
}

fn contains(request: &[u8], part: &[u8]) -> bool {
    request.windows(part.len()).any(|window| window == part)
}

/// Whether the filter is for this value.
fn is_asked_for(request: &[u8], mail: &str) -> bool {
    let length = u8::try_from(mail.len()).unwrap();
    contains(request, &[&[4, length][..], mail.as_bytes()].concat())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x84][..], &length, content].concat()
}

fn message(id: u8, operation: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&[2, 1, id][..], operation].concat())
}

fn result(id: u8, tag: u8, code: u8) -> Vec<u8> {
    let prose = tlv(4, b"ask somebody else");
    message(
        id,
        &tlv(tag, &[&[0x0a, 1, code, 4, 0][..], &prose].concat()),
    )
}

fn entry(id: u8, name: &str, attribute: &str, value: &[u8]) -> Vec<u8> {
    let values = tlv(0x31, &tlv(4, value));
    let attribute = tlv(0x30, &[tlv(4, attribute.as_bytes()), values].concat());
    let entry = [tlv(4, name.as_bytes()), tlv(0x30, &attribute)].concat();
    message(id, &tlv(0x64, &entry))
}

fn reference(id: u8) -> Vec<u8> {
    message(
        id,
        &tlv(0x73, &tlv(4, b"ldap://127.0.0.1:1/dc=elsewhere??sub")),
    )
}

/// 600,000 octets, each six of which begin another element within the one before.
fn deep() -> Vec<u8> {
    let levels = (0..100_000u32).rev();
    levels
        .flat_map(|level| [&[0x30, 0x84][..], &(level * 6).to_be_bytes()].concat())
        .collect()
}
