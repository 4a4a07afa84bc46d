//! What the lack of an answer means.

use hickory_resolver::{
    net::{DnsError, NetError, NoRecords},
    proto::op::ResponseCode,
};

/// What the lack of an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// NXDOMAIN.
    NoSuchName,
    /// The name exists without a record of this kind.
    NoData,
    /// Nobody knows; so, too, where a name server points at others: it has not said that there is nothing.
    Unknown,
}

impl Absence {
    pub(super) fn of(error: &NetError) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) if !is_referral(none) => {
                match none.response_code {
                    ResponseCode::NXDomain => Self::NoSuchName,
                    ResponseCode::NoError => Self::NoData,
                    _ => Self::Unknown,
                }
            }
            _ => Self::Unknown,
        }
    }
}

/// Seconds for which it may be remembered that there is nothing (RFC 2308 §5); `None`: nobody said.
pub(super) fn negative_ttl(error: &NetError) -> Option<u32> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => none.negative_ttl,
        _ => None,
    }
}

/// Why there is no answer, in a few words. The full text may be long and adds names that are known anyway.
pub(super) fn cause(error: &NetError) -> String {
    match error {
        NetError::Timeout => "no answer in time".to_owned(),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("response code {code}"),
        NetError::Dns(DnsError::NoRecordsFound(none)) if is_referral(none) => {
            "a referral: the name server does not ask others for us".to_owned()
        }
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            format!("response code {}", none.response_code)
        }
        other => other.as_metrics_label().replace('_', " "),
    }
}

fn is_referral(none: &NoRecords) -> bool {
    none.response_code == ResponseCode::NoError && none.ns.is_some() && none.soa.is_none()
}
