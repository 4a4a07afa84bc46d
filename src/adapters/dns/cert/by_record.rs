//! The same question by TCP, its answer read record by record. The resolver gives up a whole message for one CERT record
//! of fewer than 6 octets (DNS-7), and the first server's failure for that of all.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hickory_resolver::proto::{
    op::{Header, Message, MessageType, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
    serialize::binary::{BinDecodable, BinDecoder, DecodeError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::records::{Answer, CertRecords, Known};

/// Most aliases that are followed within an answer (DNS-4).
const MAX_ALIASES: usize = 8;

/// Asks servers by TCP, one after the other.
pub(super) struct Asker {
    pub(super) servers: Vec<SocketAddr>,
    /// Longest wait for each of them.
    pub(super) timeout: Duration,
}

/// Why a server's answer says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("no answer in time")]
    Timeout,
    #[error("the name server cannot be talked to")]
    Io(#[from] std::io::Error),
    #[error("response code {0}")]
    Code(ResponseCode),
    #[error("the answer is no answer to the question")]
    OtherAnswer,
    #[error("the answer is cut off or malformed")]
    Malformed(#[from] DecodeError),
    #[error("the answer ends with an alias")]
    OpenAlias,
    #[error("a referral: the name server does not ask others for us")]
    Referral,
    #[error("no name server is known")]
    NoServer,
}

impl Asker {
    /// The first answer that says something.
    pub(super) async fn ask(&self, name: &Name) -> Result<Answer, NoAnswer> {
        let mut failure = NoAnswer::NoServer;
        for server in &self.servers {
            let asking = tokio::time::timeout(self.timeout, ask_one(*server, name));
            match asking.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(cause)) => failure = cause,
                Err(_) => failure = NoAnswer::Timeout,
            }
        }
        Err(failure)
    }
}

async fn ask_one(server: SocketAddr, name: &Name) -> Result<Answer, NoAnswer> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), RecordType::CERT));
    let octets = question.to_vec().map_err(|_| NoAnswer::OtherAnswer)?;
    let length = u16::try_from(octets.len()).map_err(|_| NoAnswer::OtherAnswer)?;
    let mut stream = TcpStream::connect(server).await?;
    // Length and message together: some servers do not wait for the second segment.
    let framed = [&length.to_be_bytes()[..], &octets].concat();
    stream.write_all(&framed).await?;
    // Two octets of length: no message is longer than 65,535 (DNS-6).
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    read(&answer, question.metadata.id, name)
}

/// Reads an answer to the question `id` for the CERT records of `name`.
fn read(message: &[u8], id: u16, name: &Name) -> Result<Answer, NoAnswer> {
    let mut decoder = BinDecoder::new(message);
    let header = Header::read(&mut decoder)?;
    let is_answer = header.metadata.id == id
        && header.metadata.message_type == MessageType::Response
        && !header.metadata.truncation
        && header.counts.queries == 1;
    if !is_answer {
        return Err(NoAnswer::OtherAnswer);
    }
    let query = Query::read(&mut decoder)?;
    let is_ours = query.name() == name
        && query.query_type() == RecordType::CERT
        && query.query_class() == DNSClass::IN;
    if !is_ours {
        return Err(NoAnswer::OtherAnswer);
    }
    let absent = match header.metadata.response_code {
        ResponseCode::NoError => Known::NoRecord,
        ResponseCode::NXDomain => Known::NoSuchName,
        other => return Err(NoAnswer::Code(other)),
    };
    let mut records = Vec::new();
    for _ in 0..header.counts.answers {
        records.push(Record::read(&mut decoder)?);
    }
    let (owner, mut ttl) = follow_aliases(name, &records)?;
    let mut found = CertRecords::default();
    for record in &records {
        if let Data::Cert(rdata) = &record.data
            && record.name == owner
        {
            found.take_rdata(rdata);
            ttl = Some(ttl.map_or(record.ttl, |ttl| ttl.min(record.ttl)));
        }
    }
    if !found.is_empty() {
        let known = Known::Records(Arc::new(found.sorted()));
        return Ok(Answer { known, ttl });
    }
    // An alias to a name of which nothing is said: only another question could tell.
    if owner != *name && matches!(absent, Known::NoRecord) {
        return Err(NoAnswer::OpenAlias);
    }
    // Whoever points at other servers has not said that there is nothing.
    let mut authority = Vec::new();
    for _ in 0..header.counts.authorities {
        authority.push(Record::read(&mut decoder)?);
    }
    let holds = |wanted: Kind| authority.iter().any(|record| record.kind == wanted);
    if matches!(absent, Known::NoRecord) && holds(Kind::Ns) && !holds(Kind::Soa) {
        return Err(NoAnswer::Referral);
    }
    // The TTL of the zone's SOA is not used: what is not there is asked for again the next time.
    Ok(Answer {
        known: absent,
        ttl: None,
    })
}

