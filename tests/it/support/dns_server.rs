//! A name server on loopback that knows a few records, answers the rest with NXDOMAIN, and fails where it is told to.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, MX, NULL, SOA, SRV},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
};

/// Seconds that its records may be kept.
pub(crate) const TTL: u32 = 60;

/// How it answers for one name.
#[derive(Clone, Default)]
struct Entry {
    records: Vec<RData>,
    code: Option<ResponseCode>,
    /// No answer by UDP.
    is_silent_by_udp: bool,
    /// No answer at all.
    is_silent: bool,
}

/// The names that a [`DnsServer`] knows.
#[derive(Clone, Default)]
pub(crate) struct Zone(HashMap<String, Entry>);

impl Zone {
    fn add(mut self, name: &str, record: RData) -> Self {
        let entry = self.0.entry(name.to_owned()).or_default();
        entry.records.push(record);
        self
    }

    pub(crate) fn mx(self, name: &str, preference: u16, host: &str) -> Self {
        let host = Name::from_ascii(format!("{}.", host.trim_end_matches('.'))).unwrap();
        self.add(name, RData::MX(MX::new(preference, host)))
    }

    /// An LDAP server of `domain`.
    pub(crate) fn ldap(self, domain: &str, priority: u16, port: u16, host: &str) -> Self {
        let target = Name::from_ascii(format!("{}.", host.trim_end_matches('.'))).unwrap();
        let record = SRV::new(priority, 0, port, target);
        self.add(&format!("_ldap._tcp.{domain}"), RData::SRV(record))
    }

    pub(crate) fn a(self, name: &str, address: &str) -> Self {
        self.add(name, RData::A(A(address.parse().unwrap())))
    }

    pub(crate) fn aaaa(self, name: &str, address: &str) -> Self {
        self.add(name, RData::AAAA(AAAA(address.parse().unwrap())))
    }

    pub(crate) fn cname(self, name: &str, target: &str) -> Self {
        let target = Name::from_ascii(format!("{target}.")).unwrap();
        self.add(name, RData::CNAME(CNAME(target)))
    }

    /// A CERT record with this RDATA, of whatever length.
    pub(crate) fn cert_rdata(self, name: &str, rdata: Vec<u8>) -> Self {
        let rdata = if rdata.is_empty() {
            RData::Update0(RecordType::CERT)
        } else {
            RData::Unknown {
                code: RecordType::CERT,
                rdata: NULL::with(rdata),
            }
        };
        self.add(name, rdata)
    }

    /// A CERT record of type PKIX: key tag and algorithm, which nobody reads, and what it holds.
    pub(crate) fn cert(self, name: &str, data: &[u8]) -> Self {
        self.cert_rdata(name, [&[0, 1, 0, 0, 8][..], data].concat())
    }

    /// `name` exists, without a record.
    pub(crate) fn empty(mut self, name: &str) -> Self {
        self.0.entry(name.to_owned()).or_default();
        self
    }

    /// The server says nothing to any question for `name`.
    pub(crate) fn silent(mut self, name: &str) -> Self {
        self.0.entry(name.to_owned()).or_default().is_silent = true;
        self
    }

    /// The server answers questions for `name` by TCP alone.
    pub(crate) fn silent_by_udp(mut self, name: &str) -> Self {
        self.0.entry(name.to_owned()).or_default().is_silent_by_udp = true;
        self
    }

    /// The server fails on every question for `name`.
    pub(crate) fn fails(mut self, name: &str) -> Self {
        self.0.entry(name.to_owned()).or_default().code = Some(ResponseCode::ServFail);
        self
    }

    fn entry_for(&self, question: &Message) -> Option<&Entry> {
        let query = question.queries.first()?;
        self.0.get(&bare(&query.name))
    }

