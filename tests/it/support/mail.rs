//! Mail to send, and the fakes that an SMTP client needs.

use std::{
    io::{self, Cursor, Read},
    net::IpAddr,
    sync::Arc,
};

use async_trait::async_trait;
use xdbridge::{
    flows::ports::{
        Bodies, BodyWriter, FindMailHosts, MailHost, MailHostError, OutgoingMail, StoreError,
        StoredBody,
    },
    formats::ids::{BodyId, DomainName},
};

/// How the reading of a body ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BodyEnd {
    /// As it should.
    Whole,
    /// Without an error, but before its end.
    Short,
    /// With this error after its last octet.
    Error(io::ErrorKind),
    /// It cannot even be opened: it is damaged.
    Unopenable,
}

struct MemoryBody {
    octets: Vec<u8>,
    end: BodyEnd,
}

struct Failing(io::ErrorKind);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
}

impl Bodies for MemoryBody {
    fn create_encrypted(&self) -> Result<Box<dyn BodyWriter>, StoreError> {
        Err(StoreError::NoSpace)
    }

    fn create_sealed(&self) -> Result<Box<dyn BodyWriter>, StoreError> {
        Err(StoreError::NoSpace)
    }

    fn open(&self, body: BodyId) -> Result<Box<dyn Read + Send>, StoreError> {
        let octets = Cursor::new(self.octets.clone());
        match self.end {
            BodyEnd::Whole | BodyEnd::Short => Ok(Box::new(octets)),
            BodyEnd::Error(kind) => Ok(Box::new(octets.chain(Failing(kind)))),
            BodyEnd::Unopenable => Err(StoreError::DamagedBody {
                body,
                what: "its digest",
            }),
        }
    }
}

/// A stored body with these octets.
pub(crate) fn stored_body(octets: impl Into<Vec<u8>>, end: BodyEnd) -> StoredBody {
    let octets = octets.into();
    let missing = if matches!(end, BodyEnd::Short) {
        100
    } else {
        0
    };
    StoredBody {
        size: octets.len() as u64 + missing,
        store: Arc::new(MemoryBody { octets, end }),
        id: BodyId::random(),
    }
}

/// The header of [`mail_to`].
pub(crate) const HEADER: &str = "From: ada.quill@direct.clinic.example\r\nSubject: -\r\n\r\n";

/// A mail to `recipients`, all of the domain of the first.
pub(crate) fn mail_to(recipients: &[&str], body: StoredBody) -> OutgoingMail {
    let domain = recipients[0].rsplit_once('@').unwrap().1;
    OutgoingMail {
        deadline: jiff::Timestamp::MAX,
        domain: domain.parse().unwrap(),
        envelope_from: Some("ada.quill@direct.clinic.example".parse().unwrap()),
        recipients: recipients
            .iter()
            .map(|text| text.parse().unwrap())
            .collect(),
        header: HEADER.to_owned(),
        body,
    }
}

/// Mail hosts that the test knows.
pub(crate) struct FixedHosts(pub(crate) Result<Vec<MailHost>, MailHostError>);

impl FixedHosts {
    /// Hosts by name and address.
    pub(crate) fn of(hosts: &[(&str, IpAddr)]) -> Self {
        let hosts = hosts.iter().map(|(name, address)| MailHost {
            name: name.parse().unwrap(),
            addresses: vec![*address],
        });
        Self(Ok(hosts.collect()))
    }
}

#[async_trait]
impl FindMailHosts for FixedHosts {
    async fn hosts(&self, _: &DomainName) -> Result<Vec<MailHost>, MailHostError> {
        self.0.clone()
    }

    async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, MailHostError> {
        let hosts = self.0.clone()?;
        Ok(hosts.into_iter().flat_map(|host| host.addresses).collect())
    }
}
