//! Whether a URL from outside may be fetched, and from which addresses (threats.md T-14). A certificate, a DNS record or
//! a SOAP header of somebody unknown may hold any URL: it must not point our connections at our own network.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::network::{Network, is_public};

/// Longest URL, in octets.
const MAX_URL_BYTES: usize = 2_048;
/// The ports that need no permission.
const OPEN_PORTS: [u16; 2] = [80, 443];
/// The largest permitted networks: prefixes of the private ones of RFC 1918 and RFC 4193.
const WIDEST_V4_BITS: u8 = 8;
const WIDEST_V6_BITS: u8 = 7;

/// A URL that is of a kind that may be fetched. Where its host lies is not known yet.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchTarget {
    url: Url,
    host: Host<String>,
    port: u16,
}

/// Why a URL is not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetFault {
    /// Not a URL with a host.
    #[error("it is no URL with a host; http://host/path and https://host/path are accepted (T-14)")]
    NoUrl,
    /// Longer than URLs are.
    #[error("the URL is longer than {MAX_URL_BYTES} octets (T-14)")]
    TooLong,
    /// `file:`, `ldap:` and all others.
    #[error("the scheme `{0}` is not fetched; http and https are (T-14)")]
    Scheme(String),
    /// Names and passwords for a stranger's server.
    #[error("the URL holds a user or a password (T-14)")]
    User,
    /// Another port than those of the web.
    #[error("port {0} is not open to it; 80, 443 and host:port in fetch.permit are (T-14)")]
    Port(u16),
    /// It leads into our own network, or nowhere.
    #[error(
        "{0} is no public address; networks and host:port in fetch.permit are let through (T-14)"
    )]
    Address(IpAddr),
    /// The name has none.
    #[error("its host has no address")]
    NoAddress,
}

impl FetchTarget {
    /// The host: an address, or a name as an A-label in lower case.
    pub fn host(&self) -> FetchHost<'_> {
        match &self.host {
            Host::Domain(name) => FetchHost::Name(name),
            Host::Ipv4(address) => FetchHost::Address((*address).into()),
            Host::Ipv6(address) => FetchHost::Address((*address).into()),
        }
    }

    /// The host as the URL has it in its normal form.
    pub fn host_text(&self) -> String {
        self.host.to_string()
    }

    /// The port: the one given, or the scheme's own.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is asked for over TLS.
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The URL in its normal form, without a fragment.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// `host:port`, by which servers are told apart.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The host of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchHost<'a> {
    /// A name, which the DNS knows more about.
    Name(&'a str),
    /// An address, however it was written: `0x7f.1` is one, too.
    Address(IpAddr),
}

impl FromStr for FetchTarget {
    type Err = TargetFault;

    fn from_str(text: &str) -> Result<Self, TargetFault> {
        if text.len() > MAX_URL_BYTES {
            return Err(TargetFault::TooLong);
        }
        let mut url = Url::parse(text.trim()).map_err(|_| TargetFault::NoUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetFault::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetFault::User);
        }
        url.set_fragment(None);
        let host = url.host().ok_or(TargetFault::NoUrl)?.to_owned();
        let port = url.port_or_known_default().ok_or(TargetFault::NoUrl)?;
        Ok(Self { url, host, port })
    }
}

impl fmt::Debug for FetchTarget {
    /// Only where it leads: path and query may hold anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FetchTarget({}://{})",
            self.url.scheme(),
            self.authority()
        )
    }
}

/// What is fetched although it is not public, or from another port: `fetch.permit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FetchPermits(Vec<FetchPermit>);

/// One exception.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FetchPermit {
    /// The addresses of this network, at ports 80 and 443.
    Network(Network),
    /// This host at this port, wherever a name leads; of an address also under the names that lead to it.
    Place {
        /// The host, as URLs have it in their normal form.
        host: Host<String>,
        /// The port.
        port: u16,
    },
}

/// Why a text permits nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is neither a network of at most /{WIDEST_V4_BITS} (IPv6 /{WIDEST_V6_BITS}), such as \"10.20.0.0/16\", nor host:port, such as \"crl.harbor.example:8080\""
)]
pub struct PermitError {
    text: String,
}

impl FetchPermits {
    /// Of `addresses`, those that may be connected to for `target`, in their order: the connection must go to one of
    /// them, without asking the DNS anew. None left: the first one's fault.
    pub fn admit(
        &self,
        target: &FetchTarget,
        addresses: &[IpAddr],
    ) -> Result<Vec<SocketAddr>, TargetFault> {
        let port = target.port;
        let mut admitted = Vec::new();
        let mut fault = None;
        for address in addresses {
            match self.judge(target, *address) {
                Ok(()) => admitted.push(SocketAddr::new(*address, port)),
                Err(refused) => fault = fault.or(Some(refused)),
            }
        }
        if admitted.is_empty() {
            return Err(fault.unwrap_or(TargetFault::NoAddress));
        }
        Ok(admitted)
    }

