//! An SMTP client under test, its CA, and scripted servers for it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jiff::Timestamp;
use xdbridge::{
    adapters::{
        clock::SystemClock,
        smtp_client::{
            SmtpClient,
            config::{SmtpClientConfig, TlsPolicy},
        },
    },
    bridge::exchange::Reason,
    flows::ports::{Clock, SendResult},
};

use super::{
    folder::TestFolder,
    mail::FixedHosts,
    scripted_smtp::{Builder, ScriptedSmtp},
    tls::Identity,
};

/// The name of the next hop in these tests.
pub(crate) const HOST: &str = "mx.hisp.example";

/// A clock that stands still.
pub(crate) struct Standing(pub(crate) Timestamp);

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// A CA that the client knows.
pub(crate) struct SmtpGround {
    pub(crate) ca: Identity,
    folder: TestFolder,
}

impl SmtpGround {
    pub(crate) fn new() -> Self {
        let folder = TestFolder::new();
        let ca = Identity::ca("Test CA");
        std::fs::write(folder.path().join("ca.pem"), ca.certificate_pem()).unwrap();
        Self { ca, folder }
    }

    /// A server that offers STARTTLS with a good certificate.
    pub(crate) fn server(&self) -> Builder {
        ScriptedSmtp::builder().tls(&self.ca.issue(HOST))
    }

    /// Settings for hosts that listen on `port` of the loopback network, and for one message a connection.
    pub(crate) fn config(&self, port: u16) -> SmtpClientConfig {
        SmtpClientConfig {
            ehlo_name: Some("bridge.clinic.example".to_owned()),
            port,
            public_cas: false,
            ca_files: vec![self.folder.path().join("ca.pem")],
            permit: vec!["127.0.0.0/8".parse().unwrap()],
            idle_timeout: std::time::Duration::ZERO,
            ..SmtpClientConfig::default()
        }
    }

    /// A client whose MX records lead to `address` alone.
    pub(crate) fn client(&self, address: SocketAddr) -> SmtpClient {
        client(self.config(address.port()), hosts(&[address]))
    }

    /// The same with another TLS policy.
    pub(crate) fn client_with_tls(&self, address: SocketAddr, tls: TlsPolicy) -> SmtpClient {
        let config = self.config(address.port());
        client(SmtpClientConfig { tls, ..config }, hosts(&[address]))
    }
}

/// A client by settings and hosts.
pub(crate) fn client(config: SmtpClientConfig, hosts: FixedHosts) -> SmtpClient {
    SmtpClient::new(config, Arc::new(hosts), Arc::new(SystemClock)).unwrap()
}

/// One host for each address, all of the name [`HOST`].
pub(crate) fn hosts(addresses: &[SocketAddr]) -> FixedHosts {
    let named: Vec<(&str, IpAddr)> = addresses.iter().map(|a| (HOST, a.ip())).collect();
    FixedHosts::of(&named)
}

/// Each result in one word, with its reason.
pub(crate) fn words(results: &[SendResult]) -> Vec<String> {
    let word = |result: &SendResult| match result {
        SendResult::Accepted(_) => "accepted".to_owned(),
        SendResult::Refused { reason, .. } => reason.token().to_owned(),
        SendResult::Deferred { .. } => "deferred".to_owned(),
    };
    results.iter().map(word).collect()
}

/// What the audit is told of a result that is no acceptance.
pub(crate) fn detail(result: &SendResult) -> &str {
    match result {
        SendResult::Refused { detail, .. } | SendResult::Deferred { detail } => detail,
        SendResult::Accepted(_) => panic!("accepted: {result:?}"),
    }
}

/// Whether it is a refusal for `reason`.
pub(crate) fn is_refused_for(result: &SendResult, wanted: Reason) -> bool {
    matches!(result, SendResult::Refused { reason, .. } if *reason == wanted)
}
