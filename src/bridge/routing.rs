//! Who sends and who receives a submission (xdr.md section 6).
//!
//! A recipient in a domain that this bridge serves itself is routed like any other (MR-5): only where its sealed mail
//! is handed to, our own accept step instead of SMTP, differs, and that is the sending flow's matter.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::exchange::Reason;
use crate::formats::{
    finding::Finding,
    ids::{AddressError, DirectAddress},
    metadata::{
        SubmissionSet,
        hl7::{IntendedRecipient, Xtn},
    },
    redacted::Redacted,
    xdr::ErrorCode,
};

/// Where mail for an organisation goes whose intendedRecipient value has no e-mail address: `[[route]]` (NHIN-26).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// The organisation as the value names it (XON.10): an OID or home community id such as `"2.999.7"`, with or
    /// without `urn:oid:`, or a local identifier. No default.
    pub organisation: String,
    /// The OID of the authority that gave a local identifier (XON.6), such as `"2.999.5"`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The Direct address that serves it, such as `"intake@direct.elm.example"`. No default.
    pub address: String,
}

/// The routes of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    all: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    organisation: String,
    authority: Option<String>,
    address: DirectAddress,
}

impl Routes {
    /// The routes of these settings, or everything that is wrong with them.
    pub fn read(configs: &[RouteConfig]) -> Result<Self, Vec<String>> {
        let mut all: Vec<Route> = Vec::new();
        let mut problems = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            let organisation = bare_oid(&config.organisation);
            let authority = config.authority.as_deref().map(bare_oid);
            if organisation.is_empty() {
                problems.push(format!(
                    "route[{index}].organisation: an OID or a local identifier, such as \"2.999.7\""
                ));
            }
            let is_taken = all
                .iter()
                .any(|route| route.organisation == organisation && route.authority == authority);
            if is_taken {
                problems.push(format!(
                    "route[{index}].organisation: one that no other route has"
                ));
            }
            match config.address.parse() {
                Ok(address) => all.push(Route {
                    organisation,
                    authority,
                    address,
                }),
                Err(error) => {
                    problems.push(format!("route[{index}].address: a Direct address; {error}"))
                }
            }
        }
        if problems.is_empty() {
            Ok(Self { all })
        } else {
            Err(problems)
        }
    }

    fn find(&self, value: &IntendedRecipient) -> Option<&DirectAddress> {
        let organisation = value.organisation.as_ref()?;
        let id = bare_oid(&organisation.id);
        let authority = bare_oid(&organisation.authority.universal_id);
        self.all
            .iter()
            .find(|route| {
                let is_authority = route.authority.as_ref().is_none_or(|own| *own == authority);
                !id.is_empty() && route.organisation == id && is_authority
            })
            .map(|route| &route.address)
    }
}

fn bare_oid(text: &str) -> String {
    let text = text.trim();
    text.strip_prefix("urn:oid:").unwrap_or(text).to_owned()
}

/// Whom a submission goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    /// The addresses, each once, in the order given, as they were written.
    pub addresses: Vec<DirectAddress>,
    /// Values that name nobody who can be served: refused recipients of their own (XDR-32).
    pub refused: Vec<RefusedValue>,
    /// Warnings: values that were passed over.
    pub findings: Vec<Finding>,
}

impl Recipients {
    /// The Warnings with which refused values are told where others are served (XDR-32).
    pub fn refused_values(&self) -> Vec<Finding> {
        let told = |value: &RefusedValue| {
            Finding::warning(
                "XDR-32",
                "SubmissionSet.intendedRecipient",
                value.reason.context(),
            )
            .with_code(value.reason.recipient_error_code())
            .with_value(value.written.expose())
        };
        self.refused.iter().map(told).collect()
    }
}

/// A value of intendedRecipient that gave no address. It has no state in an exchange: there is nobody to send a
/// disposition about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedValue {
    /// What was written: the broken address, or the whole value.
    pub written: Redacted<String>,
    /// `badAddress` or `unknownRecipient`.
    pub reason: Reason,
}

/// The sender of a submission: `direct:from` of the address block, else the first e-mail address of an author
/// (XDR-65). Missing stays missing: there is no default sender.
pub fn sender(
    block_from: Option<&DirectAddress>,
    submission_set: &SubmissionSet,
) -> Result<DirectAddress, Finding> {
    if let Some(from) = block_from {
        return Ok(from.clone());
    }
    let authors = submission_set.authors.iter();
    let written: Option<(String, Result<DirectAddress, AddressError>)> = authors
        .flat_map(|author| &author.telecommunications)
        .map(|value| Xtn::read(value))
        .find_map(|value| value.address().map(|address| (value.email, address)));
    let location = format!("SubmissionSet({}).author", submission_set.id);
    match written {
        Some((_, Ok(address))) => Ok(address),
        Some((text, Err(error))) => Err(Finding::error(
            "ADR-7",
            ErrorCode::XdsRepositoryMetadataError,
            location,
            format!("no sender: authorTelecommunication must hold a usable address: {error}"),
        )
        .with_value(text)),
        None => Err(Finding::error(
            "XDR-65",
            ErrorCode::XdsRepositoryMetadataError,
            location,
            "no sender: give direct:from in the address block, or an author with \
             authorTelecommunication ^^Internet^user@domain",
        )),
    }
}