    fn judge(&self, target: &FetchTarget, address: IpAddr) -> Result<(), TargetFault> {
        let mut places = self.0.iter().filter_map(|permit| match permit {
            FetchPermit::Place { host, port } if *port == target.port => Some(host),
            _ => None,
        });
        let is_named = |host: &Host<String>| {
            *host == target.host || host_address(host) == Some(address.to_canonical())
        };
        if places.any(is_named) {
            return Ok(());
        }
        if !OPEN_PORTS.contains(&target.port) {
            return Err(TargetFault::Port(target.port));
        }
        let mut networks = self.0.iter().filter_map(|permit| match permit {
            FetchPermit::Network(network) => Some(network),
            FetchPermit::Place { .. } => None,
        });
        if is_public(address) || networks.any(|network| network.contains(address)) {
            Ok(())
        } else {
            Err(TargetFault::Address(address))
        }
    }
}

fn host_address(host: &Host<String>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some((*address).into()),
        Host::Ipv6(address) => Some(IpAddr::from(*address).to_canonical()),
    }
}

impl FromIterator<FetchPermit> for FetchPermits {
    fn from_iter<T: IntoIterator<Item = FetchPermit>>(permits: T) -> Self {
        Self(permits.into_iter().collect())
    }
}

impl FromStr for FetchPermit {
    type Err = PermitError;

    fn from_str(text: &str) -> Result<Self, PermitError> {
        let error = || PermitError {
            text: text.to_owned(),
        };
        if text.contains('/') {
            let network: Network = text.parse().map_err(|_| error())?;
            if network.is_wider_than(WIDEST_V4_BITS, WIDEST_V6_BITS) {
                return Err(error());
            }
            return Ok(Self::Network(network));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let host = Host::parse(host).map_err(|_| error())?;
        let port: u16 = port.parse().map_err(|_| error())?;
        if port == 0 {
            return Err(error());
        }
        Ok(Self::Place { host, port })
    }
}

impl TryFrom<String> for FetchPermit {
    type Error = PermitError;
    fn try_from(text: String) -> Result<Self, PermitError> {
        text.parse()
    }
}

impl From<FetchPermit> for String {
    fn from(permit: FetchPermit) -> Self {
        permit.to_string()
    }
}

impl fmt::Display for FetchPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Place { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn permits(texts: &[&str]) -> FetchPermits {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn admit(permitted: &[&str], url: &str, address: &str) -> Result<(), TargetFault> {
        let target: FetchTarget = url.parse()?;
        let admitted = permits(permitted).admit(&target, &[address.parse().unwrap()])?;
        assert_eq!(admitted.len(), 1);
        Ok(())
    }

    // rule: T-14
    #[test]
    fn only_web_urls_with_a_host_and_without_a_user_are_fetched() {
        let fault = |url: &str| url.parse::<FetchTarget>().err();
        assert_eq!(fault("http://crl.harbor.example/a.crl?x=y"), None);
        assert_eq!(fault("HTTPS://crl.harbor.example"), None);
        for scheme in ["file", "gopher", "ldap", "ftp", "data", "javascript"] {
            let told = TargetFault::Scheme(scheme.to_owned());
            assert_eq!(fault(&format!("{scheme}://host/x")), Some(told));
        }
        assert_eq!(
            fault("file:///etc/passwd"),
            Some(TargetFault::Scheme("file".to_owned()))
        );
        for broken in [
            "",
            "crl.harbor.example/a",
            "http://",
            "//host/x",
            "http:// /",
        ] {
            assert_eq!(fault(broken), Some(TargetFault::NoUrl), "{broken}");
        }
        assert_eq!(fault("http://a:b@host/"), Some(TargetFault::User));
        let long = format!("http://host/{}", "a".repeat(MAX_URL_BYTES));
        assert_eq!(fault(&long), Some(TargetFault::TooLong));
    }

    // rule: T-14
    #[test]
    fn an_address_is_seen_through_every_spelling() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f.0.0.1/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://１２７.0.0.1/",
        ] {
            let target: FetchTarget = url.parse().unwrap();
            let FetchHost::Address(address) = target.host() else {
                panic!("{url} is a name");
            };
            let fault = FetchPermits::default().admit(&target, &[address]);
            assert_eq!(fault, Err(TargetFault::Address(address)), "{url}");
        }
    }

