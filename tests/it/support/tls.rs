//! A private CA, made anew by each test that asks for one, and raw TLS connections as a peer of any conduct makes
//! them.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode, SslVersion},
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};

/// Longest that a test waits for a peer: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: X509,
    pub(crate) key: PKey<Private>,
}

impl Identity {
    /// A CA that vouches for itself.
    pub(crate) fn ca(name: &str) -> Self {
        issue(name, None, true)
    }

    /// A certificate of this CA for `name`, a DNS name or an address; `localhost` and 127.0.0.1 are added.
    pub(crate) fn issue(&self, name: &str) -> Self {
        issue(name, Some(self), false)
    }

    /// A certificate that vouches for itself, as test tools bring it.
    pub(crate) fn self_signed(name: &str) -> Self {
        issue(name, None, false)
    }

    pub(crate) fn certificate_pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    pub(crate) fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }

    /// Writes certificate and key into `folder`, the key for its owner alone.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = folder.join(format!("{name}.pem"));
        let key = folder.join(format!("{name}.key"));
        fs::write(&certificate, self.certificate_pem()).unwrap();
        fs::write(&key, self.key_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        (certificate, key)
    }
}

fn issue(name: &str, issuer: Option<&Identity>, is_ca: bool) -> Identity {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();

    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial
        .rand(120, openssl::bn::MsbOption::ONE, false)
        .unwrap();
    let serial = serial.to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    builder.set_pubkey(&key).unwrap();
    let (from, to) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(30));
    builder.set_not_before(&from.unwrap()).unwrap();
    builder.set_not_after(&to.unwrap()).unwrap();
    if is_ca {
        let constraints = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(constraints).unwrap();
    } else {
        let mut names = SubjectAlternativeName::new();
        if name.parse::<std::net::IpAddr>().is_ok() {
            names.ip(name);
        } else {
            names.dns(name);
        }
        names.dns("localhost").ip("127.0.0.1");
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
    }
    let signing_key = issuer.map_or(&key, |issuer| &issuer.key);
    builder.sign(signing_key, MessageDigest::sha256()).unwrap();
    Identity {
        certificate: builder.build(),
        key,
    }
}

/// How a client makes its connection.
pub(crate) struct Client<'a> {
    /// Whom it takes for the server's CA.
    pub(crate) ca: &'a Identity,
    /// Whom it says it is.
    pub(crate) identity: Option<&'a Identity>,
    /// The newest TLS it speaks.
    pub(crate) newest: Option<SslVersion>,
}

impl Client<'_> {
    /// Connects and makes the handshake. With TLS 1.3 the server's refusal comes only with the first read.
    pub(crate) fn connect(&self, to: SocketAddr) -> Result<Connection, String> {
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector
            .cert_store_mut()
            .add_cert(self.ca.certificate.clone())
            .unwrap();
        connector.set_verify(SslVerifyMode::PEER);
        // Old versions are off by default on this side too: a test that offers one means the server's refusal.
        connector.set_security_level(0);
        connector.set_min_proto_version(None).unwrap();
        connector.set_max_proto_version(self.newest).unwrap();
        if let Some(identity) = self.identity {
            connector.set_certificate(&identity.certificate).unwrap();
            connector.set_private_key(&identity.key).unwrap();
        }
        let socket = connect_plain(to);
        connector
            .build()
            .connect("localhost", socket)
            .map(|stream| Connection { stream })
            .map_err(|error| error.to_string())
    }
}

/// A TCP connection on which nothing was said yet.
pub(crate) fn connect_plain(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The same from an address of this machine.
pub(crate) async fn connect_from(address: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((address, 0))).unwrap();
    let socket = socket.connect(to).await.unwrap().into_std().unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A connection that says exactly what it is told to.
pub(crate) struct Connection<S = SslStream<TcpStream>> {
    stream: S,
}

impl Connection<TcpStream> {
    /// One without TLS.
    pub(crate) fn plain(to: SocketAddr) -> Self {
        Self {
            stream: connect_plain(to),
        }
    }
}

impl<S> Connection<S> {
    /// Over a stream that the test has made itself.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream }
    }
}

impl Connection {
    /// Breaks the connection off without a word.
    pub(crate) fn break_off(self) {
        let _ = self.stream.get_ref().shutdown(std::net::Shutdown::Both);
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl HttpAnswer {
    /// A header field's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl<S: Read + Write> Connection<S> {
    /// Sends octets as they are.
    pub(crate) fn send(&mut self, octets: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(octets.as_ref())?;
        self.stream.flush()
    }

    /// Reads one answer: by Content-Length, or without a body.
    pub(crate) fn answer(&mut self) -> std::io::Result<HttpAnswer> {
        let head = self.head()?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = HttpAnswer {
            status,
            head,
            body: Vec::new(),
        };
        let length: usize = answer
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        answer.body.resize(length, 0);
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    /// Reads to the blank line that ends a head.
    pub(crate) fn head(&mut self) -> std::io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            self.stream.read_exact(&mut octet)?;
            head.push(octet[0]);
        }
        Ok(String::from_utf8(head).unwrap())
    }

    /// Waits until the peer has closed the connection. `Ok` holds what it said before.
    pub(crate) fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }
}
