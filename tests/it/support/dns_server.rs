//! A name server on loopback that knows a few records, and answers the rest with NXDOMAIN.

use std::{collections::HashMap, net::SocketAddr};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, MX},
    },
};
use tokio::net::UdpSocket;

/// How it answers for one name.
#[derive(Clone, Default)]
struct Entry {
    records: Vec<RData>,
    code: Option<ResponseCode>,
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

    /// The server fails on every question for `name`.
    pub(crate) fn fails(mut self, name: &str) -> Self {
        self.0.entry(name.to_owned()).or_default().code = Some(ResponseCode::ServFail);
        self
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
            let Some(entry) = self.0.get(name.to_ascii().trim_end_matches('.')) else {
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
            answer.add_answers(records.map(|r| Record::from_rdata(name.clone(), 60, r.clone())));
            match alias {
                Some(target) => name = target,
                None => break,
            }
        }
        answer
    }
}

/// The server. It stops when it is dropped.
pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl DnsServer {
    pub(crate) async fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut octets = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut octets).await {
                let Ok(question) = Message::from_vec(&octets[..length]) else {
                    continue;
                };
                let answer = zone.answer(&question).to_vec().unwrap();
                let _ = socket.send_to(&answer, peer).await;
            }
        });
        Self { address, task }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