    fn answer(&self, question: &Message) -> Message {
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.add_queries(question.queries.clone());
        let Some(query) = question.queries.first() else {
            return answer;
        };
        let mut name = query.name.clone();
        // A chain of aliases is followed, as a recursive server does.
        for _ in 0..8 {
            let Some(entry) = self.0.get(&bare(&name)) else {
                answer.metadata.response_code = ResponseCode::NXDomain;
                break;
            };
            if let Some(code) = entry.code {
                answer.metadata.response_code = code;
                break;
            }
            let alias = entry.records.iter().find_map(|record| match record {
                RData::CNAME(target) => Some(target.0.clone()),
                _ => None,
            });
            let wanted = |record: &&RData| {
                let kind = record.record_type();
                kind == query.query_type || kind == RecordType::CNAME
            };
            let records = entry.records.iter().filter(wanted);
            answer.add_answers(records.map(|r| Record::from_rdata(name.clone(), TTL, r.clone())));
            match alias {
                Some(target) => name = target,
                None => break,
            }
        }
        if answer.answers.is_empty() {
            // How long it may be remembered that there is nothing (RFC 2308 §5).
            let host = Name::from_ascii("ns.example.").unwrap();
            let soa = SOA::new(host.clone(), host, 1, 3_600, 600, 86_400, TTL);
            let zone = Name::from_ascii("example.").unwrap();
            answer.add_authority(Record::from_rdata(zone, TTL, RData::SOA(soa)));
        }
        answer
    }
}

fn bare(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// By what a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum By {
    Udp,
    Tcp,
}

/// What all that serve share.
#[derive(Default)]
struct Shared {
    zone: Mutex<Zone>,
    asked: Mutex<Vec<(String, By)>>,
}

impl Shared {
    /// The answer's octets; `None`: silence.
    fn answer(&self, question: &[u8], by: By) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        let name = bare(&question.queries.first()?.name);
        self.asked.lock().unwrap().push((name, by));
        let zone = self.zone.lock().unwrap().clone();
        let entry = zone.entry_for(&question).cloned().unwrap_or_default();
        if entry.is_silent || entry.is_silent_by_udp && by == By::Udp {
            return None;
        }
        let answer = zone.answer(&question);
        let octets = answer.to_vec().unwrap();
        let room = question.max_payload().max(512);
        if by == By::Udp && octets.len() > usize::from(room) {
            return Some(answer.truncate().to_vec().unwrap());
        }
        Some(octets)
    }
}

/// The server, by UDP and TCP on one port. It stops when it is dropped.
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

impl DnsServer {
    pub(crate) async fn start(zone: Zone) -> Self {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        *shared.zone.lock().unwrap() = zone;
        let by_udp = tokio::spawn(serve_udp(udp, Arc::clone(&shared)));
        let by_tcp = tokio::spawn(serve_tcp(tcp, Arc::clone(&shared)));
        Self {
            address,
            shared,
            tasks: [by_udp, by_tcp],
        }
    }

    /// From now on it knows this.
    pub(crate) fn replace(&self, zone: Zone) {
        *self.shared.zone.lock().unwrap() = zone;
    }

    /// How often it was asked for `name`.
    pub(crate) fn asked(&self, name: &str) -> usize {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|(one, _)| one == name).count()
    }

    /// By what it was asked for `name`, in that order.
    pub(crate) fn asked_by(&self, name: &str) -> Vec<By> {
        let asked = self.shared.asked.lock().unwrap();
        let of_name = asked.iter().filter(|(one, _)| one == name);
        of_name.map(|(_, by)| *by).collect()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Two sockets on one port: the port that UDP gets may be taken for TCP.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Shared>) {
    let mut octets = [0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut octets).await {
        if let Some(answer) = shared.answer(&octets[..length], By::Udp) {
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_stream(stream, Arc::clone(&shared)));
    }
}

/// Question after question; one that is not answered leaves the peer waiting.
async fn serve_stream(mut stream: TcpStream, shared: Arc<Shared>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; usize::from(length)];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        let Some(answer) = shared.answer(&question, By::Tcp) else {
            continue;
        };
        let length = u16::try_from(answer.len()).unwrap();
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}
