//! A small EHR that receives: ITI-41 over mutual TLS, on the HTTP of actix-web. A MIME reader and an XML reader that were
//! written by others take the request apart, not the code that the bridge writes and reads requests with; only what it
//! holds is kept in our types.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use actix_tls::accept::openssl::TlsStream;
use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    http::header::CONTENT_TYPE,
    rt::net::TcpStream,
    web::{Bytes, Data, PayloadConfig, post},
};
use anyhow::{Context, bail};
use mail_parser::{Message, MessageParser, MimeHeaders};
use openssl::{
    ssl::{SslAcceptor, SslAcceptorBuilder, SslMethod, SslVerifyMode},
    x509::{X509, X509Ref},
};
use roxmltree::{Document, Node};
use tokio::sync::mpsc;

use super::compare::Submission;
use crate::{
    app::http_thread::HttpThread,
    formats::{
        ids::{DirectAddress, SoapMessageId},
        limits::Limits,
        metadata::Metadata,
        smime::SigningIdentity,
        xml::{kept::KeptXml, names},
    },
};

/// Largest request, in octets: the demo's own is far smaller.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// The answer to a request that was understood.
const SUCCESS: &str = "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
    xmlns:a=\"http://www.w3.org/2005/08/addressing\"><s:Header>\
    <a:Action s:mustUnderstand=\"true\">urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-bResponse</a:Action>\
    <a:RelatesTo>@MESSAGE_ID@</a:RelatesTo></s:Header><s:Body>\
    <r:RegistryResponse xmlns:r=\"urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0\" \
    status=\"urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success\"/></s:Body></s:Envelope>";

/// A request as the EHR understood it.
pub(super) struct Taken {
    /// The common name in the certificate of the client that posted it.
    pub(super) client: String,
    /// How large the request was, in octets.
    pub(super) request_bytes: usize,
    /// Its wsa:MessageID.
    pub(super) message_id: SoapMessageId,
    /// The sender in its addressBlock.
    pub(super) from: DirectAddress,
    /// The request that it is about, if it is a delivery notification.
    pub(super) relates_to: Option<String>,
    /// What it holds; the recipients are those of its addressBlock.
    pub(super) submission: Submission,
}

/// An EHR that listens.
pub(super) struct Receiver {
    address: SocketAddr,
    arrived: mpsc::UnboundedReceiver<anyhow::Result<Taken>>,
    /// It serves until this is dropped.
    _server: HttpThread,
}

/// Where what was taken goes.
type Inbox = mpsc::UnboundedSender<anyhow::Result<Taken>>;

/// The client's name, as the finished handshake tells.
struct Client(String);

