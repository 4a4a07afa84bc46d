//! Which network addresses a name from outside may lead us to (threats.md T-14): what a peer's DNS says must not point
//! our connections at our own network.

use std::{fmt, net::IpAddr, net::Ipv4Addr, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A block of addresses in CIDR form, such as `10.0.0.0/8` or `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    base: IpAddr,
    prefix_bits: u8,
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no network; write an address and a prefix length, such as \"10.0.0.0/8\"")]
pub struct NetworkError {
    text: String,
}

impl Network {
    /// Whether `address` lies in this network. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                same_prefix_v4(base, address, self.prefix_bits)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                same_prefix_v6(base, address, self.prefix_bits)
            }
            _ => false,
        }
    }
}

impl Network {
    /// Whether it has more addresses than a network with a prefix of `v4_bits`, or `v6_bits` in the other family.
    pub fn is_wider_than(&self, v4_bits: u8, v6_bits: u8) -> bool {
        match self.base {
            IpAddr::V4(_) => self.prefix_bits < v4_bits,
            IpAddr::V6(_) => self.prefix_bits < v6_bits,
        }
    }
}

fn same_prefix_v4(left: Ipv4Addr, right: Ipv4Addr, bits: u8) -> bool {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(bits.min(32)))
        .unwrap_or(0);
    u32::from(left) & mask == u32::from(right) & mask
}

fn same_prefix_v6(left: Ipv6Addr, right: Ipv6Addr, bits: u8) -> bool {
    let mask = u128::MAX
        .checked_shl(128 - u32::from(bits.min(128)))
        .unwrap_or(0);
    u128::from(left) & mask == u128::from(right) & mask
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError {
            text: text.to_owned(),
        };
        let (base, prefix) = text.split_once('/').ok_or_else(error)?;
        let base: IpAddr = base.parse().map_err(|_| error())?;
        let prefix_bits: u8 = prefix.parse().map_err(|_| error())?;
        let longest = if base.is_ipv4() { 32 } else { 128 };
        if prefix_bits > longest {
            return Err(error());
        }
        Ok(Self { base, prefix_bits })
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;
    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_bits)
    }
}

/// Whether a connection to `address` may be made: it is a public unicast address, or lies in a `permitted` network.
pub fn may_connect(address: IpAddr, permitted: &[Network]) -> bool {
    is_public(address) || permitted.iter().any(|network| network.contains(address))
}

/// Whether `address` is a unicast address of the public internet: neither loopback, private, link-local (the cloud
/// metadata services live there), shared, multicast, nor set aside for documentation, tests or protocols
/// (RFC 6890 and the IANA special-purpose registries).
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xfe == 18);
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, .., high, low] = address.segments();
    // 64:ff9b::/96 and 2002::/16 carry an IPv4 address, which decides; 64:ff9b:1::/48 is for local translation.
    if let [0x64, 0xff9b, between @ .., _, _] = address.segments() {
        let translated = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
        return between == [0; 4] && is_public_v4(translated);
    }
    if first == 0x2002 {
        return is_public_v4(Ipv4Addr::from((u32::from(second) << 16) | u32::from(third)));
    }
    // Only 2000::/3 is given out; in it, 2001::/23 is for protocols, and two blocks are for documentation.
    let is_global_unicast = first & 0xe000 == 0x2000;
    let is_protocol = first == 0x2001 && second < 0x0200;
    let is_documentation =
        (first == 0x2001 && second == 0x0db8) || first == 0x3fff && second < 0x1000;
    is_global_unicast && !is_protocol && !is_documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    // rule: TX-6
    #[test]
    fn only_public_unicast_addresses_are_public() {
        for text in [
            "8.8.8.8",
            "192.1.0.1",
            "100.128.0.1",
            "2a00:1450::1",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(address(text)), "{text}");
        }
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
        ] {
            assert!(!is_public(address(text)), "{text}");
        }
    }

    // rule: TX-6
    #[test]
    fn a_permitted_network_opens_itself_and_nothing_else() {
        let permitted = ["10.1.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()];
        assert!(may_connect(address("10.1.255.1"), &permitted));
        assert!(may_connect(address("::ffff:10.1.0.1"), &permitted));
        assert!(may_connect(address("::1"), &permitted));
        assert!(!may_connect(address("10.2.0.1"), &permitted));
        assert!(!may_connect(address("127.0.0.1"), &permitted));
        assert!(may_connect(
            address("127.0.0.1"),
            &["0.0.0.0/0".parse().unwrap()]
        ));
    }

    #[test]
    fn a_network_reads_back_what_it_prints_and_refuses_the_rest() {
        for text in ["10.0.0.0/8", "fd00::/8", "0.0.0.0/0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for text in [
            "10.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "host/8",
            "10.0.0.0/-1",
            "",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