/// The recipients of a submission, by the precedence of XDR-60: `direct:to` alone; else the intendedRecipient values
/// with an e-mail address; else those that a route maps to one. At most `max_recipients` (LIM-9), and no more are kept
/// while they are counted. The errors are the whole Failure to answer.
pub fn recipients(
    block_to: &[DirectAddress],
    submission_set: &SubmissionSet,
    routes: &Routes,
    max_recipients: usize,
) -> Result<Recipients, Vec<Finding>> {
    let location = format!("SubmissionSet({}).intendedRecipient", submission_set.id);
    let mut found = Collected::up_to(max_recipients);
    let counted = match block_to {
        [] => found.take_metadata(submission_set, routes, &location),
        given => given.iter().try_for_each(|to| found.take(to.clone())),
    };
    if counted.is_err() {
        return Err(vec![Finding::error(
            "LIM-9",
            ErrorCode::XdsRepositoryOutOfResources,
            &location,
            format!("too many recipients; at most {max_recipients} are accepted in one submission"),
        )]);
    }
    let found = found.recipients;
    if !found.addresses.is_empty() {
        return Ok(found);
    }
    if found.refused.is_empty() {
        return Err(vec![Finding::error(
            "XDR-60",
            ErrorCode::XdsRepositoryMetadataError,
            location,
            "no recipient: give direct:to in the address block, or an intendedRecipient such as \
             ||^^Internet^user@domain",
        )]);
    }
    let errors = found.refused.iter().map(|value| {
        let code = value.reason.recipient_error_code();
        Finding::error("XDR-60", code, &location, value.reason.context())
            .with_value(value.written.expose())
    });
    Err(errors.collect())
}

/// More recipients than the limit: no more are looked at.
struct TooMany;

/// Recipients while they are found, each once (XDR-69).
struct Collected {
    recipients: Recipients,
    seen: HashSet<DirectAddress>,
    seen_refused: HashSet<String>,
    max: usize,
}

impl Collected {
    fn up_to(max: usize) -> Self {
        Self {
            recipients: Recipients::default(),
            seen: HashSet::new(),
            seen_refused: HashSet::new(),
            max,
        }
    }

    fn check_count(&self) -> Result<(), TooMany> {
        match self.seen.len() + self.seen_refused.len() > self.max {
            true => Err(TooMany),
            false => Ok(()),
        }
    }

    fn take(&mut self, address: DirectAddress) -> Result<(), TooMany> {
        if self.seen.insert(address.clone()) {
            self.recipients.addresses.push(address);
        }
        self.check_count()
    }

    fn refuse(&mut self, written: &str, reason: Reason) -> Result<(), TooMany> {
        if self.seen_refused.insert(written.to_owned()) {
            self.recipients.refused.push(RefusedValue {
                written: Redacted::new(written.to_owned()),
                reason,
            });
        }
        self.check_count()
    }

    fn take_metadata(
        &mut self,
        submission_set: &SubmissionSet,
        routes: &Routes,
        location: &str,
    ) -> Result<(), TooMany> {
        let mut without_address = Vec::new();
        for text in &submission_set.intended_recipients {
            let value = IntendedRecipient::read(text);
            match value.address() {
                Some(Ok(address)) => self.take(address)?,
                Some(Err(_)) => {
                    let telecommunication = value.telecommunication.as_ref();
                    let written = telecommunication.map_or(text.as_str(), |xtn| &xtn.email);
                    self.refuse(written, Reason::BadAddress)?;
                }
                None => without_address.push(text),
            }
        }
        if self.recipients.addresses.is_empty() {
            for text in without_address {
                match routes.find(&IntendedRecipient::read(text)) {
                    Some(address) => self.take(address.clone())?,
                    None => self.refuse(text, Reason::UnknownRecipient)?,
                }
            }
        } else if let Some(first) = without_address.first() {
            // Where e-mail addresses are given, they alone are the recipients (XDR-60).
            let count = without_address.len();
            let passed_over = Finding::warning(
                "XDR-60",
                location,
                format!(
                    "{count} values without an e-mail address beside values with one, passed over; a recipient should \
                     have one, such as ||^^Internet^user@domain"
                ),
            );
            self.recipients
                .findings
                .push(passed_over.with_value(*first));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