impl Receiver {
    /// Listens on loopback as `identity`, for clients with a certificate of `ca`.
    pub(super) fn start(identity: &SigningIdentity, ca: &X509) -> anyhow::Result<Self> {
        let acceptor = acceptor(identity, ca)?;
        let listener = TcpListener::bind("127.0.0.1:0").context("the EHR cannot listen")?;
        let address = listener.local_addr()?;
        let (inbox, arrived) = mpsc::unbounded_channel();
        let inbox: Data<Inbox> = Data::new(inbox);
        let server = HttpThread::start("ehr", move || {
            let server = HttpServer::new(move || {
                App::new()
                    .app_data(PayloadConfig::new(MAX_REQUEST_BYTES))
                    .app_data(inbox.clone())
                    .route("/xdr", post().to(take))
            })
            .workers(1)
            .disable_signals()
            .on_connect(|connection, extensions| {
                if let Some(stream) = connection.downcast_ref::<TlsStream<TcpStream>>() {
                    let certificate = stream.ssl().peer_certificate();
                    let name = certificate.map(|certificate| common_name(&certificate));
                    extensions.insert(Arc::new(Client(name.unwrap_or_default())));
                }
            })
            .listen_openssl(listener, acceptor)?;
            Ok(server.run())
        })?;
        Ok(Self {
            address,
            arrived,
            _server: server,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next request.
    pub(super) async fn next(&mut self) -> anyhow::Result<Taken> {
        self.arrived.recv().await.context("the EHR has ended")?
    }

    /// How many requests have come beside those that were taken.
    pub(super) fn waiting(&self) -> usize {
        self.arrived.len()
    }
}

fn acceptor(identity: &SigningIdentity, ca: &X509) -> anyhow::Result<SslAcceptorBuilder> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_certificate(&identity.certificate)?;
    acceptor.set_private_key(&identity.key)?;
    acceptor.cert_store_mut().add_cert(ca.clone())?;
    acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    Ok(acceptor)
}

/// The first name in the certificate's subject.
pub(super) fn common_name(certificate: &X509Ref) -> String {
    let mut names = certificate.subject_name().entries();
    let name = names.next().and_then(|entry| entry.data().to_string().ok());
    name.map_or_else(|| "without a name".to_owned(), |name| name.to_string())
}

/// Takes one request: Success if all of it was understood.
async fn take(request: HttpRequest, body: Bytes, inbox: Data<Inbox>) -> HttpResponse {
    let client = request.conn_data::<Arc<Client>>();
    let client = client.map_or_else(String::new, |client| client.0.clone());
    let media_type = request.headers().get(CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let taken = read(client, media_type.unwrap_or_default(), &body);
    let answer = match &taken {
        Ok(taken) => HttpResponse::Ok()
            .content_type("application/soap+xml; charset=UTF-8")
            .body(SUCCESS.replace("@MESSAGE_ID@", taken.message_id.as_str())),
        Err(_) => HttpResponse::BadRequest().finish(),
    };
    // Nobody waits any more only if the demo is over.
    let _ = inbox.send(taken);
    answer
}

/// Takes an MTOM package apart.
pub(super) fn read(client: String, media_type: &str, body: &[u8]) -> anyhow::Result<Taken> {
    let mut package =
        format!("MIME-Version: 1.0\r\nContent-Type: {media_type}\r\n\r\n").into_bytes();
    package.extend_from_slice(body);
    let package = MessageParser::default().parse(&package);
    let package = package.context("the request is no MIME package")?;
    let root = package.parts.iter().find(|part| {
        let kind = part.content_type();
        kind.is_some_and(|kind| kind.subtype() == Some("xop+xml"))
    });
    let root = root.context("the package has no root part of XOP")?;
    let envelope = std::str::from_utf8(root.contents()).context("the envelope is not UTF-8")?;
    let xml = Document::parse(envelope).context("the envelope is no XML")?;

    let message_id = only(&xml, (names::WSA, "MessageID"))?;
    let addresses = |name| -> anyhow::Result<Vec<DirectAddress>> {
        let nodes = xml.descendants();
        let nodes = nodes.filter(|node| node.has_tag_name((names::DIRECT, name)));
        nodes.map(mailto).collect()
    };
    let from = addresses("from")?;
    let [from] = from.as_slice() else {
        bail!("{} senders in place of one", from.len());
    };
    let notification = (names::DIRECT, "notification");
    let notification = xml
        .descendants()
        .find(|node| node.has_tag_name(notification));
    let relates_to = notification.and_then(|node| node.attribute("relatesTo"));
    let metadata = only(&xml, (names::LCM, "SubmitObjectsRequest"))?;
    let metadata = envelope.get(metadata.range()).unwrap_or_default();
    let limits = Limits::default();
    let metadata = Metadata::read(KeptXml::read(metadata.as_bytes(), &limits)?, &limits)?;
    let documents = xml.descendants();
    let documents = documents.filter(|node| node.has_tag_name((names::XDS, "Document")));
    let documents: anyhow::Result<Vec<_>> = documents
        .map(|document| {
            let id = document.attribute("id").context("a Document has no id")?;
            let included = document.first_element_child();
            let href = included.and_then(|include| include.attribute("href"));
            let octets = part(&package, href.context("a Document is not included")?)?;
            Ok((id.to_owned(), octets.to_vec()))
        })
        .collect();
    Ok(Taken {
        client,
        request_bytes: body.len(),
        message_id: message_id.text().unwrap_or_default().trim().parse()?,
        from: from.clone(),
        relates_to: relates_to.map(str::to_owned),
        submission: Submission {
            recipients: addresses("to")?,
            metadata,
            documents: documents?,
        },
    })
}

/// The one element of this name.
fn only<'a, 'i>(
    xml: &'a Document<'i>,
    name: (&'static str, &'static str),
) -> anyhow::Result<Node<'a, 'i>> {
    let mut found = xml.descendants().filter(|node| node.has_tag_name(name));
    match (found.next(), found.next()) {
        (Some(node), None) => Ok(node),
        (None, _) => bail!("{} is missing", name.1),
        (Some(_), Some(_)) => bail!("{} stands there twice", name.1),
    }
}

fn mailto(node: Node<'_, '_>) -> anyhow::Result<DirectAddress> {
    let text = node.text().unwrap_or_default();
    let address = text.strip_prefix("mailto:").context("no mailto")?;
    Ok(address.parse()?)
}

/// The part that a `cid:` URI names.
fn part<'a>(package: &'a Message<'_>, href: &str) -> anyhow::Result<&'a [u8]> {
    let wanted = href.strip_prefix("cid:").context("no cid")?;
    let mut parts = package.parts.iter();
    let found = parts.find(|part| {
        let id = part.content_id().unwrap_or_default();
        id.trim_matches(['<', '>']) == wanted
    });
    Ok(found.context("an included part is missing")?.contents())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::app::demo::{compare::compare, ehr::Referral};

    fn referral() -> Referral {
        let from = "ngozi.okafor@direct.elm.example".parse().unwrap();
        let to = ["rui.silva@direct.harbor.example", "ada@direct.oak.example"];
        let to = to.map(|text| text.parse().unwrap());
        Referral::new(from, to.into(), Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_request_is_taken_apart_into_what_was_put_in() {
        let referral = referral();
        let (media_type, body) = referral.to_mtom("https://127.0.0.1/xdr").unwrap();
        let taken = read("bridge".to_owned(), &media_type, &body).unwrap();
        assert_eq!(taken.message_id, referral.message_id);
        assert_eq!(taken.from, referral.from);
        assert_eq!(taken.request_bytes, body.len());
        let sent = &referral.submission;
        let checks = compare(sent, &sent.recipients, &taken.submission, "URI");
        let differing: Vec<_> = checks.iter().filter(|check| !check.holds()).collect();
        assert!(differing.is_empty(), "{differing:?}");
    }

    #[test]
    fn what_is_not_whole_is_not_taken() {
        let (media_type, body) = referral().to_mtom("https://127.0.0.1/xdr").unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        for (from, to) in [
            ("cid:", "cid:x"),
            ("MessageID", "MessageIDs"),
            ("direct:from>", "direct:form>"),
            ("SubmitObjectsRequest", "SubmitObjectRequest"),
        ] {
            let other = text.replace(from, to);
            assert_ne!(other, text);
            let taken = read(String::new(), &media_type, other.as_bytes());
            assert!(taken.is_err(), "{to}");
        }
        assert!(read(String::new(), "text/plain", &body).is_err());
    }
}