/// The name at the end of the aliases, and the shortest TTL on the way.
fn follow_aliases(name: &Name, records: &[Record]) -> Result<(Name, Option<u32>), NoAnswer> {
    let (mut owner, mut ttl) = (name.clone(), None::<u32>);
    for _ in 0..=MAX_ALIASES {
        let alias = records.iter().find_map(|record| match &record.data {
            Data::Alias(target) if record.name == owner => Some((target, record.ttl)),
            _ => None,
        });
        let Some((target, seconds)) = alias else {
            return Ok((owner, ttl));
        };
        owner = target.clone();
        ttl = Some(ttl.map_or(seconds, |ttl| ttl.min(seconds)));
    }
    Err(NoAnswer::OpenAlias)
}

struct Record {
    name: Name,
    ttl: u32,
    kind: Kind,
    data: Data,
}

/// What an authority section says something by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ns,
    Soa,
    Other,
}

enum Data {
    Cert(Vec<u8>),
    Alias(Name),
    Other,
}

impl Record {
    fn read(decoder: &mut BinDecoder<'_>) -> Result<Self, DecodeError> {
        let name = Name::read(decoder)?;
        let record_type = RecordType::read(decoder)?;
        let class = DNSClass::read(decoder)?;
        let ttl = decoder.read_u32()?.unverified(/* any number of seconds; the cache bounds it */);
        let length =
            decoder.read_u16()?.unverified(/* read_slice checks it against what there is */);
        let start = decoder.index();
        let rdata = decoder.read_slice(usize::from(length))?;
        let rdata: &[u8] = rdata.unverified(/* each kind looks for itself */);
        let data = match record_type {
            _ if class != DNSClass::IN => Data::Other,
            RecordType::CERT => Data::Cert(rdata.to_vec()),
            RecordType::CNAME => {
                // The name may point back into the message.
                let start = u16::try_from(start).map_err(|_| DecodeError::InsufficientBytes)?;
                Data::Alias(Name::read(&mut decoder.clone(start))?)
            }
            _ => Data::Other,
        };
        let kind = match record_type {
            RecordType::NS => Kind::Ns,
            RecordType::SOA => Kind::Soa,
            _ => Kind::Other,
        };
        Ok(Self {
            name,
            ttl,
            kind,
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::{
        self, RData,
        rdata::{CERT, CNAME, NS, SOA, cert::Algorithm, cert::CertType},
    };

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn message(code: ResponseCode, answers: Vec<rr::Record>) -> Message {
        let mut message = Message::response(7, hickory_resolver::proto::op::OpCode::Query);
        message.metadata.response_code = code;
        message.add_query(Query::query(name("rui.harbor.example."), RecordType::CERT));
        message.add_answers(answers);
        message
    }

    fn cert(owner: &str, ttl: u32, data: &[u8]) -> rr::Record {
        let cert = CERT::new(CertType::PKIX, 0, Algorithm::RSASHA256, data.to_vec());
        rr::Record::from_rdata(name(owner), ttl, RData::CERT(cert))
    }

    fn alias(owner: &str, target: &str) -> rr::Record {
        rr::Record::from_rdata(name(owner), 30, RData::CNAME(CNAME(name(target))))
    }

    fn told(message: &Message) -> Result<Answer, NoAnswer> {
        read(&message.to_vec().unwrap(), 7, &name("rui.harbor.example."))
    }

    // rule: DNS-4
    #[test]
    fn aliases_are_followed_within_the_answer_and_only_the_last_owner_counts() {
        let answers = vec![
            alias("rui.harbor.example.", "rui.hosted.example."),
            cert("rui.hosted.example.", 60, b"good"),
            cert("other.hosted.example.", 60, b"foreign"),
        ];
        let answer = told(&message(ResponseCode::NoError, answers)).unwrap();
        assert_eq!(answer.known.certificates(), [b"good".to_vec()]);
        assert_eq!(answer.ttl, Some(30));

        let open = vec![alias("rui.harbor.example.", "rui.hosted.example.")];
        let open = told(&message(ResponseCode::NoError, open));
        assert!(matches!(open, Err(NoAnswer::OpenAlias)), "{open:?}");
        let circle = vec![
            alias("rui.harbor.example.", "a.hosted.example."),
            alias("a.hosted.example.", "rui.harbor.example."),
        ];
        let circle = told(&message(ResponseCode::NoError, circle));
        assert!(matches!(circle, Err(NoAnswer::OpenAlias)), "{circle:?}");
    }

    // rule: DISC-3, DNS-10
    #[test]
    fn absence_is_told_from_failure_and_from_an_answer_to_another_question() {
        let absent = |code| told(&message(code, Vec::new())).map(|answer| answer.known);
        assert_eq!(absent(ResponseCode::NXDomain).unwrap(), Known::NoSuchName);
        assert_eq!(absent(ResponseCode::NoError).unwrap(), Known::NoRecord);
        for code in [ResponseCode::ServFail, ResponseCode::Refused] {
            assert!(matches!(absent(code), Err(NoAnswer::Code(told)) if told == code));
        }
        let octets = message(ResponseCode::NoError, Vec::new()).to_vec().unwrap();
        let asked = name("rui.harbor.example.");
        assert!(read(&octets, 7, &asked).is_ok());
        assert!(read(&octets, 8, &asked).is_err(), "another id");
        assert!(read(&octets, 7, &name("mei.harbor.example.")).is_err());
        for end in 0..octets.len() {
            assert!(read(&octets[..end], 7, &asked).is_err(), "cut at {end}");
        }
    }

    // rule: DISC-3
    #[test]
    fn a_referral_is_no_absence() {
        let servers = RData::NS(NS(name("ns.harbor.example.")));
        let start = RData::SOA(SOA::new(
            name("ns.harbor.example."),
            name("hostmaster.harbor.example."),
            1,
            3_600,
            600,
            86_400,
            300,
        ));
        let record =
            |data: &RData| rr::Record::from_rdata(name("harbor.example."), 300, data.clone());
        for (authority, is_absent) in [
            (vec![record(&servers)], false),
            (vec![record(&start)], true),
            (vec![record(&servers), record(&start)], true),
        ] {
            let mut message = message(ResponseCode::NoError, Vec::new());
            message.add_authorities(authority);
            match told(&message) {
                Ok(answer) => assert!(is_absent && answer.known == Known::NoRecord),
                Err(error) => assert!(!is_absent && matches!(error, NoAnswer::Referral)),
            }
        }
    }

    // rule: DNS-7
    #[test]
    fn a_record_of_any_length_leaves_the_good_one_beside_it() {
        for length in [0u16, 1, 5] {
            let both = vec![
                cert("rui.harbor.example.", 60, b"xyz"),
                cert("rui.harbor.example.", 60, b"good"),
            ];
            let mut octets = message(ResponseCode::NoError, both).to_vec().unwrap();
            // The first record's RDATA: 5 octets and "xyz". It is cut to `length`.
            let at = octets.windows(3).position(|part| part == b"xyz").unwrap() - 5;
            octets.splice(at + usize::from(length)..at + 8, []);
            octets[at - 2..at].copy_from_slice(&length.to_be_bytes());
            assert!(
                Message::from_vec(&octets).is_err(),
                "the library gives it up"
            );
            let answer = read(&octets, 7, &name("rui.harbor.example.")).unwrap();
            assert_eq!(answer.known.certificates(), [b"good".to_vec()]);
            let text = answer.known.to_string();
            assert_eq!(text, "1 certificate; skipped: 1 with fewer than 6 octets");
        }
    }
}
