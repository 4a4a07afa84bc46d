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
    /// Nobody knows.
    Unknown,
}

impl Absence {
    pub(super) fn of(error: &NetError) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => {
                match *response_code {
                    ResponseCode::NXDomain => Self::NoSuchName,
                    ResponseCode::NoError => Self::NoData,
                    _ => Self::Unknown,
                }
            }
            _ => Self::Unknown,
        }
    }
}

/// Why there is no answer, in a few words. The full text may be long and adds names that are known anyway.
pub(super) fn cause(error: &NetError) -> String {
    match error {
        NetError::Timeout => "no answer in time".to_owned(),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("response code {code}"),
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            format!("response code {}", none.response_code)
        }
        other => other.as_metrics_label().replace('_', " "),
    }
}
