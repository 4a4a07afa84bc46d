//! The demo's name server: it publishes the certificates of the parties, so that the bridges find each other as they would
//! find anybody. On loopback, for CERT records alone.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use anyhow::Context;
use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{
            CERT,
            cert::{Algorithm, CertType},
        },
    },
};
use openssl::x509::X509Ref;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

/// Seconds for which an answer may be kept.
const TTL: u32 = 300;
/// Tries to find a port that both protocols have free.
const PORTS_TRIED: usize = 20;
/// Largest question that is read, in octets.
const MAX_QUESTION_BYTES: usize = 4_096;
/// What fits into an answer by UDP that was asked for without EDNS (RFC 1035 §4.2.1).
const PLAIN_DATAGRAM: u16 = 512;

/// What it publishes: certificates in DER form by their names, without a final dot.
#[derive(Default)]
pub(super) struct Published(HashMap<String, Vec<u8>>);

impl Published {
    /// One more name.
    pub(super) fn with(mut self, name: &str, certificate: &X509Ref) -> anyhow::Result<Self> {
        self.0
            .insert(name.to_ascii_lowercase(), certificate.to_der()?);
        Ok(self)
    }

    fn answer(&self, question: &Message) -> Message {
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = true;
        answer.add_queries(question.queries.iter().cloned());
        let Some(query) = question.queries.first() else {
            answer.metadata.response_code = ResponseCode::FormErr;
            return answer;
        };
        match self.0.get(&bare(query.name())) {
            Some(der) if query.query_type() == RecordType::CERT => {
                let cert = CERT::new(CertType::PKIX, 0, Algorithm::Reserved(0), der.clone());
                let name = query.name().clone();
                answer.add_answer(Record::from_rdata(name, TTL, RData::CERT(cert)));
            }
            Some(_) => {}
            None => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        answer
    }
}

fn bare(name: &Name) -> String {
    let name = name.to_ascii();
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The server. It stops when it is dropped.
pub(super) struct NameServer {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl NameServer {
    /// Serves `published` by UDP and TCP on one port.
    pub(super) async fn start(published: Published) -> anyhow::Result<Self> {
        let (udp, tcp) = sockets().await?;
        let address = udp.local_addr()?;
        let published = Arc::new(published);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&published)));
        tasks.spawn(serve_tcp(tcp, published));
        Ok(Self {
            address,
            _tasks: tasks,
        })
    }

    /// Where it answers.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn sockets() -> anyhow::Result<(UdpSocket, TcpListener)> {
    for _ in 0..PORTS_TRIED {
        let udp = UdpSocket::bind("127.0.0.1:0").await?;
        // The port that UDP got may be taken for TCP.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr()?).await {
            return Ok((udp, tcp));
        }
    }
    anyhow::bail!("no port is free for a name server")
}

async fn serve_udp(socket: UdpSocket, published: Arc<Published>) {
    let mut octets = vec![0; MAX_QUESTION_BYTES];
    while let Ok((length, peer)) = socket.recv_from(&mut octets).await {
        let question = octets.get(..length).map(Message::from_vec);
        let Some(Ok(question)) = question else {
            continue;
        };
        let answer = published.answer(&question);
        let room = usize::from(question.max_payload().max(PLAIN_DATAGRAM));
        let octets = match answer.to_vec() {
            Ok(octets) if octets.len() <= room => Ok(octets),
            // The rest of it is asked for by TCP.
            _ => answer.truncate().to_vec(),
        };
        if let Ok(octets) = octets {
            // Who asked may be gone.
            let _ = socket.send_to(&octets, peer).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, published: Arc<Published>) {
    let mut streams = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while streams.try_join_next().is_some() {}
        let published = Arc::clone(&published);
        // A peer that breaks off has no answer, and needs none.
        streams.spawn(async move { serve_stream(stream, &published).await.unwrap_or(()) });
    }
}

async fn serve_stream(mut stream: TcpStream, published: &Published) -> anyhow::Result<()> {
    loop {
        let mut question = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut question).await?;
        let answer = published.answer(&Message::from_vec(&question)?).to_vec()?;
        let length = u16::try_from(answer.len()).context("the answer is too long")?;
        stream
            .write_all(&[&length.to_be_bytes()[..], &answer].concat())
            .await?;
    }
}