    // rule: T-14
    #[test]
    fn a_permit_opens_what_it_names_and_nothing_beside_it() {
        let url = "http://ca.example/x";
        let refused = |text: &str| Err(TargetFault::Address(text.parse().unwrap()));
        assert_eq!(admit(&[], url, "192.0.3.1"), Ok(()));
        assert_eq!(admit(&[], url, "10.1.0.1"), refused("10.1.0.1"));
        assert_eq!(admit(&["10.1.0.0/16"], url, "10.1.0.1"), Ok(()));
        assert_eq!(
            admit(&["10.1.0.0/16"], url, "10.2.0.1"),
            refused("10.2.0.1")
        );
        let mapped = "::ffff:10.1.0.1";
        assert_eq!(admit(&["10.1.0.0/16"], url, mapped), Ok(()));
        assert_eq!(admit(&["10.1.0.1:80"], url, mapped), Ok(()));
        // A network opens no port, whatever lies there.
        let other_port = "http://ca.example:8080/x";
        let port = Err(TargetFault::Port(8080));
        assert_eq!(admit(&["10.1.0.0/16"], other_port, "10.1.0.1"), port);
        assert_eq!(admit(&[], other_port, "192.0.3.1"), port);
        assert_eq!(admit(&["CA.example:8080"], other_port, "10.1.0.1"), Ok(()));
        assert_eq!(admit(&["10.1.0.1:8080"], other_port, "10.1.0.1"), Ok(()));
        assert_eq!(admit(&["10.1.0.1:8080"], other_port, "10.1.0.2"), port);
        assert_eq!(admit(&["ca.example:8081"], other_port, "10.1.0.1"), port);
        assert_eq!(
            admit(&["ca.example:8080"], url, "10.1.0.1"),
            refused("10.1.0.1")
        );
        assert_eq!(
            admit(&["sub.ca.example:80"], url, "10.1.0.1"),
            refused("10.1.0.1")
        );
    }

    // rule: T-14
    #[test]
    fn of_several_addresses_only_the_good_ones_are_left() {
        let target: FetchTarget = "https://ca.example/".parse().unwrap();
        let addresses = ["127.0.0.1", "8.8.8.8", "fd00::1"].map(|a| a.parse().unwrap());
        let admitted = FetchPermits::default().admit(&target, &addresses).unwrap();
        assert_eq!(admitted, ["8.8.8.8:443".parse::<SocketAddr>().unwrap()]);
        let none = FetchPermits::default().admit(&target, &[]);
        assert_eq!(none, Err(TargetFault::NoAddress));
    }

    #[test]
    fn a_permit_reads_back_what_it_prints_and_refuses_the_rest() {
        for text in [
            "10.0.0.0/8",
            "fc00::/7",
            "10.0.0.1:80",
            "[::1]:8080",
            "ca.example:1",
        ] {
            assert_eq!(text.parse::<FetchPermit>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "10.0.0.1",
            "ca.example",
            "0.0.0.0/0",
            "10.0.0.0/7",
            "::/0",
            "ca.example:0",
            "ca.example:70000",
            "::1:80",
            "http://ca.example:80",
        ] {
            assert!(text.parse::<FetchPermit>().is_err(), "{text}");
        }
    }

    /// Networks that no URL may lead into, with the rule that sets each aside.
    const CLOSED_V4: [&str; 15] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    ];

    fn with_v4(prefix: [u16; 6], address: Ipv4Addr) -> IpAddr {
        let [a, b, c, d] = address.octets();
        let [p0, p1, p2, p3, p4, p5] = prefix;
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Ipv6Addr::new(p0, p1, p2, p3, p4, p5, high, low).into()
    }

    proptest! {
        // rule: T-14
        #[test]
        fn every_address_of_a_closed_network_is_refused_in_whatever_wrapping(
            index in 0..CLOSED_V4.len(),
            host in any::<u32>(),
        ) {
            let (base, bits) = CLOSED_V4[index].split_once('/').unwrap();
            let base = u32::from(base.parse::<Ipv4Addr>().unwrap());
            let mask = u32::MAX << (32 - bits.parse::<u32>().unwrap());
            let address = Ipv4Addr::from(base | host & !mask);
            let [a, b, c, d] = address.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let wrapped = [
                IpAddr::from(address),
                with_v4([0, 0, 0, 0, 0, 0xffff], address),
                with_v4([0; 6], address),
                with_v4([0x64, 0xff9b, 0, 0, 0, 0], address),
                with_v4([0x64, 0xff9b, 1, 0, 0, 0], address),
                with_v4([0x2002, high, low, 0, 0, 0], Ipv4Addr::new(8, 8, 8, 8)),
            ];
            let target: FetchTarget = "http://ca.example/".parse().unwrap();
            for address in wrapped {
                let refused = FetchPermits::default().admit(&target, &[address]);
                prop_assert_eq!(refused, Err(TargetFault::Address(address)));
            }
        }

        // rule: T-14
        #[test]
        fn no_text_makes_a_target_of_another_scheme_or_with_a_user(text in "\\PC{0,40}") {
            for text in [text.clone(), format!("http:{text}"), format!("https://{text}")] {
                if let Ok(target) = text.parse::<FetchTarget>() {
                    let url = Url::parse(target.url()).unwrap();
                    prop_assert!(["http", "https"].contains(&url.scheme()));
                    prop_assert!(url.username().is_empty() && url.password().is_none());
                    prop_assert_eq!(url.port_or_known_default(), Some(target.port()));
                }
            }
        }

        // rule: T-14
        #[test]
        fn an_address_outside_2000_slash_3_is_never_public_but_for_translated_ones(
            segments in any::<[u16; 8]>(),
        ) {
            let address = Ipv6Addr::from(segments);
            let is_wrapping = address.to_ipv4_mapped().is_some()
                || segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
            if segments[0] & 0xe000 != 0x2000 && !is_wrapping {
                prop_assert!(!is_public(address.into()));
            }
        }
    }
}
