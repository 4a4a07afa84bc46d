//! What operators, and partners about their own, ask of a running bridge, and what they are told.

use std::{fmt, net::IpAddr};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AuditRecord, StoreError};
use crate::{
    bridge::overview::{Direction, Overview, Standing, Summary},
    formats::ids::{DirectAddress, ExchangeId},
};

/// Serves operators: [`crate::flows::operators`].
#[async_trait]
pub trait ServeOperators: Send + Sync {
    /// Does what `asker` asks for, as far as they may.
    async fn serve(&self, asker: &Asker, order: Order) -> Result<Told, NotDone>;
}

/// Reads the audit of one exchange.
#[async_trait]
pub trait ReadAudit: Send + Sync {
    /// The audit records of `exchange`, oldest first. That `reader` (an operator's or a command's name) read them is
    /// recorded first (PHI-4).
    async fn read_audit_of(
        &self,
        reader: &str,
        exchange: ExchangeId,
    ) -> Result<Vec<AuditRecord>, StoreError>;
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A user of this host.
    Local(Operator),
    /// Whoever has the operators' token.
    TokenOperator {
        /// The address that the request came from, where it is known.
        address: Option<IpAddr>,
    },
    /// Whoever has this partner's token: they see what the partner submitted, and do nothing to it.
    Partner {
        /// The partner's name.
        name: String,
        /// The address that the request came from, where it is known.
        address: Option<IpAddr>,
    },
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, address) = match self {
            Self::Local(Operator { uid, pid }) => {
                write!(f, "uid {uid}")?;
                return pid.map_or(Ok(()), |pid| write!(f, " pid {pid}"));
            }
            Self::TokenOperator { address } => ("the operators' token".to_owned(), address),
            Self::Partner { name, address } => (format!("the token of partner {name}"), address),
        };
        f.write_str(&who)?;
        address.map_or(Ok(()), |address| write!(f, " from {address}"))
    }
}

/// A user of this host: as the kernel tells, not as anybody says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The user's id.
    pub uid: u32,
    /// The process, where it is known.
    pub pid: Option<i32>,
}

/// What an operator asks for. Its JSON form is what the control socket carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// Which exchanges there are, newest first.
    List(ListOrder),
    /// Everything about one exchange.
    Show {
        /// The exchange.
        id: OrderId,
    },
    /// What waits is tried now, in place of its time.
    Retry {
        /// The exchange.
        id: OrderId,
    },
    /// Nothing of it is handed on until it is released.
    Hold {
        /// The exchange.
        id: OrderId,
        /// Why, for the audit.
        #[serde(default)]
        reason: Option<OrderText>,
    },
    /// It goes on.
    Release {
        /// The exchange.
        id: OrderId,
    },
    /// The delivery is ended, and the sender told that it failed.
    Fail {
        /// The exchange.
        id: OrderId,
        /// Why, for the audit.
        reason: OrderText,
        /// To whom; empty: to everybody who is not settled.
        #[serde(default)]
        recipients: Vec<DirectAddress>,
    },
}

/// An id as an operator writes it: that of the exchange, wsa:MessageID, Message-ID or SubmissionSet.uniqueId.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OrderId(String);

/// Longest id, in octets: a Message-ID may have 998 (RFC 5322 §2.1.1).
const MAX_ID_BYTES: usize = 998;

/// Words of an operator for the audit: one line, not empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OrderText(String);

/// Longest reason, in characters: what the audit keeps of one (PHI-3).
const MAX_TEXT_CHARACTERS: usize = 256;

/// Most exchanges of a page.
pub const MAX_PAGE: usize = 1_000;

/// Which exchanges to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListOrder {
    /// Only those that stand so.
    pub state: Option<Standing>,
    /// Only those that are final, or are not.
    pub is_final: Option<bool>,
    /// Only those that cross this way.
    pub direction: Option<Direction>,
    /// Only those that this partner submitted.
    pub partner: Option<String>,
    /// Only those that are posted to this endpoint.
    pub endpoint: Option<String>,
    /// Only those accepted at this time or later.
    pub since: Option<Timestamp>,
    /// The page after this one.
    pub after: Option<PageEnd>,
    /// How many at the most, up to [`MAX_PAGE`]; 0 is the default, 50.
    pub limit: usize,
}

/// Where a page ended: the last exchange that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PageEnd {
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Which it is.
    pub id: ExchangeId,
}

/// What an operator is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// A page of exchanges.
    Page(Page),
    /// One exchange.
    Exchange(Box<Overview>),
    /// It is done.
    Done(Done),
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Newest first.
    pub exchanges: Vec<Summary>,
    /// Where the next page begins; `None`: there is no more.
    pub next: Option<PageEnd>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// To which exchange.
    pub id: ExchangeId,
    /// Whether anything changed: asked for twice, a thing is done once.
    pub is_changed: bool,
    /// What, in words.
    pub text: String,
    /// How many attempts are made now that waited.
    pub hastened: usize,
    /// How many attempts are under way: they go to their end.
    pub under_way: usize,
    /// Whom the delivery was ended to.
    pub ended: Vec<DirectAddress>,
}

/// Why an operator does not get what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "error")]
pub enum NotDone {
    /// The order makes no sense.
    #[error("{text}")]
    BadOrder {
        /// Why.
        text: String,
    },
    /// Nothing is known by this id.
    #[error(
        "no exchange is known by this id; it may be over its retention (store.exchange_retention)"
    )]
    Unknown,
    /// A sender used one id for several.
    #[error(
        "several exchanges are known by this id: {}; name one of them",
        listed(ids)
    )]
    Several {
        /// Them, oldest first.
        ids: Vec<ExchangeId>,
    },
    /// It makes no sense in the state that the exchange is in.
    #[error("{text}")]
    NotNow {
        /// Why.
        text: String,
    },
    /// The store cannot do it.
    #[error("the store failed; the log of the bridge tells more")]
    Store,
}

fn listed(ids: &[ExchangeId]) -> String {
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

impl OrderId {
    /// The id as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for OrderId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim().is_empty() || text.len() > MAX_ID_BYTES {
            return Err("an id has 1 to 998 octets");
        }
        Ok(Self(text))
    }
}

impl From<OrderId> for String {
    fn from(id: OrderId) -> Self {
        id.0
    }
}

impl OrderText {
    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for OrderText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_line = !text.chars().any(char::is_control);
        let is_short = text.chars().count() <= MAX_TEXT_CHARACTERS;
        if text.trim().is_empty() || !is_line || !is_short {
            return Err("a reason is one line of 1 to 256 characters");
        }
        Ok(Self(text))
    }
}

impl From<OrderText> for String {
    fn from(text: OrderText) -> Self {
        text.0
    }
}

impl TryFrom<String> for PageEnd {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const FORM: &str = "the end of a page is a time and an id, as the page before gave it";
        let (time, id) = text.split_once('/').ok_or(FORM)?;
        Ok(Self {
            accepted_at: time.parse().map_err(|_| FORM)?,
            id: ExchangeId(id.parse().map_err(|_| FORM)?),
        })
    }
}

impl From<PageEnd> for String {
    fn from(end: PageEnd) -> Self {
        format!("{}/{}", end.accepted_at, end.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_back_and_takes_nothing_that_it_does_not_know() {
        let id = |text: &str| OrderId::try_from(text.to_owned()).unwrap();
        let end = PageEnd {
            accepted_at: "2026-11-29T08:00:00.000007Z".parse().unwrap(),
            id: ExchangeId(uuid::Uuid::from_u128(7)),
        };
        for order in [
            Order::List(ListOrder {
                state: Some(Standing::PartlyDelivered),
                direction: Some(Direction::ToXdr),
                after: Some(end),
                limit: 3,
                ..ListOrder::default()
            }),
            Order::Show {
                id: id("<1@a.example>"),
            },
            Order::Fail {
                id: id("urn:uuid:1"),
                reason: OrderText::try_from("the practice has closed".to_owned()).unwrap(),
                recipients: vec!["ada.quill@hisp.example".parse().unwrap()],
            },
        ] {
            let text = serde_json::to_string(&order).unwrap();
            assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
        }
        let long = "x".repeat(999);
        for bad in [
            r#"{"show":{}}"#.to_owned(),
            r#"{"show":{"id":""}}"#.to_owned(),
            r#"{"show":{"id":"1","all":true}}"#.to_owned(),
            r#"{"list":{"limit":-1}}"#.to_owned(),
            r#"{"list":{"states":"open"}}"#.to_owned(),
            r#"{"list":{"after":"yesterday"}}"#.to_owned(),
            r#"{"fail":{"id":"1"}}"#.to_owned(),
            r#"{"fail":{"id":"1","reason":" "}}"#.to_owned(),
            r#"{"fail":{"id":"1","reason":"a\nb"}}"#.to_owned(),
            r#"{"fail":{"id":"1","reason":"a","recipients":["nobody"]}}"#.to_owned(),
            r#"{"remove":{"id":"1"}}"#.to_owned(),
            format!(r#"{{"show":{{"id":"{long}"}}}}"#),
        ] {
            assert!(serde_json::from_str::<Order>(&bad).is_err(), "{bad}");
        }
    }
}
